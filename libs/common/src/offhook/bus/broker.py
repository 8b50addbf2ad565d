"""FastStream's broker, with the settings that every service shares."""

import logging
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaProducer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker

from offhook.bus.producer import RecordProducer

# The broker refuses batches over 1,048,588 bytes by default; a record must fit with its batch's header.
MAX_RECORD_BYTES: Final = 1_000_000
_BATCH_BYTES: Final = 64 * 1024
# A request waits this long for an answer. It must be longer than a rebalance, since JoinGroup waits for one.
_REQUEST_TIMEOUT_MS: Final = 20_000
REBALANCE_TIMEOUT_MS: Final = 15_000
HEARTBEAT_MS: Final = 2_000


class BusSettings(Protocol):
    """What the bus needs of a service's settings."""

    @property
    def kafka_bootstrap(self) -> str: ...
    @property
    def replication_factor(self) -> int: ...
    @property
    def partitions(self) -> int: ...


def build_broker(settings: BusSettings, service: str) -> tuple[KafkaBroker, RecordProducer]:
    """A broker that is not connected, and its producer."""
    options: dict[str, Any] = {
        "client_id": f"offhook-{service}",
        "request_timeout_ms": _REQUEST_TIMEOUT_MS,
        "acks": "all",
        "enable_idempotence": True,
        # aiokafka has one request to a broker under way and gathers what comes in meanwhile: under load that
        # makes the batches, and waiting longer for them only adds to every acknowledgement.
        "linger_ms": 0,
        "max_batch_size": _BATCH_BYTES,
        "max_request_size": MAX_RECORD_BYTES,
    }
    servers = settings.kafka_bootstrap.split(",")
    broker = KafkaBroker(
        servers,
        **options,
        apply_types=False,
        ack_policy=AckPolicy.MANUAL,
        logger=logging.getLogger("offhook.bus.faststream"),
        log_level=logging.DEBUG,
    )
    producer = RecordProducer(lambda: AIOKafkaProducer(bootstrap_servers=servers, **options))
    broker.config.broker_config.producer = producer
    return broker, producer
