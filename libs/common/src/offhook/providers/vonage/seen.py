"""A call of Vonage's Voice API, understood. https://developer.vonage.com/en/api/voice#getCall"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from offhook.events.calls import CallStatus
from offhook.providers.scalars import amount, any_time, bounded, whole_number
from offhook.providers.seen import Seen
from offhook.providers.vonage.numbers import to_e164
from offhook.providers.vonage.statuses import ANSWERED_BY, DIRECTIONS, PRICE_UNIT, status_of

# A call is in these states, where a webhook only tells them as news: who answered is known, so somebody has.
_ANSWERED: Final = frozenset({"machine", "human"})
# Asked for, a call is `rejected` without the detail its event had. Most often it is the callee who declined.
_LIKELIEST_DETAIL: Final = "declined"


def seen_of(fields: Mapping[str, Any]) -> Seen | None:
    """The call leg of an answer; None for what is none. Numbers may be text."""
    uuid = fields.get("uuid")
    if not isinstance(uuid, str) or not uuid:
        return None
    word, detail = _text(fields, "status")[:64], _text(fields, "detail")
    status = CallStatus.ANSWERED if word in _ANSWERED else status_of(word, detail or _LIKELIEST_DETAIL)
    ended_at, duration_s = any_time(_text(fields, "end_time")), whole_number(fields.get("duration"))
    answered_at = None
    if status is CallStatus.COMPLETED and ended_at is not None and duration_s is not None:
        answered_at = ended_at - timedelta(seconds=duration_s)
    price = amount(fields.get("price"))
    return Seen(
        provider_call_id=uuid[:128],
        conversation_id=_text(fields, "conversation_uuid") or None,
        from_number=_party(fields.get("from")),
        to_number=_party(fields.get("to")),
        direction=DIRECTIONS.get(_text(fields, "direction"), "outbound"),
        provider_status=word,
        status=status,
        began_at=any_time(_text(fields, "start_time")),
        answered_at=answered_at,
        ended_at=ended_at,
        duration_s=duration_s,
        price=price,
        price_unit=PRICE_UNIT if price is not None else None,
        answered_by=ANSWERED_BY.get(word),
        sip_code=whole_number(fields.get("sip_code")),
        detail=detail or None,
        raw=bounded((name, str(value)[:1000]) for name, value in fields.items() if _is_scalar(value)),
    )


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | int | float) and not (isinstance(value, int) and abs(value) > 10**18)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    return value[:256] if isinstance(value, str) else ""


def _party(value: Any) -> str:
    if isinstance(value, dict):
        return to_e164(_text(value, "number") or _text(value, "uri"))
    return to_e164(value[:256]) if isinstance(value, str) else ""
