"""Dialling rules and limits of a configuration, and what looking up a call needs. See `number_sync.schema`."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    op.add_column(
        "configurations", sa.Column("dialling_rules", sa.JSON(), nullable=False, server_default="{}")
    )
    op.add_column("configurations", sa.Column("max_concurrent_calls", sa.Integer()))
    op.add_column("configurations", sa.Column("max_calls_per_s", sa.Float()))
    op.create_index("ix_dials_claimed_at", "dials", ["account", "claimed_at"])


def downgrade() -> None:
    op.drop_index("ix_dials_claimed_at", "dials")
    op.drop_column("configurations", "max_calls_per_s")
    op.drop_column("configurations", "max_concurrent_calls")
    op.drop_column("configurations", "dialling_rules")
