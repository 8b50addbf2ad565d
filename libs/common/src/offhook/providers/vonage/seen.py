"""A call of Vonage's Voice API, understood. https://developer.vonage.com/en/api/voice#getCall"""

from collections.abc import Mapping
from typing import Any, Final

from offhook.events.calls import CallStatus
from offhook.providers.scalars import amount, any_time, bounded, scalar_text, text, whole_number
from offhook.providers.seen import Seen, answered_at
from offhook.providers.vonage.numbers import to_e164
from offhook.providers.vonage.statuses import ANSWERED_BY, DIRECTIONS, PRICE_UNIT, status_of

# A call is in these states, where a webhook only tells them as news: who answered is known, so somebody has.
_ANSWERED: Final = frozenset({"machine", "human"})


def seen_of(fields: Mapping[str, Any]) -> Seen | None:
    """The call leg of an answer; None for what is none. Numbers may be text."""
    uuid = text(fields.get("uuid"), 128)
    if not uuid:
        return None
    word, detail = _text(fields, "status")[:64], _text(fields, "detail")
    status = CallStatus.ANSWERED if word in _ANSWERED else status_of(word, detail)
    ended_at, duration_s = any_time(_text(fields, "end_time")), whole_number(fields.get("duration"))
    began_at = any_time(_text(fields, "start_time"))
    price = amount(fields.get("price"))
    return Seen(
        provider_call_id=uuid,
        conversation_id=_text(fields, "conversation_uuid") or None,
        from_number=_party(fields.get("from")),
        to_number=_party(fields.get("to")),
        direction=DIRECTIONS.get(_text(fields, "direction"), "outbound"),
        provider_status=word,
        status=status,
        began_at=began_at,
        answered_at=answered_at(status, began_at, ended_at, duration_s),
        ended_at=ended_at,
        duration_s=duration_s,
        price=price,
        price_unit=PRICE_UNIT if price is not None else None,
        answered_by=ANSWERED_BY.get(word),
        sip_code=whole_number(fields.get("sip_code")),
        detail=detail or None,
        raw=_raw(fields),
    )


def _raw(fields: Mapping[str, Any]) -> dict[str, str]:
    told = ((text(name), scalar_text(value)) for name, value in fields.items())
    return bounded((name, value) for name, value in told if value is not None)


def _text(fields: Mapping[str, Any], name: str) -> str:
    return text(fields.get(name))


def _party(value: Any) -> str:
    if isinstance(value, dict):
        return to_e164(_text(value, "number") or _text(value, "uri"))
    return to_e164(text(value))
