"""The outlet: an event handed to it is durable when `emit` returns, in Kafka or in a spool on the local disk.

Theory of operation. The outlet is in one of three states:

    direct       events go to Kafka in the order of `emit`; the spool is empty
    spooling     events go to the spool; a drainer sends the spool to Kafka, oldest first
    handing over the spool is nearly drained and Kafka answers: new events are held back, until the spool is
    empty

    direct ── no acknowledgement in time, or refused ──▶ spooling ── a chunk was acknowledged, little is left
    ──▶ handing over ── spool empty ──▶ direct              (from handing over back to spooling: as from
    direct)

The change to spooling takes *all* events that wait for Kafka into the spool, in the order of `emit` and
before any later one. So whatever happens, the events of one key first appear on their topic in the order in
which they were emitted. An event that Kafka took although its acknowledgement was late is also sent from the
spool: it then appears twice, with the same id.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
from aiokafka.errors import MessageSizeTooLargeError
from opentelemetry.trace import Span

from offhook.bus import hops
from offhook.bus.broker import MAX_RECORD_BYTES
from offhook.bus.bus import Bus, OutgoingRecord
from offhook.bus.errors import BusUnavailable, EventTooLarge, OutletError, OutletFull
from offhook.bus.producer import Acknowledgement
from offhook.bus.spool import Spool, SpoolFull, SpoolInUse
from offhook.events import Event, EventData
from offhook.telemetry import metrics
from offhook.topics import Topic

log = logging.getLogger(__name__)

R = TypeVar("R")
Destination = Literal["kafka", "spool"]

_RETRY_S: Final = 1.0
_LOOK_S: Final = 0.05

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(OutgoingRecord).decode


class _Emission:
    """One event on its way. `settled` is done when the event is durable."""

    __slots__ = ("diverted", "record", "settled", "since")

    def __init__(self, record: OutgoingRecord, since: float) -> None:
        self.record = record
        self.since = since
        self.diverted = False
        self.settled: asyncio.Future[Destination] = asyncio.get_running_loop().create_future()

    def settle(self, destination: Destination) -> None:
        if not self.settled.done():
            metrics.OUTLET_EVENTS.labels(destination).inc()
            self.settled.set_result(destination)

    def fail(self, error: OutletError | EventTooLarge) -> None:
        if not self.settled.done():
            metrics.OUTLET_REFUSED.inc()
            self.settled.set_exception(error)
            self.settled.exception()  # its emitter may have gone


class Outlet:
    """See the module. `directory` belongs to this process alone and should outlive it; start after the bus,
    stop before.

    `ack_timeout_s` is how long Kafka may take before the spool is used: less than what providers wait for.
    `chunk_events` of the spool are sent to Kafka at a time.
    """

    def __init__(
        self,
        bus: Bus,
        directory: Path,
        *,
        max_bytes: int = 256 * 1024 * 1024,
        ack_timeout_s: float = 1.0,
        chunk_events: int = 500,
    ) -> None:
        self._bus = bus
        self._directory = directory
        self._max_bytes = max_bytes
        self._ack_timeout_s = ack_timeout_s
        self._chunk_events = chunk_events
        self._spool = Spool(directory, max_bytes=max_bytes)
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spool")
        self._spooling = False
        self._flight: dict[_Emission, None] = {}  # in order of emit
        self._outbox: deque[_Emission] = deque()
        self._outbox_filled = asyncio.Event()
        self._open_gate = asyncio.Event()  # closed: the outbox waits for the spool to be empty
        self._to_spool: list[_Emission] = []
        self._to_spool_filled = asyncio.Event()
        self._writing = False
        self._spool_filled = asyncio.Event()
        self._written = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._pump: asyncio.Task[None] | None = None
        self._running = False
        self._failure = ""
        bus.add_check(self._problems)

    async def start(self) -> None:
        """Open the spool; what an earlier process left there is sent first. Raises `OutletError`."""
        try:
            await self._on_disk(self._spool.open)
        except (OSError, SpoolInUse) as error:
            raise OutletError(f"the spool {self._directory} cannot be opened: {error}") from error
        if self._spool.count:
            log.info("%s events from an earlier run are in the spool", self._spool.count)
            self._spooling = True
            self._spool_filled.set()
        else:
            self._open_gate.set()
        self._running = True
        self._start_pump()
        self._tasks = [
            self._spawn(self._watch(), "outlet watch"),
            self._spawn(self._write(), "outlet writer"),
            self._spawn(self._drain(), "outlet drainer"),
        ]

    async def stop(self, grace_s: float = 0.0) -> None:
        """Take no more events; return when those on their way are durable. Kafka has `grace_s` to take what is in the
        spool; what is left stays there.
        """
        if not self._running:
            return
        self._running = False
        if self._flight:
            await asyncio.wait([emission.settled for emission in self._flight])
        while self._to_spool or self._writing:
            self._written.clear()
            await self._written.wait()
        try:
            async with asyncio.timeout(grace_s):
                await self.emptied()
        except TimeoutError:
            log.warning("%s events stay in the local spool", self._spool.count)
        assert self._pump is not None
        tasks = [*self._tasks, self._pump]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await self._on_disk(self._spool.close)
        self._disk.shutdown()

    async def emit(self, topic: Topic, event: Event[EventData]) -> Destination:
        """Returns where the event now is, durably. Order per key is the order of the calls.

        Raises `OutletFull` and `OutletError` when it is nowhere: then do not acknowledge what caused it.
        Raises `EventTooLarge` for an event over the size of a Kafka record. Cancelling does not take the
        event back.
        """
        if not self._running or self._failure:
            raise OutletError(self._failure or "the outlet is not started")
        event, span = hops.begin_sending(topic, event, client=self._bus.service)
        record = self._bus.outgoing(topic, event)
        if len(record.value or b"") + sum(map(len, record.headers.values())) > MAX_RECORD_BYTES - 1024:
            too_large = EventTooLarge(f"an event for {topic.name} has more than {MAX_RECORD_BYTES} bytes")
            hops.end_sending(span, error=too_large)
            raise too_large
        emission = _Emission(record, asyncio.get_running_loop().time())
        if span is not None:
            emission.settled.add_done_callback(partial(_end_sending, span))
        if self._spooling:
            self._divert_one(emission)
        else:
            self._flight[emission] = None
            self._outbox.append(emission)
            self._outbox_filled.set()
        return await asyncio.shield(emission.settled)

    async def emptied(self) -> None:
        """Returns when Kafka has everything that was emitted: the spool of a process that ends for good is lost with its
        disk. Waits for Kafka; bound it.
        """
        while not self._failure and (self._flight or self._to_spool or self._writing or self._spool.count):
            await asyncio.sleep(_LOOK_S)

    @property
    def spooled(self) -> int:
        """Events in the spool that Kafka has not acknowledged."""
        return self._spool.count

    # --- to Kafka

    def _start_pump(self) -> None:
        if self._pump is not None:
            self._pump.cancel()
        self._pump = self._spawn(self._send_outbox(), "outlet pump")

    async def _send_outbox(self) -> None:
        while True:
            await self._outbox_filled.wait()
            await self._open_gate.wait()
            while self._outbox:
                emission = self._outbox[0]
                try:
                    acknowledgement = await self._bus.send(emission.record)
                except EventTooLarge as error:
                    self._outbox.popleft()
                    self._flight.pop(emission, None)
                    emission.fail(error)
                    continue
                except BusUnavailable as error:
                    # Cancels and replaces this task.
                    self._divert_all(str(error))
                    return
                self._outbox.popleft()
                acknowledgement.add_done_callback(partial(self._acknowledged, emission))
            self._outbox_filled.clear()

    def _acknowledged(self, emission: _Emission, acknowledgement: Acknowledgement) -> None:
        error = None if acknowledgement.cancelled() else acknowledgement.exception()
        if emission.diverted:
            return
        if isinstance(error, MessageSizeTooLargeError):
            self._flight.pop(emission, None)
            emission.fail(EventTooLarge(f"Kafka finds a record for {emission.record.topic} too large"))
        elif error is not None or acknowledgement.cancelled():
            self._divert_all(f"Kafka refused a record for {emission.record.topic}: {error!r}")
        else:
            self._flight.pop(emission, None)
            emission.settle("kafka")

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self._ack_timeout_s / 4)
            oldest = next(iter(self._flight), None)
            if oldest is not None and loop.time() - oldest.since >= self._ack_timeout_s:
                self._divert_all(f"no acknowledgement within {self._ack_timeout_s} s")

    # --- to the spool

    def _divert_all(self, reason: str) -> None:
        """From direct (or handing over) to spooling. Not a coroutine: nothing may be emitted in between."""
        log.warning("events go to the local spool: %s", reason)
        self._spooling = True
        self._open_gate.clear()
        emissions = list(self._flight)
        self._flight.clear()
        self._outbox.clear()
        self._outbox_filled.clear()
        for emission in emissions:
            self._divert_one(emission)
        self._start_pump()

    def _divert_one(self, emission: _Emission) -> None:
        emission.diverted = True
        self._to_spool.append(emission)
        self._to_spool_filled.set()

    async def _write(self) -> None:
        while True:
            await self._to_spool_filled.wait()
            self._to_spool_filled.clear()
            # Everything that came in while the disk was busy shares the next fsync.
            emissions, self._to_spool = self._to_spool, []
            self._writing = True
            try:
                failures = await self._on_disk(partial(self._append, emissions))
            finally:
                self._writing = False
            for emission, failure in zip(emissions, failures, strict=True):
                if failure is None:
                    emission.settle("spool")
                else:
                    emission.fail(failure)
            self._update_gauges()
            self._spool_filled.set()
            self._written.set()

    def _append(self, emissions: list[_Emission]) -> list[OutletError | None]:
        """In the disk's thread: in one write if they fit, else as many as do. Returns what failed, in order."""
        try:
            self._spool.append([_encode(emission.record) for emission in emissions])
        except SpoolFull as error:
            if len(emissions) > 1:
                half = len(emissions) // 2
                return self._append(emissions[:half]) + self._append(emissions[half:])
            return [OutletFull(f"Kafka is away and {error}")]
        except OSError as error:
            log.exception("the spool cannot be written")
            return [OutletError(f"the spool cannot be written: {error}")] * len(emissions)
        return [None] * len(emissions)

    # --- from the spool to Kafka

    async def _drain(self) -> None:
        while True:
            await self._spool_filled.wait()
            try:
                chunk = await self._on_disk(partial(self._spool.peek, self._chunk_events))
                if not chunk:
                    await self._drained()
                    continue
                sent = await self._send_chunk(chunk)
                await self._on_disk(partial(self._spool.advance, sent))
            except OSError:
                log.exception("the spool cannot be read")
                await asyncio.sleep(_RETRY_S)
                continue
            self._update_gauges()
            if sent < len(chunk):
                await asyncio.sleep(_RETRY_S)
            elif self._spool.count < self._chunk_events and self._spooling:
                self._spooling = False  # handing over: the gate is still closed

    async def _drained(self) -> None:
        """The spool is empty; whatever is being written to it right now comes first."""
        if self._to_spool or self._writing:
            self._written.clear()
            await self._written.wait()
            return
        if self._spool.count:
            return  # written since we looked
        self._spool_filled.clear()
        if self._spooling or not self._open_gate.is_set():
            log.info("the spool is drained: events go to Kafka again")
            self._spooling = False
            self._open_gate.set()

    async def _send_chunk(self, payloads: list[bytes]) -> int:
        """Send in order and wait for Kafka, as long as it takes. Returns how many from the front are done
        with.
        """
        acknowledgements: list[Acknowledgement] = []
        for payload in payloads:
            try:
                acknowledgements.append(await self._bus.send(_decode(payload)))
            except (EventTooLarge, msgspec.DecodeError) as error:
                never: Acknowledgement = asyncio.get_running_loop().create_future()
                never.set_exception(error)
                acknowledgements.append(never)
            except BusUnavailable as error:
                log.warning("the spool cannot be drained yet: %s", error)
                break
        results = await asyncio.gather(*acknowledgements, return_exceptions=True)
        for index, result in enumerate(results):
            if isinstance(result, MessageSizeTooLargeError | EventTooLarge | msgspec.DecodeError):
                await self._on_disk(partial(self._set_aside, payloads[index], result))
            elif isinstance(result, BaseException):
                log.warning("the spool cannot be drained yet: %r", result)
                return index
        return len(results)

    def _set_aside(self, payload: bytes, error: Exception) -> None:
        """An event that Kafka will never take must not block the others: it is kept for people to look at."""
        path = self._directory / "refused.msgpack"
        log.error("Kafka will never take an event of the spool (%r): it is kept in %s", error, path)
        with path.open("ab") as file:
            file.write(payload)

    # --- around

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Without one of its tasks the outlet would keep its emitters waiting for ever."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self._failure = f"{task.get_name()} has failed: {error!r}"
        log.error("%s", self._failure, exc_info=error)
        for emission in (*self._flight, *self._to_spool):
            emission.fail(OutletError(self._failure))
        self._flight.clear()
        self._to_spool.clear()

    def _problems(self) -> Iterable[str]:
        if self._failure:
            yield self._failure
        if self._spool.count:
            yield (
                f"{self._spool.count} events ({self._spool.size} of {self._max_bytes} bytes) "
                "are in the local spool, waiting for Kafka"
            )

    def _update_gauges(self) -> None:
        metrics.SPOOL_EVENTS.set(self._spool.count)
        metrics.SPOOL_BYTES.set(self._spool.size)
        metrics.SPOOL_LIMIT_BYTES.set(self._max_bytes)

    async def _on_disk(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _end_sending(span: Span, settled: "asyncio.Future[Destination]") -> None:
    lost = settled.exception()
    hops.end_sending(span, destination=None if lost else settled.result(), error=lost)
