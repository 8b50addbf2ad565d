"""Calls, their events, the outbox and the idempotency keys.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_COUNTED = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "call_events",
        sa.Column("seq", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("ce_id", sa.String(200), nullable=False),
        sa.Column("workflow_run_id", sa.String(64), nullable=False),
        sa.Column("type", sa.String(100), nullable=False),
        sa.Column("source", sa.String(200), nullable=False),
        sa.Column("time_us", sa.BigInteger, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.UniqueConstraint("ce_id", name="uq_call_events_ce_id"),
        comment="Every event of every call as it was told, in order of arrival. Append only.",
    )
    op.create_index("ix_call_events_workflow_run_id_seq", "call_events", ["workflow_run_id", "seq"])
    op.create_table(
        "calls",
        sa.Column("workflow_run_id", sa.String(64), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("facts", sa.Text, nullable=False),
        sa.Column("record", sa.Text, nullable=False),
        sa.Column("began_us", sa.BigInteger, nullable=False),
        sa.Column("user_id", sa.String(200)),
        sa.Column("workflow_id", sa.String(200)),
        sa.Column("configuration_id", sa.String(200)),
        sa.Column("provider", sa.String(200)),
        sa.Column("provider_call_id", sa.String(200)),
        sa.Column("direction", sa.String(10)),
        sa.Column("from_number", sa.String(200)),
        sa.Column("to_number", sa.String(200)),
        sa.Column("status", sa.String(10), nullable=False),
        sa.Column("active", sa.Boolean, nullable=False),
        sa.Column("end_reason", sa.String(40)),
        comment="The record of each call, with the facts it follows from.",
    )
    newest_first = ["began_us", "workflow_run_id"]
    op.create_index("ix_calls_user_id_began_us_workflow_run_id", "calls", ["user_id", *newest_first])
    op.create_index(
        "ix_calls_user_id_status_began_us_workflow_run_id", "calls", ["user_id", "status", *newest_first]
    )
    op.create_index(
        "ix_calls_user_id_workflow_id_began_us_workflow_run_id",
        "calls",
        ["user_id", "workflow_id", *newest_first],
    )
    op.create_index("ix_calls_provider_call_id", "calls", ["provider_call_id"])
    op.create_index(
        "ix_calls_active",
        "calls",
        ["began_us"],
        postgresql_where=sa.text("active"),
        sqlite_where=sa.text("active"),
    )
    op.create_table(
        "outbox",
        sa.Column("seq", _COUNTED, primary_key=True, autoincrement=True),
        sa.Column("topic", sa.String(200), nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("value", sa.Text, nullable=False),
        sqlite_autoincrement=True,
        comment="Events to publish; rows leave when Kafka has them.",
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("request_sha256", sa.String(64), nullable=False),
        sa.Column("response", sa.Text, nullable=False),
        sa.Column("made_us", sa.BigInteger, nullable=False),
        comment="Answers to requests that a client may repeat.",
    )
    op.create_index("ix_idempotency_keys_made_us", "idempotency_keys", ["made_us"])


def downgrade() -> None:
    for table in ("idempotency_keys", "outbox", "calls", "call_events"):
        op.drop_table(table)
