"""Sounds an agent can make without a voice: for examples, tests and call progress."""

from collections.abc import Sequence

import numpy as np


def chime(
    notes_hz: Sequence[float] = (523.25, 659.25, 783.99), note_ms: int = 280, sample_rate: int = 16000
) -> bytes:
    """Notes one after the other, each fading out; PCM signed 16-bit little-endian mono."""
    length = sample_rate * note_ms // 1000
    seconds = np.arange(length) / sample_rate
    # A soft attack: a hard edge clicks in the caller's ear.
    envelope = np.minimum(seconds / 0.01, 1.0) * np.exp(-3.0 * seconds / (note_ms / 1000))
    notes = [0.35 * np.sin(2 * np.pi * pitch * seconds) * envelope for pitch in notes_hz]
    return (np.concatenate(notes) * 32767).astype("<i2").tobytes()
