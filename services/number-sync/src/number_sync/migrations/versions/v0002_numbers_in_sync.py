"""Where numbers stand at their providers, people's keys, verified credentials. See `number_sync.schema`."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"

_Sequence = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_CONFIGURATION_COLUMNS = (
    "repair_drift",
    "verification",
    "verification_code",
    "verification_text",
    "verified_at",
)


def upgrade() -> None:
    # Column by column, in place: a copied table would take its numbers' foreign keys with it.
    op.add_column(
        "configurations",
        sa.Column("repair_drift", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.add_column(
        "configurations",
        sa.Column("verification", sa.String(16), nullable=False, server_default="not-verified"),
    )
    op.add_column("configurations", sa.Column("verification_code", sa.String(64)))
    op.add_column("configurations", sa.Column("verification_text", sa.Text()))
    op.add_column("configurations", sa.Column("verified_at", sa.BigInteger()))
    op.create_table(
        "number_states",
        sa.Column("number_id", sa.String(64), nullable=False),
        sa.Column("configuration_id", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.String(64)),
        sa.Column("sentence", sa.Text()),
        sa.Column("remedy", sa.Text()),
        sa.Column("differs", sa.JSON(), nullable=False),
        sa.Column("compared", sa.JSON(), nullable=False),
        sa.Column("wanted", sa.JSON()),
        sa.Column("reference", sa.String(128)),
        sa.Column("before", sa.JSON()),
        sa.Column("ours", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("compared_at", sa.BigInteger()),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("pushed_at", sa.BigInteger()),
        sa.Column("last_drift", sa.JSON()),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["number_id"], ["phone_numbers.id"], name="fk_number_states_number_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number_id", name="pk_number_states"),
    )
    op.create_index("ix_number_states_configuration_id", "number_states", ["configuration_id"])
    op.create_index("ix_number_states_due_at", "number_states", ["due_at"])
    op.execute(
        "INSERT INTO number_states (number_id, configuration_id, state, differs, compared, ours, attempts,"
        " changed_at, due_at, version)"
        " SELECT id, configuration_id, 'pending', '[]', '[]', '{}', 0, updated_at, 0, 0 FROM phone_numbers"
    )
    op.create_table(
        "shared_states",
        sa.Column("configuration_id", sa.String(64), nullable=False),
        sa.Column("before", sa.JSON()),
        sa.Column("ours", sa.JSON(), nullable=False),
        sa.Column("wanted", sa.JSON()),
        sa.Column("differs", sa.JSON(), nullable=False),
        sa.Column("compared_at", sa.BigInteger()),
        sa.Column("pushed_at", sa.BigInteger()),
        sa.Column("last_drift", sa.JSON()),
        sa.ForeignKeyConstraint(
            ["configuration_id"],
            ["configurations.id"],
            name="fk_shared_states_configuration_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("configuration_id", name="pk_shared_states"),
    )
    op.create_table(
        "detachments",
        sa.Column("seq", _Sequence, autoincrement=True, nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("configuration_id", sa.String(64), nullable=False),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("account", sa.String(256), nullable=False),
        sa.Column("sealed_credentials", sa.Text()),
        sa.Column("e164", sa.String(16), nullable=False),
        sa.Column("reference", sa.String(128)),
        sa.Column("before", sa.JSON()),
        sa.Column("ours", sa.JSON(), nullable=False),
        sa.Column("shared", sa.JSON()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("sentence", sa.Text()),
        sa.PrimaryKeyConstraint("seq", name="pk_detachments"),
    )
    op.create_index("ix_detachments_e164", "detachments", ["e164"])
    op.create_index("ix_detachments_open", "detachments", ["state", "due_at"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("label", sa.String(100), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("digest", name="uq_api_keys_digest"),
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])
    op.create_table(
        "number_calls",
        sa.Column("number_id", sa.String(64), nullable=False),
        sa.Column("workflow_run_id", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("answered_at", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["number_id"], ["phone_numbers.id"], name="fk_number_calls_number_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("number_id", name="pk_number_calls"),
    )


def downgrade() -> None:
    for table in ("number_calls", "api_keys", "detachments", "shared_states", "number_states"):
        op.drop_table(table)
    for column in _CONFIGURATION_COLUMNS:
        op.drop_column("configurations", column)
