"""The simulated phone's audio."""

import numpy as np
import pytest

from carrier_sim import audio


def test_every_mu_law_code_survives_decoding_and_encoding() -> None:
    codes = bytes(range(256))
    # 0x7f is minus zero, which is the same silence as 0xff.
    assert audio.to_ulaw(audio.from_ulaw(codes)) == codes.replace(b"\x7f", b"\xff")


def test_mu_law_has_the_values_of_the_standard() -> None:
    # ITU-T G.711, table 2a, scaled to 16 bits: the largest, the smallest step and silence.
    decoded = np.frombuffer(audio.from_ulaw(bytes([0x00, 0x80, 0xFE, 0xFF])), dtype="<i2")
    assert decoded.tolist() == [-32124, 32124, 8, 0]


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_speech_is_deterministic_audible_and_has_short_pauses(sample_rate: int) -> None:
    words = audio.speech(3.0, sample_rate, seed=4)
    assert words == audio.speech(3.0, sample_rate, seed=4)
    assert words != audio.speech(3.0, sample_rate, seed=5)
    assert len(words) == 3 * sample_rate * 2
    loud = [audio.is_audible(frame) for frame in audio.frames(words, sample_rate)]
    assert sum(loud) > 100
    assert loud[0]
    assert loud[-1]
    pauses = "".join("x" if frame else "." for frame in loud).split("x")
    assert 2 <= max(map(len, pauses)) <= 9


def test_silence_and_comfort_noise_are_not_audible() -> None:
    noise = np.random.default_rng(1).normal(0, 40, 160).astype("<i2").tobytes()
    assert not audio.is_audible(bytes(320))
    assert not audio.is_audible(noise)
    assert not audio.is_audible(b"")


@pytest.mark.parametrize("rates", [(16000, 8000), (16000, 24000), (8000, 16000), (16000, 16000)])
def test_a_frame_at_one_rate_is_a_frame_at_the_other(rates: tuple[int, int]) -> None:
    converter = audio.RateConverter(*rates)
    words = audio.speech(0.2, rates[0])
    converted = [converter.convert(frame) for frame in audio.frames(words, rates[0])]
    assert {len(frame) for frame in converted} == {audio.frame_bytes(rates[1])}
    loudness = [np.std(np.frombuffer(pcm, "<i2").astype(float)) for pcm in (words, b"".join(converted))]
    assert loudness[1] == pytest.approx(loudness[0], rel=0.2)


def test_a_wav_file_is_read_back_at_another_rate(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "words.wav"
    path.write_bytes(audio.wav_bytes(audio.speech(0.5, 16000), 16000))
    assert len(audio.read_wav(path, 8000)) == 8000
