"""Dialling rules and limits of a configuration, and what looking up a call needs. See `number_sync.schema`."""

revision = "0003"
down_revision: str | None = "0002"


def upgrade() -> None:
    pass


def downgrade() -> None:
    pass
