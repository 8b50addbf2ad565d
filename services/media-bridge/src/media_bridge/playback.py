"""Agent audio on its way to the caller: bounded, paced, cut into whole frames; marks and barge-in. Pure.

Theory of operation. The carrier plays what it is sent at real time and buffers the rest; the bridge sends a
frame only when less than `lead_s` of audio is unplayed there. Nobody tells the bridge how far the carrier has
played, but as the lead is small, its own clock knows: audio sent at `t` is played when everything before it
is, and not before `t`.

    play_until := max(play_until, t) + 20 ms         for every frame sent

So on `clear` what the caller has heard is everything sent but `play_until - now`, and there is never more
than the lead to take back. A *mark* stands in the queue between frames and goes to the carrier under a name
that is never used twice; each is resolved exactly once: heard when the carrier returns it, not heard when
`clear` or the end overtakes it. Twilio returns overtaken marks as well: by then their names are forgotten.

Times are seconds of a monotonic clock, given by the caller.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

import msgspec

from offhook.audio import FRAME_MS

FRAME_S: Final = FRAME_MS / 1000

UTTERANCE_GAP_S: Final = 0.5
"""The caller has heard nothing for so long: what comes next is another utterance."""

TAIL_GRACE_S: Final = 0.03
"""An unfinished frame is filled up with silence when nothing has followed it for so long and the carrier runs
dry.
"""

MAX_MARKS: Final = 1000
"""Marks that may wait, here and at the carrier."""


class AudioFrame(msgspec.Struct, frozen=True, gc=False):
    """20 ms for the carrier, now. `active`: whether it is louder than silence, where that is known
    already.
    """

    payload: bytes
    active: bool | None


class CarrierMark(msgspec.Struct, frozen=True, gc=False):
    """A mark for the carrier, now. `name` is ours, not the agent's."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearOutcome:
    """What `clear` took back. `voided` are the agent's names of the marks that are now not heard, in
    order.
    """

    heard_ms: int
    discarded_ms: int
    voided: tuple[str, ...]


class Playback:
    """One call's audio towards the caller. `frame_bytes` and `silence` (one byte) are those of the carrier's
    encoding.

    You must call `take` until it returns None after every `push` and `mark`, and then every few milliseconds
    while `waiting`.
    """

    def __init__(
        self, frame_bytes: int, silence: bytes, *, lead_s: float = 0.08, max_ms: int = 60_000
    ) -> None:
        self._frame_bytes = frame_bytes
        self._silence = silence
        self._lead_s = lead_s
        self._max_frames = max_ms // FRAME_MS
        self._queue: deque[AudioFrame | CarrierMark] = deque()
        self._queued_frames = 0
        self._tail = b""
        self._tail_at = 0.0
        self._tail_marks: list[CarrierMark] = []  # they stand behind the unfinished frame
        self._play_until = 0.0
        self._sent_ms = 0  # of the utterance that is being played, or was played last
        self._mark_number = 0
        self._marks: dict[str, str] = {}  # ours → the agent's, in order; queued here or out at the carrier
        self.underruns = 0

    @property
    def waiting(self) -> bool:
        """Something is left that `take` will give later."""
        return bool(self._queue or self._tail)

    @property
    def queued_ms(self) -> int:
        """Audio held here, in whole frames."""
        return self._queued_frames * FRAME_MS

    @property
    def room_ms(self) -> int:
        """How much more audio may be pushed."""
        return (self._max_frames - self._queued_frames) * FRAME_MS

    def heard_ms(self, now: float) -> int:
        """How much of the utterance that is being played the caller has heard."""
        return self._sent_ms - min(self._sent_ms, round(self.ahead_s(now) * 1000))

    def ahead_s(self, now: float) -> float:
        """Audio at the carrier that the caller has not heard yet."""
        return max(0.0, self._play_until - now)

    def push(self, audio: bytes, now: float, active: bool | None = None) -> int:
        """Add audio. Returns the milliseconds at its end that did not fit and are not taken.

        `active` is about all of `audio`; it is kept when that is exactly one frame.
        """
        size = self._frame_bytes
        queue = self._queue
        if not self._tail and len(audio) == size and self._queued_frames < self._max_frames:
            queue.append(AudioFrame(audio, active))
            self._queued_frames += 1
            return 0
        audio = self._tail + audio
        whole = min(len(audio) // size, self._max_frames - self._queued_frames)
        end = whole * size
        for start in range(0, end, size):
            queue.append(AudioFrame(audio[start : start + size], None))
            if self._tail_marks:
                queue.extend(self._tail_marks)
                self._tail_marks.clear()
        self._queued_frames += whole
        rest = audio[end:]
        self._tail = rest if len(rest) < size else b""
        self._tail_at = now
        if not self._tail and self._tail_marks:
            queue.extend(self._tail_marks)  # their frame did not fit any more
            self._tail_marks.clear()
        return 0 if len(rest) < size else len(rest) * FRAME_MS // size

    def mark(self, name: str) -> bool:
        """Add a mark after everything pushed so far. False: too many are waiting, this one is not taken."""
        if len(self._marks) >= MAX_MARKS:
            return False
        self._mark_number += 1
        ours = f"m{self._mark_number}"
        self._marks[ours] = name
        # Behind an unfinished frame it waits with it: padding in the middle of speech would be heard.
        (self._tail_marks if self._tail else self._queue).append(CarrierMark(ours))
        return True

    def take(self, now: float) -> AudioFrame | CarrierMark | None:
        """The next thing the carrier may have now; None when nothing is due."""
        queue = self._queue
        if not queue:
            if not self._tail or self._play_until > now or now - self._tail_at < TAIL_GRACE_S:
                return None
            self._finish_tail()
        item = queue[0]
        if isinstance(item, CarrierMark):
            queue.popleft()
            return item
        dry_s = now - self._play_until
        if dry_s < FRAME_S - self._lead_s:
            return None
        queue.popleft()
        self._queued_frames -= 1
        if dry_s >= UTTERANCE_GAP_S:
            self._sent_ms = 0
        elif dry_s >= FRAME_S:
            self.underruns += 1
        self._play_until = (now if dry_s > 0 else self._play_until) + FRAME_S
        self._sent_ms += FRAME_MS
        return item

    def reached(self, carrier_name: str) -> tuple[str, ...]:
        """The carrier returned a mark: the agent's names of all marks that are heard by that, in order.

        Empty for a mark that was overtaken by `clear`. What stands before a returned mark was played as well.
        """
        if carrier_name not in self._marks:
            return ()
        heard = []
        for ours in list(self._marks):
            heard.append(self._marks.pop(ours))
            if ours == carrier_name:
                break
        return tuple(heard)

    def clear(self, now: float) -> ClearOutcome:
        """Forget everything that was not heard. The carrier must be told to do the same."""
        heard_ms = self.heard_ms(now)
        ahead_ms = self._sent_ms - heard_ms
        tail_ms = len(self._tail) * FRAME_MS // self._frame_bytes
        outcome = ClearOutcome(
            heard_ms=heard_ms,
            discarded_ms=ahead_ms + self.queued_ms + tail_ms,
            voided=tuple(self._marks.values()),
        )
        self._queue.clear()
        self._queued_frames = 0
        self._tail = b""
        self._tail_marks.clear()
        self._marks.clear()
        self._play_until = min(self._play_until, now)
        self._sent_ms = 0
        return outcome

    def _finish_tail(self) -> None:
        self._queue.append(AudioFrame(self._tail.ljust(self._frame_bytes, self._silence), None))
        self._queued_frames += 1
        self._queue.extend(self._tail_marks)
        self._tail_marks.clear()
        self._tail = b""
