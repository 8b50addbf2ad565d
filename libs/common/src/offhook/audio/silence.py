"""How loud audio is, and whether anybody speaks: energy against a threshold, nothing cleverer.

Levels are in dBFS of 16-bit PCM: a square wave at full scale is 0 dBFS, a sine 3 dB less.
"""

import math
from typing import Final

import numpy as np

from offhook.audio import kernels
from offhook.audio.transcode import Encoding

ACTIVE_DBFS: Final = -50.0
"""At and above this level a 20 ms frame counts as sound: speech on a line is 20 dB louder, line noise 10 dB
softer.
"""

_FULL_SCALE_SQUARED: Final = 32768.0**2

ACTIVE_MEAN_SQUARE: Final = _FULL_SCALE_SQUARED * 10 ** (ACTIVE_DBFS / 10)
"""`ACTIVE_DBFS` as a mean square of samples, to compare with `Transcoder.energy / samples` without a
logarithm.
"""

_FLOOR_DBFS: Final = -100.0


def _energy(audio: bytes, encoding: Encoding) -> tuple[float, int]:
    if encoding == "mulaw":
        words = np.frombuffer(bytes(audio), np.uint8)
        return kernels.energy_of_mulaw(words), len(words)
    samples = np.frombuffer(bytes(audio), np.int16)
    return kernels.energy_of_pcm(samples), len(samples)


def level_dbfs(audio: bytes, encoding: Encoding = "pcm_s16le") -> float:
    """Level in dBFS, not below -100 (silence, or no audio at all)."""
    energy, count = _energy(audio, encoding)
    if not count or energy <= 0:
        return _FLOOR_DBFS
    return max(_FLOOR_DBFS, 10 * math.log10(energy / count / _FULL_SCALE_SQUARED))


def is_active(audio: bytes, encoding: Encoding = "pcm_s16le") -> bool:
    """Whether somebody makes a sound: the level is at least `ACTIVE_DBFS`. About a microsecond for a frame."""
    energy, count = _energy(audio, encoding)
    return bool(count) and energy >= ACTIVE_MEAN_SQUARE * count
