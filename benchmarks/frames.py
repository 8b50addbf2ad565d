"""One 20 ms frame: transcoding cost, the delay it adds, and what is left of the sound."""

import asyncio
import base64
import json

import numpy as np
import soxr
from pipecat.frames.frames import OutputAudioRawFrame
from pipecat.serializers.twilio import TwilioFrameSerializer

from benchmarks.tables import Section, microseconds
from offhook.audio import Resampler, Transcoder, warm_up

FRAMES = 200


def sine(rate: int, hz: float, seconds: float = FRAMES / 50) -> np.ndarray:
    return (0.5 * 32767 * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype("<i2")


def snr_db(samples: np.ndarray, rate: int, hz: float) -> float:
    """Of a sine of known frequency: energy of the best fit to energy of the rest, dB. The edges are left out."""
    samples = samples[rate // 2 : -rate // 2].astype(float)
    angle = 2 * np.pi * hz * np.arange(samples.size) / rate
    basis = np.stack([np.sin(angle), np.cos(angle), np.ones_like(angle)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, samples, rcond=None)[0]
    return float(10 * np.log10(np.sum(fitted**2) / max(np.sum((samples - fitted) ** 2), 1e-9)))


def ours(rate_in: int, rate_out: int, pcm: np.ndarray) -> tuple[np.ndarray, list[int]]:
    resampler = Resampler(rate_in, rate_out)
    frame = rate_in // 50
    pieces = [resampler.process(pcm[i : i + frame].tobytes()) for i in range(0, pcm.size, frame)]
    return np.frombuffer(b"".join(pieces), "<i2"), [len(piece) // 2 for piece in pieces]


def soxr_stream(rate_in: int, rate_out: int, pcm: np.ndarray) -> tuple[np.ndarray, list[int]]:
    stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="int16", quality="VHQ")
    frame = rate_in // 50
    pieces = [stream.resample_chunk(pcm[i : i + frame]) for i in range(0, pcm.size, frame)]
    return np.concatenate(pieces), [piece.size for piece in pieces]


def worst_held_ms(lengths: list[int], rate_out: int) -> float:
    """The most audio that had gone in and not come out, in ms beyond the frame itself."""
    due, out, worst = 0.0, 0, 0.0
    for length in lengths:
        due += rate_out / 50
        out += length
        worst = max(worst, (due - out) / rate_out * 1000)
    return worst


async def pipecat_costs(pcm16k: bytes, mulaw: bytes) -> tuple[float, float]:
    """Pipecat's Twilio serializer, µs a frame: from Twilio, to Twilio."""
    serializer = TwilioFrameSerializer("MZ1", params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
    serializer._sample_rate = 16000  # what `setup` takes from the pipeline
    message = json.dumps({"event": "media", "media": {"payload": base64.b64encode(mulaw).decode()}})
    frame = OutputAudioRawFrame(pcm16k, 16000, 1)
    costs = []
    for work in (lambda: serializer.deserialize(message), lambda: serializer.serialize(frame)):
        times = []
        for _ in range(5):
            begun = asyncio.get_running_loop().time()
            for _ in range(2000):
                await work()
            times.append((asyncio.get_running_loop().time() - begun) / 2000 * 1e6)
        costs.append(sorted(times)[2])
    return costs[0], costs[1]


def run() -> Section:
    warm_up()
    section = Section(
        "One 20 ms frame",
        (
            "conversion",
            "cost, µs",
            "alternative, µs",
            "held back, ms",
            "alternative, ms",
            "SNR 1 / 3 kHz, dB",
        ),
    )
    from_line = Transcoder("mulaw", 8000, "pcm_s16le", 16000)
    to_line = Transcoder("pcm_s16le", 16000, "mulaw", 8000)
    mulaw = Transcoder("pcm_s16le", 8000, "mulaw", 8000).process(sine(8000, 1000)[:160].tobytes())
    pcm16k = sine(16000, 1000)[:320].tobytes()
    theirs = asyncio.run(pipecat_costs(pcm16k, mulaw))
    for name, work, other in (
        ("mu-law 8 kHz → PCM 16 kHz", lambda: from_line.process(mulaw), theirs[0]),
        ("PCM 16 kHz → mu-law 8 kHz", lambda: to_line.process(pcm16k), theirs[1]),
    ):
        cost = microseconds(work)
        section.rows.append((name, f"{cost:.1f}", f"{other:.1f}", "", "", ""))
        section.data[name] = {"ours_us": cost, "pipecat_us": other}
    for rate_in, rate_out in ((8000, 16000), (16000, 8000), (8000, 24000), (24000, 8000)):
        _add_resampling(section, rate_in, rate_out)
    section.notes = [
        "Alternatives: Pipecat's TwilioFrameSerializer (its two rows include JSON and base64) and soxr's stream resampler at its",
        "best quality, which Pipecat uses. Held back: the most audio that went in and had not come out yet, beyond the frame.",
        "Our filter delays the sound by a constant 2.5 ms on top; soxr's own delay is inside its figure.",
    ]
    return section


def _add_resampling(section: Section, rate_in: int, rate_out: int) -> None:
    snr = []
    held = (0.0, 0.0)
    for hz in (1000, 3000):
        pcm = sine(rate_in, hz)
        made, lengths = ours(rate_in, rate_out, pcm)
        _, other_lengths = soxr_stream(rate_in, rate_out, pcm)
        snr.append(snr_db(made, rate_out, hz))
        held = (worst_held_ms(lengths, rate_out), worst_held_ms(other_lengths, rate_out))
    frame = sine(rate_in, 1000)[: rate_in // 50]
    raw = frame.tobytes()
    resampler = Resampler(rate_in, rate_out)
    stream = soxr.ResampleStream(rate_in, rate_out, 1, dtype="int16", quality="VHQ")
    cost, other = (
        microseconds(lambda: resampler.process(raw)),
        microseconds(lambda: stream.resample_chunk(frame)),
    )
    name = f"PCM {rate_in // 1000} → {rate_out // 1000} kHz"
    section.rows.append(
        (
            name,
            f"{cost:.1f}",
            f"{other:.1f}",
            f"{held[0]:.1f}",
            f"{held[1]:.1f}",
            f"{snr[0]:.0f} / {snr[1]:.0f}",
        )
    )
    section.data[name] = {
        "ours_us": cost,
        "soxr_us": other,
        "held_ms": held[0],
        "soxr_held_ms": held[1],
        "snr_db": snr,
    }
