"""Directories: a compacted topic, held in memory.

Each process reads the whole topic with a consumer of its own, without a group, from the beginning to the end
offsets found at the start; then the directory is ready, and it goes on following. Nothing is ever committed.
When Kafka goes away a directory keeps what it knows and reads on from the same offsets later.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, Final, Generic, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from offhook.bus.errors import BusError
from offhook.events import EventData, EventDecodeError, decode
from offhook.telemetry import metrics
from offhook.topics import Topic

log = logging.getLogger(__name__)

T = TypeVar("T", bound=EventData)
Changed = Callable[[str, T | None, T | None], None]
Index = Callable[[T], Hashable | None]

_POLL_MS: Final = 500
_FETCH_RECORDS: Final = 5000
_RETRY_S: Final = 1.0
_PARTITION_CHECK_POLLS: Final = 60


class Directory(Generic[T]):
    """The newest record of every key of a topic. Reading it never waits. Records of other types are not in
    it.
    """

    def __init__(self, topic: Topic, model: type[T]) -> None:
        self.topic = topic
        self.model = model
        self.ready = False
        self._records: dict[str, T] = {}
        self._indexes: dict[str, tuple[Index[T], dict[Hashable, dict[str, T]]]] = {}
        self._callbacks: list[Changed[T]] = []

    def get(self, key: str) -> T | None:
        return self._records.get(key)

    def values(self) -> Iterable[T]:
        return tuple(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: object) -> bool:
        return key in self._records

    def by(self, index: str, value: Hashable) -> tuple[T, ...]:
        """The records whose index function gives `value`, in the order of their keys' first appearance."""
        return tuple(self._indexes[index][1].get(value, {}).values())

    def add_index(self, name: str, of: Index[T]) -> None:
        """Make `by(name, value)` work. `of` gives a record's value, or None to leave it out. Before the bus
        starts.
        """
        if self.ready:
            raise BusError(f"index {name!r} of {self.topic.name} must be added before the bus starts")
        self._indexes[name] = (of, {})

    def on_change(self, callback: Changed[T]) -> None:
        """`callback(key, old, new)`: once for every key when the directory becomes ready (old is None), then
        at every change; `new` is None for a deleted key. Called in the event loop, so it must not block; what
        it raises is logged.
        """
        self._callbacks.append(callback)

    def _replace(self, key: str, new: T | None) -> T | None:
        old = self._records.pop(key, None) if new is None else self._records.get(key)
        if new is not None:
            self._records[key] = new
        for of, entries in self._indexes.values():
            before = None if old is None else of(old)
            after = None if new is None else of(new)
            if before is not None and before != after and before in entries:
                entries[before].pop(key, None)
                if not entries[before]:
                    del entries[before]
            if after is not None and new is not None:
                entries.setdefault(after, {})[key] = new
        return old

    def _tell(self, key: str, old: T | None, new: T | None) -> None:
        for callback in self._callbacks:
            try:
                callback(key, old, new)
            except Exception:
                # The callback belongs to the service; the directory must go on being true.
                log.exception("a change of %s in %s could not be told", key, self.topic.name)

    def _put(self, key: str, new: T | None) -> None:
        old = self._replace(key, new)
        if old != new:
            self._tell(key, old, new)

    def _load(self, records: dict[str, T]) -> None:
        """Take over a complete reading of the topic, and tell the differences to what was known."""
        known = dict(self._records)
        for key in known.keys() - records.keys():
            self._replace(key, None)
        for key, record in records.items():
            self._replace(key, record)
        self.ready = True
        for key in known.keys() | records.keys():
            if known.get(key) != records.get(key):
                self._tell(key, known.get(key), records.get(key))


class DirectoryReader(Generic[T]):
    """Keeps one directory true. `build` makes a Kafka consumer, `partitions_for` names a topic's partitions."""

    def __init__(
        self,
        directory: Directory[T],
        build: Callable[..., Any],
        partitions_for: Callable[[str], Awaitable[set[int]]],
    ) -> None:
        self.directory = directory
        self.problem: str | None = None
        self.unreadable: dict[str, str] = {}
        self.consumer: Any = None
        self._build = build
        self._partitions_for = partitions_for
        self._next: dict[TopicPartition, int] = {}
        self._loading: dict[str, T] | None = {}
        self._ready = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"directory {self.directory.topic.name}")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def wait_ready(self) -> None:
        await self._ready.wait()

    def caught_up(self, ends: dict[TopicPartition, int]) -> bool:
        """Whether everything before these offsets has been applied (for tests that must know)."""
        return self.directory.ready and all(self._next.get(tp, 0) >= end for tp, end in ends.items())

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
                log.info("%s has more partitions now", self.directory.topic.name)
            except OffsetOutOfRangeError:
                # The topic was made anew. Read it from its beginning; until that is done the old content
                # stands.
                log.warning("%s begins elsewhere now: reading it again", self.directory.topic.name)
                self._next = {}
                self._loading = {}
            except KafkaError as error:
                self.problem = f"directory {self.directory.topic.name} cannot be followed: {error!r}"
                log.warning("%s", self.problem)
                await asyncio.sleep(_RETRY_S)
            except Exception as error:
                # Of aiokafka's doing. A directory that stands still unnoticed would be worse.
                self.problem = f"directory {self.directory.topic.name} cannot be followed: {error!r}"
                log.exception("%s", self.problem)
                await asyncio.sleep(_RETRY_S)

    async def _follow(self) -> None:
        """Read for as long as the topic has the partitions it has now."""
        topic = self.directory.topic.name
        metrics.DIRECTORY_READY.labels(topic).set(self.directory.ready)
        numbers = await self._partitions_for(topic)
        partitions = [TopicPartition(topic, number) for number in sorted(numbers)]
        consumer = self._build(group_id=None, enable_auto_commit=False, auto_offset_reset="none")
        self.consumer = consumer
        try:
            await consumer.start()
            consumer.assign(partitions)
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
            for partition in partitions:
                consumer.seek(partition, self._next.get(partition, begins[partition]))
                self._next.setdefault(partition, begins[partition])
            self.problem = None
            polls = 0
            while True:
                if self._loading is not None and all(self._next[tp] >= ends[tp] for tp in partitions):
                    self.directory._load(self._loading)
                    self._loading = None
                    self._ready.set()
                    metrics.DIRECTORY_READY.labels(topic).set(1)
                metrics.DIRECTORY_ENTRIES.labels(topic).set(len(self.directory))
                fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_FETCH_RECORDS)
                for records in fetched.values():
                    for record in records:
                        self._apply(record)
                for partition in partitions:
                    # Not the last record's offset: compaction leaves gaps, also at the end of a batch.
                    self._next[partition] = await consumer.position(partition)
                polls += 1
                if polls % _PARTITION_CHECK_POLLS == 0 and await self._partitions_for(topic) != numbers:
                    return
        finally:
            await consumer.stop()

    def _apply(self, record: Any) -> None:
        if record.key is None:
            log.warning("%s: record %s/%s has no key", record.topic, record.partition, record.offset)
            return
        key = record.key.decode("utf-8", "replace")
        new: T | None = None
        if record.value is not None:
            try:
                data = decode(record.value, record.headers).data
            except EventDecodeError as error:
                # What stood there before is older, but it is true; the newer truth cannot be known.
                self.unreadable[key] = str(error)
                log.error("%s: record of key %s cannot be read: %s", record.topic, key, error)
                return
            if not isinstance(data, self.directory.model):
                return
            new = data
        self.unreadable.pop(key, None)
        if self._loading is None:
            self.directory._put(key, new)
        elif new is None:
            self._loading.pop(key, None)
        else:
            self._loading[key] = new
