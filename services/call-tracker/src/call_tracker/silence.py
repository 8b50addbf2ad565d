"""How long a call may be silent before its provider is asked what became of it. Pure.

Callbacks get lost: then a call would live for ever, and hold its place. So each moment of a call's life (`Stage`) allows so
much silence (`SILENCE_S`); when it is over, the provider is asked, and its answer is an event like any other. A question that
nobody answers is asked again, ever more rarely; when for longer than any call lasts nobody has been able to say anything, the
call is given up as lost.

After the end there may be something left to learn: a provider that tells the cost only afterwards, or a callback that never
came although the last one did. Then it is asked at the times of `AFTERWARDS_S`, as long as something is missing.

All durations are multiplied by `factor`, which is 1 but in tests and demos.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from call_tracker.facts import (
    MEDIA_STARTED,
    ORIGINATE_FAILED,
    Facts,
    Origin,
    asked_to_end,
    begun_us,
    lost,
    own,
)
from call_tracker.lifecycle import origin_of, phone_leg
from offhook.events import TERMINAL_STATUSES, CallStatus
from offhook.records import CallState

Reason = Literal["silence", "start", "cost"]


class Stage(StrEnum):
    """Where a call is, as far as silence means something there."""

    INITIATED = "initiated"
    RINGING = "ringing"
    WITHOUT_AUDIO = "answered, without audio so far"
    TALKING = "answered, with audio"
    AFTER_AUDIO = "answered, the audio has ended"
    TRANSFERRED = "answered, being or having been put through to somebody else"
    ENDING = "somebody asked for the end"
    DOUBTED = "given up, and yet the provider speaks of it"


SILENCE_S: Final[dict[Stage, float]] = {
    Stage.INITIATED: 60,
    Stage.RINGING: 30,
    Stage.WITHOUT_AUDIO: 120,
    # The bridge sees the caller go; this is for when the bridge has gone as well.
    Stage.TALKING: 900,
    Stage.AFTER_AUDIO: 60,
    Stage.TRANSFERRED: 300,
    Stage.ENDING: 30,
    Stage.DOUBTED: 60,
}
"""Seconds. While it is not answered, a call may be silent for its ring timeout on top."""

RING_TIMEOUT_S: Final = 60
"""For calls that nobody gave one: inbound ones."""

LIMIT_SLACK_S: Final = 30
"""A call with a time limit should have ended so long after it."""

LONGEST_PAUSE_S: Final = 1800
"""Questions that are not answered are repeated at least so often; each pause is twice the one before."""

AFTERWARDS_S: Final = (60, 600, 3600, 6 * 3600, 24 * 3600)
"""Seconds after the end at which a call is asked for what is missing, its cost above all."""

GIVE_UP_S: Final = 25 * 3600
"""No provider lets a call last longer than 24 hours."""

GIVE_UP_LOOKS: Final = 5
"""So many questions in a row must have stayed without an answer before a call is given up."""


@dataclass(frozen=True, slots=True)
class Patience:
    """The rules, with their `factor`."""

    factor: float = 1.0

    def next_look_us(self, record: CallState, facts: Facts, now_us: int, looks: int = 0) -> int | None:
        """When to ask next, if nothing new is heard until then; None: there is nothing to ask.

        `looks`: how often it has been asked since something was heard. Times in µs since 1970.
        """
        stage = stage_of(record, facts)
        if stage is None:
            return self._afterwards_us(record, facts, now_us)
        if stage is Stage.DOUBTED and self._is_enough(begun_us(facts), now_us, looks):
            return None
        pause_s = silence_s(stage, origin_of(facts))
        longest_s = max(pause_s, LONGEST_PAUSE_S)
        return now_us + self._us(min(pause_s * 2 ** min(looks, 16), longest_s))

    def has_given_up(self, record: CallState, began_us: int, now_us: int, looks: int) -> bool:
        """Whether a live call should be called lost."""
        return record.status not in TERMINAL_STATUSES and self._is_enough(began_us, now_us, looks)

    def _is_enough(self, began_us: int, now_us: int, looks: int) -> bool:
        return looks >= GIVE_UP_LOOKS and now_us - began_us > self._us(GIVE_UP_S)

    def start_us(self, now_us: int) -> int:
        """When, after the start of a process, calls that live are asked for: what was told meanwhile is read first."""
        return now_us + self._us(15)

    def _afterwards_us(self, record: CallState, facts: Facts, now_us: int) -> int | None:
        ended_us = end_us(facts, record)
        if ended_us is None or not lacks_something(record, facts):
            return None
        times = (ended_us + self._us(seconds) for seconds in AFTERWARDS_S)
        return next((time for time in times if time > now_us), None)

    def _us(self, seconds: float) -> int:
        return int(seconds * self.factor * 1_000_000)


def stage_of(record: CallState, facts: Facts) -> Stage | None:
    """The stage of a call that may still move; None after its end."""
    facts = own(facts)
    if record.status in TERMINAL_STATUSES:
        return Stage.DOUBTED if _is_doubted(record, facts) else None
    if asked_to_end(facts):
        return Stage.ENDING
    if record.status is CallStatus.RINGING:
        return Stage.RINGING
    if record.status is not CallStatus.ANSWERED:
        return Stage.INITIATED
    started = facts.latest.get(MEDIA_STARTED)
    stopped = max((session.order for session in facts.media.values()), default=None)
    if started is not None and (stopped is None or started.order > stopped):
        return Stage.TALKING
    if record.transfer in ("requested", "completed"):
        return Stage.TRANSFERRED
    return Stage.WITHOUT_AUDIO if stopped is None else Stage.AFTER_AUDIO


def silence_s(stage: Stage, origin: Origin | None) -> float:
    """The silence allowed in a stage, for a call with these timeouts."""
    allowed = SILENCE_S[stage]
    if stage in (Stage.INITIATED, Stage.RINGING):
        asked = None if origin is None else origin.ring_timeout_s
        return allowed + (RING_TIMEOUT_S if asked is None else asked)
    limit = None if origin is None else origin.time_limit_s
    if limit is not None and stage in (Stage.TALKING, Stage.TRANSFERRED):
        return min(allowed, limit + LIMIT_SLACK_S)
    return allowed


def lacks_something(record: CallState, facts: Facts) -> bool:
    """Whether the provider of an ended call knows more than the record: its cost, how long it was, when it was answered."""
    if CallStatus.ANSWERED not in record.statuses or record.configuration_id is None:
        return False
    answered = CallStatus.ANSWERED in phone_leg(facts).together().statuses
    return record.price is None or record.duration_s is None or not answered


def end_us(facts: Facts, record: CallState) -> int | None:
    """When its provider says that a call ended; None when that is not known."""
    told = phone_leg(facts).together().statuses.get(record.status)
    return None if told is None else told.order.happened_us


def _is_doubted(record: CallState, facts: Facts) -> bool:
    if record.end_reason not in ("dial-failed", "lost"):
        return False
    ends = (facts.told.get(ORIGINATE_FAILED), lost(facts))
    given_up = min((end.order.told_us for end in ends if end is not None), default=0)
    leg = phone_leg(facts)
    parts = (leg.statuses, leg.details, leg.seen_statuses, leg.seen_details)
    return any(detail.order.told_us > given_up for part in parts for detail in part.values())


__all__ = [
    "AFTERWARDS_S",
    "GIVE_UP_LOOKS",
    "GIVE_UP_S",
    "SILENCE_S",
    "Patience",
    "Reason",
    "Stage",
    "lacks_something",
    "silence_s",
    "stage_of",
]
