import pytest

from offhook.audio import g711, tone
from offhook.audio.silence import is_active, level_dbfs


@pytest.mark.parametrize("level", [-60.0, -49.0, -20.0, -3.1])
def test_the_level_of_a_sine_is_its_rms_under_full_scale(level: float) -> None:
    pcm = tone.sine(1000, 1000, 16000, level_dbfs=level, fade_ms=0)
    assert level_dbfs(pcm) == pytest.approx(level, abs=0.1)


def test_mu_law_has_the_level_of_its_samples() -> None:
    pcm = tone.sine(1000, 1000, 8000, level_dbfs=-20, fade_ms=0)
    assert level_dbfs(g711.pcm16_to_mulaw(pcm), "mulaw") == pytest.approx(-20, abs=0.1)


def test_speech_is_active_and_line_noise_is_not() -> None:
    assert is_active(tone.sine(300, 20, 8000, level_dbfs=-30, fade_ms=0))
    assert not is_active(tone.sine(300, 20, 8000, level_dbfs=-55, fade_ms=0))
    assert not is_active(b"")
    assert not is_active(b"\xff" * 160, "mulaw")
