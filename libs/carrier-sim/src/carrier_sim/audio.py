"""Audio of the simulated phone: speech-like sound, WAV files, mu-law, and what counts as audible.

PCM is signed 16-bit little-endian mono everywhere. Independent of the code under test on purpose.
"""

import io
import wave
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FRAME_MS = 20

# Root mean square of a 20 ms frame above which a person would say that somebody speaks: about -46 dBFS, above the
# noise of mu-law coding and of comfort noise, far below speech.
AUDIBLE_RMS = 160.0

_ULAW_BIAS = 0x84
_ULAW_CLIP = 32635


def frame_bytes(sample_rate: int) -> int:
    """Bytes of one 20 ms frame."""
    return sample_rate // 50 * 2


def is_audible(pcm: bytes) -> bool:
    """Whether a frame holds more than silence or comfort noise."""
    if not pcm:
        return False
    samples = np.frombuffer(pcm, dtype="<i2").astype(np.float32)
    return bool(np.sqrt(np.mean(samples * samples)) >= AUDIBLE_RMS)


def frames(pcm: bytes, sample_rate: int) -> list[bytes]:
    """Cut into 20 ms frames; the last one is padded with silence."""
    size = frame_bytes(sample_rate)
    return [pcm[i : i + size].ljust(size, b"\0") for i in range(0, len(pcm), size)]


def wav_bytes(pcm: bytes, sample_rate: int) -> bytes:
    """A WAV file of 16-bit mono PCM."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(pcm)
    return out.getvalue()


def read_wav(path: Path, sample_rate: int) -> bytes:
    """The file's audio as mono PCM at `sample_rate` (linear interpolation: a telephone, not a studio)."""
    with wave.open(str(path), "rb") as file:
        if file.getsampwidth() != 2:
            raise ValueError(
                f"{path}: 16-bit samples expected, the file has {8 * file.getsampwidth()}-bit samples"
            )
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(np.float64)
        samples = samples.reshape(-1, file.getnchannels()).mean(axis=1)
        rate = file.getframerate()
    return _to_bytes(_interpolate(samples, rate, sample_rate))


def _interpolate(samples: NDArray[np.float64], rate: int, wanted: int) -> NDArray[np.float64]:
    if rate == wanted or not len(samples):
        return samples
    count = int(len(samples) * wanted / rate)
    return np.interp(np.arange(count) * rate / wanted, np.arange(len(samples)), samples)


def _to_bytes(samples: NDArray[np.float64]) -> bytes:
    return np.clip(np.round(samples), -32768, 32767).astype("<i2").tobytes()


def tone(seconds: float, hz: float, sample_rate: int) -> bytes:
    """A sine wave."""
    at = np.arange(round(seconds * sample_rate)) / sample_rate
    return _to_bytes(8000 * np.sin(2 * np.pi * hz * at))


@lru_cache(maxsize=64)
def speech(seconds: float, sample_rate: int, seed: int = 0) -> bytes:
    """Sound with the rhythm and spectrum of speech, the same for the same arguments.

    Syllables of 110 to 230 ms: harmonics of a wandering pitch around 120 Hz, shaped by three formants of a random vowel;
    gaps of 20 to 60 ms between syllables, 90 to 160 ms between words. It begins and ends within a syllable.
    """
    rng = np.random.default_rng(seed)
    total = round(seconds * sample_rate)
    out = np.zeros(total)
    pitch = float(rng.uniform(95, 190))
    position, left_in_word = 0, int(rng.integers(2, 5))
    while position < total:
        length = min(int(rng.uniform(0.11, 0.23) * sample_rate), total - position)
        if total - position - length < 0.15 * sample_rate:
            length = total - position
        out[position : position + length] = _syllable(
            rng, length, sample_rate, pitch * rng.uniform(0.88, 1.12)
        )
        left_in_word -= 1
        gap = rng.uniform(0.02, 0.06)
        if left_in_word == 0:
            gap, left_in_word = rng.uniform(0.09, 0.16), int(rng.integers(2, 5))
        position += length + int(gap * sample_rate)
    return _to_bytes(out)


# First three formants (Hz) of a, e, i, o, u as spoken by an adult.
_VOWELS = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


def _syllable(rng: np.random.Generator, length: int, sample_rate: int, pitch: float) -> NDArray[np.float64]:
    if length <= 0:
        return np.zeros(0)
    formants = _VOWELS[int(rng.integers(len(_VOWELS)))]
    seconds = np.arange(length) / sample_rate
    glide = 1 + 0.06 * np.sin(2 * np.pi * rng.uniform(2, 4) * seconds + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch * glide) / sample_rate
    sound = np.zeros(length)
    for harmonic in range(1, int(min(3400, sample_rate * 0.45) / (pitch * 1.06)) + 1):
        frequency = harmonic * pitch
        gain = sum(
            level / (1 + ((frequency - formant) / (60 + formant * 0.05)) ** 2)
            for formant, level in zip(formants, (1.0, 0.5, 0.25), strict=True)
        )
        sound += gain / np.sqrt(harmonic) * np.sin(harmonic * phase)
    envelope = np.minimum(
        1.0, np.minimum(np.arange(length) + 1, length - np.arange(length)) / (0.015 * sample_rate)
    )
    peak = float(np.max(np.abs(sound))) or 1.0
    return np.asarray(sound / peak * 9000 * rng.uniform(0.7, 1.0) * envelope, dtype=np.float64)


def _ulaw_tables() -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    codes = np.arange(256, dtype=np.int32) ^ 0xFF
    magnitude = ((((codes & 0x0F) << 3) + _ULAW_BIAS) << ((codes >> 4) & 7)) - _ULAW_BIAS
    decode = np.where(codes & 0x80, -magnitude, magnitude).astype(np.int16)
    samples = np.arange(-32768, 32768, dtype=np.int32)
    biased = np.minimum(np.abs(samples), _ULAW_CLIP) + _ULAW_BIAS
    exponent = np.floor(np.log2(biased)).astype(np.int32) - 7
    mantissa = (biased >> (exponent + 3)) & 0x0F
    encode = ~(np.where(samples < 0, 0x80, 0) | (exponent << 4) | mantissa) & 0xFF
    return encode.astype(np.uint8), decode


_ULAW_ENCODE, _ULAW_DECODE = _ulaw_tables()


def to_ulaw(pcm: bytes) -> bytes:
    """G.711 mu-law, one byte a sample."""
    return _ULAW_ENCODE[np.frombuffer(pcm, dtype="<i2").astype(np.int32) + 32768].tobytes()


def from_ulaw(ulaw: bytes) -> bytes:
    """PCM of G.711 mu-law."""
    return _ULAW_DECODE[np.frombuffer(ulaw, dtype=np.uint8)].astype("<i2").tobytes()


class RateConverter:
    """Changes the sample rate of a stream of 20 ms frames by linear interpolation; one frame in, one frame out.

    Good enough to be heard and measured by a simulated ear; it keeps the last sample, so frames join without clicks.
    """

    def __init__(self, in_rate: int, out_rate: int) -> None:
        self._in, self._out = in_rate // 50, out_rate // 50
        self._last = 0.0

    def convert(self, pcm: bytes) -> bytes:
        """One 20 ms frame at the input rate → one at the output rate."""
        if self._in == self._out:
            return pcm
        samples = np.concatenate(([self._last], np.frombuffer(pcm, dtype="<i2").astype(np.float64)))
        self._last = float(samples[-1])
        at = (np.arange(self._out) + 1) * self._in / self._out
        return _to_bytes(np.interp(at, np.arange(self._in + 1), samples))
