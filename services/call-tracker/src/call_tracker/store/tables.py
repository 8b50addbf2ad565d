"""The tables. Times are microseconds since 1970 UTC (`*_us`); JSON is text, as it came or as it will go out."""

from typing import Final

from sqlalchemy import (
    VARCHAR,
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

METADATA: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite counts only a column of type INTEGER by itself.
_COUNTED: Final = BigInteger().with_variant(Integer(), "sqlite")

CALL_EVENTS: Final = Table(
    "call_events",
    METADATA,
    Column("seq", _COUNTED, primary_key=True, autoincrement=True),
    Column("ce_id", String(200), nullable=False),
    Column("workflow_run_id", String(64), nullable=False),
    Column("type", String(100), nullable=False),
    Column("source", String(200), nullable=False),
    Column("time_us", BigInteger, nullable=False),
    Column("data", Text, nullable=False),
    UniqueConstraint("ce_id"),
    Index(None, "workflow_run_id", "seq"),
    comment="Every event of every call as it was told, in order of arrival. Append only.",
)

CALLS: Final = Table(
    "calls",
    METADATA,
    Column("workflow_run_id", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("facts", Text, nullable=False),
    Column("record", Text, nullable=False),
    # What calls are looked up by; all of it is in the record too.
    Column("began_us", BigInteger, nullable=False),
    Column("user_id", String(200)),
    Column("workflow_id", String(200)),
    Column("configuration_id", String(200)),
    Column("provider", String(200)),
    Column("provider_call_id", String(200)),
    Column("direction", String(10)),
    Column("from_number", String(200)),
    Column("to_number", String(200)),
    Column("status", String(10), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("end_reason", String(40)),
    Column("answer_ms", Integer),
    # When the provider is asked about the call, if nothing is heard until then; how often it was, in vain; why.
    Column("look_at_us", BigInteger),
    Column("looks", Integer, nullable=False, server_default="0"),
    Column("look_reason", String(10)),
    # All that filters ask about: what a filter leaves out is passed over without a look at the table.
    Index(
        "ix_calls_newest",
        "user_id",
        "began_us",
        "workflow_run_id",
        postgresql_include=[
            "status",
            "active",
            "direction",
            "workflow_id",
            "provider",
            "end_reason",
            "from_number",
            "to_number",
            "answer_ms",
        ],
    ),
    Index(
        "ix_calls_live",
        "user_id",
        "began_us",
        "workflow_run_id",
        postgresql_where=text("active"),
        sqlite_where=text("active"),
    ),
    Index(None, "user_id", "end_reason", "began_us", "workflow_run_id"),
    Index(None, "user_id", "from_number", "began_us", "workflow_run_id"),
    Index(None, "user_id", "to_number", "began_us", "workflow_run_id"),
    Index(None, "user_id", "status", "began_us", "workflow_run_id"),
    Index(None, "user_id", "workflow_id", "began_us", "workflow_run_id"),
    Index(None, "provider_call_id"),
    Index("ix_calls_ended", "began_us", postgresql_where=text("NOT active"), sqlite_where=text("NOT active")),
    Index(
        None,
        "look_at_us",
        postgresql_where=text("look_at_us IS NOT NULL"),
        sqlite_where=text("look_at_us IS NOT NULL"),
    ),
    comment="The record of each call, with the facts it follows from.",
)

# Ranges of texts are ranges of bytes, whatever the language of the database.
_BYTES: Final = String(200).with_variant(VARCHAR(200, collation="C"), "postgresql")

CALL_NUMBERS: Final = Table(
    "call_numbers",
    METADATA,
    Column("user_id", String(200), primary_key=True),
    Column("number", _BYTES, primary_key=True),
    Column("backwards", _BYTES, nullable=False),
    Index("ix_call_numbers_user_id_backwards", "user_id", "backwards", "number"),
    comment="The numbers that calls of a user came from or went to.",
)

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    Column("seq", _COUNTED, primary_key=True, autoincrement=True),
    Column("topic", String(200), nullable=False),
    Column("headers", Text, nullable=False),
    Column("value", Text, nullable=False),
    sqlite_autoincrement=True,  # a number is never used again: it is the order of publishing
    comment="Events to publish; rows leave when Kafka has them.",
)

IDEMPOTENCY_KEYS: Final = Table(
    "idempotency_keys",
    METADATA,
    Column("user_id", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("response", Text, nullable=False),
    Column("made_us", BigInteger, nullable=False),
    Index(None, "made_us"),
    comment="Answers to requests that a client may repeat.",
)

RECORDINGS: Final = Table(
    "recordings",
    METADATA,
    Column("workflow_run_id", String(64), primary_key=True),
    Column("state", String(10), nullable=False),
    Column("key", String(300), nullable=False),
    Column("began_us", BigInteger, nullable=False),
    Column("touched_us", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("leased_until_us", BigInteger, nullable=False),
    Index(None, "state", "touched_us"),
    Index(None, "state", "began_us"),
    comment="Recordings: open (audio comes), stored (the file is there), deleted. See call_tracker.recording.",
)

RECORDING_PIECES: Final = Table(
    "recording_pieces",
    METADATA,
    Column("workflow_run_id", String(64), primary_key=True),
    Column("started_us", BigInteger, primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("stream_id", String(200), primary_key=True),
    Column("piece", Integer, primary_key=True),
    Column("offset_ms", Integer, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("encoding", String(10), nullable=False),
    Column("sample_rate", Integer, nullable=False),
    Column("last", Boolean, nullable=False),
    Column("segment", String(100), nullable=False),
    Column("at", Integer, nullable=False),
    Index(None, "segment"),
    comment="Where each second of a recording that is not settled yet lies: in which segment, at which byte.",
)
