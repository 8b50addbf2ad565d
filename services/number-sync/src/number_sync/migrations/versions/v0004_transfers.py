"""Transfers that are under way. See `number_sync.schema`."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    op.create_table(
        "transfers",
        sa.Column("transfer_id", sa.String(64), nullable=False),
        sa.Column("workflow_run_id", sa.String(64), nullable=False),
        sa.Column("consult_run_id", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("result", sa.String(16)),
        sa.Column("provider", sa.String(32), nullable=False),
        sa.Column("account", sa.String(256), nullable=False),
        sa.Column("provider_call_id", sa.String(128), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("transfer_id", name="pk_transfers"),
        sa.UniqueConstraint("consult_run_id", name="uq_transfers_consult_run_id"),
    )
    op.create_index("ix_transfers_workflow_run_id", "transfers", ["workflow_run_id"])
    op.create_index("ix_transfers_changed_at", "transfers", ["changed_at"])


def downgrade() -> None:
    op.drop_table("transfers")
