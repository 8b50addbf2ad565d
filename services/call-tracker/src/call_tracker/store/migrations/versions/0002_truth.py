"""What reconciliation needs: when a silent call is looked up; and forgetting: which calls ended when.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("calls", sa.Column("look_at_us", sa.BigInteger))
    op.add_column("calls", sa.Column("looks", sa.Integer, nullable=False, server_default="0"))
    op.add_column("calls", sa.Column("look_reason", sa.String(10)))
    op.create_index(
        "ix_calls_look_at_us",
        "calls",
        ["look_at_us"],
        postgresql_where=sa.text("look_at_us IS NOT NULL"),
        sqlite_where=sa.text("look_at_us IS NOT NULL"),
    )
    op.create_index(
        "ix_calls_ended",
        "calls",
        ["began_us"],
        postgresql_where=sa.text("NOT active"),
        sqlite_where=sa.text("NOT active"),
    )


def downgrade() -> None:
    op.drop_index("ix_calls_ended", "calls")
    op.drop_index("ix_calls_look_at_us", "calls")
    for column in ("look_reason", "looks", "look_at_us"):
        op.drop_column("calls", column)
