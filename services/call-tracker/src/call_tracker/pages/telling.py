"""What each event of a call says to people: on which lane it belongs, when it happened, in which words. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from call_tracker.pages.wording import count, duration, readable

LaneName = Literal["carrier", "webhooks", "media", "agent"]
Tone = Literal["plain", "good", "bad", "waiting", "strange"]

_ALMOST_A_SECOND: Final = timedelta(milliseconds=999)
_PREFIX: Final = "offhook."
_STATUS_WORDS: Final = {
    "initiated": "Initiated",
    "ringing": "Ringing",
    "answered": "Answered",
    "completed": "Completed",
    "busy": "Busy",
    "no-answer": "No answer",
    "failed": "Failed",
    "canceled": "Given up",
}
_BAD_STATUSES: Final = frozenset({"busy", "no-answer", "failed"})
_COMMANDS: Final = {
    "originate": "Dialling",
    "hangup": "Hanging up",
    "observe": "Looking up",
    "transfer": "Transferring",
    "dtmf": "Sending digits",
}


@dataclass(frozen=True, slots=True)
class Raw:
    """An event, or a webhook, as it was told. `time` is ours."""

    id: str
    type: str
    source: str
    time: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Told:
    """What people are told of one event. `number` counts from 1 in the order of happening; `at` is when it happened, and
    `heard_at` when we were told, where the two differ by the provider's clock. `href` leads to more."""

    number: int
    id: str
    lane: LaneName
    at: datetime
    heard_at: datetime
    title: str
    detail: str | None
    tone: Tone
    reconciled: bool
    source: str
    type: str
    raw: str
    href: str | None = None


def tell(events: Iterable[Raw], *, begins: datetime | None) -> list[Told]:
    """All events in the order of happening. Nothing happened before `begins`, whatever a provider's clock says."""
    found = []
    for event in events:
        lane, title, detail, tone = _words(event)
        at = _happened(event)
        if begins is not None and at < begins:
            at = min(event.time, begins) if event.time < begins else begins
        found.append((at, event, lane, title, detail, tone))
    found.sort(key=lambda one: one[0])
    return [
        Told(
            number=number,
            id=event.id,
            lane=lane,
            at=at,
            heard_at=event.time,
            title=title,
            detail=detail,
            tone=tone,
            reconciled=bool(event.data.get("reconciled")),
            source=event.source,
            type=event.type,
            raw=json.dumps(event.data, indent=2, ensure_ascii=False),
            href=event.data.get("href") if event.type == WEBHOOK else None,
        )
        for number, (at, event, lane, title, detail, tone) in enumerate(found, 1)
    ]


WEBHOOK: Final = "webhook"
"""The type of a request of the webhook log; it is no event."""


def _happened(event: Raw) -> datetime:
    said = event.data.get("provider_time")
    if isinstance(said, str):
        try:
            moment = datetime.fromisoformat(said)
            moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            return event.time
        if not moment.microsecond:
            # A clock of whole seconds (Twilio's) means any time within this one: that which is nearest to our hearing.
            moment += _ALMOST_A_SECOND
        # A report may be late; nothing is told before it happened.
        return min(moment, event.time)
    return event.time


def _words(event: Raw) -> tuple[LaneName, str, str | None, Tone]:
    kind = event.type.removeprefix(_PREFIX).rpartition(".v")[0] or event.type
    data = event.data
    told = _WORDS.get(kind)
    if told is not None:
        return told(data)
    lane: LaneName = (
        "media"
        if kind.startswith(("media", "recording"))
        else "agent"
        if kind.startswith("agent")
        else "carrier"
    )
    return lane, kind.rpartition(".")[2].replace("-", " ").capitalize(), None, "plain"


Words = tuple[LaneName, str, str | None, Tone]
Data = Mapping[str, Any]


def _requested(data: Data) -> Words:
    to = readable(data.get("to_number"))
    return "carrier", "Call requested", f"From {readable(data.get('from_number'))} to {to}.", "plain"


def _received(data: Data) -> Words:
    to = readable(data.get("to_number"))
    return "carrier", "Call received", f"From {readable(data.get('from_number'))} to {to}.", "plain"


def _originated(data: Data) -> Words:
    return (
        "carrier",
        "Accepted by the provider",
        f"It calls the call {data.get('provider_call_id')}.",
        "plain",
    )


def _status(data: Data) -> Words:
    lane: LaneName = "media" if data.get("leg") == "media" else "carrier"
    word = str(data.get("provider_status") or "")
    status = data.get("status")
    more: list[str] = []
    if data.get("reconciled"):
        more.append("Learned by asking the provider.")
    if data.get("detail"):
        more.append(f"The provider says: {data['detail']}.")
    if data.get("sip_code"):
        more.append(f"SIP {data['sip_code']}.")
    if data.get("duration_s") is not None and status in ("completed", "failed"):
        more.append(f"Billed {data['duration_s']} s.")
    if data.get("price"):
        more.append(f"Cost {data['price']} {data.get('price_unit') or ''}".rstrip() + ".")
    if lane == "media":
        return lane, f"Audio leg: {word}", " ".join(more) or None, "plain"
    if status is None:
        if data.get("answered_by"):
            more.insert(0, f"Answered by: {data['answered_by']}.")
            return lane, "Who answered", " ".join(more), "plain"
        if data.get("price") and data.get("reconciled"):
            return lane, "Cost reported", " ".join(more), "plain"
        more.insert(0, "A word that moves no call: it is kept and shown.")
        return lane, f"Provider said “{word}”", " ".join(more), "strange"
    title = _STATUS_WORDS.get(status, str(status))
    if word and word.replace("_", "-").lower() not in (status, "in-progress"):
        more.append(f"In the provider's words: “{word}”.")
    tone: Tone = "good" if status == "answered" else "bad" if status in _BAD_STATUSES else "plain"
    return lane, title, " ".join(more) or None, tone


def _served(data: Data) -> Words:
    took = f"In {float(data.get('elapsed_ms') or 0):.0f} ms."
    reason = f" Reason: {data['reason']}." if data.get("reason") else ""
    match data.get("kind"):
        case "connect":
            return "webhooks", "Told to connect the audio", took + reason, "plain"
        case "refuse":
            return "webhooks", "Refused", took + reason, "bad"
        case "hangup":
            return "webhooks", "Told to hang up", took + reason, "plain"
        case other:
            return "webhooks", f"Instructions: {other}", took + reason, "plain"


def _webhook(data: Data) -> Words:
    verified = bool(data.get("verified"))
    what = {
        "call": "Asked for instructions",
        "status": "Reported a status",
        "fallback": "Used the fallback URL",
    }
    title = what.get(str(data.get("kind")), "Request of the provider") if verified else "Request refused"
    more = [f"Answered {data.get('status_code')} in {float(data.get('elapsed_ms') or 0):.0f} ms."]
    if data.get("reason"):
        more.insert(0, f"Reason: {data['reason']}.")
    if data.get("repeated"):
        more.append("It had come before.")
    return "webhooks", title, " ".join(more), "plain" if verified else "bad"


def _media_started(data: Data) -> Words:
    again = "" if data.get("epoch", 1) == 1 else f" (session {data['epoch']})"
    return "media", f"Audio began{again}", f"At {data.get('bridge')}, {data.get('sample_rate')} Hz.", "good"


def _media_stopped(data: Data) -> Words:
    reason = str(data.get("reason") or "").replace("-", " ")
    tone: Tone = "bad" if data.get("reason") in _BAD_STOPS else "plain"
    lasted = duration(float(data.get("duration_ms") or 0))
    return "media", "Audio ended", f"After {lasted}, by the {data.get('ended_by')}: {reason}.", tone


_BAD_STOPS: Final = frozenset({"agent-unreachable", "bridge-lost", "carrier-lost", "agent-lost", "error"})


def _agent_connected(data: Data) -> Words:
    took = f"In {float(data.get('connect_ms') or 0):.0f} ms"
    tries = data.get("attempt", 1)
    if tries > 1:
        took += f", at try {tries}"
    return (
        "agent",
        "Agent connected",
        f"{took}; {data.get('protocol')}, {data.get('sample_rate')} Hz.",
        "good",
    )


def _agent_lost(data: Data) -> Words:
    return "agent", "Agent lost", f"Try {data.get('attempt')}: {data.get('reason')}.", "bad"


def _dtmf(data: Data) -> Words:
    return "media", f"Key {data.get('digit')} pressed", None, "plain"


def _digits_sent(data: Data) -> Words:
    way = "by the provider" if data.get("way") == "provider" else "as tones in the audio"
    return (
        "media",
        f"{count(int(data.get('count') or 0), 'key')} pressed for the agent",
        f"Sent {way}.",
        "plain",
    )


def _recording(data: Data) -> Words:
    gaps = len(data.get("gaps_ms") or ())
    detail = f"{duration(float(data.get('duration_ms') or 0))} long" + (
        f", {count(gaps, 'gap')}." if gaps else "."
    )
    return "media", "Recording stored", detail, "plain"


def _hangup_requested(data: Data) -> Words:
    by = str(data.get("requested_by"))
    lane: LaneName = "agent" if by == "agent" else "carrier"
    reason = data.get("reason")
    return lane, f"Hang-up asked for by the {by}", f"Reason: {reason}." if reason else None, "waiting"


def _command_failed(data: Data) -> Words:
    name = _COMMANDS.get(str(data.get("command")), "A command")
    again = "" if data.get("final", True) else " It is tried again."
    said = str(data.get("message") or "").rstrip(".")
    return "carrier", f"{name} failed", f"{data.get('code')}: {said}.{again}", "bad"


def _observed(data: Data) -> Words:
    if data.get("found"):
        return "carrier", "Looked up at the provider", "It knows the call.", "plain"
    return "carrier", "Looked up at the provider", "It knows no such call.", "bad"


def _transfer_requested(data: Data) -> Words:
    lane: LaneName = "agent" if data.get("requested_by") == "agent" else "carrier"
    to = readable(data.get("to_number"))
    return lane, f"Transfer to {to} asked for", f"A {data.get('mode')} transfer.", "waiting"


def _transfer_ended(data: Data) -> Words:
    good = data.get("result") == "completed"
    title = "Transferred" if good else f"Transfer: {str(data.get('result')).replace('-', ' ')}"
    return "carrier", title, data.get("detail"), "good" if good else "bad"


_WORDS: Final = {
    "call.requested": _requested,
    "call.received": _received,
    "call.originated": _originated,
    "call.status": _status,
    "call.instructions-served": _served,
    "call.hangup-requested": _hangup_requested,
    "call.command-failed": _command_failed,
    "call.observed": _observed,
    "call.transfer-requested": _transfer_requested,
    "call.transfer-ended": _transfer_ended,
    "media.started": _media_started,
    "media.stopped": _media_stopped,
    "media.dtmf": _dtmf,
    "media.digits-sent": _digits_sent,
    "agent.connected": _agent_connected,
    "agent.lost": _agent_lost,
    "recording.stored": _recording,
    WEBHOOK: _webhook,
}
