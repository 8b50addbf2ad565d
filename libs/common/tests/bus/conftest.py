"""The two backends of the bus's contract: FastStream's in-memory broker with a log, and real Apache Kafka.

A test that takes `backend` runs on both and says what holds for both. Each test has topics of its own, so
nothing that one publishes is seen by another.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient

from offhook.bus import Bus, PlainBusSettings
from offhook.bus.provisioning import ensure_topics
from offhook.bus.testing import MemoryCluster, memory_bus
from offhook.events import DtmfReceived, Event, new_event
from offhook.identities import new_id
from offhook.topics import Topic

PARTITIONS = 4


class Backend(Protocol):
    """What a test does with Kafka beside the bus."""

    def bus(self, service: str = "test") -> AbstractAsyncContextManager[Bus]:
        """A bus that is not started; stopped at the end."""

    async def topic(self, cleanup: Literal["delete", "compact"] = "delete") -> Topic:
        """A new topic."""

    async def append(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        """Write a record past the bus, as a stranger would."""

    async def records(self, topic: Topic) -> list[ConsumerRecord]:
        """All records; those of one partition in their order."""

    async def committed(self, group: str, topic: Topic) -> int:
        """The sum of the group's committed offsets: how many records count as handled."""


class MemoryBackend:
    def __init__(self) -> None:
        self.cluster = MemoryCluster(PARTITIONS)

    def bus(self, service: str = "test") -> AbstractAsyncContextManager[Bus]:
        return memory_bus(service, self.cluster)

    async def topic(self, cleanup: Literal["delete", "compact"] = "delete") -> Topic:
        return new_topic(cleanup)

    async def append(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        self.cluster.append(topic.name, value, key, headers)

    async def records(self, topic: Topic) -> list[ConsumerRecord]:
        return self.cluster.records(topic.name)

    async def committed(self, group: str, topic: Topic) -> int:
        return sum(self.cluster.committed(group, topic.name).values())


class KafkaBackend:
    def __init__(self, bootstrap: str) -> None:
        self.settings = PlainBusSettings(bootstrap)

    @asynccontextmanager
    async def bus(self, service: str = "test") -> AsyncIterator[Bus]:
        bus = Bus(self.settings, service=service)
        try:
            yield bus
        finally:
            await bus.stop(grace_s=0)

    async def topic(self, cleanup: Literal["delete", "compact"] = "delete") -> Topic:
        topic = new_topic(cleanup)
        await create_topics(self.settings.kafka_bootstrap, topic)
        return topic

    async def append(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap) as producer:
            await producer.send_and_wait(topic.name, value, key, headers=list(headers))

    async def records(self, topic: Topic) -> list[ConsumerRecord]:
        async with AIOKafkaConsumer(bootstrap_servers=self.settings.kafka_bootstrap) as consumer:
            return await read_all(consumer, topic.name)

    async def committed(self, group: str, topic: Topic) -> int:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap)
        await admin.start()
        try:
            offsets = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        return sum(
            max(0, found.offset) for partition, found in offsets.items() if partition.topic == topic.name
        )


def new_topic(cleanup: Literal["delete", "compact"]) -> Topic:
    retention_ms = None if cleanup == "compact" else 3_600_000
    return Topic(
        f"test.{new_id()}.v1", "workflow_run_id", cleanup, retention_ms, (), (), "A test's own topic."
    )


async def create_topics(bootstrap: str, *topics: Topic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await ensure_topics(admin, topics, partitions=PARTITIONS, replication_factor=1)
    finally:
        await admin.close()


async def read_all(consumer: AIOKafkaConsumer, topic: str) -> list[ConsumerRecord]:
    consumer.subscribe([topic])
    await eventually(consumer.assignment)
    partitions = sorted(consumer.assignment())
    ends = await consumer.end_offsets(partitions)
    for partition, offset in (await consumer.beginning_offsets(partitions)).items():
        consumer.seek(partition, offset)
    found: list[ConsumerRecord] = []
    while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found.extend(records)
    return sorted(found, key=lambda record: (record.partition, record.offset))


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.real)])
def backend(request: pytest.FixtureRequest) -> Backend:
    if request.param == "memory":
        return MemoryBackend()
    return KafkaBackend(request.getfixturevalue("kafka").bootstrap)


def key_pressed(run: str, number: int) -> Event[Any]:
    """The `number`-th event of a run."""
    return new_event(
        DtmfReceived(workflow_run_id=run, epoch=1, digit="1", at_ms=number),
        source="/test", time=datetime.now(UTC), subject=run,
    )  # fmt: skip


def numbers(events: Sequence[Event[Any]], run: str) -> list[int]:
    """The numbers of a run's events, in their order."""
    return [event.data.at_ms for event in events if event.subject == run]


def first_seen(found: Sequence[int]) -> list[int]:
    """Without repetitions, in the order of first appearance: what a reader sees that drops ids it knows."""
    return list(dict.fromkeys(found))


async def eventually(condition: Callable[[], Any], timeout_s: float = 100.0) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            holds = condition()
            if asyncio.iscoroutine(holds):
                holds = await holds
            if holds:
                return
            await asyncio.sleep(0.02)
