"""Twilio's Call resource, understood. https://www.twilio.com/docs/voice/api/call-resource#call-properties"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from offhook.events.calls import CallStatus
from offhook.providers.scalars import amount, any_time, bounded, whole_number
from offhook.providers.seen import Seen
from offhook.providers.twilio.statuses import ANSWERED_BY, CALL_STATUSES, DIRECTIONS

PLACED: Final = "outbound-api"
# They change without anything having happened to the call, or say nothing about it.
_NOT_KEPT: Final = frozenset({"date_updated", "uri", "api_version", "annotation"})


def seen_of(fields: Mapping[str, Any]) -> Seen | None:
    """The call of an answer; None for what is none. All numbers in it are text."""
    sid = fields.get("sid")
    if not isinstance(sid, str) or not sid:
        return None
    word = _text(fields, "status")[:64]
    status = CALL_STATUSES.get(word)
    created, started = any_time(_text(fields, "date_created")), any_time(_text(fields, "start_time"))
    ended_at, duration_s = any_time(_text(fields, "end_time")), whole_number(fields.get("duration"))
    answered_at = None
    if status is CallStatus.COMPLETED and ended_at is not None and duration_s is not None:
        # `start_time` is when the call was dialled or when it was answered, by how it went; this is always the answer.
        answered_at = ended_at - timedelta(seconds=duration_s)
    answered_by = _text(fields, "answered_by")
    price = amount(fields.get("price"))
    return Seen(
        provider_call_id=sid[:128],
        conversation_id=None,
        from_number=_text(fields, "from"),
        to_number=_text(fields, "to"),
        direction=DIRECTIONS.get(_text(fields, "direction"), "outbound"),
        provider_status=word,
        status=status,
        began_at=min((time for time in (created, started) if time is not None), default=None),
        answered_at=answered_at,
        ended_at=ended_at,
        duration_s=duration_s,
        price=price,
        price_unit=_text(fields, "price_unit")[:8] or None if price is not None else None,
        answered_by=ANSWERED_BY.get(answered_by, "unknown") if answered_by else None,
        parent_call_id=_text(fields, "parent_call_sid") or None,
        raw=bounded((name, _raw(value)) for name, value in fields.items() if _is_kept(name, value)),
    )


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value[:256] if isinstance(value, str) else ""


def _is_kept(name: str, value: Any) -> bool:
    return name not in _NOT_KEPT and isinstance(value, str | int | float)


def _raw(value: str | int | float) -> str:
    return value if isinstance(value, str) else str(value)[:64]
