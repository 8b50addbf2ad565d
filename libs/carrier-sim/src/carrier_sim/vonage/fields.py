"""How Vonage writes values in its requests."""

from datetime import UTC, datetime


def timestamp(when: datetime) -> str:
    """ISO 8601, UTC, milliseconds: `2026-01-01T12:00:00.000Z`."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
