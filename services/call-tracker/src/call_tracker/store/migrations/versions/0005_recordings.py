"""Recordings.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "recordings",
        sa.Column("workflow_run_id", sa.String(64), primary_key=True),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("key", sa.String(300), nullable=False),
        sa.Column("began_us", sa.BigInteger, nullable=False),
        sa.Column("touched_us", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("leased_until_us", sa.BigInteger, nullable=False),
        comment="Recordings: open (audio comes), stored (the file is there), deleted. See call_tracker.recording.",
    )
    op.create_index("ix_recordings_state_touched_us", "recordings", ["state", "touched_us"])
    op.create_index("ix_recordings_state_began_us", "recordings", ["state", "began_us"])
    op.create_table(
        "recording_pieces",
        sa.Column("workflow_run_id", sa.String(64), primary_key=True),
        sa.Column("started_us", sa.BigInteger, primary_key=True),
        sa.Column("epoch", sa.Integer, primary_key=True),
        sa.Column("stream_id", sa.String(200), primary_key=True),
        sa.Column("piece", sa.Integer, primary_key=True),
        sa.Column("offset_ms", sa.Integer, nullable=False),
        sa.Column("duration_ms", sa.Integer, nullable=False),
        sa.Column("encoding", sa.String(10), nullable=False),
        sa.Column("sample_rate", sa.Integer, nullable=False),
        sa.Column("last", sa.Boolean, nullable=False),
        sa.Column("segment", sa.String(100), nullable=False),
        sa.Column("at", sa.Integer, nullable=False),
        comment="Where each second of a recording that is not settled yet lies: in which segment, at which byte.",
    )
    op.create_index("ix_recording_pieces_segment", "recording_pieces", ["segment"])


def downgrade() -> None:
    op.drop_table("recording_pieces")
    op.drop_table("recordings")
