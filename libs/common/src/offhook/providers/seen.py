"""What a provider says of one call when it is asked, in neutral words, and the event that tells it."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from offhook.events.calls import TERMINAL_STATUSES, CallDirection, CallStatus, MessageEnd, StatusReported
from offhook.identities import derived_id

_NOT_YET: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as the provider holds it. Numbers are E.164 where they are numbers; for the other fields see
    `events.calls.StatusReported`.

    `parent_call_id` is set on the leg of a party that another call's instructions dialled. `answered_at` follows from the
    end and the duration: no provider says it. `raw` is what of the answer does not change by being asked again.
    """

    provider_call_id: str
    conversation_id: str | None
    from_number: str
    to_number: str
    direction: CallDirection
    provider_status: str
    status: CallStatus | None
    began_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    duration_s: int | None = None
    price: str | None = None
    price_unit: str | None = None
    answered_by: str | None = None
    message_end: MessageEnd | None = None
    sip_code: int | None = None
    detail: str | None = None
    parent_call_id: str | None = None
    raw: Mapping[str, str] = field(default_factory=dict)


def answered_at(
    status: CallStatus | None, began_at: datetime | None, ended_at: datetime | None, duration_s: int | None
) -> datetime | None:
    """When a call that is over was answered: the duration is billed from then on. It is rounded up, and the times are whole
    seconds, so a short call would seem to be answered before it began."""
    if status is not CallStatus.COMPLETED or ended_at is None or duration_s is None:
        return None
    try:
        answered = ended_at - timedelta(seconds=duration_s)
    except OverflowError:
        return None
    return answered if began_at is None else min(max(answered, began_at), ended_at)


def report(seen: Seen, *, workflow_run_id: str, provider: str, account: str) -> StatusReported:
    """The event that tells what was seen. `provider_time` is when the call came into the state it is in, if known."""
    moment = None
    if seen.status in TERMINAL_STATUSES:
        moment = seen.ended_at
    elif seen.status is CallStatus.ANSWERED:
        moment = seen.answered_at
    elif seen.status is CallStatus.INITIATED:
        moment = seen.began_at
    return StatusReported(
        workflow_run_id=workflow_run_id,
        provider=provider,
        account=account,
        provider_call_id=seen.provider_call_id,
        conversation_id=seen.conversation_id,
        status=seen.status,
        provider_status=seen.provider_status,
        direction=seen.direction,
        provider_time=moment,
        duration_s=seen.duration_s,
        sip_code=seen.sip_code,
        price=seen.price,
        price_unit=seen.price_unit,
        answered_by=seen.answered_by,
        message_end=seen.message_end,
        detail=seen.detail,
        reconciled=True,
        began_at=seen.began_at,
        answered_at=seen.answered_at,
        ended_at=seen.ended_at,
        raw=dict(seen.raw),
    )


def report_id(told: StatusReported) -> str:
    """The event id of `report`'s answer: the same answer of the provider, however often it is asked, is one event."""
    digest = hashlib.sha256(told.model_dump_json().encode()).hexdigest()
    return derived_id("seen", told.provider, told.account, told.provider_call_id, digest)


def newest_first(calls: Iterable[Seen]) -> list[Seen]:
    """Those whose beginning is not known are the newest: they wait or go on."""
    return sorted(calls, key=lambda seen: seen.began_at or _NOT_YET, reverse=True)
