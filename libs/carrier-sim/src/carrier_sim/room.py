"""Where phones hear each other: two that are connected, or a conference of more."""

import asyncio
import uuid
from collections import deque
from typing import Final

import numpy as np

from carrier_sim.line import Line

# Frames on their way to an ear: 200 ms. Lines tick on their own; what is older was not heard in time.
_MAX_WAITING: Final = 10


class Seat:
    """One phone in a room: a port of its line."""

    def __init__(self, room: "Room", line: Line, *, muted: bool) -> None:
        self.line = line
        self._room = room
        self._muted = muted
        self._inboxes: dict[Seat, deque[bytes]] = {}

    def hear(self, pcm: bytes) -> None:
        if self._room.started and not self._muted:
            for other in self._room.others(self):
                other.take(self, pcm)

    def play(self) -> bytes | None:
        frames = [inbox.popleft() for inbox in self._inboxes.values() if inbox]
        if len(frames) < 2:
            return frames[0] if frames else None
        mixed = np.sum([np.frombuffer(frame, dtype="<i2").astype(np.int32) for frame in frames], axis=0)
        return bytes(np.clip(mixed, -32768, 32767).astype("<i2").tobytes())

    def press(self, digit: str) -> None:
        for other in self._room.others(self):
            other.line.press_into_ear(digit)

    def take(self, speaker: "Seat", pcm: bytes) -> None:
        """20 ms of somebody else's voice."""
        self._inboxes.setdefault(speaker, deque(maxlen=_MAX_WAITING)).append(pcm)

    def forget(self, speaker: "Seat") -> None:
        self._inboxes.pop(speaker, None)


class Room:
    """Nobody hears anybody until it has `started`; it is `over` when somebody left whose leaving ends it."""

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.id = str(uuid.uuid4())
        self.started = False
        self.over = asyncio.Event()
        self._seats: list[Seat] = []

    @property
    def is_empty(self) -> bool:
        return not self._seats

    def others(self, seat: Seat) -> list[Seat]:
        return [other for other in self._seats if other is not seat]

    def enter(self, line: Line, *, starts: bool = True, muted: bool = False) -> Seat:
        """A phone comes in. `starts`: from now on those in the room hear each other."""
        seat = Seat(self, line, muted=muted)
        self._seats.append(seat)
        self.started = self.started or starts
        line.plug(seat, party=True)
        return seat

    def leave(self, seat: Seat, *, ends: bool = False) -> None:
        """A phone goes. `ends`: with it, all others have to."""
        seat.line.unplug(seat)
        if seat in self._seats:
            self._seats.remove(seat)
        for other in self._seats:
            other.forget(seat)
        if ends:
            self.over.set()


class Rooms:
    """Conferences by name. A name is free again when its conference is over or empty."""

    def __init__(self) -> None:
        self._rooms: dict[str, Room] = {}

    def named(self, name: str) -> Room:
        room = self._rooms.get(name)
        if room is None or room.over.is_set():
            room = self._rooms[name] = Room(name)
        return room

    def leave(self, room: Room, seat: Seat, *, ends: bool) -> None:
        room.leave(seat, ends=ends)
        if (room.is_empty or room.over.is_set()) and self._rooms.get(room.name) is room:
            del self._rooms[room.name]
