"""Sounds the platform makes itself."""

from functools import cache

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


@cache
def comfort(sample_rate: int) -> bytes:
    """Two seconds of "hold the line": two soft, short notes and a pause. Played over and over while an agent
    is awaited.
    """
    notes = [sine(frequency, 180, sample_rate, level_dbfs=-32, fade_ms=40) for frequency in (523.25, 659.25)]
    return b"".join(notes).ljust(2 * 2 * sample_rate, b"\0")
