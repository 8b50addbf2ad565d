"""Listeners: every process hears everything that is published on a topic from its start on.

For notices that concern whoever holds a call, and nobody knows who that is. Each process reads all partitions with a
consumer of its own, without a group, from the ends found at the start. Nothing is committed, so nothing is heard
twice and nothing from before the start; while Kafka is away a listener keeps its place.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from offhook.events import Event, EventData, EventDecodeError, decode
from offhook.telemetry import metrics
from offhook.topics import Topic

log = logging.getLogger(__name__)

Hear = Callable[[Event[EventData]], None]

_POLL_MS: Final = 500
_FETCH_RECORDS: Final = 1000
_RETRY_S: Final = 1.0
_PARTITION_CHECK_POLLS: Final = 60


class Listener:
    """Follows one topic. `build` makes a Kafka consumer, `partitions_for` names a topic's partitions.

    `hear` is called in the event loop for each event, in the order of its partition: it must not block. What it raises
    is logged, and so is a record that cannot be read; the next one is heard all the same.
    """

    def __init__(
        self,
        topic: Topic,
        hear: Hear,
        build: Callable[..., Any],
        partitions_for: Callable[[str], Awaitable[set[int]]],
    ) -> None:
        self.topic = topic
        self.problem: str | None = None
        self.consumer: Any = None
        self._hear = hear
        self._build = build
        self._partitions_for = partitions_for
        self._next: dict[TopicPartition, int] = {}
        self._placed = False
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"listener {self.topic.name}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def wait_ready(self) -> None:
        """Until it has its place: everything published after that is heard."""
        await self._ready.wait()

    def caught_up(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether everything before these offsets has been heard (for tests that must know)."""
        return self._placed and all(self._next.get(tp, 0) >= end for tp, end in ends.items())

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
                log.info("%s has more partitions now", self.topic.name)
            except OffsetOutOfRangeError:
                # The topic was made anew, or we were away for longer than it keeps its records.
                log.warning("%s begins elsewhere now: listening on from there", self.topic.name)
                self._next = {}
            except KafkaError as error:
                self.problem = f"{self.topic.name} cannot be listened to: {error!r}"
                log.warning("%s", self.problem)
                await asyncio.sleep(_RETRY_S)
            except Exception as error:
                # Of aiokafka's doing. A listener that has gone deaf unnoticed would be worse.
                self.problem = f"{self.topic.name} cannot be listened to: {error!r}"
                log.exception("%s", self.problem)
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        """Listen for as long as the topic has the partitions it has now."""
        topic = self.topic.name
        numbers = await self._partitions_for(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer = self._build(group_id=None, enable_auto_commit=False, auto_offset_reset="none")
        self.consumer = consumer
        try:
            await consumer.start()
            consumer.assign(partitions)
            # A partition that is new to a listener with a place holds nothing but news.
            find = consumer.beginning_offsets if self._placed else consumer.end_offsets
            places = await find(partitions)
            for partition in partitions:
                self._next.setdefault(partition, places[partition])
                consumer.seek(partition, self._next[partition])
            self._placed = True
            self._ready.set()
            self.problem = None
            polls = 0
            while True:
                fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_FETCH_RECORDS)
                for records in fetched.values():
                    for record in records:
                        self._take(record)
                for partition in partitions:
                    self._next[partition] = await consumer.position(partition)
                polls += 1
                if polls % _PARTITION_CHECK_POLLS == 0 and await self._partitions_for(topic) != numbers:
                    return
        finally:
            await consumer.stop()

    def _take(self, record: Any) -> None:
        if record.value is None:
            return
        try:
            event = decode(record.value, record.headers)
        except EventDecodeError as error:
            metrics.BUS_UNHEARD.labels(record.topic).inc()
            log.error(
                "%s: record %s/%s cannot be read: %s", record.topic, record.partition, record.offset, error
            )
            return
        try:
            self._hear(event)
        except Exception:
            # The callback belongs to the service; the listener must go on hearing.
            metrics.BUS_UNHEARD.labels(record.topic).inc()
            log.exception("%s: event %s could not be told", record.topic, event.id)
