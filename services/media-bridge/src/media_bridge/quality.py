"""What the bridge measures on one media session. Pure; counters only, nothing is kept per frame."""

from bisect import bisect_left
from typing import Final

from offhook.audio import FRAME_MS
from offhook.events import MediaQuality

GAP_S: Final = 0.2
"""Caller audio is a gap when none came for so long; it comes every 20 ms."""

# Upper bounds in milliseconds of how long audio was held.
HELD_BOUNDS_MS: Final = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 40.0, 80.0, 160.0, 500.0)

_MIN_TURN_FRAMES: Final = 5  # 100 ms of sound are words; less is a click
_TURN_PAUSE_S: Final = (
    0.06  # the caller is silent for three frames: an agent that speaks now may be answering
)
_LONGEST_RESPONSE_S: Final = 60.0
_RESPONSES: Final = 512


class HeldAudio:
    """How long audio was held: a histogram."""

    def __init__(self) -> None:
        self.counts = [0] * (len(HELD_BOUNDS_MS) + 1)
        self.total_ms = 0.0

    def add(self, held_ms: float) -> None:
        self.counts[bisect_left(HELD_BOUNDS_MS, held_ms)] += 1
        self.total_ms += held_ms

    def percentile(self, share: float) -> float:
        """The upper bound under which `share` (0 to 1) of the audio was; 0 without any audio."""
        wanted = share * sum(self.counts)
        if not wanted:
            return 0.0
        seen = 0
        for bound, count in zip((*HELD_BOUNDS_MS, 1000.0), self.counts, strict=True):
            seen += count
            if seen >= wanted:
                return bound
        return 1000.0


class Turns:
    """How fast the agent answers: from the last sound of the caller's words to the first sound of the
    agent's.

    By energy alone, so noise on the line counts as words; good enough to compare days and agents.
    """

    def __init__(self) -> None:
        self._sound_frames = 0
        self._last_sound = 0.0
        self._open = False
        self.responses_ms: list[float] = []

    def caller(self, active: bool, now: float) -> None:
        if active:
            self._sound_frames += 1
            self._last_sound = now
            if self._sound_frames >= _MIN_TURN_FRAMES:
                self._open = True
        elif self._sound_frames and now - self._last_sound > _TURN_PAUSE_S:
            self._sound_frames = 0

    def agent(self, active: bool, now: float) -> float | None:
        """Returns the response time in seconds when this frame is the first sound of an answer."""
        if not active or not self._open:
            return None
        waited = now - self._last_sound
        if waited < _TURN_PAUSE_S:
            return None  # both speak: not an answer
        self._open = False
        self._sound_frames = 0
        if waited > _LONGEST_RESPONSE_S:
            return None
        if len(self.responses_ms) < _RESPONSES:
            self.responses_ms.append(waited * 1000)
        return waited


class QualityMeter:
    """Everything `MediaQuality` reports. Frames are 20 ms."""

    def __init__(self) -> None:
        self.caller_frames = 0
        self.caller_active = 0
        self.agent_frames = 0
        self.agent_active = 0
        self.gaps = 0
        self.longest_gap_s = 0.0
        self.interruptions = 0
        self.uplink = HeldAudio()
        self.downlink = HeldAudio()
        self.turns = Turns()

    def gap(self, seconds: float) -> None:
        self.gaps += 1
        self.longest_gap_s = max(self.longest_gap_s, seconds)

    def report(self, underruns: int) -> MediaQuality:
        held = HeldAudio()
        held.counts = [a + b for a, b in zip(self.uplink.counts, self.downlink.counts, strict=True)]
        responses = sorted(self.turns.responses_ms)
        return MediaQuality(
            caller_audio_ms=self.caller_frames * FRAME_MS,
            caller_active_ms=self.caller_active * FRAME_MS,
            agent_audio_ms=self.agent_frames * FRAME_MS,
            agent_active_ms=self.agent_active * FRAME_MS,
            gaps=self.gaps,
            longest_gap_ms=round(self.longest_gap_s * 1000),
            underruns=underruns,
            held_p50_ms=held.percentile(0.5),
            held_p99_ms=held.percentile(0.99),
            interruptions=self.interruptions,
            response_p50_ms=round(responses[len(responses) // 2], 1) if responses else None,
            response_max_ms=round(responses[-1], 1) if responses else None,
        )
