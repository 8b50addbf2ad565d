"""The bus without Kafka, for fast tests: the same `Bus`, on FastStream's in-memory broker with a log behind
it.

    async with memory_bus(service="call-tracker") as bus:
        bus.consume(CALL_EVENTS, group="call-tracker", handler=store)
        await bus.start()
        await bus.publish(CALL_EVENTS, event)
        await bus.settle()                      # everything published has been handled
        assert bus.log(CALL_STATES) == [...]

Publishing works before `start`, so that a test can fill compacted topics first. Several buses that share a
`MemoryCluster` are several processes on one Kafka.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any
from unittest import mock

from aiokafka import ConsumerRecord, TopicPartition
from faststream.kafka import KafkaBroker, TestKafkaBroker

from offhook.bus.broker import PlainBusSettings
from offhook.bus.bus import Bus
from offhook.bus.memory import MemoryCluster, MemoryConsumer, MemoryProducer
from offhook.events import Event, EventData, decode
from offhook.topics import Topic

__all__ = ["MemoryBus", "MemoryCluster", "memory_bus"]


class _LoggedTestBroker(TestKafkaBroker[KafkaBroker]):
    """FastStream's test broker, but its subscribers run their own loops on consumers of the cluster."""

    __test__ = False

    def __init__(self, broker: KafkaBroker, cluster: MemoryCluster, producer: MemoryProducer) -> None:
        super().__init__(broker, connect_only=True)
        self._cluster = cluster
        self._memory_producer = producer

    @contextmanager
    def _patch_broker(self, broker: KafkaBroker) -> Iterator[None]:
        config = broker.config.broker_config
        builder = partial(MemoryConsumer, self._cluster)

        async def connect() -> Callable[..., Any]:
            config.builder = builder
            return builder

        with (
            mock.patch.object(broker, "_connect", connect),
            mock.patch.object(broker, "_connection", None),
            mock.patch.object(broker, "ping", return_value=True),
            mock.patch.object(config, "producer", self._memory_producer),
        ):
            yield

    def _fake_close(self, broker: KafkaBroker, *args: Any) -> None:
        """Nothing was faked in the subscribers."""


class MemoryBus(Bus):
    """A `Bus` whose Kafka is a `MemoryCluster`."""

    def __init__(self, service: str, cluster: MemoryCluster) -> None:
        super().__init__(PlainBusSettings("memory:0", partitions=cluster.partitions), service=service)
        self.cluster = cluster

    def records(self, topic: Topic) -> list[ConsumerRecord[bytes, bytes]]:
        """Every record of a topic, as it is; those of one key in their order."""
        return self.cluster.records(topic.name)

    def log(self, topic: Topic) -> list[Event[EventData]]:
        """Every event of a topic, without tombstones; those of one key in their order."""
        return [
            decode(record.value, record.headers) for record in self.records(topic) if record.value is not None
        ]

    async def settle(self, timeout_s: float = 60.0) -> None:
        """Wait until the consumers have committed everything in their topics, and directories and listeners know
        everything.

        Raises `TimeoutError` with what is unfinished, for instance because a handler goes on failing.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while not self._settled():
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise TimeoutError(f"the bus did not settle; problems: {self.health().problems}") from None

    def _settled(self) -> bool:
        for consumption, _ in self._consumptions:
            committed = self.cluster.committed(consumption.group, consumption.topic.name)
            for partition in self.cluster.partitions_of(consumption.topic.name):
                if not consumption.blown and committed.get(partition.partition, 0) < self.cluster.end(
                    partition
                ):
                    return False
        return all(reader.caught_up(self._ends(reader.directory.topic)) for reader in self._readers) and all(
            listener.caught_up(self._ends(listener.topic)) for listener in self._listeners
        )

    def _ends(self, topic: Topic) -> dict[TopicPartition, int]:
        return {tp: self.cluster.end(tp) for tp in self.cluster.partitions_of(topic.name)}

    async def _connect(self) -> None:
        await self._broker.connect()


@asynccontextmanager
async def memory_bus(service: str = "test", cluster: MemoryCluster | None = None) -> AsyncIterator[MemoryBus]:
    """A bus in memory, not started; it is stopped at the end. Give a `cluster` to share it or to look into
    it.
    """
    bus = MemoryBus(service, cluster or MemoryCluster())
    producer = MemoryProducer(bus.cluster)
    bus._producer = producer
    async with _LoggedTestBroker(bus._broker, bus.cluster, producer):
        try:
            yield bus
        finally:
            await bus.stop(grace_s=0)
