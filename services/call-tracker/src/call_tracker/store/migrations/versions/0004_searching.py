"""What calls are searched by: the numbers of each user, how long each call took to be answered, and the indexes.

Revision ID: 0004
Revises: 0003
"""

from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_AT_ONCE = 1000
_NEWEST_FIRST = ["began_us", "workflow_run_id"]
_BYTES = sa.String(200).with_variant(sa.VARCHAR(200, collation="C"), "postgresql")


class _Times(msgspec.Struct):
    requested_at: str | None = None
    answered_at: str | None = None


def upgrade() -> None:
    op.add_column("calls", sa.Column("answer_ms", sa.Integer))
    op.create_table(
        "call_numbers",
        sa.Column("user_id", sa.String(200), primary_key=True),
        sa.Column("number", _BYTES, primary_key=True),
        sa.Column("backwards", _BYTES, nullable=False),
        comment="The numbers that calls of a user came from or went to.",
    )
    op.create_index("ix_call_numbers_user_id_backwards", "call_numbers", ["user_id", "backwards", "number"])
    _fill()
    op.drop_index("ix_calls_user_id_began_us_workflow_run_id", "calls")
    op.drop_index("ix_calls_active", "calls")
    op.create_index(
        "ix_calls_newest",
        "calls",
        ["user_id", *_NEWEST_FIRST],
        postgresql_include=[
            "status", "active", "direction", "workflow_id", "provider", "end_reason", "from_number", "to_number",
            "answer_ms",
        ],
    )  # fmt: skip
    op.create_index(
        "ix_calls_live",
        "calls",
        ["user_id", *_NEWEST_FIRST],
        postgresql_where=sa.text("active"),
        sqlite_where=sa.text("active"),
    )
    for column in ("end_reason", "from_number", "to_number"):
        name = f"ix_calls_user_id_{column}_began_us_workflow_run_id"
        op.create_index(name, "calls", ["user_id", column, *_NEWEST_FIRST])


def downgrade() -> None:
    for column in ("end_reason", "from_number", "to_number"):
        op.drop_index(f"ix_calls_user_id_{column}_began_us_workflow_run_id", "calls")
    op.drop_index("ix_calls_live", "calls")
    op.drop_index("ix_calls_newest", "calls")
    op.create_index("ix_calls_user_id_began_us_workflow_run_id", "calls", ["user_id", *_NEWEST_FIRST])
    op.create_index(
        "ix_calls_active",
        "calls",
        ["began_us"],
        postgresql_where=sa.text("active"),
        sqlite_where=sa.text("active"),
    )
    op.drop_table("call_numbers")
    op.drop_column("calls", "answer_ms")


def _fill() -> None:
    """What new calls get when they are written."""
    connection = op.get_bind()
    read = sa.text(
        "SELECT workflow_run_id, user_id, from_number, to_number, record FROM calls WHERE workflow_run_id > :behind"
        " ORDER BY workflow_run_id LIMIT :limit"
    )
    number = sa.text(
        "INSERT INTO call_numbers (user_id, number, backwards) VALUES (:user_id, :number, :backwards)"
        " ON CONFLICT DO NOTHING"
    )
    answer = sa.text("UPDATE calls SET answer_ms = :answer_ms WHERE workflow_run_id = :run")
    behind = ""
    while rows := connection.execute(read, {"behind": behind, "limit": _AT_ONCE}).all():
        behind = rows[-1].workflow_run_id
        numbers: dict[tuple[str, str], dict[str, Any]] = {}
        answers: list[dict[str, Any]] = []
        for row in rows:
            for told in (row.from_number, row.to_number):
                if row.user_id is not None and told:
                    numbers[row.user_id, told] = {
                        "user_id": row.user_id,
                        "number": told,
                        "backwards": told[::-1],
                    }
            times = msgspec.json.decode(row.record, type=_Times)
            if times.requested_at and times.answered_at:
                took = datetime.fromisoformat(times.answered_at) - datetime.fromisoformat(times.requested_at)
                answers.append({"run": row.workflow_run_id, "answer_ms": int(took.total_seconds() * 1000)})
        if numbers:
            connection.execute(number, list(numbers.values()))
        if answers:
            connection.execute(answer, answers)
