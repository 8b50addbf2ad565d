"""What every simulated call has, whoever carries it: a person, a line, an end, and faults of its media."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any, Protocol

from carrier_sim import caller as callers
from carrier_sim.caller import Caller
from carrier_sim.courier import Courier
from carrier_sim.exchange import Exchange
from carrier_sim.faults import Faults
from carrier_sim.line import Line
from carrier_sim.media import Closed, MediaSocket, Message
from carrier_sim.report import CallReport, EndedBy

# How long a half-open connection stands until it is cut; 45 s to 2.5 min were seen in the field.
_HALF_OPEN_S = 45.0


class LiveCall:
    """The base of both carriers' calls. The first `end` counts."""

    def __init__(self, exchange: Exchange, report: CallReport, faults: Faults | None) -> None:
        self.report = report
        self._exchange = exchange
        self._fortune = exchange.fortune(faults)
        self._courier = Courier(report, self._fortune)
        self._line: Line | None = None
        self._caller = Caller()
        self._tasks: list[asyncio.Task[None]] = []
        self._end: asyncio.Future[tuple[EndedBy, str]] = asyncio.get_running_loop().create_future()
        self._answered_at = 0.0
        self._picked_up = asyncio.Event()
        self._media_faults = 0
        self._sockets: set[MediaSocket] = set()

    @property
    def is_over(self) -> bool:
        return self._end.done()

    @property
    def patience(self) -> float:
        """By what the carrier's time limits are multiplied."""
        return self._exchange.config.patience

    def end(self, by: EndedBy, cause: str) -> None:
        """End the call, for a reason."""
        if not self._end.done():
            self._end.set_result((by, cause))

    def kill_media(self) -> None:
        """The media sockets die without a word."""
        for socket in tuple(self._sockets):
            self.report.faults.append("killed a media socket")
            socket.kill()

    def half_open_media(self) -> None:
        """The media sockets fall silent in both directions, but stay open."""
        for socket in tuple(self._sockets):
            self.report.faults.append("left a media socket half-open")
            socket.go_half_open()

    async def until_over(self) -> None:
        """Returns when the call has ended (its last callbacks may still be under way)."""
        await asyncio.wait({self._end})

    async def connected(self) -> bool:
        """Wait until the phone is picked up, or the call is over. False: it was not picked up."""
        picked_up = asyncio.ensure_future(self._picked_up.wait())
        events: set[asyncio.Future[Any]] = {picked_up, self._end}
        try:
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        finally:
            picked_up.cancel()
        return self._picked_up.is_set() and not self._end.done()

    async def _ends_within(self, seconds: float) -> bool:
        if seconds > 0:
            await asyncio.wait({self._end}, timeout=seconds)
        return self._end.done()

    def _open_line(self, sample_rate: int, limit_s: float) -> Line:
        """The call is answered: the person is on the line."""
        self._answered_at = time.monotonic()
        self._picked_up.set()
        self._line = Line(self.report, sample_rate)
        self._background(self._line.run())
        self._background(self._person(self._line))
        self._background(self._limit(min(limit_s, self._exchange.config.max_call_s)))
        return self._line

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs until the call is over."""
        self._tasks.append(asyncio.create_task(work))

    async def _limit(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.end("carrier", "time-limit")

    async def _person(self, line: Line) -> None:
        if not self._caller.at_once:
            await line.opened()
        cause = await callers.play(self._caller, line)
        self.end("caller" if self.report.direction == "inbound" else "callee", cause)

    async def _close_line(self) -> tuple[EndedBy, str]:
        """Stop everything that runs with the call. Returns who ended it and why."""
        self.end("carrier", "simulation-stopped")
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        by, cause = self._end.result()
        self.report.ended_by, self.report.end_cause = by, cause
        self.report.duration_ms = self.report.now_ms()
        if self._line is not None:
            self._line.close()
            self.report.talk_ms = round((time.monotonic() - self._answered_at) * 1000)
        return by, cause

    async def _deliver_the_rest(self) -> None:
        """Wait for the callbacks that are under way; when the simulation stops, give them up."""
        try:
            await self._courier.drain()
        except asyncio.CancelledError:
            await self._courier.abandon()
            raise
        finally:
            self._exchange.ended(self.report)

    async def _media_fault(self, socket: MediaSocket) -> None:
        faults = self._fortune.faults
        if self._media_faults >= faults.media_faults_per_call:
            return
        if faults.kill_media_after_s is not None:
            await asyncio.sleep(faults.kill_media_after_s)
            self._media_faults += 1
            self.report.faults.append("killed a media socket")
            socket.kill()
        elif faults.half_open_media_after_s is not None:
            await asyncio.sleep(faults.half_open_media_after_s)
            self._media_faults += 1
            self.report.faults.append("left a media socket half-open")
            socket.go_half_open()

    async def _converse(self, socket: MediaSocket, port: "SocketPort", *, both_ways: bool = True) -> Closed:
        """Run an open media socket until it ends. When cancelled (the call is over), say so and close."""
        line = self._line
        assert line is not None
        self.report.streams += 1
        self._sockets.add(socket)
        fault = asyncio.create_task(self._media_fault(socket))
        port.begin()
        if both_ways:
            line.plug(port)
        else:
            line.overhear(port)
        try:
            closed = await socket.closed()
        except asyncio.CancelledError:
            # No voice after the last word: the line ticks on while the socket closes.
            line.unplug(port)
            await socket.close(*port.last_words())
            raise
        finally:
            fault.cancel()
            line.unplug(port)
            self._sockets.discard(socket)
        if closed.how == "half-open":
            self._exchange.spawn(_linger(socket))
        else:
            await socket.dispose()
        return closed


class StreamProtocol(Protocol):
    """A carrier's end of a media protocol, without I/O. `outbox` collects what is to be written."""

    outbox: list[Message]

    def begin(self) -> None: ...
    def hear(self, pcm: bytes) -> None: ...
    def play(self) -> bytes | None: ...
    def press(self, digit: str) -> None: ...
    def receive(self, message: Message) -> None: ...
    def stop(self) -> None: ...


class SocketPort:
    """Plugs a media protocol into the line; what the protocol wants written goes to the socket."""

    def __init__(self, protocol: StreamProtocol) -> None:
        self._protocol = protocol
        self._socket: MediaSocket | None = None

    def attach(self, socket: MediaSocket) -> None:
        self._socket = socket

    def begin(self) -> None:
        self._protocol.begin()
        self._flush()

    def hear(self, pcm: bytes) -> None:
        self._protocol.hear(pcm)
        self._flush()

    def play(self) -> bytes | None:
        if self._socket is None or self._socket.is_closed:
            return None
        frame = self._protocol.play()
        self._flush()
        return frame

    def press(self, digit: str) -> None:
        self._protocol.press(digit)
        self._flush()

    def receive(self, message: Message) -> None:
        self._protocol.receive(message)
        self._flush()

    def last_words(self) -> list[Message]:
        """What the protocol says when the call ends before the socket."""
        self._protocol.stop()
        waiting, self._protocol.outbox = self._protocol.outbox, []
        return waiting

    def _flush(self) -> None:
        waiting, self._protocol.outbox = self._protocol.outbox, []
        if self._socket is not None:
            for message in waiting:
                self._socket.send(message)


async def _linger(socket: MediaSocket) -> None:
    try:
        await asyncio.sleep(_HALF_OPEN_S)
    finally:
        await socket.dispose()
