"""Whatever becomes of the callbacks of a call, with what is asked for in their place its record ends the same.

The calls are made up, but what is told of them is not: callbacks are requests as Twilio and Vonage send them, read by the
real adapters, and the provider's answers are its Call resources. Callbacks come in any order, any of them several times,
hours late, or never; what our own services tell comes in any order, but it comes. Then the rules of `call_tracker.silence`
decide when the provider is asked.

Lost callbacks may leave differences, and no others (`may_differ`):

* when it rang (`ringing_at`, `ring_ms`), if the callback that told it was lost: no provider tells it afterwards. Nor does any
  tell that it rang at all, if it was busy, failed or was canceled: `statuses` is then without it;
* the second in which it was answered and ended, and so how long it talked: providers tell whole seconds afterwards. Vonage tells
  no time at all for a call that nobody answered: `ended_at` is then when we asked;
* `reconciled`, which says that the last callback was lost;
* with Twilio's last callback: the SIP code, and with it the finer reason of a failure;
* with Vonage's last callback: the SIP code, and the `detail` of a rejection. Without it the callee declined, which is the
  likeliest, and not the network;
* with Vonage's `human` or `machine`: who answered.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import urlencode

from events_of_calls import AnyEvent, shuffles
from hypothesis import event, given, settings
from hypothesis import strategies as st

from call_tracker.joining import gather
from call_tracker.lifecycle import project
from call_tracker.silence import Patience
from offhook.events import (
    TERMINAL_STATUSES,
    CallDirection,
    CallObserved,
    CallOriginated,
    CallReceived,
    CallRequested,
    CallStatus,
    EventData,
    HangupRequested,
    MediaQuality,
    MediaStarted,
    MediaStopped,
    Party,
    StatusReported,
    new_event,
)
from offhook.identities import derived_id
from offhook.providers.base import HttpRequest, StatusReport, report, report_id
from offhook.providers.twilio.seen import seen_of as twilio_seen
from offhook.providers.twilio.webhooks import TwilioWebhooks
from offhook.providers.vonage.seen import seen_of as vonage_seen
from offhook.providers.vonage.webhooks import VonageWebhooks
from offhook.records import CallState

NOON: Final = datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=UTC)
RUN: Final = "run-1"
TWILIO: Final = {"account": "AC" + "1" * 32, "call": "CA" + "2" * 32}
VONAGE: Final = {"account": "app-1", "call": "leg-1", "conversation": "CON-1", "socket": "leg-ws"}
CALLER, CALLEE = "+14155550100", "+442079460000"
TIMES: Final = ("answered_at", "ended_at", "talk_ms")
SLACK: Final = timedelta(seconds=2)


@dataclass(frozen=True)
class Story:
    """What happened at the provider. Times are seconds after noon; `talk_s` is None for a call nobody answered."""

    provider: str
    direction: CallDirection
    ring_s: float
    talk_s: float | None
    end: str
    ended_by: Party
    machine: bool
    noise: bool

    @property
    def answered(self) -> float:
        return 1 + self.ring_s

    @property
    def ended(self) -> float:
        return self.answered + (self.talk_s or 0.0)

    @property
    def billed_s(self) -> int:
        return int(self.talk_s or 0)

    @property
    def account(self) -> str:
        return (TWILIO if self.provider == "twilio" else VONAGE)["account"]

    @property
    def call_id(self) -> str:
        return (TWILIO if self.provider == "twilio" else VONAGE)["call"]


_UNANSWERED: Final = {
    # The provider's own words for the end, with what else its last callback tells.
    "twilio": ["busy", "no-answer", "failed", "failed 404", "failed 603", "canceled"],
    "vonage": [
        "busy", "timeout", "unanswered", "cancelled", "failed cannot_route", "failed number_out_of_service",
        "rejected declined", "rejected invalid_number", "rejected restricted",
    ],
}  # fmt: skip


@st.composite
def stories(draw: st.DrawFn) -> Story:
    provider = draw(st.sampled_from(["twilio", "vonage"]))
    direction: CallDirection = draw(st.sampled_from(["inbound", "outbound"]))
    was_answered = draw(st.booleans()) or direction == "inbound"
    talk_s = draw(st.floats(3.0, 900.0).map(lambda s: round(s, 3))) if was_answered else None
    far_end = Party.CALLER if direction == "inbound" else Party.CALLEE
    return Story(
        provider,
        direction,
        ring_s=draw(st.floats(0.5, 40.0).map(lambda s: round(s, 3))),
        talk_s=talk_s,
        end="completed" if was_answered else draw(st.sampled_from(_UNANSWERED[provider])),
        ended_by=draw(st.sampled_from([far_end, far_end, Party.AGENT, Party.OPERATOR])),
        machine=was_answered and direction == "outbound" and draw(st.booleans()),
        noise=draw(st.booleans()),
    )


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


# --- what our own services tell: always, once or more ------------------------------------------------------


def own(data: EventData, seconds: float) -> AnyEvent:
    # The bridge says everything at once, and later again what has changed: the id is made of what and when.
    name = derived_id(type(data).__name__, str(seconds))
    return new_event(data, source="/test", time=at(seconds), subject=RUN, event_id=name)


def told_by_us(story: Story) -> list[AnyEvent]:
    common: dict[str, Any] = {
        "workflow_run_id": RUN, "workflow_id": "workflow-1", "user_id": "user-1", "configuration_id": "conf-1",
        "provider": story.provider, "account": story.account, "from_number": CALLER, "to_number": CALLEE,
    }  # fmt: skip
    if story.direction == "inbound":
        events = [own(CallReceived(**common, provider_call_id=story.call_id), 0.3)]
    else:
        accepted = CallOriginated(
            workflow_run_id=RUN, provider=story.provider, account=story.account, configuration_id="conf-1",
            provider_call_id=story.call_id,
        )  # fmt: skip
        events = [own(CallRequested(**common, ring_timeout_s=45), 0.0), own(accepted, 0.6)]
    if story.talk_s is None:
        return events
    audio: dict[str, Any] = {
        "workflow_run_id": RUN, "provider": story.provider, "provider_call_id": story.call_id, "stream_id": "s1",
        "epoch": 1,
    }  # fmt: skip
    asked = story.ended_by in (Party.AGENT, Party.OPERATOR)
    if asked:
        events.append(
            own(HangupRequested(workflow_run_id=RUN, requested_by=story.ended_by), story.ended - 0.8)
        )
    stopped = MediaStopped(
        **audio, reason="carrier-stop", ended_by=Party.AGENT if story.ended_by is Party.AGENT else Party.CARRIER,
        duration_ms=1500, quality=MediaQuality(caller_audio_ms=1500, agent_audio_ms=700),
    )  # fmt: skip
    started = MediaStarted(**audio, bridge="b1", sample_rate=8000)
    return [*events, own(started, story.answered + 0.4), own(stopped, story.ended + 0.1)]


# --- what the provider tells -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Callback:
    """`kind` is what `may_differ` asks about; `moment` when it was sent."""

    kind: str
    moment: float
    request: HttpRequest


def callbacks(story: Story) -> list[Callback]:
    return twilio_callbacks(story) if story.provider == "twilio" else vonage_callbacks(story)


def twilio_callbacks(story: Story) -> list[Callback]:
    answered = story.talk_s is not None
    word, _, sip = story.end.partition(" ")
    steps: list[tuple[str, float, dict[str, Any]]] = []
    if story.direction == "outbound":  # of inbound calls Twilio tells the end only
        steps = [("initiated", 0.7, {}), ("ringing", 1.0, {})]
        if answered:
            steps.append(("in-progress", story.answered, {}))
    last: dict[str, Any] = {"CallDuration": story.billed_s, "Duration": -(-story.billed_s // 60)}
    if story.direction == "outbound":
        last["SipResponseCode"] = sip or {"busy": 486, "no-answer": 487, "failed": 503}.get(word, 200)
    if story.machine:
        last["AnsweredBy"] = "machine_start"
    steps.append((word, story.ended, last))
    made = [
        Callback(
            "last" if number == len(steps) - 1 else status,
            moment,
            _form(
                CallStatus=status,
                SequenceNumber=number,
                Timestamp=format_datetime(at(moment)),
                CallbackSource="call-progress-events",
                Direction="inbound" if story.direction == "inbound" else "outbound-api",
                **more,
            ),
        )
        for number, (status, moment, more) in enumerate(steps)
    ]
    if story.machine:
        detected = _form(AnsweredBy="machine_start", MachineDetectionDuration=3200)
        made.append(Callback("detected", story.answered + 3.2, detected))
    if story.noise:
        stream = {
            "StreamSid": "MZ1",
            "StreamEvent": "stream-stopped",
            "Timestamp": at(story.ended).isoformat(),
        }
        made.append(Callback("noise", story.ended, _form(**stream)))
        made.append(
            Callback(
                "noise", 2.0, _form(CallStatus="pondering", SequenceNumber=9, Timestamp="", CallDuration=77)
            )
        )
    return made


def _form(**more: Any) -> HttpRequest:
    said = {"AccountSid": TWILIO["account"], "CallSid": TWILIO["call"], "From": CALLER, "To": CALLEE, **more}
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return HttpRequest("POST", ("https://voice.test",), "/status", "", headers, urlencode(said).encode())


def vonage_callbacks(story: Story) -> list[Callback]:
    word, _, detail = story.end.partition(" ")
    steps: list[tuple[str, str, float, dict[str, Any]]] = [
        ("started", "started", 0.8, {}),
        ("ringing", "ringing", 1.0, {}),
    ]
    if story.talk_s is not None:
        steps.append(("answered", "in-progress", story.answered, {"start_time": None, "rate": ""}))
    if story.machine:
        steps.append(("machine", "detected", story.answered + 2.5, {"sub_state": "beep_start"}))
    last: dict[str, Any] = {"detail": detail} if detail else {}
    if word == "completed":
        far = story.ended_by in (Party.CALLER, Party.CALLEE)
        last = _vonage_bill(story) | {"disconnected_by": "user" if far else "platform", "sip_code": 200}
    steps.append((word, "last", story.ended, last))
    if story.noise:
        socket = {"uuid": VONAGE["socket"], "to": "wss://voice.test/ws", "price": "0.5", "duration": "99"}
        steps += [
            ("answered", "noise", story.answered + 0.2, socket),
            ("completed", "noise", 1.5, socket),
            ("disconnected", "noise", 1.6, socket),
            ("pondering", "noise", 1.7, {}),
        ]
    return [
        Callback(
            kind, moment, _json(status=status, timestamp=_iso(moment), direction=story.direction, **more)
        )
        for status, kind, moment, more in ((one[0], one[1], one[2], one[3]) for one in steps)
    ]


def _vonage_bill(story: Story) -> dict[str, Any]:
    return {"duration": str(story.billed_s), "rate": "0.0139", "price": "0.00231667"}


def _json(**more: Any) -> HttpRequest:
    said = {
        "uuid": VONAGE["call"], "conversation_uuid": VONAGE["conversation"], "from": CALLER[1:], "to": CALLEE[1:],
        **more,
    }  # fmt: skip
    headers = {"content-type": "application/json"}
    return HttpRequest("POST", ("https://voice.test",), "/status", "", headers, json.dumps(said).encode())


def _iso(seconds: float) -> str:
    return at(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def delivered(story: Story, callback: Callback, late_s: float = 0.1) -> AnyEvent:
    """The callback as the gateway tells it, so many seconds after it was sent."""
    webhooks = TwilioWebhooks() if story.provider == "twilio" else VonageWebhooks()
    parsed = webhooks.parse_status(callback.request)
    both = {field.name for field in fields(StatusReport)} & set(StatusReported.model_fields)
    said = {name: getattr(parsed, name) for name in both} | {
        "account": story.account,
        "raw": dict(parsed.raw),
    }
    data = StatusReported(workflow_run_id=RUN, provider=story.provider, **said)
    moment = at(callback.moment + late_s)
    return new_event(
        data, source="/test", time=moment, subject=RUN, event_id=derived_id(story.provider, *parsed.identity)
    )


# --- what the provider answers ---------------------------------------------------------------------------------


def answer(story: Story, asked_at: datetime) -> list[AnyEvent]:
    """What number-sync tells after it has asked."""
    resource = (twilio_resource if story.provider == "twilio" else vonage_resource)(story, asked_at)
    seen = (twilio_seen if story.provider == "twilio" else vonage_seen)(resource)
    assert seen is not None
    told = report(seen, workflow_run_id=RUN, provider=story.provider, account=story.account)
    looked = CallObserved(
        workflow_run_id=RUN, provider=story.provider, account=story.account, provider_call_id=story.call_id, found=True
    )  # fmt: skip
    return [
        new_event(told, source="/test", time=asked_at, subject=RUN, event_id=report_id(told)),
        new_event(looked, source="/test", time=asked_at, subject=RUN),
    ]


def twilio_resource(story: Story, asked_at: datetime) -> dict[str, Any]:
    since = (asked_at - NOON).total_seconds()
    over, answered = since >= story.ended, story.talk_s is not None and since >= story.answered
    word = story.end.split()[0] if over else "in-progress" if answered else "ringing"
    return {
        "sid": TWILIO["call"], "account_sid": TWILIO["account"], "from": CALLER, "to": CALLEE, "status": word,
        "direction": "inbound" if story.direction == "inbound" else "outbound-api",
        "date_created": format_datetime(at(0.5)), "start_time": format_datetime(at(1.0)),
        "end_time": format_datetime(at(story.ended)) if over else None,
        "duration": str(story.billed_s) if over else None,
        "answered_by": "machine_start" if story.machine and answered else None,
        # It comes some minutes after the end.
        "price": "-0.0140" if over and story.talk_s is not None and since > story.ended + 400 else None,
        "price_unit": "USD",
    }  # fmt: skip


def vonage_resource(story: Story, asked_at: datetime) -> dict[str, Any]:
    since = (asked_at - NOON).total_seconds()
    over, answered = since >= story.ended, story.talk_s is not None and since >= story.answered
    shown = {
        "uuid": VONAGE["call"], "conversation_uuid": VONAGE["conversation"], "direction": story.direction,
        "from": {"type": "phone", "number": CALLER[1:]}, "to": {"type": "phone", "number": CALLEE[1:]},
        "status": story.end.split()[0] if over else "answered" if answered else "ringing",
    }  # fmt: skip
    if over and story.talk_s is not None:
        times = {"start_time": _plain(story.answered), "end_time": _plain(story.ended)}
        shown |= _vonage_bill(story) | times
    return shown


def _plain(seconds: float) -> str:
    return at(seconds).strftime("%Y-%m-%d %H:%M:%S")


# --- the property --------------------------------------------------------------------------------------------------


def outcome(story: Story, told: Sequence[AnyEvent]) -> CallState:
    """The record when nothing is left to ask."""
    facts, looks = gather(told), 0
    now_us = int(at(max(story.ended, 0.0)).timestamp() * 1_000_000)
    while True:
        record = project(RUN, facts)
        next_us = Patience().next_look_us(record, facts, now_us, looks)
        if next_us is None:
            return record
        now_us, looks = next_us, looks + 1
        assert looks < 50, "it is asked for ever"
        before = facts
        facts = gather(answer(story, datetime.fromtimestamp(now_us / 1_000_000, UTC)), facts)
        looks = looks if facts == before else 0


def may_differ(story: Story, lost: set[str]) -> set[str]:
    """The fields of a record that may be another without these callbacks."""
    fields: set[str] = set()
    if "ringing" in lost:
        fields |= {"ringing_at", "ring_ms"}
        if not story.end.startswith(("completed", "no-answer", "timeout", "unanswered")):
            fields |= {"statuses"}
    if "in-progress" in lost:
        fields |= {"answered_at", "ring_ms", "talk_ms"}
    if "last" in lost:
        fields |= {"reconciled", "ended_at", "talk_ms", "sip_code"}
        if story.end.startswith(("failed", "rejected")) and story.end != "rejected declined":
            fields |= {"end_reason", "ended_by"}
        if story.end in ("rejected invalid_number", "rejected restricted"):
            fields |= {"status", "statuses"}
        if story.talk_s is None:
            fields |= {"ring_ms"}
    if "detected" in lost and story.provider == "vonage":
        fields |= {"answered_by", "message_end"}
    return fields


@settings(max_examples=400)
@given(st.data(), stories())
def test_whatever_becomes_of_the_callbacks_the_record_ends_as_it_should(
    data: st.DataObject, story: Story
) -> None:
    sent = callbacks(story)
    ours = told_by_us(story)
    clean = outcome(story, [*ours, *(delivered(story, callback) for callback in sent)])
    kept = data.draw(st.lists(st.booleans(), min_size=len(sent), max_size=len(sent)))
    delay = st.sampled_from([0.0, 0.1, 3.0, 90.0, 4000.0])
    arrived = [
        delivered(story, callback, data.draw(delay))
        for callback, keep in zip(sent, kept, strict=True)
        if keep
    ]
    record = outcome(story, data.draw(shuffles([*ours, *arrived])))
    lost = {callback.kind for callback, keep in zip(sent, kept, strict=True) if not keep}
    event(f"{story.provider}, lost: {'the last' if 'last' in lost else 'others' if lost else 'none'}")

    assert record.status in TERMINAL_STATUSES
    allowed = may_differ(story, lost)
    for name in CallState.model_fields:
        mine, theirs = getattr(record, name), getattr(clean, name)
        if mine != theirs:
            assert name in allowed, f"{name}: {mine!r} instead of {theirs!r}, without {sorted(lost)}"
    if record.talk_ms is not None:
        assert clean.talk_ms is not None
        assert abs(record.talk_ms - clean.talk_ms) <= SLACK / timedelta(milliseconds=1)
    for name in ("answered_at", "ended_at"):
        if name == "ended_at" and story.talk_s is None and story.provider == "vonage":
            continue
        mine, theirs = getattr(record, name), getattr(clean, name)
        assert (mine is None) == (theirs is None), name
        if mine is not None:
            assert abs(datetime.fromisoformat(mine) - datetime.fromisoformat(theirs)) <= SLACK, name


@settings(max_examples=200)
@given(stories())
def test_a_call_of_which_no_callback_came_ends_as_the_provider_knows_it(story: Story) -> None:
    record = outcome(story, told_by_us(story))
    assert record.reconciled
    if story.talk_s is not None:
        assert record.statuses == (
            CallStatus.INITIATED, CallStatus.RINGING, CallStatus.ANSWERED, CallStatus.COMPLETED,
        )  # fmt: skip
        assert record.ended_by is story.ended_by
        assert record.duration_s == story.billed_s
        assert record.price is not None
    else:
        assert record.status in TERMINAL_STATUSES - {CallStatus.COMPLETED}
