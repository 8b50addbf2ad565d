"""The facts that one event tells. Pure."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from call_tracker.facts import (
    EMPTY,
    EPOCH,
    HANGUP,
    HANGUP_FAILED,
    HANGUP_OBEYED,
    LOST,
    MEDIA_STARTED,
    OBSERVED,
    ORIGINATE_FAILED,
    TRANSFER_ENDED,
    TRANSFER_OVER,
    TRANSFER_REQUESTED,
    Detail,
    Facts,
    LegFacts,
    LegId,
    MediaSession,
    Order,
    Origin,
    Recording,
    claimed,
    iso,
    leg_key,
)
from offhook.events import (
    TERMINAL_STATUSES,
    CallObserved,
    CallOriginated,
    CallReceived,
    CallRequested,
    CallStatus,
    CommandFailed,
    Event,
    EventData,
    HangupRequested,
    InstructionsServed,
    MediaStarted,
    MediaStopped,
    RecordingDeleted,
    RecordingStored,
    StatusReported,
    TransferEnded,
    TransferRequested,
)
from offhook.identities import transfer_id

AGENT_UNREACHABLE: Final = "agent-unreachable"
"""The bridge's word in `MediaStopped` when it has given up finding an agent."""

HANG_UP_ORDERED: Final = "hang-up-ordered"
"""The bridge's word in `MediaStopped` when it has ended the stream because the provider did not end the call."""

NO_AGENT: Final = "no-agent"
"""The gateway's word in `InstructionsServed` when it then served the fallback."""

NOT_REFUSED: Final = frozenset(
    {"ended", "call-over", "foreign-call", "foreign-tenant", "transferred", "consultation-over"}
)
"""The gateway's words for hang-ups that end nothing: the call had been ended or put through, or the request was another's."""

KEY_LIMIT: Final = 500
GAP_LIMIT: Final = 100
"""Characters of a recording's name; gaps kept of one recording."""

TEXT_LIMIT: Final = 200
"""Characters kept of a text that came from outside (the log holds it whole)."""

# A provider's clock that is further ahead of ours is none: a call would seem to last for thousands of years.
_AHEAD_US: Final = timedelta(days=1) // timedelta(microseconds=1)
_LAST_US: Final = (datetime(9999, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
_MAX_INT: Final = 2**53


def observe(event: Event[EventData]) -> Facts:
    """The facts one event tells; none (`Facts()`) for events that say nothing about the record."""
    data = event.data
    rule = _OBSERVERS.get(type(data))
    if rule is None:
        return EMPTY
    told = rule(event, data)
    if told is EMPTY or not isinstance(data, CLAIMS) or data.provider is None or data.account is None:
        return told
    return claimed(told, _text(data.provider), _text(data.account))


def _micros(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - EPOCH) // timedelta(microseconds=1), 0), _LAST_US)


def _text(value: str) -> str:
    # Databases refuse NUL in a text, and a record is shown to people.
    return "".join(c if c.isprintable() else "�" for c in value[:TEXT_LIMIT])


def _count(value: int | None) -> int | None:
    return value if value is not None and 0 <= value <= _MAX_INT else None


def _order(event: Event[EventData]) -> Order:
    return Order(True, 0, True, 0, _micros(event.time), event.id)


def _status_order(event: Event[EventData], data: StatusReported) -> Order:
    sequence = _count(data.sequence)
    told_us = _micros(event.time)
    provider_us = None if data.provider_time is None else _micros(data.provider_time)
    if provider_us is not None and provider_us > told_us + _AHEAD_US:
        provider_us = None
    return Order(sequence is None, sequence or 0, provider_us is None, provider_us or 0, told_us, event.id)


_UNSAID: Final = LegFacts()


def _observe_requested(event: Event[EventData], data: CallRequested) -> Facts:
    origin = Origin(
        order=_order(event),
        provider=_text(data.provider),
        configuration_id=_text(data.configuration_id),
        account=None if data.account is None else _text(data.account),
        provider_call_id=None,
        direction="outbound",
        workflow_id=_text(data.workflow_id),
        user_id=_text(data.user_id),
        from_number=_text(data.from_number),
        to_number=_text(data.to_number),
        metadata=data.metadata,
        ring_timeout_s=_count(data.ring_timeout_s),
        time_limit_s=_count(data.time_limit_s),
        transfer_of=None if data.transfer_of is None else _text(data.transfer_of),
    )
    return Facts(origins={"requested": origin})


def _observe_received(event: Event[EventData], data: CallReceived) -> Facts:
    origin = Origin(
        order=_order(event),
        provider=_text(data.provider),
        configuration_id=_text(data.configuration_id),
        account=_text(data.account),
        provider_call_id=_text(data.provider_call_id),
        direction="inbound",
        workflow_id=None if data.workflow_id is None else _text(data.workflow_id),
        user_id=_text(data.user_id),
        from_number=_text(data.from_number),
        to_number=_text(data.to_number),
    )
    return Facts(origins={"received": origin})


def _observe_originated(event: Event[EventData], data: CallOriginated) -> Facts:
    origin = Origin(
        order=_order(event),
        provider=_text(data.provider),
        configuration_id=_text(data.configuration_id),
        account=_text(data.account),
        provider_call_id=_text(data.provider_call_id),
        direction="outbound",
    )
    return Facts(origins={"originated": origin})


def _observe_status(event: Event[EventData], data: StatusReported) -> Facts:
    if data.leg != "phone":
        return EMPTY
    order = _status_order(event, data)
    word = data.status.value if data.status is not None else ""
    answers: dict[str, str | int | None] = {
        "direction": data.direction,
        "duration_s": _count(data.duration_s),
        "sip_code": _count(data.sip_code),
        "price": None if data.price is None else _text(f"{data.price} {data.price_unit or ''}").rstrip(),
        "answered_by": None if data.answered_by is None else _text(data.answered_by),
        "message_end": data.message_end,
        "detail": None if data.detail is None else _text(data.detail),
        "ended_by": data.ended_by.value if data.ended_by is not None else None,
        "provider_status": _text(data.provider_status) if data.status in TERMINAL_STATUSES else None,
    }
    told = {f"{word}/{field}": Detail(order, value) for field, value in answers.items() if value is not None}
    statuses = {word: Detail(order)} if word else {}
    leg = _seen(data, order, statuses, told) if data.reconciled else LegFacts(statuses, told)
    if leg == _UNSAID:
        return EMPTY
    key = leg_key(LegId(_text(data.provider), _text(data.account), _text(data.provider_call_id)))
    return Facts(legs={key: leg})


def _seen(
    data: StatusReported, order: Order, statuses: dict[str, Detail], told: dict[str, Detail]
) -> LegFacts:
    if data.status not in TERMINAL_STATUSES:
        # What a call that goes on has cost and lasted so far is no answer to what it did in the end.
        passing = (f"{data.status or ''}/duration_s", f"{data.status or ''}/price")
        told = {name: detail for name, detail in told.items() if name not in passing}
    answered_us = None if data.answered_at is None else _micros(data.answered_at)
    possible = answered_us is not None and answered_us <= order.told_us + _AHEAD_US
    if possible and data.status is not CallStatus.ANSWERED:
        answered = msgspec.structs.replace(order, untimed=False, provider_us=answered_us)
        statuses = {CallStatus.ANSWERED.value: Detail(answered), **statuses}
    return LegFacts(seen_statuses=statuses, seen_details=told)


def _observe_media_started(event: Event[EventData], data: MediaStarted) -> Facts:
    started = {MEDIA_STARTED: Detail(_order(event))}
    return Facts(told=started, latest=started)


def _observe_media_stopped(event: Event[EventData], data: MediaStopped) -> Facts:
    order = _order(event)
    begun = msgspec.structs.replace(order, told_us=max(order.told_us - max(data.duration_ms, 0) * 1000, 0))
    session = MediaSession(
        order,
        _count(data.epoch) or 0,
        _count(data.quality.caller_audio_ms) or 0,
        _count(data.quality.agent_audio_ms) or 0,
        data.ended_by,
    )
    told = {"media-implied": Detail(begun)}
    if data.reason == AGENT_UNREACHABLE:
        told["agent-unreachable"] = Detail(order)
    if data.reason == HANG_UP_ORDERED:
        told[HANGUP_OBEYED] = Detail(order)
    # By the event, of which each session has one: all streams of a Vonage call have the name of its leg.
    return Facts(told=told, media={_text(event.id): session})


def _observe_instructions(event: Event[EventData], data: InstructionsServed) -> Facts:
    reason = data.reason or ""
    if data.kind == "connect" or reason in NOT_REFUSED:
        return EMPTY
    name = "agent-unreachable" if reason == NO_AGENT else "refused"
    return Facts(told={name: Detail(_order(event), _text(reason))})


def _observe_hangup_requested(event: Event[EventData], data: HangupRequested) -> Facts:
    asked = {f"{HANGUP}{data.requested_by}": Detail(_order(event), _text(data.reason))}
    return Facts(told=asked, latest=asked)


def _observe_command_failed(event: Event[EventData], data: CommandFailed) -> Facts:
    if data.final and data.command == "originate":
        return Facts(told={ORIGINATE_FAILED: Detail(_order(event), _text(data.code))})
    if data.final and data.command == "transfer":
        result = "unsupported" if data.code == "unsupported" else "failed"
        return _transfer_over(event, result, transfer_id(data.command_id))
    if data.final and data.command == "hangup":
        failed = {HANGUP_FAILED: Detail(_order(event), _text(data.code))}
        return Facts(told=failed, latest=failed)
    return EMPTY  # a look-up that failed leaves the call as it was


def _observe_observed(event: Event[EventData], data: CallObserved) -> Facts:
    if data.found:  # what was found is told beside it
        return Facts(latest={OBSERVED: Detail(_order(event))})
    return Facts(told={f"{LOST}/{_text(data.account)}": Detail(_order(event), _text(data.reason))})


def _observe_transfer_requested(event: Event[EventData], data: TransferRequested) -> Facts:
    return Facts(latest={TRANSFER_REQUESTED: Detail(_order(event), _text(data.transfer_id or ""))})


def _observe_transfer_ended(event: Event[EventData], data: TransferEnded) -> Facts:
    return _transfer_over(event, data.result, data.transfer_id or "")


def _transfer_over(event: Event[EventData], result: str, which: str) -> Facts:
    order = _order(event)
    return Facts(latest={TRANSFER_ENDED: Detail(order, result), TRANSFER_OVER: Detail(order, _text(which))})


def _observe_recording_stored(event: Event[EventData], data: RecordingStored) -> Facts:
    if len(data.key) > KEY_LIMIT or not data.key.isprintable():
        return EMPTY  # a shortened name would be another file's
    recording = Recording(
        _order(event),
        _count(data.duration_ms) or 0,
        _count(data.size_bytes) or 0,
        tuple((max(begin, 0), max(end, 0)) for begin, end in data.gaps_ms[:GAP_LIMIT]),
        None if data.delete_after is None else iso(_micros(data.delete_after)),
    )
    return Facts(recordings={data.key: recording})


def _observe_recording_deleted(event: Event[EventData], data: RecordingDeleted) -> Facts:
    if len(data.key) > KEY_LIMIT or not data.key.isprintable():
        return EMPTY
    return Facts(recordings={data.key: Recording(_order(event), kept=False)})


_OBSERVERS: Final[Mapping[type[EventData], Callable[[Event[EventData], Any], Facts]]] = {
    CallRequested: _observe_requested,
    CallReceived: _observe_received,
    CallOriginated: _observe_originated,
    StatusReported: _observe_status,
    MediaStarted: _observe_media_started,
    MediaStopped: _observe_media_stopped,
    InstructionsServed: _observe_instructions,
    HangupRequested: _observe_hangup_requested,
    CommandFailed: _observe_command_failed,
    CallObserved: _observe_observed,
    TransferRequested: _observe_transfer_requested,
    TransferEnded: _observe_transfer_ended,
    RecordingStored: _observe_recording_stored,
    RecordingDeleted: _observe_recording_deleted,
}

CLAIMS: Final = (
    CommandFailed,
    HangupRequested,
    InstructionsServed,
    MediaStarted,
    MediaStopped,
    TransferEnded,
    TransferRequested,
)
"""What anybody's verified webhook can cause, for any run it names: it counts if the call is of that account."""
