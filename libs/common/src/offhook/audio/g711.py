"""G.711 mu-law, the sound of every telephone line: 8 bits a sample, 8000 samples a second.

Written from ITU-T G.711 (11/88): a code word is a sign, a three-bit segment and a four-bit step, all bits
inverted on the wire. PCM here is signed 16-bit little-endian, of which mu-law keeps the upper 14 bits.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

SILENCE: Final = 0xFF
"""The code word of the value 0, which lines send when nobody speaks."""

_BIAS: Final = 33  # of a 14-bit magnitude; moves the segment borders onto powers of two (G.711, table 2)
_CLIP: Final = 8158  # the largest 14-bit magnitude before the bias, 8191 - 33


def _decode(word: int) -> int:
    """The 16-bit value of one code word."""
    word = ~word & 0xFF
    segment = (word >> 4) & 0x07
    step = word & 0x0F
    magnitude = ((2 * step + _BIAS) << segment) - _BIAS
    return -4 * magnitude if word & 0x80 else 4 * magnitude


def _encode(value: int) -> int:
    """The code word of a 14-bit value."""
    magnitude = min(abs(value), _CLIP) + _BIAS
    segment = magnitude.bit_length() - 6
    step = (magnitude >> (segment + 1)) & 0x0F
    word = segment << 4 | step | (0x80 if value < 0 else 0)
    return ~word & 0xFF


DECODE_TABLE: Final[npt.NDArray[np.int16]] = np.array([_decode(word) for word in range(256)], np.int16)
"""16-bit value by code word."""

ENCODE_TABLE: Final[npt.NDArray[np.uint8]] = np.array(
    [_encode(value) for value in range(-8192, 8192)], np.uint8
)
"""Code word by `(16-bit value >> 2) + 8192`."""


def mulaw_to_pcm16(mulaw: bytes) -> bytes:
    """Two bytes of PCM for each byte of mu-law."""
    return DECODE_TABLE[np.frombuffer(mulaw, np.uint8)].tobytes()


def pcm16_to_mulaw(pcm: bytes) -> bytes:
    """One byte of mu-law for each sample. Raises `ValueError` for half a sample."""
    if len(pcm) % 2:
        raise ValueError(f"16-bit PCM needs an even number of bytes, not {len(pcm)}")
    return bytes(ENCODE_TABLE[(np.frombuffer(pcm, np.int16) >> 2) + 8192].tobytes())
