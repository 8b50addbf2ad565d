"""Times and numbers as people read them. Pure."""

from datetime import UTC, datetime

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat


def duration(ms: float) -> str:
    """`0.4 s`, `12 s`, `3 min 05 s`, `2 h 07 min`. Negative times are none."""
    if ms < 9950:
        return f"{max(ms, 0) / 1000:.1f} s"
    seconds = round(ms / 1000)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock(ms: float) -> str:
    """A time since the beginning: `0:07`, `12:30`, `1:02:30`."""
    seconds = round(ms / 1000)
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours}:{minutes:02d}:{seconds % 60:02d}" if hours else f"{minutes}:{seconds % 60:02d}"


def readable(number: str | None) -> str:
    """A number in international format: `+1 415-555-1234`. What is no number comes back as it is; none is "unknown"."""
    if not number:
        return "unknown"
    try:
        parsed = phonenumbers.parse(number if number.startswith("+") else f"+{number}", None)
    except NumberParseException:
        return number
    return phonenumbers.format_number(parsed, PhoneNumberFormat.INTERNATIONAL)


def since_ms(begins: datetime, at: datetime) -> float:
    """ms from one moment to another."""
    return (at - begins).total_seconds() * 1000


def parsed(at: str | None) -> datetime | None:
    """A time of a record, in UTC."""
    return None if at is None else datetime.fromisoformat(at).astimezone(UTC)


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 call`, `2 calls`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def offset(at: datetime, begins: datetime | None) -> str:
    """When something happened, counted from the beginning: `+0.42 s`, `+1:05`."""
    if begins is None:
        return at.strftime("%H:%M:%S")
    ms = since_ms(begins, at)
    return f"{ms / 1000:+.2f} s" if abs(ms) < 60_000 else f"+{clock(ms)}" if ms > 0 else f"-{clock(-ms)}"
