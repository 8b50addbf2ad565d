"""Makes the topics exist as `offhook.topics` says."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from offhook.bus.errors import BusError
from offhook.topics import Topic

log = logging.getLogger(__name__)

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
_DAY_MS: Final = 24 * _HOUR_MS
_DESCRIBE_TRIES: Final = 30
_DESCRIBE_RETRY_S: Final = 0.1


def topic_config(topic: Topic, replication_factor: int) -> dict[str, str]:
    """The broker's settings for a topic that is made new."""
    config: dict[str, str] = {"cleanup.policy": topic.cleanup}
    if topic.retention_ms is None:
        # Only closed segments are compacted: with the default of seven days per segment, a busy topic
        # would be read at every start with a week of superseded records in it.
        config |= {
            "segment.ms": str(_HOUR_MS),
            "min.cleanable.dirty.ratio": "0.1",
            "delete.retention.ms": str(_DAY_MS),
        }
    else:
        # Likewise only closed segments are deleted.
        segment_ms = max(10 * _MINUTE_MS, min(_DAY_MS, topic.retention_ms // 4))
        config |= {"retention.ms": str(topic.retention_ms), "segment.ms": str(segment_ms)}
    if replication_factor >= 3:
        # Without it acks=all means "all that are left", which may be one.
        config["min.insync.replicas"] = str(replication_factor - 1)
    return config


async def ensure_topics(
    admin: AIOKafkaAdminClient, topics: Sequence[Topic], *, partitions: int, replication_factor: int
) -> list[str]:
    """Create the missing topics. Returns a sentence for each existing one that is cleaned up in the wrong
    way.

    Another process may create them at the same time. Existing topics are left as they are: their settings
    belong to the operator. Raises `BusError` when the cluster refuses to create a topic.
    """
    # Asked before: where somebody else creates the topics, a user need not be allowed to.
    missing = set(await missing_topics(admin, topics))
    existing = [topic for topic in topics if topic.name not in missing]
    if missing:
        existing += await _create(
            admin,
            [topic for topic in topics if topic.name in missing],
            partitions=partitions,
            replication_factor=replication_factor,
        )
    return await wrong_cleanup(admin, existing)


async def _create(
    admin: AIOKafkaAdminClient, topics: Sequence[Topic], *, partitions: int, replication_factor: int
) -> list[Topic]:
    """Create the topics; returns those that somebody else has created in between. Raises `BusError`."""
    response = await admin.create_topics(
        [
            NewTopic(
                topic.name,
                num_partitions=partitions,
                replication_factor=replication_factor,
                topic_configs=topic_config(topic, replication_factor),
            )
            for topic in topics
        ]
    )
    existing: list[Topic] = []
    by_name = {topic.name: topic for topic in topics}
    for answer in response.to_object()["topic_errors"]:
        error = for_code(answer["error_code"])
        if error is TopicAlreadyExistsError:
            existing.append(by_name[answer["topic"]])
        elif error is not NoError:
            detail = answer.get("error_message") or error.__name__
            raise BusError(f"Kafka does not create the topic {answer['topic']}: {detail}")
        else:
            log.info("topic %s created with %s partitions", answer["topic"], partitions)
    return existing


async def missing_topics(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> list[str]:
    """The names of those that do not exist, or that this user may not see."""
    there = set(await admin.list_topics())
    return [topic.name for topic in topics if topic.name not in there]


async def wrong_cleanup(admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> list[str]:
    """A sentence for each topic that is cleaned up in another way than `offhook.topics` says."""
    if not topics:
        return []
    resources = [
        ConfigResource(ConfigResourceType.TOPIC, topic.name, configs={"cleanup.policy": ""})
        for topic in topics
    ]
    found: dict[str, str] = {}
    for _ in range(_DESCRIBE_TRIES):
        unknown = False
        for response in await admin.describe_configs(resources):
            for resource in response.to_object()["resources"]:
                unknown |= for_code(resource["error_code"]) is UnknownTopicOrPartitionError
                settings: list[dict[str, Any]] = resource["config_entries"]
                for setting in settings:
                    if setting["config_names"] == "cleanup.policy":
                        found[resource["resource_name"]] = setting["config_value"]
        if not unknown:
            break
        # Somebody has just created it, and this broker has not heard of it yet.
        await asyncio.sleep(_DESCRIBE_RETRY_S)
    return [
        f"topic {topic.name} has cleanup.policy={found[topic.name]}, expected {topic.cleanup}: "
        + ("its records disappear with time" if topic.cleanup == "compact" else "it grows without end")
        for topic in topics
        if found.get(topic.name, topic.cleanup) != topic.cleanup
    ]
