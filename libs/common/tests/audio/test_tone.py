import numpy as np
import pytest

from offhook.audio import RATES, tone
from offhook.audio.silence import is_active, level_dbfs


@pytest.mark.parametrize("rate", RATES)
def test_the_comfort_tone_is_two_soft_seconds_that_can_be_played_over_and_over(rate: int) -> None:
    pcm = tone.comfort(rate)
    assert len(pcm) == 2 * 2 * rate
    assert -60 < level_dbfs(pcm) < -35
    assert not is_active(pcm[-rate:])


def test_a_tone_does_not_click() -> None:
    samples = np.frombuffer(tone.sine(440, 100, 8000), np.int16).astype(int)
    assert abs(samples[0]) < 100
    assert abs(samples[-1]) < 600
