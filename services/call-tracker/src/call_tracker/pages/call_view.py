"""What the page of one call shows, from its record and its events. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from call_tracker.pages.call_rows import provider_label, state_of
from call_tracker.pages.explanations import Explanation, explanation, sentence, sip_words
from call_tracker.pages.telling import WEBHOOK, Raw, Told, tell
from call_tracker.pages.timeline import Timeline, draw, spans_of
from call_tracker.pages.wording import count, duration, parsed, readable, since_ms
from call_tracker.store import StoredEvent
from call_tracker.webhook_log import Entry
from offhook.events import TERMINAL_STATUSES, CallStatus, MediaQuality
from offhook.records import CallState

_SAME_REQUEST: Final = frozenset({"call", "fallback"})


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of the call: what it is, how much, and a word about it."""

    name: str
    value: str
    about: str | None = None


@dataclass(frozen=True, slots=True)
class CallView:
    """All of a call's page but the recording. `kind` and `icon` are of the sentence on top."""

    record: CallState
    title: str
    state: str
    state_text: str
    live: bool
    sentence: str
    kind: str
    explanation: Explanation | None
    measures: tuple[Measure, ...]
    told: tuple[Told, ...]
    began: datetime | None
    timeline: Timeline | None
    quality: tuple[Measure, ...]
    provider: str
    metadata: str | None
    can_transfer: bool
    sip: str | None


def view(
    record: CallState, events: Sequence[StoredEvent], webhooks: Sequence[Entry], now: datetime
) -> CallView:
    live = record.status not in TERMINAL_STATUSES
    begins = parsed(record.requested_at)
    if live and begins is not None:
        now = _stepped(begins, now)
    raw = [_raw(event) for event in events]
    told = tell([*raw, *(_request(entry) for entry in webhooks if _adds(entry))], begins=begins)
    spans = spans_of(record, [(event.type, event.time, dict(event.data)) for event in raw])
    inbound = record.direction == "inbound"
    far = readable(record.from_number if inbound else record.to_number)
    state, text = state_of(record)
    said = None if live else explanation(record.end_reason, record.end_detail)
    return CallView(
        record=record,
        title=f"Call {'from' if inbound else 'to'} {far}",
        state=state,
        state_text=text,
        live=live,
        sentence=sentence(record, now),
        kind=said.kind if said else "talking" if record.status is CallStatus.ANSWERED else "waiting",
        explanation=said,
        measures=_measures(record, now),
        told=tuple(told),
        began=begins or (told[0].at if told else None),
        timeline=draw(record, told, spans, now),
        quality=_quality(raw),
        provider=provider_label(record.provider),
        metadata=json.dumps(record.metadata, indent=2, ensure_ascii=False) if record.metadata else None,
        can_transfer=record.status is CallStatus.ANSWERED and record.transfer != "requested",
        sip=None if record.sip_code is None else sip_words(record.sip_code),
    )


def _stepped(begins: datetime, now: datetime) -> datetime:
    """Now, in steps of a second, and of more for long calls: a page follows no faster than is seen."""
    step = max(timedelta(seconds=1), (now - begins) / 200)
    return begins + (now - begins) // step * step


def _raw(event: StoredEvent) -> Raw:
    data: Any = msgspec.json.decode(event.data)
    return Raw(event.id, event.type, event.source, event.time, data if isinstance(data, dict) else {})


def _adds(entry: Entry) -> bool:
    """Whether a request says more than the event that followed from it."""
    data = entry.data
    return not (data.verified and data.kind in _SAME_REQUEST and not data.repeated and data.reason is None)


def _request(entry: Entry) -> Raw:
    data = entry.data.model_dump(mode="json", exclude={"sealed_request"}) | {"href": f"/webhooks/{entry.id}"}
    return Raw(entry.id, WEBHOOK, "/webhook-gateway", entry.at, data)


def _measures(record: CallState, now: datetime) -> tuple[Measure, ...]:
    found: list[Measure] = []
    live = record.status not in TERMINAL_STATUSES
    ringing, answered = parsed(record.ringing_at), parsed(record.answered_at)
    if record.ring_ms is not None:
        found.append(Measure("Rang", duration(record.ring_ms)))
    elif live and ringing is not None and answered is None:
        found.append(Measure("Rings", duration(since_ms(ringing, now)), "so far"))
    if record.talk_ms is not None:
        found.append(Measure("Talked", duration(record.talk_ms)))
    elif live and answered is not None:
        found.append(Measure("Talks", duration(since_ms(answered, now)), "so far"))
    if record.duration_s is not None:
        found.append(Measure("Billed", f"{record.duration_s} s", f"by {provider_label(record.provider)}"))
    if record.price:
        cost = record.price.removeprefix("-")  # Twilio writes what was taken from the account
        found.append(Measure("Cost", f"{cost} {record.price_unit or ''}".strip()))
    if record.sip_code is not None:
        code, _, words = sip_words(record.sip_code).partition(" ")
        found.append(Measure("SIP", code, words.strip("()") or None))
    if record.answered_by:
        over = f" (greeting over: {record.message_end})" if record.message_end else ""
        found.append(Measure("Answered by", record.answered_by + over))
    if record.caller_audio_ms or record.agent_audio_ms:
        audio = f"agent {duration(record.agent_audio_ms)}"
        found.append(Measure("Caller's audio", duration(record.caller_audio_ms), audio))
    return tuple(found)


def _quality(raw: Sequence[Raw]) -> tuple[Measure, ...]:
    """How the audio was, over all sessions of the call."""
    stops = [event.data.get("quality") for event in raw if event.type == "offhook.media.stopped.v1"]
    sessions = [MediaQuality.model_validate(found) for found in stops if isinstance(found, dict)]
    if not sessions:
        return ()
    found: list[Measure] = []
    answers = [one.response_p50_ms for one in sessions if one.response_p50_ms is not None]
    if answers:
        longest = max(one.response_max_ms or 0 for one in sessions)
        middle = sorted(answers)[len(answers) // 2]
        found.append(
            Measure("Agent answers in", duration(middle), f"half of the times; {duration(longest)} at most")
        )
    connects = [
        float(event.data["connect_ms"])
        for event in raw
        if event.type == "offhook.agent.connected.v1" and "connect_ms" in event.data
    ]
    if connects:
        found.append(Measure("Agent connected in", f"{max(connects):.0f} ms"))
    held = max(one.held_p99_ms for one in sessions)
    middle_held = max(one.held_p50_ms for one in sessions)
    found.append(Measure("Held by Offhook", f"{middle_held:.0f} ms", f"{held:.0f} ms in 1 of 100 frames"))
    gaps, longest_gap = sum(one.gaps for one in sessions), max(one.longest_gap_ms for one in sessions)
    missing = f"the longest {duration(longest_gap)}" if gaps else "nothing was missing"
    found.append(Measure("From the carrier", count(gaps, "gap"), missing))
    underruns = sum(one.underruns for one in sessions)
    found.append(Measure("From the agent", count(underruns, "stall"), "while it spoke"))
    found.append(
        Measure("Interrupted", count(sum(one.interruptions for one in sessions), "time"), "by the caller")
    )
    active = (sum(one.caller_active_ms for one in sessions), sum(one.agent_active_ms for one in sessions))
    found.append(Measure("Spoke", duration(active[0]), f"the caller; the agent {duration(active[1])}"))
    return tuple(found)
