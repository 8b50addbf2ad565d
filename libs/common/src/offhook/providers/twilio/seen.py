"""Twilio's Call resource, understood. https://www.twilio.com/docs/voice/api/call-resource#call-properties"""

from collections.abc import Mapping
from typing import Any, Final

from offhook.providers.scalars import amount, any_time, bounded, scalar_text, text, whole_number
from offhook.providers.seen import Seen, answered_at
from offhook.providers.twilio.statuses import ANSWERED_BY, CALL_STATUSES, DIRECTIONS, MESSAGE_ENDS

PLACED: Final = "outbound-api"
# They change without anything having happened to the call, or say nothing about it.
_NOT_KEPT: Final = frozenset({"date_updated", "uri", "api_version", "annotation"})


def seen_of(fields: Mapping[str, Any]) -> Seen | None:
    """The call of an answer; None for what is none. All numbers in it are text."""
    sid = text(fields.get("sid"), 128)
    if not sid:
        return None
    word = _text(fields, "status")[:64]
    status = CALL_STATUSES.get(word)
    created, started = any_time(_text(fields, "date_created")), any_time(_text(fields, "start_time"))
    ended_at, duration_s = any_time(_text(fields, "end_time")), whole_number(fields.get("duration"))
    answered_by = _text(fields, "answered_by")
    began_at = min((time for time in (created, started) if time is not None), default=None)
    price = amount(fields.get("price"))
    return Seen(
        provider_call_id=sid,
        conversation_id=None,
        from_number=_text(fields, "from"),
        to_number=_text(fields, "to"),
        direction=DIRECTIONS.get(_text(fields, "direction"), "outbound"),
        provider_status=word,
        status=status,
        began_at=began_at,
        # `start_time` is when the call was dialled or when it was answered, by how it went.
        answered_at=answered_at(status, began_at, ended_at, duration_s),
        ended_at=ended_at,
        duration_s=duration_s,
        price=price,
        price_unit=_text(fields, "price_unit")[:8] or None if price is not None else None,
        answered_by=ANSWERED_BY.get(answered_by, "unknown") if answered_by else None,
        message_end=MESSAGE_ENDS.get(answered_by),
        parent_call_id=_text(fields, "parent_call_sid") or None,
        raw=_raw(fields),
    )


def _raw(fields: Mapping[str, Any]) -> dict[str, str]:
    told = ((text(name), scalar_text(value)) for name, value in fields.items() if name not in _NOT_KEPT)
    return bounded((name, value) for name, value in told if value is not None)


def _text(fields: Mapping[str, Any], name: str) -> str:
    return text(fields.get(name))
