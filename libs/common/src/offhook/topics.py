"""Every Kafka topic, with its key, retention and who writes and reads it. Nothing else names a topic.

What a service may do on Kafka follows from it (`access`): on a broker with access control these rules, and no others,
are what each service needs.
"""

from dataclasses import dataclass
from typing import Final, Literal

_DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `retention_ms` is None for compacted topics, which keep the newest value of each key."""

    name: str
    key: str
    cleanup: Literal["delete", "compact"]
    retention_ms: int | None
    written_by: tuple[str, ...]
    read_by: tuple[str, ...]
    meaning: str


CALL_EVENTS: Final = Topic(
    "telephony.call-events.v1", "workflow_run_id", "delete", 7 * _DAY_MS,
    ("webhook-gateway", "media-bridge", "number-sync", "call-tracker", "recorder"), ("call-tracker", "number-sync", "anybody"),
    "What happened to a call, in order of arrival.",
)  # fmt: skip
CALL_COMMANDS: Final = Topic(
    "telephony.call-commands.v1", "workflow_run_id", "delete", _DAY_MS,
    ("call-tracker", "media-bridge"), ("number-sync",),
    "What shall be done to a call at its provider: originate, hang up, transfer, press keys, look it up.",
)  # fmt: skip
CALL_STATES: Final = Topic(
    "telephony.call-states.v1", "workflow_run_id", "compact", None,
    ("call-tracker",), ("anybody",),
    "The newest record of each call.",
)  # fmt: skip
CONFIGURATIONS: Final = Topic(
    "telephony.configurations.v1", "configuration_id", "compact", None,
    ("number-sync",), ("webhook-gateway", "media-bridge", "call-tracker"),
    "A user's account at a provider; its credentials are sealed.",
)  # fmt: skip
NUMBERS: Final = Topic(
    "telephony.numbers.v1", "number_id", "compact", None,
    ("number-sync",), ("webhook-gateway", "call-tracker"),
    "A phone number, its configuration and the workflow that answers it.",
)  # fmt: skip
WORKFLOWS: Final = Topic(
    "telephony.workflows.v1", "workflow_id", "compact", None,
    ("number-sync",), ("webhook-gateway", "media-bridge", "call-tracker"),
    "Which agent takes a call, and how to reach it.",
)  # fmt: skip
SETTINGS: Final = Topic(
    "telephony.settings.v1", "setting", "compact", None,
    ("number-sync",), ("webhook-gateway", "media-bridge", "call-tracker"),
    "Settings of the whole installation, such as the public base URL.",
)  # fmt: skip
API_KEYS: Final = Topic(
    "telephony.api-keys.v1", "key_id", "compact", None,
    ("number-sync",), ("number-sync", "call-tracker"),
    "Who may use the API: digests of keys, and whether they are revoked.",
)  # fmt: skip
WEBHOOK_AUDIT: Final = Topic(
    "telephony.webhook-audit.v1", "account", "delete", 7 * _DAY_MS,
    ("webhook-gateway",), ("call-tracker",),
    "Every request that claimed to come from a provider: verified, or refused and why.",
)  # fmt: skip
WEBHOOK_REPLAYS: Final = Topic(
    "telephony.webhook-replays.v1", "webhook_audit_id", "delete", _DAY_MS,
    ("call-tracker",), ("webhook-gateway",),
    "Refused requests of providers that shall be tried again.",
)  # fmt: skip
CALL_NOTICES: Final = Topic(
    "telephony.call-notices.v1", "workflow_run_id", "delete", 3600 * 1000,
    ("webhook-gateway", "number-sync"), ("media-bridge",),
    "What the agent of a call shall be told: who answered, a transfer that failed.",
)  # fmt: skip
MEDIA_TAPS: Final = Topic(
    "telephony.media-taps.v1", "workflow_run_id", "delete", 3600 * 1000,
    ("media-bridge",), ("recorder", "anybody"),
    "Audio of calls whose workflow asks for it, one record per call and second.",
)  # fmt: skip
DEAD_LETTERS: Final = Topic(
    "telephony.dead-letters.v1", "key of the record", "delete", 30 * _DAY_MS,
    ("every consumer",), ("call-tracker", "operators"),
    "Records that could not be handled, as they were, with the reason.",
)  # fmt: skip

ALL_TOPICS: Final = (
    CALL_EVENTS, CALL_COMMANDS, CALL_STATES, CONFIGURATIONS, NUMBERS, WORKFLOWS, SETTINGS, API_KEYS,
    WEBHOOK_AUDIT, WEBHOOK_REPLAYS, CALL_NOTICES, MEDIA_TAPS, DEAD_LETTERS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer group of a service, and a topic it reads. Its progress is committed under the group's name."""

    service: str
    group: str
    topic: Topic


CONSUMERS: Final = (
    Consumer("webhook-gateway", "webhook-gateway", WEBHOOK_REPLAYS),
    Consumer("call-tracker", "call-tracker", CALL_EVENTS),
    Consumer("call-tracker", "call-tracker-webhooks", WEBHOOK_AUDIT),
    Consumer("call-tracker", "call-tracker-dead-letters", DEAD_LETTERS),
    Consumer("recorder", "recorder", MEDIA_TAPS),
    Consumer("number-sync", "number-sync", CALL_COMMANDS),
    Consumer("number-sync", "number-sync", CALL_EVENTS),
    Consumer("number-sync", "number-sync-last-calls", CALL_EVENTS),
)  # fmt: skip

SERVICES: Final = ("webhook-gateway", "media-bridge", "call-tracker", "recorder", "number-sync")
PREPARE: Final = "prepare"
"""Who creates the topics: `offhook prepare`, where the services may not."""

Operation = Literal["Read", "Write", "Describe", "DescribeConfigs", "Create", "IdempotentWrite"]


@dataclass(frozen=True, slots=True)
class Access:
    """One rule of access control, to be allowed: names and operations are Kafka's, and every name is literal.

    Nobody uses transactions, so there is no rule for a transactional id. The cluster is named `kafka-cluster`.
    """

    resource: Literal["topic", "group", "cluster"]
    name: str
    operations: tuple[Operation, ...]


def topics_of(service: str) -> tuple[Topic, ...]:
    """The topics a service writes or reads; all of them for a name that is none of a service (tools, tests)."""
    if service not in SERVICES:
        return ALL_TOPICS
    return tuple(topic for topic in ALL_TOPICS if _writes(service, topic) or _reads(service, topic))


def access(service: str) -> tuple[Access, ...]:
    """All that `service` (one of `SERVICES`, or `PREPARE`) must be allowed. Raises `KeyError` for another name."""
    if service == PREPARE:
        return tuple(
            Access("topic", topic.name, ("Create", "Describe", "DescribeConfigs")) for topic in ALL_TOPICS
        )
    if service not in SERVICES:
        raise KeyError(service)
    rules = []
    for topic in topics_of(service):
        # Its settings are read at the start: a compacted topic that is not compacted loses what it should keep.
        operations: list[Operation] = ["Describe", "DescribeConfigs"]
        if _reads(service, topic):
            operations.append("Read")
        if _writes(service, topic):
            operations.append("Write")
        rules.append(Access("topic", topic.name, tuple(operations)))
    groups = dict.fromkeys(consumer.group for consumer in CONSUMERS if consumer.service == service)
    rules += [Access("group", group, ("Describe", "Read")) for group in groups]
    return (*rules, Access("cluster", "kafka-cluster", ("IdempotentWrite",)))


def _reads(service: str, topic: Topic) -> bool:
    return service in topic.read_by


def _writes(service: str, topic: Topic) -> bool:
    if service in topic.written_by:
        return True
    if topic is DEAD_LETTERS:  # of whoever consumes
        return any(consumer.service == service for consumer in CONSUMERS)
    # call-tracker sends dead letters again, to where they came from.
    return service == "call-tracker" and any(consumer.topic is topic for consumer in CONSUMERS)
