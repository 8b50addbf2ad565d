"""The first tables. See `number_sync.schema` for what the columns mean."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None

_Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "configurations",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("account", sa.String(256), nullable=False),
        sa.Column("sealed_credentials", sa.Text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("default_for_outbound", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_configurations"),
        sa.UniqueConstraint("user_id", "name", name="uq_configurations_user_id_name"),
    )
    op.create_index(
        "uq_configurations_default",
        "configurations",
        ["user_id"],
        unique=True,
        sqlite_where=sa.text("default_for_outbound"),
        postgresql_where=sa.text("default_for_outbound"),
    )
    op.create_table(
        "workflows",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("agent_url", sa.Text(), nullable=False),
        sa.Column("agent_protocol", sa.String(16), nullable=False),
        sa.Column("sample_rate", sa.Integer(), nullable=False),
        sa.Column("sealed_headers", sa.Text()),
        sa.Column("record_audio", sa.Boolean(), nullable=False),
        sa.Column("fallback", sa.JSON(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workflows"),
    )
    op.create_index("ix_workflows_user_id", "workflows", ["user_id"])
    op.create_table(
        "phone_numbers",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("configuration_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("e164", sa.String(16), nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("workflow_id", sa.String(64)),
        sa.Column("default_caller_id", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["configuration_id"], ["configurations.id"], name="fk_phone_numbers_configuration_id"
        ),
        sa.ForeignKeyConstraint(["workflow_id"], ["workflows.id"], name="fk_phone_numbers_workflow_id"),
        sa.PrimaryKeyConstraint("id", name="pk_phone_numbers"),
        sa.UniqueConstraint("e164", name="uq_phone_numbers_e164"),
    )
    op.create_index("ix_phone_numbers_configuration_id", "phone_numbers", ["configuration_id"])
    op.create_index("ix_phone_numbers_workflow_id", "phone_numbers", ["workflow_id"])
    op.create_index(
        "uq_phone_numbers_default_caller_id",
        "phone_numbers",
        ["configuration_id"],
        unique=True,
        sqlite_where=sa.text("default_caller_id"),
        postgresql_where=sa.text("default_caller_id"),
    )
    op.create_table(
        "settings",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_settings"),
    )
    op.create_table(
        "commands",
        sa.Column("seq", _Sequence, autoincrement=True, nullable=False),
        sa.Column("command_id", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("workflow_run_id", sa.String(64), nullable=False),
        sa.Column("configuration_id", sa.String(64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("ordered_at", sa.BigInteger(), nullable=False),
        sa.Column("traceparent", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("result", sa.String(64)),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("lease_owner", sa.String(64)),
        sa.Column("lease_until", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("seq", name="pk_commands"),
        sa.UniqueConstraint("command_id", name="uq_commands_command_id"),
    )
    op.create_index("ix_commands_open", "commands", ["state", "due_at"])
    op.create_index("ix_commands_workflow_run_id", "commands", ["workflow_run_id"])
    op.create_table(
        "dials",
        sa.Column("workflow_run_id", sa.String(64), nullable=False),
        sa.Column("command_id", sa.String(128), nullable=False),
        sa.Column("configuration_id", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("claim", sa.String(64)),
        sa.Column("claimed_at", sa.BigInteger()),
        sa.Column("outcome", sa.String(16)),
        sa.Column("settled_at", sa.BigInteger()),
        sa.Column("account", sa.String(256)),
        sa.Column("provider_call_id", sa.String(128)),
        sa.Column("conversation_id", sa.String(128)),
        sa.PrimaryKeyConstraint("workflow_run_id", name="pk_dials"),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", _Sequence, autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(128), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("headers", sa.JSON()),
        sa.Column("value", sa.Text()),
        sa.PrimaryKeyConstraint("seq", name="pk_outbox"),
    )
    leases = op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_leases"),
    )
    op.bulk_insert(leases, [{"name": "outbox", "owner": "", "expires_at": 0}])


def downgrade() -> None:
    for table in (
        "leases",
        "outbox",
        "dials",
        "commands",
        "settings",
        "phone_numbers",
        "workflows",
        "configurations",
    ):
        op.drop_table(table)
