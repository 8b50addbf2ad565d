"""What is known of a call, as a join-semilattice: events tell facts, facts unite in any order.

See `lifecycle` for the theory.

Pure: no I/O, no clock, no randomness. Times are microseconds since 1970 UTC.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from offhook.events import (
    TERMINAL_STATUSES,
    CallDirection,
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
    Party,
    RecordingDeleted,
    RecordingStored,
    StatusReported,
    TransferEnded,
    TransferRequested,
)

LEG_LIMIT: Final = 16
"""Legs kept for one call; a call has one, anything beyond is somebody's mistake or malice."""

MEDIA_LIMIT: Final = 64
"""Media sessions kept for one call, the earliest first."""

AGENT_UNREACHABLE: Final = "agent-unreachable"
"""The bridge's word in `MediaStopped` when it has given up finding an agent."""

NO_AGENT: Final = "no-agent"
"""The gateway's word in `InstructionsServed` when it then served the fallback."""

NOT_REFUSED: Final = frozenset(
    {"ended", "call-over", "foreign-call", "foreign-tenant", "transferred", "consultation-over"}
)
"""The gateway's words for hang-ups that end nothing: the call had been ended or put through, or the request was another's."""

ORIGINATE_FAILED: Final = "originate-failed"
"""Told: the provider did not accept the call."""

LOST: Final = "lost"
"""Told: the provider was asked and knows no such call; `lost/` and the account that was asked, '' when nobody could be."""

TRANSFER_REQUESTED: Final = "transfer-requested"
TRANSFER_ENDED: Final = "transfer-ended"
"""Latest: somebody wants the far end put through; what became of it (`TransferResult`)."""

MEDIA_STARTED: Final = "media-started"
"""Told: when audio flowed first. Latest: when it began to flow the last time."""

OBSERVED: Final = "observed"
"""Latest: when the provider last said something of the call because it was asked."""

RECORDING_LIMIT: Final = 8
"""Recordings kept of one call, the latest."""

KEY_LIMIT: Final = 500
GAP_LIMIT: Final = 100
"""Characters of a recording's name; gaps kept of one recording."""

TEXT_LIMIT: Final = 200
"""Characters kept of a text that came from outside (the log holds it whole)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A provider's clock that is further ahead of ours is none: a call would seem to last for thousands of years.
_AHEAD_US: Final = timedelta(days=1) // timedelta(microseconds=1)
_LAST_US: Final = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_MAX_INT: Final = 2**53


class Order(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Where a fact stands among those that answer the same question; the least counts, field by field."""

    unsequenced: bool
    sequence: int
    untimed: bool
    provider_us: int
    told_us: int
    event_id: str

    @property
    def happened_us(self) -> int:
        """When it happened: by the provider's clock if it told, else when we were told."""
        return self.told_us if self.untimed else self.provider_us


class Detail(msgspec.Struct, frozen=True, array_like=True):
    """One answer to one question."""

    order: Order
    value: str | int = ""


class Origin(msgspec.Struct, frozen=True, array_like=True):
    """What began the call, as one event told it."""

    order: Order
    provider: str
    configuration_id: str
    account: str | None
    provider_call_id: str | None
    direction: CallDirection
    workflow_id: str | None = None
    user_id: str | None = None
    from_number: str | None = None
    to_number: str | None = None
    metadata: dict[str, Any] = {}
    ring_timeout_s: int | None = None
    time_limit_s: int | None = None
    transfer_of: str | None = None


class MediaSession(msgspec.Struct, frozen=True, array_like=True):
    """One audio session with the bridge, as it reported at its end."""

    order: Order
    epoch: int
    caller_audio_ms: int
    agent_audio_ms: int
    ended_by: Party


class Recording(msgspec.Struct, frozen=True, array_like=True):
    """A recording as the recorder told it last; `kept` is False when it was deleted."""

    order: Order
    duration_ms: int = 0
    size_bytes: int = 0
    gaps_ms: tuple[tuple[int, int], ...] = ()
    delete_after: str | None = None
    kept: bool = True


class LegId(NamedTuple):
    """Which leg a provider speaks of."""

    provider: str
    account: str
    provider_call_id: str


class LegFacts(msgspec.Struct, frozen=True, array_like=True):
    """What one leg's provider told. `details` are keyed `status/field`; without status: `/field`.

    `seen_statuses` and `seen_details` are what it answered when it was asked (`reconciled`). They fill what no callback told,
    so that it does not matter for the record whether a callback came or was replaced.
    """

    statuses: dict[str, Detail] = {}
    details: dict[str, Detail] = {}
    seen_statuses: dict[str, Detail] = {}
    seen_details: dict[str, Detail] = {}

    def first(self) -> Order:
        parts = (self.statuses, self.details, self.seen_statuses, self.seen_details)
        return min(detail.order for part in parts for detail in part.values())

    def together(self) -> "LegFacts":
        """All of it as if it had been told; where both know, what was told counts."""
        return LegFacts({**self.seen_statuses, **self.statuses}, {**self.seen_details, **self.details})


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """Everything told about one call: values of a join-semilattice (`join`), `Facts()` at the bottom.

    Of several answers to one question the earliest counts; of `latest` and `recordings`, which may change, the latest.
    """

    origins: dict[str, Origin] = {}
    legs: dict[str, LegFacts] = {}
    told: dict[str, Detail] = {}
    media: dict[str, MediaSession] = {}
    latest: dict[str, Detail] = {}
    recordings: dict[str, Recording] = {}


_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder(Facts)


def encode(facts: Facts) -> str:
    """The stored form: equal facts have equal texts."""
    return _encoder.encode(facts).decode()


def decode(text: str) -> Facts:
    """Read `encode`'s text back."""
    return _decoder.decode(text)


def _micros(moment: datetime) -> int:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - _EPOCH) // timedelta(microseconds=1), 0), _LAST_US)


def iso(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="milliseconds")


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


def leg_key(leg: LegId) -> str:
    return "\n".join(leg)


def parse_leg_key(key: str) -> LegId:
    provider, account, call_id = key.split("\n", 2)
    return LegId(provider, account, call_id)


class Beginning(NamedTuple):
    """What is known of the call's beginning; None is unknown."""

    origin: Origin | None  # who asked for it or took it
    dialled: Origin | None  # the provider's acceptance

    @classmethod
    def of(cls, origins: Mapping[str, Origin]) -> "Beginning":
        first = [origins[kind] for kind in ("requested", "received") if kind in origins]
        return cls(min(first, key=lambda origin: origin.order, default=None), origins.get("originated"))

    def known(self) -> list[Origin]:
        return [part for part in self if part is not None]

    @property
    def provider(self) -> str | None:
        return next((part.provider for part in self.known()), None)

    @property
    def account(self) -> str | None:
        return next((part.account for part in self.known() if part.account is not None), None)

    @property
    def provider_call_id(self) -> str | None:
        return next(
            (part.provider_call_id for part in self.known() if part.provider_call_id is not None), None
        )

    def owns(self, leg: LegId) -> bool:
        """Whether `leg` may be the call's phone leg, by all that is known."""
        known = (self.provider, self.account, self.provider_call_id)
        return all(mine is None or mine == theirs for mine, theirs in zip(known, leg, strict=True))


def observe(event: Event[EventData]) -> Facts:
    """The facts one event tells; none (`Facts()`) for events that say nothing about the record."""
    data = event.data
    rule = _OBSERVERS.get(type(data))
    return EMPTY if rule is None else rule(event, data)


_UNSAID: Final = LegFacts()
EMPTY: Final = Facts()
"""No facts: what an event tells that says nothing about the record."""


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
        workflow_id=_text(data.workflow_id),
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
    return Facts(told=told, media={_text(data.stream_id): session})


def _observe_instructions(event: Event[EventData], data: InstructionsServed) -> Facts:
    reason = data.reason or ""
    if data.kind == "connect" or reason in NOT_REFUSED:
        return EMPTY
    name = "agent-unreachable" if reason == NO_AGENT else "refused"
    return Facts(told={name: Detail(_order(event), _text(reason))})


def _observe_hangup_requested(event: Event[EventData], data: HangupRequested) -> Facts:
    return Facts(told={f"hangup/{data.requested_by}": Detail(_order(event), _text(data.reason))})


def _observe_command_failed(event: Event[EventData], data: CommandFailed) -> Facts:
    if data.final and data.command == "originate":
        return Facts(told={ORIGINATE_FAILED: Detail(_order(event), _text(data.code))})
    if data.final and data.command == "transfer":
        result = "unsupported" if data.code == "unsupported" else "failed"
        return Facts(latest={TRANSFER_ENDED: Detail(_order(event), result)})
    return EMPTY  # a hang-up or a look-up that failed leaves the call as it was


def _observe_observed(event: Event[EventData], data: CallObserved) -> Facts:
    if data.found:  # what was found is told beside it
        return Facts(latest={OBSERVED: Detail(_order(event))})
    return Facts(told={f"{LOST}/{_text(data.account)}": Detail(_order(event), _text(data.reason))})


def _observe_transfer_requested(event: Event[EventData], data: TransferRequested) -> Facts:
    return Facts(latest={TRANSFER_REQUESTED: Detail(_order(event), data.mode)})


def _observe_transfer_ended(event: Event[EventData], data: TransferEnded) -> Facts:
    return Facts(latest={TRANSFER_ENDED: Detail(_order(event), data.result)})


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


class _Ordered(Protocol):
    @property
    def order(self) -> Order: ...


OrderedT = TypeVar("OrderedT", bound=_Ordered)


def _least(mine: dict[str, OrderedT], theirs: dict[str, OrderedT]) -> dict[str, OrderedT]:
    if not theirs:
        return mine
    merged = dict(mine)
    for key, candidate in theirs.items():
        held = merged.get(key)
        if held is None or candidate.order < held.order:
            merged[key] = candidate
    return merged


def _greatest(mine: dict[str, OrderedT], theirs: dict[str, OrderedT]) -> dict[str, OrderedT]:
    if not theirs:
        return mine
    merged = dict(mine)
    for key, candidate in theirs.items():
        held = merged.get(key)
        if held is None or candidate.order > held.order:
            merged[key] = candidate
    return merged


def _join_legs(mine: LegFacts, theirs: LegFacts) -> LegFacts:
    return LegFacts(
        _least(mine.statuses, theirs.statuses),
        _least(mine.details, theirs.details),
        _least(mine.seen_statuses, theirs.seen_statuses),
        _least(mine.seen_details, theirs.seen_details),
    )


def join(mine: Facts, theirs: Facts) -> Facts:
    """Both sets of facts as one. Commutative, associative and idempotent.

    A call with more than `LEG_LIMIT` legs is the exception: those that are certainly not the call's are
    forgotten first, so that a flood of foreign events can neither push the call's own facts out nor make the
    stored facts grow.
    """
    origins = _least(mine.origins, theirs.origins)
    legs = dict(mine.legs)
    for key, leg in theirs.legs.items():
        held = legs.get(key)
        legs[key] = leg if held is None else _join_legs(held, leg)
    if len(legs) > LEG_LIMIT:
        beginning = Beginning.of(origins)
        kept = sorted(legs, key=lambda key: (not beginning.owns(parse_leg_key(key)), legs[key].first()))[
            :LEG_LIMIT
        ]
        legs = {key: legs[key] for key in kept}
    media = _least(mine.media, theirs.media)
    if len(media) > MEDIA_LIMIT:
        first = sorted(media, key=lambda key: media[key].order)[:MEDIA_LIMIT]
        media = {key: media[key] for key in first}
    recordings = _greatest(mine.recordings, theirs.recordings)
    if len(recordings) > RECORDING_LIMIT:
        newest = sorted(recordings, key=lambda key: (recordings[key].order, key))[-RECORDING_LIMIT:]
        recordings = {key: recordings[key] for key in newest}
    return Facts(
        origins,
        legs,
        _least(mine.told, theirs.told),
        media,
        _greatest(mine.latest, theirs.latest),
        recordings,
    )


def gather(events: Iterable[Event[EventData]], facts: Facts = EMPTY) -> Facts:
    """`facts` and everything these events tell."""
    for event in events:
        told = observe(event)
        if told is not EMPTY:
            facts = join(facts, told)
    return facts


def lost(facts: Facts) -> Detail | None:
    """When the call was first told to be lost. That another account knows nothing of it says nothing: a configuration's
    credentials may have been exchanged for another's while the call lives."""
    account = Beginning.of(facts.origins).account
    told = [
        detail
        for name, detail in facts.told.items()
        if name.startswith(f"{LOST}/") and (account is None or name.removeprefix(f"{LOST}/") in ("", account))
    ]
    return min(told, key=lambda detail: detail.order, default=None)


def begun_us(facts: Facts) -> int:
    """When the call began, for sorting: its beginning if known, else the first thing told. µs since 1970."""
    origin, dialled = Beginning.of(facts.origins)
    if origin is not None:
        return origin.order.told_us
    parts = [detail.order.told_us for detail in facts.told.values()]
    parts += [detail.order.told_us for detail in facts.latest.values()]
    parts += [recording.order.told_us for recording in facts.recordings.values()]
    parts += [session.order.told_us for session in facts.media.values()]
    parts += [leg.first().told_us for leg in facts.legs.values()]
    if dialled is not None:
        parts.append(dialled.order.told_us)
    return min(parts, default=0)
