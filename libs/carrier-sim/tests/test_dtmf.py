"""Keys as tones, as an ear at the other end hears them."""

import numpy as np
import pytest

from carrier_sim import audio, dtmf


def heard(pcm: bytes, rate: int) -> str:
    ear = dtmf.ToneEar(rate)
    return "".join(filter(None, (ear.hear(frame) for frame in audio.frames(pcm, rate))))


@pytest.mark.parametrize("rate", [8000, 16000])
def test_every_key_is_heard_once_also_when_it_is_pressed_twice(rate: int) -> None:
    keys = "0123456789*#11w22"
    assert heard(dtmf.tones(keys, rate), rate) == keys.replace("w", "")


def test_tones_are_heard_through_mu_law_noise_and_any_cut_of_frames() -> None:
    pcm = np.frombuffer(bytes(74) + dtmf.tones("147#", 8000), dtype="<i2").astype(np.float64)
    noisy = pcm + np.random.default_rng(1).normal(0, 300, len(pcm))
    telephone = audio.from_ulaw(audio.to_ulaw(np.clip(noisy, -32768, 32767).astype("<i2").tobytes()))
    assert heard(telephone, 8000) == "147#"


def test_speech_and_plain_tones_press_no_key() -> None:
    for seed in range(20):
        assert heard(audio.speech(5.0, 8000, seed), 8000) == ""
    for hz in (697.0, 1000.0, 1336.0, 2100.0):
        assert heard(audio.tone(1.0, hz, 8000), 8000) == ""
