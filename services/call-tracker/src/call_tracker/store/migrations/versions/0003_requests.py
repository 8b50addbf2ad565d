"""The webhook log and the dead letters.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("provider", sa.String(40), nullable=False),
        sa.Column("account", sa.String(200)),
        sa.Column("workflow_run_id", sa.String(64)),
        sa.Column("verified", sa.Boolean, nullable=False),
        sa.Column("reason", sa.String(60)),
        sa.Column("replay_of", sa.String(200)),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("sealed", sa.Text),
        sa.Column("replay_us", sa.BigInteger),
        sa.Column("replay_by", sa.String(64)),
        comment="What providers sent, as the gateway tells it; `sealed` is the request of those that were refused.",
    )
    op.create_index("ix_webhooks_at_us_id", "webhooks", ["at_us", "id"])
    op.create_index("ix_webhooks_account_at_us_id", "webhooks", ["account", "at_us", "id"])
    op.create_index("ix_webhooks_verified_at_us_id", "webhooks", ["verified", "at_us", "id"])
    op.create_index("ix_webhooks_workflow_run_id", "webhooks", ["workflow_run_id"])
    op.create_index("ix_webhooks_replay_of", "webhooks", ["replay_of"])
    op.create_table(
        "dead_letters",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("topic", sa.String(200), nullable=False),
        sa.Column("partition", sa.Integer, nullable=False),
        sa.Column("offset", sa.BigInteger, nullable=False),
        sa.Column("recorded_us", sa.BigInteger),
        sa.Column("consumer", sa.String(200), nullable=False),
        sa.Column("service", sa.String(200), nullable=False),
        sa.Column("reason", sa.String(1000), nullable=False),
        sa.Column("event_type", sa.String(200)),
        sa.Column("workflow_run_id", sa.String(64)),
        sa.Column("account", sa.String(200)),
        sa.Column("key", sa.LargeBinary),
        sa.Column("value", sa.LargeBinary),
        sa.Column("value_bytes", sa.Integer, nullable=False),
        sa.Column("headers", sa.Text, nullable=False),
        sa.Column("whole", sa.Boolean, nullable=False),
        sa.Column("replay_of", sa.String(64)),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("replay_us", sa.BigInteger),
        sa.Column("replay_by", sa.String(64)),
        comment="Records that no consumer could handle, as they were, and whether they were sent again.",
    )
    op.create_index("ix_dead_letters_at_us_id", "dead_letters", ["at_us", "id"])
    op.create_index("ix_dead_letters_workflow_run_id", "dead_letters", ["workflow_run_id"])
    op.create_index("ix_dead_letters_state_at_us", "dead_letters", ["state", "at_us"])


def downgrade() -> None:
    op.drop_table("dead_letters")
    op.drop_table("webhooks")
