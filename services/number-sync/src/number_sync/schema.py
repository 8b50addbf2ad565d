"""The tables. One schema for SQLite and PostgreSQL; `migrations` brings a database to it.

Instants (`*_at`) are milliseconds since 1970 in UTC. Ids are `identities.new_id()` unless said otherwise.
Secrets are only ever in columns named `sealed_*`, encrypted by the key ring.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    true,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives 64-bit row ids only to a column that is spelled INTEGER.
_Sequence = BigInteger().with_variant(Integer, "sqlite")

configurations: Final = Table(
    "configurations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("name", String(100), nullable=False),
    Column("account", String(256), nullable=False),
    Column("sealed_credentials", Text, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("default_for_outbound", Boolean, nullable=False),
    # Whether a setting that somebody else changed at the provider is set again, or only reported.
    Column("repair_drift", Boolean, nullable=False, default=True, server_default=true()),
    # What the provider said to the credentials: `verified`, `refused` or `not-verified`; then why, and what to do.
    Column("verification", String(16), nullable=False, default="not-verified", server_default="not-verified"),
    Column("verification_code", String(64)),
    Column("verification_text", Text),
    Column("verified_at", BigInteger),
    # Where it may call (`records.DiallingRules`), and how much at a time; None: as much as the provider takes.
    Column("dialling_rules", JSON, nullable=False, default=dict, server_default="{}"),
    Column("max_concurrent_calls", Integer),
    Column("max_calls_per_s", Float),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    UniqueConstraint("user_id", "name"),
)
# At most one default per user.
Index(
    "uq_configurations_default",
    configurations.c.user_id,
    unique=True,
    sqlite_where=configurations.c.default_for_outbound,
    postgresql_where=configurations.c.default_for_outbound,
)

workflows: Final = Table(
    "workflows",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("name", String(100), nullable=False),
    Column("agent_url", Text, nullable=False),
    Column("agent_protocol", String(16), nullable=False),
    Column("sample_rate", Integer, nullable=False),
    Column("sealed_headers", Text),
    Column("record_audio", Boolean, nullable=False),
    Column("fallback", JSON, nullable=False),
    Column("metadata", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

phone_numbers: Final = Table(
    "phone_numbers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("configuration_id", ForeignKey("configurations.id"), nullable=False, index=True),
    Column("user_id", String(64), nullable=False),
    # One number belongs to one configuration of the whole installation: an inbound call must have one answer.
    Column("e164", String(16), nullable=False, unique=True),
    Column("label", String(100), nullable=False),
    Column("active", Boolean, nullable=False),
    Column("workflow_id", ForeignKey("workflows.id"), index=True),
    Column("default_caller_id", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)
# At most one default caller ID per configuration.
Index(
    "uq_phone_numbers_default_caller_id",
    phone_numbers.c.configuration_id,
    unique=True,
    sqlite_where=phone_numbers.c.default_caller_id,
    postgresql_where=phone_numbers.c.default_caller_id,
)

# Settings of the whole installation, as they were last published.
settings: Final = Table(
    "settings",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

# Everything that was ordered, as it came from Kafka: `command_id` is the event's id. `state` is `open` until the
# command is carried out or given up. `lease_*`: which process works on it, and until when the others leave it alone.
commands: Final = Table(
    "commands",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("command_id", String(128), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("workflow_run_id", String(64), nullable=False, index=True),
    Column("configuration_id", String(64), nullable=False),
    Column("data", JSON, nullable=False),
    Column("ordered_at", BigInteger, nullable=False),
    Column("traceparent", String(64)),
    Column("state", String(16), nullable=False),
    Column("result", String(64)),
    Column("attempts", Integer, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Index("ix_commands_open", "state", "due_at"),
)

# One row per run that is to be dialled: the claim that makes dialling at most once. `claim` is set and committed
# before the provider is asked, and taken back only when the provider has surely not accepted. A claim without an
# outcome is never dialled again. `outcome`: None | accepted | refused | unknown.
dials: Final = Table(
    "dials",
    metadata,
    Column("workflow_run_id", String(64), primary_key=True),
    Column("command_id", String(128), nullable=False),
    Column("configuration_id", String(64), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("claim", String(64)),
    Column("claimed_at", BigInteger),
    Column("outcome", String(16)),
    Column("settled_at", BigInteger),
    Column("account", String(256)),
    Column("provider_call_id", String(128)),
    Column("conversation_id", String(128)),
    Index("ix_dials_claimed_at", "account", "claimed_at"),
)

# Transfers, for as long as something may follow from them: see `orders.transfers`.
transfers: Final = Table(
    "transfers",
    metadata,
    Column("transfer_id", String(64), primary_key=True),
    Column("workflow_run_id", String(64), nullable=False, index=True),
    Column("consult_run_id", String(64), unique=True),
    Column("state", String(16), nullable=False),
    Column("result", String(16)),
    Column("provider", String(32), nullable=False),
    Column("account", String(256), nullable=False),
    Column("provider_call_id", String(128), nullable=False),
    Column("data", JSON, nullable=False),
    Column("changed_at", BigInteger, nullable=False, index=True),
)

# What is to be published, in the order in which it became true. `value` None is a tombstone.
outbox: Final = Table(
    "outbox",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("topic", String(128), nullable=False),
    Column("key", String(128), nullable=False),
    Column("headers", JSON),
    Column("value", Text),
)

# Who does what only one process may do at a time.
leases: Final = Table(
    "leases",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

# Where a number stands at its provider (see `sync.state`): `pending`, `synced`, `drifted`, `failed` or `detached`.
# `version` counts what an operator changed: a round that began before a change does not put `due_at` off.
# `before`: the provider's values of our settings when we first came. `ours`: every value we have set, or were about to.
number_states: Final = Table(
    "number_states",
    metadata,
    Column("number_id", ForeignKey("phone_numbers.id", ondelete="CASCADE"), primary_key=True),
    Column("configuration_id", String(64), nullable=False, index=True),
    Column("state", String(16), nullable=False),
    Column("reason", String(64)),
    Column("sentence", Text),
    Column("remedy", Text),
    Column("differs", JSON, nullable=False),  # [{"setting", "wanted", "found"}]
    Column("compared", JSON, nullable=False),  # names of settings
    Column("wanted", JSON(none_as_null=True)),  # {setting: value}, of the last comparison
    Column("reference", String(128)),
    Column("before", JSON(none_as_null=True)),  # {setting: value}
    Column("ours", JSON, nullable=False),  # {setting: [value]}
    Column("attempts", Integer, nullable=False),
    Column("compared_at", BigInteger),
    Column("changed_at", BigInteger, nullable=False),
    Column("pushed_at", BigInteger),
    Column("last_drift", JSON(none_as_null=True)),  # {"at", "differs", "repaired"}
    Column("due_at", BigInteger, nullable=False, index=True),
    Column("version", Integer, nullable=False),
)

# The same for what belongs to a whole application of the provider, and is shared by the configuration's numbers.
shared_states: Final = Table(
    "shared_states",
    metadata,
    Column("configuration_id", ForeignKey("configurations.id", ondelete="CASCADE"), primary_key=True),
    Column("before", JSON(none_as_null=True)),
    Column("ours", JSON, nullable=False),
    Column("wanted", JSON(none_as_null=True)),
    Column("differs", JSON, nullable=False),
    Column("compared_at", BigInteger),
    Column("pushed_at", BigInteger),
    Column("last_drift", JSON(none_as_null=True)),
)

# Numbers that were deleted here and are still to be let go at their provider. `state`: `open`, `done` or `given-up`.
# `sealed_credentials` are those of the (perhaps deleted) configuration, sealed for its id; gone when the row is closed.
# `shared`: {"before", "ours"} of the application, where this was its last number.
detachments: Final = Table(
    "detachments",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("user_id", String(64), nullable=False),
    Column("configuration_id", String(64), nullable=False),
    Column("provider", String(32), nullable=False),
    Column("account", String(256), nullable=False),
    Column("sealed_credentials", Text),
    Column("e164", String(16), nullable=False, index=True),
    Column("reference", String(128)),
    Column("before", JSON(none_as_null=True)),
    Column("ours", JSON, nullable=False),
    Column("shared", JSON(none_as_null=True)),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("sentence", Text),
    Index("ix_detachments_open", "state", "due_at"),
)

# Keys of people. A key itself is shown once, at its creation: `digest` is its SHA-256 in hexadecimal.
api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False, index=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("label", String(100), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

# The last call that came in at each number. `answered_at`: when an agent first took any call at it.
number_calls: Final = Table(
    "number_calls",
    metadata,
    Column("number_id", ForeignKey("phone_numbers.id", ondelete="CASCADE"), primary_key=True),
    Column("workflow_run_id", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("answered_at", BigInteger),
)
