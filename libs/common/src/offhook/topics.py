"""Every Kafka topic, with its key, retention and who writes and reads it. Nothing else names a topic."""

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
    ("webhook-gateway", "media-bridge", "number-sync", "call-tracker", "recorder"), ("call-tracker", "anybody"),
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
