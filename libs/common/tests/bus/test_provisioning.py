"""Topics on a real Kafka."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from offhook.bus import Bus, BusError, PlainBusSettings
from offhook.bus.provisioning import ensure_topics, topic_config
from offhook.topics import ALL_TOPICS, CALL_STATES, MEDIA_TAPS, Topic
from offhook_dev.kafka import KafkaServer

from .conftest import new_topic

pytestmark = pytest.mark.real


@pytest.fixture
async def admin(kafka: KafkaServer) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await client.start()
    yield client
    await client.close()


async def settings_of(admin: AIOKafkaAdminClient, topic: Topic) -> dict[str, str]:
    (response,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name)])
    (resource,) = response.to_object()["resources"]
    return {entry["config_names"]: entry["config_value"] for entry in resource["config_entries"]}


async def test_all_topics_exist_after_a_start_also_when_two_services_start_at_once(
    kafka: KafkaServer, admin: AIOKafkaAdminClient
) -> None:
    one, two = (Bus(PlainBusSettings(kafka.bootstrap), service=name) for name in ("one", "two"))
    await asyncio.gather(one.start(), two.start())
    assert one.health().problems == []
    await asyncio.gather(one.stop(), two.stop())
    existing = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    assert {topic.name for topic in ALL_TOPICS} <= existing.keys()
    for topic in ALL_TOPICS:
        assert topic_config(topic, 1).items() <= (await settings_of(admin, topic)).items()


async def test_each_service_may_create_the_same_topics(admin: AIOKafkaAdminClient) -> None:
    topics = [new_topic("compact"), new_topic("delete")]
    problems = await asyncio.gather(
        *(ensure_topics(admin, topics, partitions=2, replication_factor=1) for _ in range(4))
    )
    assert problems == [[]] * 4


async def test_a_topic_that_is_cleaned_up_in_the_wrong_way_is_named_and_left_alone(
    admin: AIOKafkaAdminClient,
) -> None:
    right, wrong = new_topic("compact"), new_topic("compact")
    await admin.create_topics([NewTopic(wrong.name, 1, 1, topic_configs={"cleanup.policy": "delete"})])
    problems = await ensure_topics(admin, [right, wrong], partitions=2, replication_factor=1)
    assert problems == [
        f"topic {wrong.name} has cleanup.policy=delete, expected compact: its records disappear with time"
    ]
    assert (await settings_of(admin, wrong))["cleanup.policy"] == "delete"


async def test_what_the_cluster_refuses_is_said(admin: AIOKafkaAdminClient) -> None:
    topic = new_topic("delete")
    with pytest.raises(BusError, match=f"does not create the topic {topic.name}.*replication factor"):
        await ensure_topics(admin, [topic], partitions=1, replication_factor=3)


def test_segments_are_short_enough_to_be_deleted_and_compacted_in_time() -> None:
    assert int(topic_config(MEDIA_TAPS, 1)["segment.ms"]) * 2 <= (MEDIA_TAPS.retention_ms or 0)
    assert int(topic_config(CALL_STATES, 1)["segment.ms"]) <= 3_600_000


def test_with_three_replicas_an_acknowledgement_means_two() -> None:
    assert topic_config(CALL_STATES, 3)["min.insync.replicas"] == "2"
    assert "min.insync.replicas" not in topic_config(CALL_STATES, 1)
