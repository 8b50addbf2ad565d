"""Sounds the platform makes itself."""

from functools import cache
from typing import Final

import numpy as np


def sine(
    frequency_hz: float, duration_ms: int, sample_rate: int, level_dbfs: float = -20.0, fade_ms: int = 5
) -> bytes:
    """A sine as PCM (signed 16-bit little-endian mono) with the given RMS level, faded in and out so that it
    does not click.
    """
    count = sample_rate * duration_ms // 1000
    peak = min(32767.0, 32768 * 10 ** (level_dbfs / 20) * np.sqrt(2))
    wave = peak * np.sin(2 * np.pi * frequency_hz / sample_rate * np.arange(count))
    fade = min(sample_rate * fade_ms // 1000, count // 2)
    if fade:
        ramp = np.linspace(0, 1, fade, endpoint=False)
        wave[:fade] *= ramp
        wave[-fade:] *= ramp[::-1]
    return bytes(np.rint(wave).astype(np.int16).tobytes())


# ITU-T Q.23, table 1: each key is a low and a high frequency at once.
_LOW_HZ: Final = (697, 770, 852, 941)
_HIGH_HZ: Final = (1209, 1336, 1477, 1633)
DTMF_HZ: Final = {
    key: (low, high)
    for low, keys in zip(_LOW_HZ, ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, key in zip(_HIGH_HZ, keys, strict=True)
}
"""The two frequencies of every key."""

# ITU-T Q.24 lets receivers want 40 ms of tone and 40 ms of pause; codecs and jitter buffers blur both.
DTMF_TONE_MS: Final = 100
DTMF_GAP_MS: Final = 100
DTMF_WAIT_MS: Final = 500
# The high group is sent a little louder: lines lose more of it.
_LOW_DBFS: Final = -13.0
_HIGH_DBFS: Final = -11.0


def dtmf_ms(digits: str) -> int:
    """How long `dtmf` takes to press these keys."""
    return sum(DTMF_WAIT_MS if key in "wW" else DTMF_TONE_MS + DTMF_GAP_MS for key in digits)


def dtmf(digits: str, sample_rate: int) -> bytes:
    """Pressed keys as PCM (signed 16-bit little-endian mono): `0-9 A-D * #`, `w` waits half a second.

    100 ms of tone and 100 ms of silence for each. Raises `KeyError` for what is no key.
    """
    return b"".join(
        bytes(2 * (sample_rate * DTMF_WAIT_MS // 1000)) if key in "wW" else _key(key, sample_rate)
        for key in digits
    )


@cache
def _key(key: str, sample_rate: int) -> bytes:
    low_hz, high_hz = DTMF_HZ[key]
    low = np.frombuffer(sine(low_hz, DTMF_TONE_MS, sample_rate, _LOW_DBFS, fade_ms=2), np.int16)
    high = np.frombuffer(sine(high_hz, DTMF_TONE_MS, sample_rate, _HIGH_DBFS, fade_ms=2), np.int16)
    return (low + high).tobytes() + bytes(2 * (sample_rate * DTMF_GAP_MS // 1000))


@cache
def comfort(sample_rate: int) -> bytes:
    """Two seconds of "hold the line": two soft, short notes and a pause. Played over and over while an agent
    is awaited.
    """
    notes = [sine(frequency, 180, sample_rate, level_dbfs=-32, fade_ms=40) for frequency in (523.25, 659.25)]
    return b"".join(notes).ljust(2 * 2 * sample_rate, b"\0")
