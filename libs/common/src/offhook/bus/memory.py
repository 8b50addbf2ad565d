"""Kafka as far as the bus uses it, in memory: topics with partitions and offsets, groups with members and
commits.

It stands behind FastStream's in-memory test broker (see `testing`), whose own delivery calls the handlers
straight from `publish` and so has no offsets: redelivery, rebalances and directories could not be expressed
with it.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeAlias

from aiokafka import AIOKafkaProducer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    ConsumerStoppedError,
    IllegalStateError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
)
from aiokafka.partitioner import DefaultPartitioner
from aiokafka.structs import RecordMetadata

from offhook.bus.producer import Acknowledgement, Headers, RecordProducer
from offhook.topics import ALL_TOPICS

Record: TypeAlias = ConsumerRecord[bytes, bytes]


@dataclass(eq=False)
class _Group:
    members: list["MemoryConsumer"] = field(default_factory=list)
    committed: dict[TopicPartition, int] = field(default_factory=dict)
    rebalancing: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemoryCluster:
    """The log. Several buses may share one; it survives them, as Kafka survives its clients."""

    def __init__(self, partitions: int = 4, max_record_bytes: int = 1_000_000) -> None:
        self.partitions = partitions
        self.max_record_bytes = max_record_bytes
        self.consumers: set[MemoryConsumer] = set()
        self.away = False
        """While True nothing is acknowledged or fetched; call `come_back` to go on."""
        self._held: list[tuple[Callable[[], RecordMetadata], Acknowledgement]] = []
        self._logs: dict[TopicPartition, list[Record]] = defaultdict(list)
        self._groups: dict[str, _Group] = defaultdict(_Group)
        self._partitioner = DefaultPartitioner()
        self._topics = {topic.name for topic in ALL_TOPICS}

    def append(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> RecordMetadata:
        """Write one record, to the partition Kafka's own partitioner gives its key."""
        numbers = list(range(self.partitions))
        partition = TopicPartition(topic, self._partitioner(key, numbers, numbers))
        log = self._logs[partition]
        now_ms = int(time.time() * 1000)
        log.append(
            ConsumerRecord(
                topic, partition.partition, len(log), now_ms, 0, key, value, None,
                len(key or b""), len(value or b""), tuple(headers),
            )
        )  # fmt: skip
        for consumer in self.consumers:
            consumer.wake()
        return RecordMetadata(topic, partition.partition, partition, len(log) - 1, now_ms, 0, 0)

    def take(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Sequence[tuple[str, bytes]]
    ) -> Acknowledgement:
        """Write now, or when the cluster has come back, as aiokafka's accumulator would."""
        if len(value or b"") > self.max_record_bytes:
            raise MessageSizeTooLargeError(f"more than {self.max_record_bytes} bytes")
        done: Acknowledgement = asyncio.get_running_loop().create_future()
        if self.away:
            self._held.append((partial(self.append, topic, value, key, headers), done))
        else:
            done.set_result(self.append(topic, value, key, headers))
        return done

    def come_back(self) -> None:
        """End an outage: what was held is written, in its order."""
        self.away = False
        held, self._held = self._held, []
        for write, done in held:
            metadata = write()
            if not done.done():
                done.set_result(metadata)
        for consumer in self.consumers:
            consumer.wake()

    def records(self, topic: str) -> list[Record]:
        """All records of a topic; those of one partition in their order."""
        return [
            record
            for number in range(self.partitions)
            for record in self._logs[TopicPartition(topic, number)]
        ]

    def read(self, partition: TopicPartition, offset: int, limit: int) -> list[Record]:
        return self._logs[partition][offset : offset + limit]

    def end(self, partition: TopicPartition) -> int:
        return len(self._logs[partition])

    def partitions_of(self, topic: str) -> list[TopicPartition]:
        return [TopicPartition(topic, number) for number in range(self.partitions)]

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The committed offset of each partition that has one."""
        return {
            tp.partition: offset for tp, offset in self._groups[group].committed.items() if tp.topic == topic
        }

    def recreate(self, topic: str) -> None:
        """Delete a topic and make it anew."""
        for partition in self.partitions_of(topic):
            self._logs[partition] = []
        for consumer in self.consumers:
            consumer.wake()

    def commit(self, group: str, member: "MemoryConsumer", offsets: Mapping[TopicPartition, int]) -> None:
        state = self._groups[group]
        if member not in state.members:
            raise CommitFailedError("the member is not in the group any more")
        state.committed.update(offsets)

    async def join(self, group: str, member: "MemoryConsumer") -> None:
        state = self._groups[group]
        async with state.rebalancing:
            await self._revoke(state)
            state.members.append(member)
            await self._assign(state)

    async def leave(self, group: str, member: "MemoryConsumer") -> None:
        state = self._groups[group]
        async with state.rebalancing:
            if member not in state.members:
                return
            state.members.remove(member)
            member.assign([])
            await self._revoke(state)
            await self._assign(state)

    async def _revoke(self, state: _Group) -> None:
        for member in state.members:
            member.pause_for_rebalance()
        for member in state.members:
            if member.listener is not None:
                await member.listener.on_partitions_revoked(set(member.assignment()))

    async def _assign(self, state: _Group) -> None:
        shares: dict[MemoryConsumer, list[TopicPartition]] = {member: [] for member in state.members}
        for topic in sorted({topic for member in state.members for topic in member.topics}):
            takers = [member for member in state.members if topic in member.topics]
            for index, partition in enumerate(self.partitions_of(topic)):
                shares[takers[index % len(takers)]].append(partition)
        for member, partitions in shares.items():
            member.assign(partitions)
            for partition in partitions:
                member.seek(partition, state.committed.get(partition, 0))
            if member.listener is not None:
                await member.listener.on_partitions_assigned(set(partitions))
            member.wake()


class MemoryConsumer:
    """The part of `aiokafka.AIOKafkaConsumer` that FastStream's subscribers and the bus use."""

    def __init__(self, cluster: MemoryCluster, *, group_id: str | None = None, **_options: Any) -> None:
        self.topics: set[str] = set()
        self.listener: ConsumerRebalanceListener | None = None
        self.problem: str | None = None
        self._cluster = cluster
        self._positions: dict[TopicPartition, int] = {}
        self._rebalancing = False
        self._closed = False
        self._news = asyncio.Event()
        # FastStream's logging of assignments reads these.
        self._group_id = group_id
        self._coordinator = SimpleNamespace(member_id=f"memory-{id(self):x}")
        self._subscription = self

    def subscribe(
        self,
        topics: Sequence[str] = (),
        pattern: str | None = None,
        listener: ConsumerRebalanceListener | None = None,
    ) -> None:
        self.topics, self.listener = set(topics), listener

    async def start(self) -> None:
        self._cluster.consumers.add(self)
        if self._group_id is not None:
            await self._cluster.join(self._group_id, self)

    async def stop(self) -> None:
        self._closed = True
        self._cluster.consumers.discard(self)
        self.wake()
        if self._group_id is not None:
            await self._cluster.leave(self._group_id, self)

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._positions = dict.fromkeys(partitions, 0)
        self._rebalancing = False

    def assignment(self) -> set[TopicPartition]:
        return set(self._positions)

    def pause_for_rebalance(self) -> None:
        self._rebalancing = True

    def wake(self) -> None:
        self._news.set()

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._check(partition)
        self._positions[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        self._check(partition)
        return self._positions[partition]

    def highwater(self, partition: TopicPartition) -> int:
        return self._cluster.end(partition)

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {partition: self._cluster.end(partition) for partition in partitions}

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        for partition in offsets:
            self._check(partition)
        assert self._group_id is not None
        self._cluster.commit(self._group_id, self, offsets)

    async def getmany(
        self, *, timeout_ms: int = 0, max_records: int | None = None
    ) -> dict[TopicPartition, list[Record]]:
        if self._closed:
            raise ConsumerStoppedError
        self._news.clear()
        fetched = self._fetch(max_records or 500)
        if not fetched and timeout_ms:
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    await self._news.wait()
            except TimeoutError:
                return {}
            if self._closed:
                raise ConsumerStoppedError
            fetched = self._fetch(max_records or 500)
        return fetched

    def _fetch(self, room: int) -> dict[TopicPartition, list[Record]]:
        fetched: dict[TopicPartition, list[Record]] = {}
        if self._rebalancing or self._cluster.away:
            return fetched
        for partition, position in self._positions.items():
            if position > self._cluster.end(partition):
                raise OffsetOutOfRangeError({partition: position})
            records = self._cluster.read(partition, position, room)
            if records:
                fetched[partition] = records
                self._positions[partition] = position + len(records)
                room -= len(records)
            if room == 0:
                break
        return fetched

    def _check(self, partition: TopicPartition) -> None:
        if partition not in self._positions:
            raise IllegalStateError(f"Partition {partition} is not assigned")


class MemoryProducer(RecordProducer):
    """Stands in for the bus's `RecordProducer`: an append is acknowledged at once."""

    __slots__ = ("_cluster",)

    def __init__(self, cluster: MemoryCluster) -> None:
        super().__init__(_no_producer)
        self._cluster = cluster

    def __bool__(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return False

    async def send(
        self, topic: str, value: bytes | None, key: bytes | None, headers: Headers
    ) -> Acknowledgement:
        return self._cluster.take(topic, value, key, list(headers))

    async def partitions_for(self, topic: str) -> set[int]:
        return {partition.partition for partition in self._cluster.partitions_of(topic)}

    async def disconnect(self) -> None:
        """There is no connection."""


def _no_producer() -> AIOKafkaProducer:
    raise NotImplementedError("there is no Kafka here")
