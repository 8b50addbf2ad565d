"""Keys as tones: made, and heard by a simulated ear. ITU-T Q.23 (frequencies) and Q.24 (what a receiver takes for a key)."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from carrier_sim import audio

KEYS: Final = "0123456789*#"
_LOW: Final = (697.0, 770.0, 852.0, 941.0)
_HIGH: Final = (1209.0, 1336.0, 1477.0, 1633.0)
_PAD: Final = ("123A", "456B", "789C", "*0#D")
_TONE_MS: Final = 100
_GAP_MS: Final = 100
_PAUSE_MS: Final = {"w": 500, "W": 1000, "p": 500}
_LEVEL: Final = 6000.0
# Of a frame's energy, what has to be in the two tones: speech never has so much in two of these frequencies.
_SHARE: Final = 0.75
# The stronger tone over the weaker one, as power.
_TWIST: Final = 8.0
# 40 ms of tone make a key, 40 ms without it end it.
_NEEDED_FRAMES: Final = 2


def tones(digits: str, sample_rate: int) -> bytes:
    """PCM: 100 ms of tone and 100 ms of silence a key; `w` and `p` wait half a second, `W` a whole one."""
    return b"".join(_sound(digit, sample_rate) for digit in digits)


@lru_cache(maxsize=64)
def _sound(digit: str, sample_rate: int) -> bytes:
    if digit in _PAUSE_MS:
        return bytes(sample_rate * _PAUSE_MS[digit] // 1000 * 2)
    row = next((index for index, keys in enumerate(_PAD) if digit in keys), None)
    if row is None or not digit:
        raise ValueError(f"a telephone has no key {digit!r}")
    at = np.arange(sample_rate * _TONE_MS // 1000) / sample_rate
    low, high = _LOW[row], _HIGH[_PAD[row].index(digit)]
    sound = _LEVEL * (np.sin(2 * np.pi * low * at) + np.sin(2 * np.pi * high * at))
    return sound.astype("<i2").tobytes() + bytes(sample_rate * _GAP_MS // 1000 * 2)


def frames_of(digits: str, sample_rate: int) -> Iterator[bytes]:
    """The tones of `digits`, 20 ms at a time."""
    yield from audio.frames(tones(digits, sample_rate), sample_rate)


@lru_cache(maxsize=4)
def _probe(sample_rate: int) -> NDArray[np.complex128]:
    """One row a frequency: its correlation with a frame is what Goertzel's filter computes for it."""
    samples = np.arange(sample_rate // 50)
    rows = [np.exp(-2j * np.pi * frequency / sample_rate * samples) for frequency in (*_LOW, *_HIGH)]
    return np.array(rows)


class ToneEar:
    """Listens to 20 ms frames and tells each key once, when its tone has been heard for 40 ms."""

    def __init__(self, sample_rate: int) -> None:
        self._probe = _probe(sample_rate)
        self._candidate: str | None = None
        self._run = 0
        self._pressed: str | None = None
        self._without = 0

    def hear(self, frame: bytes | None) -> str | None:
        """One frame, None for silence. Returns the key that was pressed, if one was recognised just now."""
        key = self._key(frame) if frame is not None and audio.is_audible(frame) else None
        if key is None or key != self._pressed:
            self._without += 1
            if self._without >= _NEEDED_FRAMES:
                self._pressed = None
        else:
            self._without = 0
        self._run = self._run + 1 if key is not None and key == self._candidate else int(key is not None)
        self._candidate = key
        if key is None or self._run != _NEEDED_FRAMES or key == self._pressed:
            return None
        self._pressed, self._without = key, 0
        return key

    def _key(self, frame: bytes) -> str | None:
        samples = np.frombuffer(frame, dtype="<i2").astype(np.float64)
        if len(samples) != self._probe.shape[1]:
            return None
        power = np.abs(self._probe @ samples) ** 2
        low, high = int(np.argmax(power[:4])), int(np.argmax(power[4:]))
        weak, strong = sorted((power[low], power[4 + high]))
        # A sine of amplitude a: correlation a·n/2, energy a²·n/2.
        share = 2 * (weak + strong) / (len(samples) * float(samples @ samples))
        if share < _SHARE or strong > _TWIST * weak:
            return None
        return _PAD[low][high]
