"""Facts united, in any order. Pure."""

from collections.abc import Iterable
from typing import Final

from call_tracker.facts import EMPTY, Beginning, Facts, LegFacts, OrderedT, parse_leg_key
from call_tracker.observing import observe
from offhook.events import Event, EventData

LEG_LIMIT: Final = 16
"""Legs kept for one call; a call has one, anything beyond is somebody's mistake or malice."""

MEDIA_LIMIT: Final = 64
"""Media sessions kept for one call, the earliest first."""

FACT_LIMIT: Final = 64
"""Facts kept of what was told, and of what was told last: more than there are words for, so the rest are others' claims."""

RECORDING_LIMIT: Final = 8
"""Recordings kept of one call, the latest."""


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


def _bounded(part: dict[str, OrderedT], beginning: Beginning, limit: int) -> dict[str, OrderedT]:
    if len(part) <= limit:
        return part
    kept = sorted(part, key=lambda name: (not beginning.may_claim(name), part[name].order))[:limit]
    return {name: part[name] for name in kept}


def join(mine: Facts, theirs: Facts) -> Facts:
    """Both sets of facts as one. Commutative, associative and idempotent.

    A call with more than `LEG_LIMIT` legs, or more facts than there are words for, is the exception: what is certainly
    not the call's is forgotten first, so that a flood of foreign events can neither push the call's own facts out nor
    make the stored facts grow.
    """
    origins = _least(mine.origins, theirs.origins)
    beginning = Beginning.of(origins)
    legs = dict(mine.legs)
    for key, leg in theirs.legs.items():
        held = legs.get(key)
        legs[key] = leg if held is None else _join_legs(held, leg)
    if len(legs) > LEG_LIMIT:
        kept = sorted(legs, key=lambda key: (not beginning.owns(parse_leg_key(key)), legs[key].first()))[
            :LEG_LIMIT
        ]
        legs = {key: legs[key] for key in kept}
    recordings = _greatest(mine.recordings, theirs.recordings)
    if len(recordings) > RECORDING_LIMIT:
        newest = sorted(recordings, key=lambda key: (recordings[key].order, key))[-RECORDING_LIMIT:]
        recordings = {key: recordings[key] for key in newest}
    return Facts(
        origins,
        legs,
        _bounded(_least(mine.told, theirs.told), beginning, FACT_LIMIT),
        _bounded(_least(mine.media, theirs.media), beginning, MEDIA_LIMIT),
        _bounded(_greatest(mine.latest, theirs.latest), beginning, FACT_LIMIT),
        recordings,
    )


def gather(events: Iterable[Event[EventData]], facts: Facts = EMPTY) -> Facts:
    """`facts` and everything these events tell."""
    for event in events:
        told = observe(event)
        if told is not EMPTY:
            facts = join(facts, told)
    return facts
