"""The caller's audio on its way to the agent: cut into whole frames, and the last seconds remembered. Pure.

While no agent listens, audio is only remembered; the oldest is dropped when the memory is full, and counted.
An agent that takes over a call gets the whole memory, one that is the first gets what nobody has heard yet.
"""

from collections import deque

from offhook.audio import FRAME_MS


class Hearing:
    """One call's caller audio, in the carrier's encoding. `frame_bytes` is 20 ms of it."""

    def __init__(self, frame_bytes: int, *, memory_ms: int) -> None:
        self._frame_bytes = frame_bytes
        self._memory_bytes = memory_ms * frame_bytes // FRAME_MS
        self._memory: deque[bytes] = deque()
        self._remembered = 0
        self._unheard = 0  # bytes at the end of the memory that no agent was given
        self._rest = b""
        self.dropped_bytes = 0

    @property
    def dropped_ms(self) -> int:
        """Caller audio that no agent will ever hear."""
        return self.dropped_bytes * FRAME_MS // self._frame_bytes

    def listen(self, payload: bytes) -> bytes:
        """Audio that an agent hears now: the whole frames that are complete with it (perhaps none)."""
        self._remember(payload)
        size = self._frame_bytes
        if not self._rest and len(payload) == size:
            return payload
        audio = self._rest + payload
        whole = len(audio) - len(audio) % size
        self._rest = audio[whole:]
        return audio[:whole]

    def hold(self, payload: bytes) -> None:
        """Audio that comes while no agent listens."""
        self._unheard += len(payload)
        self._remember(payload)

    def catch_up(self, *, everything: bool) -> bytes:
        """What an agent that begins to listen now must hear first, in whole frames: the whole memory, or only
        what nobody has heard."""
        size = self._frame_bytes
        audio = b"".join(self._memory)
        if not everything:
            audio = audio[len(audio) - self._unheard :]
        # An unfinished frame at the end is finished by the audio that follows.
        end = len(audio) - len(audio) % size
        self._rest = audio[end:]
        self._unheard = 0
        return audio[:end]

    def _remember(self, payload: bytes) -> None:
        if not payload:
            return  # the memory is bounded by bytes: a piece without any would stay in it for ever
        memory = self._memory
        memory.append(payload)
        self._remembered += len(payload)
        while self._remembered > self._memory_bytes and memory:
            self._remembered -= len(memory.popleft())
            if self._unheard > self._remembered:
                self.dropped_bytes += self._unheard - self._remembered
                self._unheard = self._remembered
