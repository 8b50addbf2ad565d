"""Lenient readings of what providers put into fields: numbers as numbers or strings, two kinds of timestamps.

Every function answers None for what it cannot read; none raises.
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

_DIGITS: Final = 15
_RFC_2822: Final = re.compile(
    r"(?:[A-Za-z]{3}, ?)?(\d{1,2}) ([A-Za-z]{3}) (\d{4}) (\d{2}):(\d{2}):(\d{2}) ([+-])?(\d{4}|GMT|UTC|UT|Z)",
    re.ASCII,
)
_MONTHS: Final = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}
_AMOUNT: Final = re.compile(r"\d{1,15}(\.\d{1,15})?", re.ASCII)
_WHOLE_LIMIT: Final = 10**15
_LARGEST: Final = 10**18
_RAW_FIELDS: Final = 100
_RAW_LENGTH: Final = 1000


def whole_number(value: object) -> int | None:
    """A count from 0 to 10**15: `12`, `"12"`, `12.0`, `"12.0"`; parts of a unit are cut off."""
    if isinstance(value, str):
        if len(value) <= _DIGITS and value.isascii() and value.isdigit():
            return int(value)
        text = value.strip()
        if len(text) > 32 or not text.isascii():
            return None
        try:
            value = float(text)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return int(value) if 0 <= value < _WHOLE_LIMIT else None


def amount(value: object) -> str | None:
    """A price as decimal text without a sign, digits as they came: `"0.01"`, `0.01`, Twilio's `"-0.0085"`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if isinstance(value, float):
        value = f"{value:.8f}".rstrip("0").rstrip(".") if abs(value) < _WHOLE_LIMIT else ""
    text = str(value).strip().lstrip("+-") if isinstance(value, str) or abs(value) < _WHOLE_LIMIT else ""
    return text if _AMOUNT.fullmatch(text) else None


def rfc_2822_time(text: str) -> datetime | None:
    """`Sun, 25 Mar 2018 09:53:19 +0000` (Twilio call callbacks), as an aware time in UTC."""
    match = _RFC_2822.fullmatch(text.strip()[:64])
    if match is None:
        return None
    day, month, year, hour, minute, second, sign, zone = match.groups()
    offset = timedelta()
    if zone.isdigit():
        offset = timedelta(hours=int(zone[:2]), minutes=int(zone[2:]))
    try:
        return datetime(
            int(year), _MONTHS[month.lower()], int(day), int(hour), int(minute), min(int(second), 59),
            tzinfo=timezone(-offset if sign == "-" else offset),
        ).astimezone(UTC)  # fmt: skip
    except (KeyError, ValueError, OverflowError):
        return None


def iso_time(text: str) -> datetime | None:
    """`2026-01-01T12:00:00.000Z` (Vonage events, Twilio stream callbacks), in UTC; without a zone it is
    UTC."""
    try:
        time = datetime.fromisoformat(text.strip()[:64])
        return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def any_time(text: str | None) -> datetime | None:
    """Either kind of timestamp."""
    return (rfc_2822_time(text) or iso_time(text)) if text else None


def text(value: object, limit: int = 256) -> str:
    """The beginning of a text, '' for anything else. Half a character (JSON can escape one) becomes `?`."""
    return value[:limit].encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def scalar_text(value: object, limit: int = 1000) -> str | None:
    """A text or a number as text; None for anything else, and for a number of hundreds of digits."""
    if isinstance(value, str):
        return text(value, limit)
    if not isinstance(value, int | float) or abs(value) > _LARGEST:
        return None
    return str(value)


def bounded(fields: Iterable[tuple[str, str]]) -> dict[str, str]:
    """What an event keeps of a request: the first 100 fields, the first 1000 characters of each."""
    kept: dict[str, str] = {}
    for name, value in fields:
        if len(kept) == _RAW_FIELDS:
            break
        kept[name[:_RAW_LENGTH]] = value[:_RAW_LENGTH]
    return kept
