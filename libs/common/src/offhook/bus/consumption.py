"""One consumer: a topic, a group and a handler, with the commit policy of the bus.

Theory of operation. FastStream's batch subscriber fetches with `getmany`, calls `Consumption.take` with the
raw records, and commits nothing itself (`AckPolicy.MANUAL`). What must not be left to it:

* FastStream swallows what a handler raises and fetches on. The position has moved past the failed batch by
  then, and the next commit of "the position" would skip it. So nothing is raised to FastStream, and commits
  name offsets.
* Its parser and decoder run before the handler and raise on a header that is not UTF-8 or a value that is not
  JSON: the whole batch would be skipped. So it gets a parser and a decoder that do nothing (`raw_batch`).

A batch ends in one of four ways:

    handled     the poison of the batch is in the dead letters, then the offsets are committed
    failed      the handler raised: seek back to the start of the batch, wait (backoff), let FastStream fetch
                it again; fetching again also tells the group that this member is alive
                (`max_poll_interval_ms`)
    released    the partitions are being revoked, or the bus stops: after a grace period the handler is
                cancelled
    blown       the fuse: nothing of this batch is committed, the consumer leaves the group, and health says
                why
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from aiokafka import ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError
from faststream.kafka.message import KafkaAckableMessage, KafkaMessage
from faststream.message import StreamMessage

from offhook.bus import hops
from offhook.bus.dead_letters import DeadLetter, Fuse, utc_now
from offhook.bus.errors import PoisonError
from offhook.events import Event, EventData, EventDecodeError, decode
from offhook.telemetry import metrics
from offhook.topics import Topic

log = logging.getLogger(__name__)

Record: TypeAlias = ConsumerRecord[bytes, bytes]
BatchHandler = Callable[[Sequence[Event[EventData]]], Awaitable[None]]
RecordHandler = Callable[[Sequence[Record]], Awaitable[None]]
Bury = Callable[[Sequence[tuple[Record, DeadLetter]]], Awaitable[None]]

_CANCEL_TIMEOUT_S: Final = 5.0
# A batch takes milliseconds. One that takes this long hangs, and nothing else would tell of it.
_SLOW_S: Final = 60.0


class _NoConsumer:
    async def commit(self) -> None: ...

    def seek(self, partition: TopicPartition, offset: int) -> None: ...


async def raw_batch(records: tuple[Record, ...]) -> StreamMessage[Any]:
    """A FastStream parser that looks at nothing: the records of the batch are the body."""
    message: KafkaMessage = KafkaAckableMessage(body=records, raw_message=records, consumer=_NoConsumer())
    return message


async def raw_body(message: StreamMessage[Any]) -> Any:
    """A FastStream decoder that decodes nothing."""
    return message.raw_message


class Consumption(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """See the module's theory of operation. `consumer` and `leave` are set by the bus when it starts."""

    def __init__(
        self,
        topic: Topic,
        group: str,
        handler: BatchHandler,
        *,
        service: str,
        bury: Bury,
        fuse: Fuse,
        first_retry_s: float,
        longest_retry_s: float,
        revoke_grace_s: float,
        traced: bool = True,
    ) -> None:
        self.topic = topic
        self.group = group
        self._problem: str | None = None
        self.blown = False
        self._handler = handler
        self._service = service
        self._traced = traced
        self._bury = bury
        self._fuse = fuse
        self._first_retry_s = first_retry_s
        self._longest_retry_s = longest_retry_s
        self._revoke_grace_s = revoke_grace_s
        self._consumer: Callable[[], Any] = lambda: None
        self._leave: Callable[[], None] = lambda: None
        self._work: asyncio.Task[None] | None = None
        self._began = 0.0
        self._waiting = False
        self._releasing = False
        self._cancelling = False
        self._closed = False
        self._failures = 0
        self._committed: dict[TopicPartition, int] = {}
        labels = (topic.name, group)
        self._consumed = metrics.BUS_CONSUMED.labels(*labels)
        self._batch_seconds = metrics.BUS_BATCH_SECONDS.labels(*labels)
        self._event_age = metrics.BUS_EVENT_AGE_SECONDS.labels(*labels)
        self._retries = metrics.BUS_RETRIES.labels(*labels)
        self._dead_letters = metrics.BUS_DEAD_LETTERS.labels(*labels)
        self._fuse_blown = metrics.BUS_FUSE_BLOWN.labels(*labels)
        self._fuse_blown.set(0)
        self._lag = metrics.BUS_LAG.labels(*labels)

    def attach(self, consumer: Callable[[], Any], leave: Callable[[], None]) -> None:
        """`consumer` gives FastStream's current consumer; `leave` makes it leave the group, without waiting."""
        self._consumer, self._leave = consumer, leave

    @property
    def problem(self) -> str | None:
        """Why this consumer does not get on, as a sentence for the operator; None when it does."""
        if self._problem is None and self._work is not None:
            away_s = time.monotonic() - self._began
            if away_s > _SLOW_S:
                return f"{self.name}: the handler has not come back from one batch for {away_s:.0f} s"
        return self._problem

    async def take(self, records: Sequence[Record]) -> None:
        """Handle one batch. FastStream's handler; never raises but when cancelled."""
        if self._closed or self.blown:
            return
        for record in records:
            # What is not committed is lag from the first record on, also of a batch that never succeeds.
            self._committed.setdefault(TopicPartition(record.topic, record.partition), record.offset)
        self._began = time.monotonic()
        work = self._work = asyncio.create_task(self._handle(records))
        try:
            await asyncio.wait({work})
        finally:
            if not work.done():
                await self._cancel(work)
            self._work = None
        if not work.cancelled():
            work.result()

    async def close(self, grace_s: float) -> None:
        """Take no more batches; what is in hand has `grace_s` seconds to finish, then it will be delivered
        again.
        """
        self._closed = True
        await self._release(grace_s)

    async def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        """Called by aiokafka while the group still counts this member in, so that its commit is accepted."""
        await self._release(self._revoke_grace_s)
        # Others go on from here: what was known of these partitions is soon not true any more.
        self._committed.clear()

    async def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        log.debug("%s of %s reads %s partitions", self.group, self.topic.name, len(assigned))

    def measure_lag(self) -> int:
        """How many records the assigned partitions hold beyond what was committed here. Sets the metric: to 0 after it has
        left the group, for what it had is others' then."""
        lag = 0
        consumer = self._consumer()
        for partition in consumer.assignment() if consumer is not None else ():
            end = consumer.highwater(partition)
            if end is not None and partition in self._committed:
                lag += max(0, end - self._committed[partition])
        self._lag.set(lag)
        return lag

    async def _release(self, grace_s: float) -> None:
        work = self._work
        if work is None:
            return
        self._releasing = True
        try:
            if not self._waiting and grace_s > 0:
                await asyncio.wait({work}, timeout=grace_s)
            if not work.done():
                # Another member is about to read these partitions: a handler that goes on here could
                # apply an older event after a newer one.
                await self._cancel(work)
        finally:
            self._releasing = False

    async def _cancel(self, work: asyncio.Task[None]) -> None:
        self._cancelling = True
        try:
            work.cancel()
            await asyncio.wait({work}, timeout=_CANCEL_TIMEOUT_S)
        finally:
            self._cancelling = False
        if not work.done():
            log.error("%s: the handler ignores cancellation", self.name)

    async def _handle(self, records: Sequence[Record]) -> None:
        try:
            await self._work_through(records)
        except asyncio.CancelledError as cancelled:
            if self._cancelling:
                raise
            # Not by us: the handler awaited something that somebody else cancelled. The batch is not done.
            await self._fail(records, cancelled)
        except Exception as error:  # noqa: BLE001 - whatever a service's handler raises, the batch comes again
            await self._fail(records, error)

    async def _work_through(self, records: Sequence[Record]) -> None:
        events, reasons = self._decode(records)
        spans = hops.begin_handling(self.topic, self.group, records, events) if self._traced else {}
        try:
            await self._handle_events(records, events, reasons)
        except BaseException as error:
            if not self._failures:  # the failures that follow are the same; one is enough to see
                hops.end_handling(spans, error=error)
            raise
        hops.end_handling(spans, poison=reasons)

    async def _handle_events(
        self, records: Sequence[Record], events: dict[int, Event[EventData]], reasons: dict[int, str]
    ) -> None:
        while True:
            if self._fuse.would_blow([index not in reasons for index in range(len(records))]):
                self._blow(reasons)
                return
            batch = [event for index, event in events.items() if index not in reasons]
            if not batch:
                break
            try:
                with self._batch_seconds.time():
                    await self._handler(batch)
                break
            except PoisonError as poison:
                index = _position(events, poison.event)
                if index is None or index in reasons:
                    raise
                reasons[index] = poison.reason
        if reasons:
            await self._bury(
                [(records[index], self._letter(records[index], reasons[index])) for index in sorted(reasons)]
            )
            self._dead_letters.inc(len(reasons))
        await self._commit(records)
        if events:
            oldest = min(event.time for event in events.values()).timestamp()
            self._event_age.observe(max(0.0, time.time() - oldest))
        self._fuse.count([index not in reasons for index in range(len(records))])

    def _letter(self, record: Record, reason: str) -> DeadLetter:
        log.warning("%s: record %s/%s is poison: %s", self.name, record.partition, record.offset, reason)
        return DeadLetter.of(record, group=self.group, service=self._service, reason=reason, now=utc_now())

    def _decode(self, records: Sequence[Record]) -> tuple[dict[int, Event[EventData]], dict[int, str]]:
        events: dict[int, Event[EventData]] = {}
        reasons: dict[int, str] = {}
        for index, record in enumerate(records):
            try:
                events[index] = decode(record.value, record.headers)
            except EventDecodeError as error:
                reasons[index] = str(error)
            except Exception as error:  # noqa: BLE001 - decoding is pure: what fails once fails every time
                reasons[index] = f"cannot be decoded ({type(error).__name__})"
        return events, reasons

    async def _commit(self, records: Sequence[Record]) -> None:
        offsets: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            offsets[partition] = max(offsets.get(partition, 0), record.offset + 1)
        try:
            await self._consumer().commit(offsets)
        except (CommitFailedError, IllegalStateError) as error:
            # The group has moved on: whoever has the partitions now reads from the last commit.
            log.warning("%s: handled but not committed, will be delivered again: %s", self.name, error)
        else:
            self._committed.update(offsets)
            self._consumed.inc(len(records))
        self._failures = 0
        self._problem = None

    async def _fail(self, records: Sequence[Record], error: BaseException) -> None:
        starts: dict[TopicPartition, int] = {}
        for record in records:
            partition = TopicPartition(record.topic, record.partition)
            starts[partition] = min(starts.get(partition, record.offset), record.offset)
        for partition, offset in starts.items():
            try:
                self._consumer().seek(partition, offset)
            except IllegalStateError:
                continue  # no longer ours
        self._failures += 1
        self._retries.inc()
        wait_s = min(self._first_retry_s * 2 ** min(self._failures - 1, 30), self._longest_retry_s)
        self._problem = (
            f"{self.name}: the handler failed {self._failures} times in a row, "
            f"last with {type(error).__name__}: {error}"
        )
        log.error("%s; again in %.1f s", self._problem, wait_s, exc_info=error)
        if not self._releasing:
            self._waiting = True
            try:
                await asyncio.sleep(wait_s)
            finally:
                self._waiting = False

    def _blow(self, reasons: dict[int, str]) -> None:
        self.blown = True
        last = reasons[max(reasons)]
        self._problem = (
            f"{self.name} has stopped: {self._fuse.limit} records in a row were poison, the last one because: {last}. "
            "Nothing of this batch was committed; repair the cause and restart"
        )
        log.error("%s", self._problem)
        self._fuse_blown.set(1)
        self._leave()

    @property
    def name(self) -> str:
        return f"consumer {self.group} of {self.topic.name}"


class RecordConsumption(Consumption):
    """A consumer of records as they are, such as dead letters: nothing is decoded and nothing is buried, so whatever it
    is given cannot come back to it. Its handler must not raise for what it was given, only for what it needs."""

    def __init__(self, topic: Topic, group: str, handler: RecordHandler, **options: Any) -> None:
        super().__init__(topic, group, _no_events, **options)
        self._records_handler = handler

    async def _work_through(self, records: Sequence[Record]) -> None:
        with self._batch_seconds.time():
            await self._records_handler(records)
        await self._commit(records)


async def _no_events(events: Sequence[Event[EventData]]) -> None:
    raise NotImplementedError("a consumer of records is given no events")


def _position(events: dict[int, Event[EventData]], wanted: Event[EventData]) -> int | None:
    for index, event in events.items():
        if event is wanted:
            return index
    return next((index for index, event in events.items() if event.id == wanted.id), None)
