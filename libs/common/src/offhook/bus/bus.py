"""The bus: everything a service does with Kafka, on FastStream, with the policies of the whole installation
set once.

Publishing waits for all in-sync replicas (`acks=all`) with an idempotent producer. Consumers commit an offset
only after the handler has returned for it (see `consumption`). Compacted topics are read into directories
(see `directory`).
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faststream import AckPolicy
from faststream.kafka import Topic as BrokerTopic
from opentelemetry.trace import Span

from offhook.bus import hops
from offhook.bus.broker import HEARTBEAT_MS, MAX_RECORD_BYTES, REBALANCE_TIMEOUT_MS, BusSettings, build_broker
from offhook.bus.consumption import (
    BatchHandler,
    Consumption,
    Record,
    RecordConsumption,
    RecordHandler,
    raw_batch,
    raw_body,
)
from offhook.bus.dead_letters import DeadLetter, Fuse
from offhook.bus.directory import Directory, DirectoryReader
from offhook.bus.errors import BusError, BusUnavailable, EventTooLarge
from offhook.bus.health import Health
from offhook.bus.listening import Hear, Listener
from offhook.bus.producer import Acknowledgement
from offhook.bus.starting import until_usable
from offhook.events import Event, EventData, encode
from offhook.telemetry import metrics
from offhook.telemetry.tracing import call_traceparent
from offhook.topics import DEAD_LETTERS, Topic, topics_of

log = logging.getLogger(__name__)

T = TypeVar("T", bound=EventData)

_PROBE_EVERY_S: Final = 2.0
_PROBE_TIMEOUT_S: Final = 3.0
_GOODBYE_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class OutgoingRecord:
    """An event as it goes to Kafka. `value` is None for a tombstone."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: dict[str, str]


class Bus:
    """Kafka for one service. Declare consumers and directories, then `start`; `stop` before the process ends."""

    def __init__(
        self,
        settings: BusSettings,
        *,
        service: str,
        client: str | None = None,
        connect_timeout_s: float | None = None,
    ) -> None:
        """`client` is the name Kafka's logs know this bus by, where a service has more than one. `start` gives up after
        `connect_timeout_s`; by default it never does: nothing would be better after a restart of the process.
        """
        self.service = service
        self.started = False
        self._topics = topics_of(service)
        self._waiting_for: str | None = None
        self._settings = settings
        self._connect_timeout_s = connect_timeout_s
        self._broker, self._producer = build_broker(settings, client or service)
        self._consumptions: list[tuple[Consumption, Any]] = []
        self._readers: list[DirectoryReader[Any]] = []
        self._hearers: list[tuple[Topic, Hear]] = []
        self._listeners: list[Listener] = []
        self._directories: dict[tuple[str, type[EventData]], Directory[Any]] = {}
        self._checks: list[Callable[[], Iterable[str]]] = []
        self._topic_problems: list[str] = []
        self._unreachable_since: float | None = None
        self._probe: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    # --- declaring

    def consume(
        self,
        topic: Topic,
        *,
        group: str,
        handler: BatchHandler,
        batch_size: int = 500,
        batch_wait_s: float = 0.05,
        fuse_limit: int = 50,
        first_retry_s: float = 0.2,
        longest_retry_s: float = 30.0,
        session_timeout_s: float = 10.0,
        revoke_grace_s: float = 10.0,
        traced: bool = True,
    ) -> None:
        """Have `handler` called with the decoded events of each batch, in order of the partition.

        A batch holds up to `batch_size` events, perhaps of several partitions. Offsets are committed after
        the handler has returned, so it sees every event at least once: what it does must be harmless to
        repeat. `PoisonError` buries one event; `fuse_limit` poison records in a row stop the consumer.
        Anything else raised means: again, after `first_retry_s`, doubling up to `longest_retry_s`, without
        end. A rebalance cancels a handler that takes over 10 s. `traced`: handling an event is worth a span in its
        call's trace; not for consumers that look at everything for the little that concerns them.
        """
        self._must_not_be_started("consume")
        consumption = Consumption(
            topic, group, handler, service=self.service, bury=self._bury, fuse=Fuse(fuse_limit),
            first_retry_s=first_retry_s, longest_retry_s=longest_retry_s, revoke_grace_s=revoke_grace_s,
            traced=traced,
        )  # fmt: skip
        self._subscribe(
            consumption,
            batch_size=batch_size,
            batch_wait_s=batch_wait_s,
            session_timeout_s=session_timeout_s,
        )

    def consume_records(
        self,
        topic: Topic,
        *,
        group: str,
        handler: RecordHandler,
        batch_size: int = 100,
        batch_wait_s: float = 0.05,
    ) -> None:
        """Have `handler` called with the records of each batch as they are in Kafka, in order of the partition.

        For records that are no events, or need not be, such as dead letters. Offsets are committed after it has returned;
        what it raises means: again. Nothing is ever buried.
        """
        self._must_not_be_started("consume_records")
        consumption = RecordConsumption(
            topic, group, handler, service=self.service, bury=self._bury, fuse=Fuse(1),
            first_retry_s=0.2, longest_retry_s=30.0, revoke_grace_s=10.0,
        )  # fmt: skip
        self._subscribe(consumption, batch_size=batch_size, batch_wait_s=batch_wait_s, session_timeout_s=10.0)

    def _subscribe(
        self, consumption: Consumption, *, batch_size: int, batch_wait_s: float, session_timeout_s: float
    ) -> None:
        subscriber = self._broker.subscriber(
            # FastStream would create the topic with one partition.
            BrokerTopic(consumption.topic.name, declare=False),
            group_id=consumption.group,
            batch=True,
            max_records=batch_size,
            batch_timeout_ms=max(1, int(batch_wait_s * 1000)),
            # FastStream's default commits before the handler has seen anything.
            ack_policy=AckPolicy.MANUAL,
            # aiokafka's default would skip what was published before the group's first start.
            auto_offset_reset="earliest",
            session_timeout_ms=int(session_timeout_s * 1000),
            heartbeat_interval_ms=HEARTBEAT_MS,
            rebalance_timeout_ms=REBALANCE_TIMEOUT_MS,
            listener=consumption,
            parser=raw_batch,
            decoder=raw_body,
            no_reply=True,
            title=f"{consumption.topic.name}:{consumption.group}",
        )
        subscriber(consumption.take)
        consumption.attach(lambda: subscriber.consumer, lambda: self._leave(subscriber.stop()))
        self._consumptions.append((consumption, subscriber))

    def directory(self, topic: Topic, model: type[T]) -> Directory[T]:
        """The directory of a compacted topic's records of one model; the same object for everyone who asks."""
        if topic.cleanup != "compact":
            raise BusError(f"{topic.name} is not a compacted topic: it cannot be a directory")
        key = (topic.name, model)
        if key not in self._directories:
            self._must_not_be_started("directory")
            self._directories[key] = Directory(topic, model)
        return self._directories[key]

    def listen(self, topic: Topic, hear: Hear) -> None:
        """Have `hear` called with every event published on `topic` from `start` on, in this process and in every other
        one that listens. See `listening`: nothing is committed, and what is published while the process is down is lost.
        """
        self._must_not_be_started("listen")
        self._hearers.append((topic, hear))

    def add_check(self, check: Callable[[], Iterable[str]]) -> None:
        """`check` gives sentences that `health` lists among its problems."""
        self._checks.append(check)

    # --- living

    async def start(self) -> None:
        """Connect, create missing topics (or wait for them), read the directories to their ends, then start listeners
        and consumers. `health` tells what it waits for.

        Raises `BusUnavailable` when that takes longer than the connect timeout.
        """
        if self.started:
            return
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                await self._connect()
                await self._read_directories()
                await self._listen()
                await self._broker.start()
        except TimeoutError as error:
            reason = self._waiting_for or f"Kafka at {self._settings.kafka_bootstrap} was not ready"
            await self._close()
            raise BusUnavailable(f"{reason}; waited {self._connect_timeout_s:.0f} s") from error
        except BaseException:
            await self._close()
            raise
        self.started = True
        self._probe = asyncio.create_task(self._watch_broker(), name="kafka probe")

    async def stop(self, grace_s: float = 15.0) -> None:
        """Stop consuming, publish what is queued, disconnect.

        A handler at work has `grace_s` seconds to finish; after that its batch will be delivered again.
        """
        self.started = False
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait({self._probe})
            self._probe = None
        await asyncio.gather(*(consumption.close(grace_s) for consumption, _ in self._consumptions))
        await self._close()

    def health(self) -> Health:
        """Whether the service may take work, and what is wrong."""
        problems = list(self._topic_problems)
        if self._waiting_for is not None:
            problems.append(self._waiting_for)
        if self._unreachable_since is not None:
            away_s = time.monotonic() - self._unreachable_since
            problems.append(f"Kafka at {self._settings.kafka_bootstrap} does not answer since {away_s:.0f} s")
        for consumption, subscriber in self._consumptions:
            if consumption.problem is not None:
                problems.append(consumption.problem)
            if subscriber.consumer is not None and subscriber.consumer.problem is not None:
                problems.append(f"{consumption.name} cannot fetch: {subscriber.consumer.problem}")
        for reader in self._readers:
            if not reader.directory.ready:
                problems.append(f"directory {reader.directory.topic.name} is still being read")
            if reader.problem is not None:
                problems.append(reader.problem)
            problems.extend(
                f"directory {reader.directory.topic.name}: the newest record of {key} cannot be read: {reason}"
                for key, reason in reader.unreadable.items()
            )
        problems.extend(listener.problem for listener in self._listeners if listener.problem is not None)
        for check in self._checks:
            problems.extend(check())
        ready = (
            self.started
            and all(reader.directory.ready for reader in self._readers)
            and not any(consumption.blown for consumption, _ in self._consumptions)
        )
        return Health(ready, problems)

    def lag(self, topic: Topic) -> int:
        """How many records of `topic` wait for this process's consumers, as far as it has heard."""
        return sum(one.measure_lag() for one, _ in self._consumptions if one.topic == topic)

    # --- publishing

    async def publish(self, topic: Topic, event: Event[EventData], *, key: str | None = None) -> None:
        """Publish one event; returns when all in-sync replicas have it. The key is the event's subject unless
        given.

        While Kafka is away this waits: bound it with `asyncio.timeout`, or use an `Outlet`. An event whose
        wait was given up may still be published later. Raises `EventTooLarge`, `BusUnavailable`.
        """
        event, span = hops.begin_sending(topic, event, client=self.service)
        error: BaseException | None = None
        try:
            await self.deliver(self.outgoing(topic, event, key=key))
        except BaseException as failure:
            error = failure
            raise
        finally:
            hops.end_sending(span, destination=None if error else "kafka", error=error)

    async def publish_many(self, topic: Topic, events: Iterable[Event[EventData]]) -> None:
        """Publish events in this order; returns when all in-sync replicas have all of them.

        When it raises, some of them may have been published.
        """
        acknowledgements: list[Acknowledgement] = []
        for event in events:
            sent, span = hops.begin_sending(topic, event, client=self.service)
            acknowledgement = await self.send(self.outgoing(topic, sent))
            if span is not None:
                acknowledgement.add_done_callback(partial(_end_sending, span))
            acknowledgements.append(acknowledgement)
        results = await asyncio.gather(*acknowledgements, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise BusUnavailable(f"Kafka refused records of {topic.name}: {result!r}") from result

    async def put(self, topic: Topic, key: str, event: Event[EventData] | None) -> None:
        """Set or (with None, a tombstone) delete what a compacted topic says about `key`."""
        if topic.cleanup != "compact":
            raise BusError(f"{topic.name} is not a compacted topic: publish to it instead")
        if event is None:
            await self.deliver(OutgoingRecord(topic.name, key.encode(), None, {}))
        else:
            await self.publish(topic, event, key=key)

    def outgoing(self, topic: Topic, event: Event[EventData], *, key: str | None = None) -> OutgoingRecord:
        """The record of an event, with the trace of its call when it brings none of its own."""
        value, headers = encode(event)
        if event.traceparent is None and event.subject and topic.key == "workflow_run_id":
            headers["traceparent"] = call_traceparent(event.subject)
        name = event.subject if key is None else key
        return OutgoingRecord(topic.name, name.encode() or None, value, headers)

    async def deliver(self, record: OutgoingRecord) -> None:
        """Send a record and wait until all in-sync replicas have it."""
        try:
            await (await self.send(record))
        except EventTooLarge:
            raise
        except (KafkaError, BusUnavailable) as error:
            # A producer that has failed a batch is replaced by the next send; this record deserves that one.
            log.warning("publishing to %s failed, trying once more: %r", record.topic, error)
            try:
                await (await self.send(record))
            except MessageSizeTooLargeError as again:
                raise EventTooLarge(f"Kafka finds a record for {record.topic} too large") from again
            except KafkaError as again:
                raise BusUnavailable(f"Kafka refused a record for {record.topic}: {again!r}") from again

    async def republish(
        self, topic: Topic, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        """Publish a record again, byte by byte as it was; returns when all in-sync replicas have it. Raises
        `EventTooLarge`, `BusUnavailable`.
        """
        if not self._producer:
            raise BusUnavailable("the bus is not started")
        try:
            await (await self._producer.send(topic.name, value, key, headers))
        except MessageSizeTooLargeError as error:
            raise EventTooLarge(f"Kafka finds a record for {topic.name} too large") from error
        except KafkaError as error:
            metrics.BUS_PUBLISH_FAILURES.labels(topic.name).inc()
            raise BusUnavailable(f"Kafka refused a record for {topic.name}: {error!r}") from error

    async def send(self, record: OutgoingRecord) -> Acknowledgement:
        """Queue a record behind all that were sent before; the future is done when all in-sync replicas have
        it.
        """
        if not self._producer:
            raise BusUnavailable("the bus is not started")
        try:
            # The correlation id is not sent; without one, FastStream would draw a random one.
            acknowledgement: Acknowledgement = await self._broker.publish(
                record.value,
                record.topic,
                key=record.key,
                headers=record.headers,
                correlation_id="-",
                no_confirm=True,
            )
        except MessageSizeTooLargeError as error:
            raise EventTooLarge(
                f"a record for {record.topic} has more than {MAX_RECORD_BYTES} bytes: {error}"
            ) from error
        except KafkaError as error:
            metrics.BUS_PUBLISH_FAILURES.labels(record.topic).inc()
            raise BusUnavailable(f"Kafka cannot take a record for {record.topic}: {error!r}") from error
        acknowledgement.add_done_callback(partial(_account, record.topic, time.perf_counter()))
        return acknowledgement

    # --- inside

    async def _connect(self) -> None:
        self._topic_problems = await until_usable(
            self._broker, self._producer, self._settings, self._topics, self._wait
        )
        self._waiting_for = None

    def _wait(self, reason: str) -> None:
        """Remember what is waited for, for `health`; and log it, once."""
        if reason != self._waiting_for:
            log.warning("waiting for Kafka: %s", reason)
        self._waiting_for = reason

    async def _read_directories(self) -> None:
        build = await self._broker.connect()
        self._readers = [
            DirectoryReader(directory, build, self._producer.partitions_for)
            for directory in self._directories.values()
        ]
        for reader in self._readers:
            reader.start()
        await asyncio.gather(*(reader.wait_ready() for reader in self._readers))

    async def _listen(self) -> None:
        build = await self._broker.connect()
        self._listeners = [
            Listener(topic, hear, build, self._producer.partitions_for) for topic, hear in self._hearers
        ]
        for listener in self._listeners:
            listener.start()
        await asyncio.gather(*(listener.wait_ready() for listener in self._listeners))

    async def _close(self) -> None:
        closing = {asyncio.create_task(reader.stop()) for reader in self._readers}
        closing |= {asyncio.create_task(listener.stop()) for listener in self._listeners}
        closing |= {asyncio.create_task(self._broker.stop()), *self._leaving}
        _, late = await asyncio.wait(closing, timeout=_GOODBYE_S)
        if late:
            # Leaving a group and closing a fetch wait for answers, each for as long as a request may take.
            log.warning("Kafka does not answer: leaving without a goodbye")
            consumers = [reader.consumer for reader in self._readers]
            consumers += [listener.consumer for listener in self._listeners]
            consumers += [subscriber.consumer for _, subscriber in self._consumptions]
            for consumer in consumers:
                if consumer is not None:
                    await consumer._client.close()
            await asyncio.wait(late)

    async def _watch_broker(self) -> None:
        while True:
            await asyncio.sleep(_PROBE_EVERY_S)
            for consumption, _ in self._consumptions:
                consumption.measure_lag()
            if await self._broker.ping(timeout=_PROBE_TIMEOUT_S):
                self._unreachable_since = None
            elif self._unreachable_since is None:
                self._unreachable_since = time.monotonic()

    async def _bury(self, letters: Sequence[tuple[Record, DeadLetter]]) -> None:
        acknowledgements = [
            await self._producer.send(
                DEAD_LETTERS.name, record.value, record.key, letter.headers(record.headers)
            )
            for record, letter in letters
        ]
        await asyncio.gather(*acknowledgements)

    def _leave(self, stopping: Coroutine[Any, Any, None]) -> None:
        # Not awaited where it is asked for: that is inside the task which FastStream's stop cancels.
        task = asyncio.create_task(stopping)
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def _must_not_be_started(self, what: str) -> None:
        if self.started:
            raise BusError(f"{what} must be called before the bus starts")


def _account(topic: str, started: float, acknowledgement: Acknowledgement) -> None:
    if acknowledgement.cancelled() or acknowledgement.exception() is not None:
        metrics.BUS_PUBLISH_FAILURES.labels(topic).inc()
    else:
        metrics.BUS_PUBLISHED.labels(topic).inc()
        metrics.BUS_PUBLISH_SECONDS.labels(topic).observe(time.perf_counter() - started)


def _end_sending(span: Span, acknowledgement: Acknowledgement) -> None:
    lost = None if acknowledgement.cancelled() else acknowledgement.exception()
    hops.end_sending(span, destination=None if lost else "kafka", error=lost)
