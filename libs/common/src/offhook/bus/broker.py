"""FastStream's broker, with the settings that every service shares."""

import logging
import ssl
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaProducer
from faststream import AckPolicy
from faststream.kafka import KafkaBroker
from faststream.security import BaseSecurity, SASLPlaintext, SASLScram256, SASLScram512

from offhook.bus.producer import RecordProducer
from offhook.kafka_security import KafkaSecurity

# The broker refuses batches over 1,048,588 bytes by default; a record must fit with its batch's header.
MAX_RECORD_BYTES: Final = 1_000_000
_BATCH_BYTES: Final = 64 * 1024
# A request waits this long for an answer. It must be longer than a rebalance, since JoinGroup waits for one.
_REQUEST_TIMEOUT_MS: Final = 20_000
REBALANCE_TIMEOUT_MS: Final = 15_000
# A member learns from its next heartbeat that another one has come or gone, and until all have learnt it nobody reads:
# so long a rolling update holds everything up, twice for each process.
HEARTBEAT_MS: Final = 1_000


class BusSettings(Protocol):
    """What the bus needs of a service's settings."""

    @property
    def kafka_bootstrap(self) -> str: ...
    @property
    def replication_factor(self) -> int: ...
    @property
    def partitions(self) -> int: ...
    @property
    def auto_prepare(self) -> bool: ...
    @property
    def kafka_security(self) -> KafkaSecurity: ...


@dataclass(frozen=True, slots=True)
class PlainBusSettings:
    """Settings of one's own, for tools and tests: without security unless it is given."""

    kafka_bootstrap: str
    replication_factor: int = 1
    partitions: int = 4
    auto_prepare: bool = True
    kafka_security: KafkaSecurity = field(default_factory=KafkaSecurity)


def build_broker(settings: BusSettings, client: str) -> tuple[KafkaBroker, RecordProducer]:
    """A broker that is not connected, and its producer."""
    options: dict[str, Any] = {
        "client_id": f"offhook-{client}",
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
    secured = settings.kafka_security.client_options()
    broker = KafkaBroker(
        servers,
        **options,
        security=_security(settings.kafka_security, secured["ssl_context"]),
        apply_types=False,
        ack_policy=AckPolicy.MANUAL,
        logger=logging.getLogger("offhook.bus.faststream"),
        log_level=logging.DEBUG,
    )
    producer = RecordProducer(lambda: AIOKafkaProducer(bootstrap_servers=servers, **options, **secured))
    broker.config.broker_config.producer = producer
    return broker, producer


_SASL: Final = {"PLAIN": SASLPlaintext, "SCRAM-SHA-256": SASLScram256, "SCRAM-SHA-512": SASLScram512}


def _security(security: KafkaSecurity, context: ssl.SSLContext | None) -> BaseSecurity | None:
    """In FastStream's words."""
    if security.sasl:
        kind = _SASL[security.mechanism or "PLAIN"]
        return kind(security.username or "", security.password, ssl_context=context, use_ssl=security.tls)
    return BaseSecurity(ssl_context=context, use_ssl=True) if security.tls else None
