"""The life of a call: which states there are, what makes it move, and what the record says at any moment.

Theory of operation
===================

**States.** ``initiated → ringing → answered → completed``; a call can also end ``busy``, ``no-answer``,
``failed`` or ``canceled``. `TRANSITIONS` below is the whole machine: what may follow what. A record's list of
statuses is always a path of that table and always starts with ``initiated``.

**Why not simply apply events as they come.** Callbacks arrive twice, late, in another order, or not at all:
Twilio promises no order of arrival and numbers only the events that were subscribed; Vonage has nothing but a
timestamp. A machine that applies what comes first ends in a state that depends on the network's mood. So this
module never applies an event to a state. It works in two steps:

1. *Facts.* `observing.observe` turns an event into the facts it tells. Facts of a call are kept per question ("when was
   it answered", "what did it cost"); where several events answer the same question, the earliest counts, by
   one canonical order (`Order`): the provider's sequence number, the provider's clock, our clock, the event's
   id. `joining.join` unites two sets of facts. It is commutative, associative and idempotent (a join-semilattice), so
   whatever order, repetition or grouping the events came in, the same set of facts remains.
2. *Record.* `project` computes the visible record from the facts, and from nothing else.

**What follows from it**

* *Never backwards.* Facts are only added; the furthest state told is the state shown.
* *The end absorbs.* Once an end is known the call has ended, whatever comes. A status that the provider's own
  order places after the end is recorded in the log and not applied. A status that merely *arrives* after the
  end, but happened before it, fills its place in the list: that is the reordering we undo.
* *Two ends.* The provider's earliest end counts. One exception: a call that was answered has not been busy,
  unanswered or canceled, if a ``completed`` or ``failed`` is told as well (`DOUBTFUL`). If the provider knows
  a call whose dialling we reported as failed, the provider's end counts.
* *Missing events.* A state implies those before it (`IMPLIES`); audio that flowed implies that the call was
  answered.
* *Whose event is it.* A call has one phone leg: provider, account and the provider's call id, as told by what
  began the call. Facts about any other leg are kept apart and never shown: a foreign account, another call of
  the same account. Vonage's WebSocket leg (``leg="media"``) tells no facts about the call. What
  the gateway and the bridge tell because a webhook named the run (instructions, audio, transfers) counts only if that
  webhook was the call's own account's: anybody can name a run. While the
  beginning is not known (lost or late), the record is provisional: it shows the leg that spoke first.
* *Words we do not know* (``status=None``) move nothing.
* *Asked instead of told.* When a call is silent for too long its provider is asked (`silence`), and the answer is a
  report like any other (``reconciled``), kept beside what was told. Callbacks go first where both answer a question, answers
  fill what no callback told: so the record is the same whether a callback came, came late, or was replaced by an answer.
  If the provider knows no such call, it has ended ``failed``, ``lost``; any end of the provider's own goes before that.

No I/O, no clock, no randomness here. Times are microseconds since 1970 UTC inside, ISO 8601 in the record.
"""

from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from call_tracker.causes import (
    CLOCK_SLACK_US,
    DETAILED,
    DIAL_CANCELED,
    DIAL_FAILED,
    LOST_AT_CARRIER,
    LOST_BEFORE,
    Ending,
    cause,
)
from call_tracker.facts import (
    ORIGINATE_FAILED,
    TRANSFER_ENDED,
    TRANSFER_OVER,
    TRANSFER_REQUESTED,
    Beginning,
    Detail,
    Facts,
    LegFacts,
    Order,
    Origin,
    iso,
    lost,
    own,
    parse_leg_key,
)
from offhook.events import TERMINAL_STATUSES, CallStatus, Party
from offhook.records import CallState

TRANSITIONS: Final[Mapping[CallStatus, frozenset[CallStatus]]] = {
    CallStatus.INITIATED: frozenset(
        {CallStatus.RINGING, CallStatus.BUSY, CallStatus.FAILED, CallStatus.CANCELED}
    ),
    CallStatus.RINGING: frozenset({CallStatus.ANSWERED, *TERMINAL_STATUSES} - {CallStatus.COMPLETED}),
    CallStatus.ANSWERED: TERMINAL_STATUSES,
    CallStatus.COMPLETED: frozenset(),
    CallStatus.BUSY: frozenset(),
    CallStatus.NO_ANSWER: frozenset(),
    CallStatus.FAILED: frozenset(),
    CallStatus.CANCELED: frozenset(),
}
"""What may follow what. Terminal states are followed by nothing."""

DOUBTFUL: Final[frozenset[tuple[CallStatus, CallStatus]]] = frozenset(
    {
        (CallStatus.ANSWERED, CallStatus.BUSY),
        (CallStatus.ANSWERED, CallStatus.NO_ANSWER),
        (CallStatus.ANSWERED, CallStatus.CANCELED),
    }
)
"""Transitions that contradict themselves: taken only when no other end is told."""

IMPLIES: Final[Mapping[CallStatus, tuple[CallStatus, ...]]] = {
    CallStatus.ANSWERED: (CallStatus.RINGING,),
    CallStatus.COMPLETED: (CallStatus.RINGING, CallStatus.ANSWERED),
    CallStatus.NO_ANSWER: (CallStatus.RINGING,),
}
"""Which states a state proves, even if nobody told them."""


class _End(NamedTuple):
    status: CallStatus
    order: Order
    how: Literal["told", "seen", "not-dialled", "lost"] = "told"


def _contradicts(status: Order, end: _End) -> bool:
    """Whether the provider's own order places a status after the end. Incomparable: it was before."""
    if not status.unsequenced and not end.order.unsequenced:
        return status.sequence > end.order.sequence
    if not status.untimed and not end.order.untimed:
        # What was looked up is known to the second only.
        slack = CLOCK_SLACK_US if end.how == "seen" else 0
        return status.provider_us > end.order.provider_us + slack
    return False


def _by_source(leg: LegFacts) -> Iterator[tuple[Literal["told", "seen"], Mapping[str, Detail]]]:
    yield "told", leg.statuses
    yield "seen", leg.seen_statuses


def _choose_end(leg: LegFacts, facts: Facts, media: Order | None) -> _End | None:
    answered = leg.together().statuses.get(CallStatus.ANSWERED)

    def preference(end: _End) -> tuple[bool, bool, Order]:
        was_answered = media is not None or (answered is not None and not _contradicts(answered.order, end))
        doubtful = was_answered and (CallStatus.ANSWERED, end.status) in DOUBTFUL
        return doubtful, end.how == "seen", end.order

    ends = [
        _End(CallStatus(word), detail.order, how)
        for how, statuses in _by_source(leg)
        for word, detail in statuses.items()
        if word in TERMINAL_STATUSES
    ]
    if ends:
        return min(ends, key=preference)
    # Ends that no provider told.
    if (refused := facts.told.get(ORIGINATE_FAILED)) is not None:
        status = CallStatus.CANCELED if refused.value == DIAL_CANCELED else CallStatus.FAILED
        return _End(status, refused.order, "not-dialled")
    if (given_up := lost(facts)) is not None:
        return _End(CallStatus.FAILED, given_up.order, "lost")
    return None


def origin_of(facts: Facts) -> Origin | None:
    """What began the call: a request or an arrival; None while that is not known."""
    return Beginning.of(facts.origins).origin


def phone_leg(facts: Facts) -> LegFacts:
    """What the provider told of the call's own leg; empty while it has told nothing."""
    key = _phone_leg_key(facts)
    return LegFacts() if key is None else facts.legs[key]


def _phone_leg_key(facts: Facts) -> str | None:
    beginning = Beginning.of(facts.origins)
    own = [key for key in facts.legs if beginning.owns(parse_leg_key(key))]
    return min(own, key=lambda key: facts.legs[key].first(), default=None)


def project(workflow_run_id: str, facts: Facts) -> CallState:
    """The record of the call, from its facts alone."""
    facts = own(facts)
    beginning = Beginning.of(facts.origins)
    key = _phone_leg_key(facts)
    leg = LegFacts() if key is None else facts.legs[key]
    leg_id = None if key is None else parse_leg_key(key)

    known = leg.together()
    media = next(
        (facts.told[name].order for name in ("media-started", "media-implied") if name in facts.told), None
    )
    end = _choose_end(leg, facts, media)

    reached: dict[CallStatus, Order | None] = {}
    for status in (CallStatus.RINGING, CallStatus.ANSWERED):
        detail = known.statuses.get(status)
        if detail is not None and (end is None or not _contradicts(detail.order, end)):
            reached[status] = detail.order
    if media is not None:
        reached.setdefault(CallStatus.ANSWERED, media)
    if end is not None:
        reached[end.status] = end.order
    for status in tuple(reached):
        for implied in IMPLIES.get(status, ()):
            reached.setdefault(implied, None)
    path = [CallStatus.INITIATED]
    path += [status for status in (CallStatus.RINGING, CallStatus.ANSWERED) if status in reached]
    if end is not None:
        path.append(end.status)

    origin = beginning.origin
    direction = (
        beginning.known()[0].direction if beginning.known() else _text_of(_answer(known, "direction", None))
    )
    began = origin.order.told_us if origin is not None else None
    # Clocks differ and Twilio's has whole seconds: no state is shown earlier than the one before it.
    times: dict[CallStatus, int] = {}
    latest = began or 0
    for status in path[1:]:
        order = reached[status]
        if order is not None:
            times[status] = latest = max(latest, order.happened_us)
    ringing, answered = times.get(CallStatus.RINGING), times.get(CallStatus.ANSWERED)
    ended = times[end.status] if end is not None else None
    # When a call ended that was lost, or whose provider tells no times afterwards, is not known: only since when it is known.
    exact = end is not None and end.how != "lost" and not (end.how == "seen" and end.order.untimed)
    rang_until = answered if CallStatus.ANSWERED in reached else ended if exact else None

    end_status = end.status if end is not None else None
    talk_ms = None if answered is None or ended is None or not exact else (ended - answered) // 1000
    duration_s = _number_of(_answer(known, "duration_s", end_status))
    end_reason: str | None = None
    ended_by: Party | None = None
    if end is not None:
        talk_s: float | None = duration_s
        if talk_s is None and talk_ms is not None:
            talk_s = talk_ms / 1000
        limit = origin.time_limit_s if origin else None
        ending = Ending(end.status, end.order, end.how == "seen", talk_s, limit)
        named = beginning.provider_call_id is not None or key is not None
        end_reason, ended_by = _why(end, ending, known, facts, direction, named=named)
    price, _, price_unit = str(_answer(known, "price", end_status) or "").partition(" ")
    return CallState.model_validate(
        {
            "workflow_run_id": workflow_run_id,
            "workflow_id": origin.workflow_id if origin else None,
            "user_id": origin.user_id if origin else None,
            "configuration_id": next((part.configuration_id for part in beginning.known()), None),
            "provider": beginning.provider or (leg_id.provider if leg_id else None),
            "provider_call_id": beginning.provider_call_id or (leg_id.provider_call_id if leg_id else None),
            "direction": direction,
            "from_number": origin.from_number if origin else None,
            "to_number": origin.to_number if origin else None,
            "status": path[-1],
            "statuses": tuple(path),
            "end_reason": end_reason,
            "ended_by": ended_by,
            "end_detail": _detail_of(end_reason, facts),
            "requested_at": None if began is None else iso(began),
            "ringing_at": None if ringing is None else iso(ringing),
            "answered_at": None if answered is None else iso(answered),
            "ended_at": None if ended is None else iso(ended),
            "duration_s": duration_s,
            "ring_ms": None if ringing is None or rang_until is None else (rang_until - ringing) // 1000,
            "talk_ms": talk_ms,
            "sip_code": _answer(known, "sip_code", end_status),
            "price": price or None,
            "price_unit": price_unit or None,
            "answered_by": _answer(known, "answered_by", end_status),
            "message_end": _answer(known, "message_end", end_status),
            "reconciled": end is not None and end.how in ("seen", "lost"),
            "transfer": _transfer(facts),
            "transfer_of": origin.transfer_of if origin else None,
            "recording": _recording(facts),
            "caller_audio_ms": sum(session.caller_audio_ms for session in facts.media.values()),
            "agent_audio_ms": sum(session.agent_audio_ms for session in facts.media.values()),
            "metadata": origin.metadata if origin else {},
        }
    )


def _why(
    end: _End, ending: Ending, leg: LegFacts, facts: Facts, direction: str | None, *, named: bool
) -> tuple[str, Party | None]:
    if end.how == "not-dialled" and end.status is CallStatus.FAILED:
        return DIAL_FAILED
    if end.how == "lost":
        return LOST_AT_CARRIER if named else LOST_BEFORE
    return cause(ending, leg, facts, direction)


def _detail_of(end_reason: str | None, facts: Facts) -> str | None:
    told = facts.told.get(DETAILED.get(end_reason or "", ""))
    return None if told is None else str(told.value) or None


def _transfer(facts: Facts) -> str | None:
    asked, ended = facts.latest.get(TRANSFER_REQUESTED), facts.latest.get(TRANSFER_ENDED)
    if ended is not None and (asked is None or asked.order < ended.order or _is_its_end(facts, asked)):
        return str(ended.value)
    return None if asked is None else "requested"


def _is_its_end(facts: Facts, asked: Detail) -> bool:
    """Whether what ended last is what was asked for last: the clocks of who asks and who answers differ."""
    over = facts.latest.get(TRANSFER_OVER)
    return over is not None and over.value == asked.value != ""


def _recording(facts: Facts) -> dict[str, object] | None:
    kept = {key: recording for key, recording in facts.recordings.items() if recording.kept}
    if not kept:
        return None
    key = max(kept, key=lambda name: (kept[name].order, name))
    newest = kept[key]
    return {
        "key": key,
        "duration_ms": newest.duration_ms,
        "size_bytes": newest.size_bytes,
        "gaps_ms": newest.gaps_ms,
        "delete_after": newest.delete_after,
    }


def _number_of(value: str | int | None) -> int | None:
    return value if isinstance(value, int) else None


def _text_of(value: str | int | None) -> str | None:
    return None if value is None else str(value)


def _answer(leg: LegFacts, field: str, status: CallStatus | None) -> str | int | None:
    """What the leg's provider said about `field`: with the status that counts, else first of all."""
    if status is not None and (told := leg.details.get(f"{status}/{field}")) is not None:
        return told.value
    others = [detail for name, detail in leg.details.items() if name.endswith(f"/{field}")]
    return min(others, key=lambda detail: detail.order).value if others else None
