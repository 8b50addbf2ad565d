"""What was said on one stream of a call that is recorded, a second at a time. Pure but for the clock it is given.

Nothing here waits, and a frame costs a comparison and its bytes appended.
"""

import base64
import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

from offhook.audio import FRAME_MS, Encoding, frame_bytes, silence_byte
from offhook.audio.silence import is_active
from offhook.events import AudioTap
from offhook.events.taps import TAP_MS

# A second is told so long after it is over: audio that comes in bursts has arrived by then.
_GRACE_MS: Final = 300
# Audio that stays behind the clock by more than this was never sent: silence takes its place.
_BEHIND_MS: Final = 60
# Audio that is ahead of the clock follows silence that stood for it while it was late. It gets back to its place by
# leaving out pauses, and at once when it is further ahead than this.
_AHEAD_MS: Final = 60
_FAR_AHEAD_MS: Final = 1000

Tell = Callable[[AudioTap], None]


class StreamTap:
    """One stream, from its start at `now` (monotonic seconds; `started_at` is the same moment by the wall clock).

    Caller audio lies where it arrived, as carriers send it at the pace it is spoken. Agent audio lies where the caller
    hears it: sent ahead of that by the bridge's lead, after what was sent before. You must call `flush` every second
    or so, and `close` at the end. Nothing is told before `identify`.
    """

    def __init__(
        self, run: str, encoding: Encoding, sample_rate: int, now: float, started_at: datetime, tell: Tell
    ) -> None:
        self._run = run
        self._encoding: Encoding = encoding
        self._sample_rate = sample_rate
        self._tell = tell
        self._start = now
        self._started_at = started_at
        self._bytes_per_ms = frame_bytes(encoding, sample_rate) // FRAME_MS
        self._silence = silence_byte(encoding)
        self._base_ms = 0  # both buffers begin here
        self._caller = bytearray()
        self._agent = bytearray()
        self._least_behind = math.inf  # since the last flush, in ms
        self._whole = 0  # bytes of the caller's audio up to which none was missing
        self._index = 0
        self._stream_id: str | None = None
        self._epoch = 0

    def identify(self, stream_id: str, epoch: int) -> None:
        """The stream has the call: from here on its audio is told."""
        self._stream_id, self._epoch = stream_id, epoch

    def caller(self, payload: bytes, now: float) -> None:
        """Audio of the caller has come."""
        end_ms = self._base_ms + (len(self._caller) + len(payload)) / self._bytes_per_ms
        behind = (now - self._start) * 1000 - end_ms
        if behind < -_AHEAD_MS and (behind < -_FAR_AHEAD_MS or not is_active(payload, self._encoding)):
            return
        if behind < self._least_behind:
            self._least_behind = behind
        self._caller += payload
        if behind <= _BEHIND_MS:
            self._whole = len(self._caller)

    def agent(self, payload: bytes, now: float) -> None:
        """Audio goes to the caller, to be played after what was sent before and not before now."""
        missing = self._elapsed_ms(now) - self._base_ms - len(self._agent) // self._bytes_per_ms
        if missing > 0:
            self._agent += self._silence * (missing * self._bytes_per_ms)
        self._agent += payload

    def cleared(self, now: float) -> None:
        """The carrier was told to forget what the caller has not heard."""
        heard = max(0, self._elapsed_ms(now) - self._base_ms) * self._bytes_per_ms
        del self._agent[heard:]

    def flush(self, now: float) -> None:
        """Tell the seconds that are over."""
        self._settle()
        until = self._elapsed_ms(now) - _GRACE_MS
        while self._base_ms + TAP_MS <= until:
            self._emit(TAP_MS, last=False)

    def close(self, now: float) -> None:
        """The stream is over: tell what is left of it."""
        self._settle()
        end = self._elapsed_ms(now)
        while self._base_ms + TAP_MS < end:
            self._emit(TAP_MS, last=False)
        self._emit(max(0, end - self._base_ms), last=True)

    def _elapsed_ms(self, now: float) -> int:
        return round((now - self._start) * 1000)

    def _settle(self) -> None:
        """Whatever part of the caller's audio has not come by now did not come at all."""
        behind, self._least_behind = self._least_behind, math.inf
        if _BEHIND_MS < behind < math.inf:
            self._caller[self._whole : self._whole] = self._silence * (round(behind) * self._bytes_per_ms)
            self._whole = len(self._caller)

    def _emit(self, duration_ms: int, *, last: bool) -> None:
        size = duration_ms * self._bytes_per_ms
        caller, agent = self._cut(self._caller, size), self._cut(self._agent, size)
        offset_ms, index = self._base_ms, self._index
        self._base_ms += duration_ms
        self._index += 1
        self._whole = max(0, self._whole - size)
        if self._stream_id is None:
            return
        self._tell(
            AudioTap(
                workflow_run_id=self._run,
                epoch=self._epoch,
                stream_id=self._stream_id,
                index=index,
                offset_ms=offset_ms,
                duration_ms=duration_ms,
                started_at=self._started_at,
                encoding=self._encoding,
                sample_rate=self._sample_rate,
                caller=base64.b64encode(caller).decode(),
                agent=base64.b64encode(agent).decode(),
                last=last,
            )
        )

    def _cut(self, buffer: bytearray, size: int) -> bytes:
        piece = bytes(buffer[:size]).ljust(size, self._silence)
        del buffer[:size]
        return piece
