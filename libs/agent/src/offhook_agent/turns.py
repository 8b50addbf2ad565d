"""Whose turn it is: speech and pauses in the caller's audio, told by loudness alone."""

from dataclasses import dataclass, field
from enum import Enum

from offhook.audio.silence import level_dbfs


class Turn(Enum):
    """What one piece of audio changed."""

    STARTED = "started"
    ENDED = "ended"


@dataclass(slots=True)
class TurnDetector:
    """Feed it the caller's audio; it says when they begin and when they have finished speaking.

    Pure: it counts samples, not time. `level_dbfs` separates speech from quiet, `start_ms` of speech begin a turn,
    `pause_ms` of quiet end it. Good enough for clean telephone audio and demonstrations; for noisy lines use a trained
    voice activity detector.
    """

    sample_rate: int = 16000
    level_dbfs: float = -42.0
    start_ms: int = 60
    pause_ms: int = 600
    speaking: bool = field(default=False, init=False)
    _run_ms: float = field(default=0.0, init=False)

    def hear(self, pcm: bytes) -> Turn | None:
        """One piece of PCM (signed 16-bit little-endian mono, any even length). Returns what changed, usually nothing."""
        length_ms = len(pcm) / 2 * 1000 / self.sample_rate
        if (level_dbfs(pcm) >= self.level_dbfs) == self.speaking:
            self._run_ms = 0.0
            return None
        self._run_ms += length_ms
        if self._run_ms < (self.pause_ms if self.speaking else self.start_ms):
            return None
        self._run_ms = 0.0
        self.speaking = not self.speaking
        return Turn.STARTED if self.speaking else Turn.ENDED
