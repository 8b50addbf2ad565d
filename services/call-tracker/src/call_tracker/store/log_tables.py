"""The tables of the webhook log and of the dead letters. Times as in `tables`."""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, String, Table, Text

from call_tracker.store.tables import METADATA

WEBHOOKS: Final = Table(
    "webhooks",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("provider", String(40), nullable=False),
    Column("account", String(200)),
    Column("workflow_run_id", String(64)),
    Column("verified", Boolean, nullable=False),
    Column("reason", String(60)),
    Column("replay_of", String(200)),
    Column("data", Text, nullable=False),
    Column("sealed", Text),
    Column("replay_us", BigInteger),
    Column("replay_by", String(64)),
    Index(None, "at_us", "id"),
    Index(None, "account", "at_us", "id"),
    Index(None, "verified", "at_us", "id"),
    Index(None, "workflow_run_id"),
    Index(None, "replay_of"),
    comment="What providers sent, as the gateway tells it; `sealed` is the request of those that were refused.",
)

DEAD_LETTERS: Final = Table(
    "dead_letters",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Column("topic", String(200), nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("recorded_us", BigInteger),
    Column("consumer", String(200), nullable=False),
    Column("service", String(200), nullable=False),
    Column("reason", String(1000), nullable=False),
    Column("event_type", String(200)),
    Column("workflow_run_id", String(64)),
    Column("account", String(200)),
    Column("key", LargeBinary),
    Column("value", LargeBinary),
    Column("value_bytes", Integer, nullable=False),
    Column("headers", Text, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("replay_of", String(64)),
    Column("state", String(10), nullable=False),
    Column("replay_us", BigInteger),
    Column("replay_by", String(64)),
    Index(None, "at_us", "id"),
    Index(None, "workflow_run_id"),
    Index(None, "state", "at_us"),
    comment="Records that no consumer could handle, as they were, and whether they were sent again.",
)
