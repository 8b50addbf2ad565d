import itertools
import math

import numpy as np
import pytest

from offhook.audio import RATES, g711, tone
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


# ITU-T Q.23 once more, as a table to read from, not the one under test.
KEYS = {697: "123A", 770: "456B", 852: "789C", 941: "*0#D"}
COLUMNS = (1209, 1336, 1477, 1633)


def goertzel(samples: np.ndarray, frequency_hz: float, rate: int) -> float:
    """The power of one frequency (G. Goertzel, 1958): the recurrence, term by term."""
    turn = 2 * math.cos(2 * math.pi * frequency_hz / rate)
    before, last = 0.0, 0.0
    for sample in samples:
        before, last = last, float(sample) + turn * last - before
    return last * last + before * before - turn * last * before


def key_in(samples: np.ndarray, rate: int) -> str | None:
    """The key pressed in these 20 ms; None for silence. Both frequencies stand 10 dB above the others of their group."""
    if np.sqrt(np.mean(samples.astype(float) ** 2)) < 300:
        return None
    rows = sorted((goertzel(samples, hz, rate), hz) for hz in KEYS)
    columns = sorted((goertzel(samples, hz, rate), hz) for hz in COLUMNS)
    assert rows[-1][0] > 10 * rows[-2][0]
    assert columns[-1][0] > 10 * columns[-2][0]
    # Q.24: a receiver may refuse a high group that is more than 4 dB louder, or 8 dB softer, than the low one.
    assert -8 < 10 * math.log10(columns[-1][0] / rows[-1][0]) < 4
    return KEYS[rows[-1][1]][COLUMNS.index(columns[-1][1])]


def keys_in(pcm: bytes, rate: int) -> tuple[str, list[int]]:
    """The keys heard, and how long each was, in ms."""
    samples = np.frombuffer(pcm, np.int16)
    frame = rate // 50
    heard = [key_in(samples[at : at + frame], rate) for at in range(0, len(samples), frame)]
    runs = [(key, 20 * len(list(same))) for key, same in itertools.groupby(heard)]
    return "".join(key for key, _ in runs if key), [ms for key, ms in runs if key]


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
def test_pressed_keys_are_the_keys_a_telephone_exchange_hears(rate: int) -> None:
    every = "123A456B789C*0#D"
    heard, lengths = keys_in(tone.dtmf(every, rate), rate)
    assert heard == every
    assert set(lengths) == {tone.DTMF_TONE_MS}


def test_the_same_key_twice_is_two_keys_and_w_waits() -> None:
    pcm = tone.dtmf("55w5", 8000)
    assert keys_in(pcm, 8000)[0] == "555"
    assert len(pcm) == 2 * 8 * tone.dtmf_ms("55w5")
    assert tone.dtmf_ms("55w5") == 1100


def test_pressed_keys_survive_the_telephone_codec() -> None:
    coded = g711.pcm16_to_mulaw(tone.dtmf("0123456789*#", 8000))
    assert keys_in(g711.mulaw_to_pcm16(coded), 8000)[0] == "0123456789*#"
