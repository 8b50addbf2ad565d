"""What a carrier does with the audio it was sent: queue it, play it at real time, say when a mark is reached.

Pure state: time is given in milliseconds and never goes back. An empty queue does not save up time: audio
that arrives after a pause starts to play when it arrives.
"""

from collections import deque
from typing import Final

_KEPT_MS: Final = 60_000


class Playout:
    """One direction's playout buffer. `bytes_per_ms`: 8 for mu-law at 8 kHz, 32 for 16-bit PCM at 16 kHz."""

    def __init__(self, bytes_per_ms: int) -> None:
        self._bytes_per_ms = bytes_per_ms
        self._queue: deque[bytes | str] = deque()
        self._buffered = 0
        self._messages = 0
        self._offset = 0  # bytes of the first message that are played
        self._now_ms: float | None = None
        self._credit = 0.0  # bytes that time has allowed and that are not played, less than one
        self._played = bytearray()

    @property
    def buffered_ms(self) -> float:
        return self._buffered / self._bytes_per_ms

    @property
    def messages(self) -> int:
        """How many messages of audio wait, the one being played included."""
        return self._messages

    def push(self, payload: bytes, now_ms: float) -> None:
        """Queue audio. `advance` to `now_ms` first."""
        if payload:
            self._queue.append(payload)
            self._buffered += len(payload)
            self._messages += 1

    def mark(self, name: str) -> bool:
        """Queue a mark. True: nothing is queued before it, so it is reached already (and not queued)."""
        if not self._queue:
            return True
        self._queue.append(name)
        return False

    def advance(self, now_ms: float) -> list[str]:
        """Play until `now_ms`; the marks reached, in order."""
        elapsed = 0.0 if self._now_ms is None else max(0.0, now_ms - self._now_ms)
        self._now_ms = now_ms if self._now_ms is None else max(self._now_ms, now_ms)
        if not self._queue:
            self._credit = 0.0
            return []
        self._credit += elapsed * self._bytes_per_ms
        reached: list[str] = []
        while self._queue:
            item = self._queue[0]
            if isinstance(item, str):
                reached.append(item)
                self._queue.popleft()
                continue
            step = min(int(self._credit), len(item) - self._offset)
            self._played += item[self._offset : self._offset + step]
            self._credit -= step
            self._buffered -= step
            self._offset += step
            if self._offset < len(item):
                break
            self._queue.popleft()
            self._messages -= 1
            self._offset = 0
        del self._played[: max(0, len(self._played) - _KEPT_MS * self._bytes_per_ms)]
        return reached

    def clear(self) -> list[str]:
        """Drop what is queued; the marks that were in it, in order."""
        marks = [item for item in self._queue if isinstance(item, str)]
        self._queue.clear()
        self._buffered = self._messages = self._offset = 0
        self._credit = 0.0
        return marks

    def take_played(self) -> bytes:
        """What was played since the last call, at most the last minute of it."""
        played = bytes(self._played)
        self._played.clear()
        return played
