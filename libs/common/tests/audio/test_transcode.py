from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offhook.audio import RATES, Encoding, RateError, Resampler, Transcoder, frame_bytes, g711, silence_byte

FORMATS: tuple[tuple[Encoding, int], ...] = (("mulaw", 8000), *(("pcm_s16le", rate) for rate in RATES))
ROUTES = tuple(product(FORMATS, FORMATS))


def noise(encoding: Encoding, rate: int, milliseconds: int) -> bytes:
    count = rate * milliseconds // 1000
    pcm = np.random.default_rng(3).integers(-9000, 9000, count).astype(np.int16).tobytes()
    return g711.pcm16_to_mulaw(pcm) if encoding == "mulaw" else pcm


@pytest.mark.parametrize(("source", "target"), ROUTES)
def test_one_frame_in_is_one_frame_out_every_time(
    source: tuple[Encoding, int], target: tuple[Encoding, int]
) -> None:
    transcoder = Transcoder(*source, *target)
    frame = noise(*source, 20)
    for _ in range(5):
        assert len(transcoder.process(frame)) == frame_bytes(*target)


@pytest.mark.parametrize(("source", "target"), ROUTES)
def test_the_fused_pass_is_what_its_steps_would_be(
    source: tuple[Encoding, int], target: tuple[Encoding, int]
) -> None:
    audio = noise(*source, 200)
    pcm = g711.mulaw_to_pcm16(audio) if source[0] == "mulaw" else audio
    pcm = Resampler(source[1], target[1]).process(pcm)
    assert Transcoder(*source, *target).process(audio) == (
        g711.pcm16_to_mulaw(pcm)
        if target[0] == "mulaw" and source[0] != "mulaw"
        else audio
        if source[0] == target[0] == "mulaw"
        else pcm
    )


@settings(max_examples=60, deadline=None)
@given(
    route=st.sampled_from(ROUTES),
    cuts=st.lists(st.integers(0, 1500), min_size=1, max_size=12),
)
def test_how_a_stream_is_cut_into_messages_does_not_change_the_sound(
    route: tuple[tuple[Encoding, int], tuple[Encoding, int]], cuts: list[int]
) -> None:
    source, target = route
    width = 1 if source[0] == "mulaw" else 2
    audio = noise(*source, 250)
    whole = Transcoder(*source, *target).process(audio)
    transcoder = Transcoder(*source, *target)
    pieces, at = [], 0
    for cut in [*cuts, len(audio)]:
        pieces.append(transcoder.process(audio[at : at + cut * width]))
        at += cut * width
    assert b"".join(pieces) == whole


@pytest.mark.parametrize("as_type", [bytearray, memoryview])
def test_audio_may_come_in_a_writable_buffer(as_type: type) -> None:
    audio = noise("mulaw", 8000, 20)
    assert Transcoder("mulaw", 8000, "pcm_s16le", 16000).process(as_type(bytearray(audio))) == Transcoder(
        "mulaw", 8000, "pcm_s16le", 16000
    ).process(audio)


@pytest.mark.parametrize(("source", "target"), ROUTES)
def test_the_energy_is_that_of_the_samples_that_came_out(
    source: tuple[Encoding, int], target: tuple[Encoding, int]
) -> None:
    transcoder = Transcoder(*source, *target)
    out = transcoder.process(noise(*source, 200))
    pcm = g711.mulaw_to_pcm16(out) if target[0] == "mulaw" else out
    samples = np.frombuffer(pcm, np.int16).astype(float)
    assert transcoder.samples == len(samples)
    assert transcoder.energy == pytest.approx(float((samples**2).sum()), rel=0.01)


@pytest.mark.parametrize(("source", "target"), ROUTES)
def test_silence_stays_silence(source: tuple[Encoding, int], target: tuple[Encoding, int]) -> None:
    quiet = silence_byte(source[0]) * frame_bytes(*source)
    assert Transcoder(*source, *target).process(quiet) == silence_byte(target[0]) * frame_bytes(*target)


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="even number"):
        Transcoder("pcm_s16le", 8000, "mulaw", 8000).process(b"\0\0\0")


@pytest.mark.parametrize("route", [("mulaw", 16000, "mulaw", 8000), ("pcm_s16le", 44100, "mulaw", 8000)])
def test_a_rate_that_telephony_does_not_use_is_refused(route: tuple[Encoding, int, Encoding, int]) -> None:
    with pytest.raises(RateError):
        Transcoder(*route)
