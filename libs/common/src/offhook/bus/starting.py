"""From nothing to a connection with the topics there, however long Kafka takes.

Whatever it objects to meanwhile is told and tried again: a restart of the process would change nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

from aiokafka.errors import KafkaError
from faststream.kafka import KafkaBroker

from offhook.bus.broker import BusSettings
from offhook.bus.connecting import why_not
from offhook.bus.consumer import WatchedConsumer
from offhook.bus.errors import BusError
from offhook.bus.producer import RecordProducer
from offhook.bus.provisioning import ensure_topics, missing_topics, wrong_cleanup
from offhook.topics import ALL_TOPICS, Topic

T = TypeVar("T")

_RETRY_S: Final = 1.0


async def until_usable(
    broker: KafkaBroker,
    producer: RecordProducer,
    settings: BusSettings,
    topics: Sequence[Topic],
    waiting: Callable[[str], None],
) -> list[str]:
    """Connect, and create the missing topics, or wait for those in `topics`. `waiting` is told for what, in a sentence.

    Returns a sentence for each topic that is cleaned up in the wrong way.
    """

    async def patiently(work: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await work()
            except BusError as error:
                reason = str(error)
            except (KafkaError, OSError) as error:
                servers = settings.kafka_bootstrap.split(",")
                reason = await why_not(servers, settings.kafka_security, error)
            waiting(reason)
            await asyncio.sleep(_RETRY_S)

    await patiently(lambda: _connect(broker))
    config = broker.config.broker_config
    assert isinstance(config.builder, partial)
    config.builder = partial(WatchedConsumer, **config.builder.keywords)
    return await patiently(lambda: _see_to_topics(broker, producer, settings, topics))


async def _connect(broker: KafkaBroker) -> None:
    try:
        await broker.connect()
    except (KafkaError, OSError):
        await broker.config.broker_config.disconnect()
        raise


async def _see_to_topics(
    broker: KafkaBroker, producer: RecordProducer, settings: BusSettings, topics: Sequence[Topic]
) -> list[str]:
    admin = broker.config.broker_config.admin_client
    if settings.auto_prepare:
        problems = await ensure_topics(
            admin,
            ALL_TOPICS,
            partitions=settings.partitions,
            replication_factor=settings.replication_factor,
        )
    else:
        if missing := await missing_topics(admin, topics):
            raise BusError(
                f"Kafka has no topic {', '.join(missing)}, or this user may not see it: run `offhook prepare`, or"
                " allow what docs/reference/topics.md lists"
            )
        problems = await wrong_cleanup(admin, topics)
    for topic in topics:
        # A first publish during an outage must not have to ask for its topic's partitions.
        await producer.partitions_for(topic.name)
    return problems
