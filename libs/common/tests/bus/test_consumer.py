"""The consumer that tells how it is."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import NoOffsetForPartitionError

from offhook.bus.consumer import WatchedConsumer
from offhook_dev.kafka import KafkaServer

from .conftest import create_topics, new_topic

pytestmark = pytest.mark.real


async def test_a_consumer_tells_what_its_last_fetch_failed_with(kafka: KafkaServer) -> None:
    topic = new_topic("delete")
    await create_topics(kafka.bootstrap, topic)
    partition = TopicPartition(topic.name, 0)
    async with WatchedConsumer(bootstrap_servers=kafka.bootstrap, auto_offset_reset="none") as consumer:

        async def fetch_until_it_fails() -> None:
            while True:
                await consumer.getmany(timeout_ms=500)

        assert consumer.problem is None
        consumer.assign([partition])
        with pytest.raises(NoOffsetForPartitionError):
            await asyncio.wait_for(fetch_until_it_fails(), 60)
        assert "NoOffsetForPartitionError" in consumer.problem
        consumer.seek(partition, 0)
        await consumer.getmany(timeout_ms=200)
        assert consumer.problem is None
