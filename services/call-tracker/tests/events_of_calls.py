"""Events of made-up calls, realistic and hostile, for the tests of the facts, the record and the store."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from offhook.events import (
    AgentConnected,
    AgentLost,
    CallObserved,
    CallOriginated,
    CallReceived,
    CallRequested,
    CallStatus,
    CommandFailed,
    DtmfReceived,
    Event,
    EventData,
    HangupRequested,
    InstructionsServed,
    MediaQuality,
    MediaStarted,
    MediaStopped,
    Party,
    RecordingDeleted,
    RecordingStored,
    StatusReported,
    TransferEnded,
    TransferRequested,
    new_event,
)
from offhook.identities import derived_id, transfer_id

SESSION_KEY = "c2Vzc2lvbi1rZXktb2YtdGhlLXRlc3RzLTMyLWJ5dGVzLi4="
NOON = datetime(2026, 11, 1, 12, 0, 0, tzinfo=UTC)
AnyEvent = Event[EventData]


class Call:
    """One call, and the events that its parties would tell. `at` is seconds after noon."""

    def __init__(
        self,
        run: str = "run-1",
        *,
        provider: str = "twilio",
        account: str = "AC1",
        call_id: str = "CA1",
        user: str = "user-1",
    ) -> None:
        self.run, self.provider, self.account, self.call_id, self.user = run, provider, account, call_id, user
        self._made = 0

    def event(self, data: EventData, at: float = 0.0, event_id: str | None = None) -> AnyEvent:
        self._made += 1
        return new_event(
            data,
            source="/test",
            time=NOON + timedelta(seconds=at),
            subject=self.run,
            event_id=event_id or derived_id(self.run, self.account, self.call_id, str(self._made)),
        )

    def requested(self, at: float = 0.0, account: str | None = "", **more: Any) -> AnyEvent:
        return self.event(
            CallRequested(
                workflow_run_id=self.run, workflow_id="workflow-1", user_id=self.user, configuration_id="conf-1",
                provider=self.provider, account=self.account if account == "" else account,
                from_number="+14155550100", to_number="+14155550199", metadata={"order": 7}, **more,
            ), at,
        )  # fmt: skip

    def received(self, at: float = 0.0, workflow_id: str | None = "workflow-1") -> AnyEvent:
        return self.event(
            CallReceived(
                workflow_run_id=self.run, workflow_id=workflow_id, user_id=self.user, configuration_id="conf-1",
                provider=self.provider, account=self.account, provider_call_id=self.call_id,
                from_number="+14155550199", to_number="+14155550100",
            ), at,
        )  # fmt: skip

    def originated(self, at: float = 0.5) -> AnyEvent:
        return self.event(
            CallOriginated(
                workflow_run_id=self.run, provider=self.provider, account=self.account,
                configuration_id="conf-1", provider_call_id=self.call_id,
            ), at,
        )  # fmt: skip

    def status(
        self, status: CallStatus | str | None, at: float = 1.0, *, said_at: float | None = None, **more: Any
    ) -> AnyEvent:
        """`said_at`: the provider's own clock. A status that is not a `CallStatus` is a word nobody knows."""
        known = CallStatus(status) if status in set(CallStatus) else None
        fields: dict[str, Any] = {
            "workflow_run_id": self.run,
            "provider": self.provider,
            "account": self.account,
            "provider_call_id": self.call_id,
            "status": known,
            "provider_status": str(status),
            "provider_time": None if said_at is None else NOON + timedelta(seconds=said_at),
        }
        return self.event(StatusReported(**{**fields, **more}), at)

    def served(self, kind: Any = "connect", at: float = 1.0, reason: str | None = None) -> AnyEvent:
        data = InstructionsServed(
            workflow_run_id=self.run, provider=self.provider, account=self.account, provider_call_id=self.call_id,
            kind=kind, reason=reason, elapsed_ms=2.0,
        )  # fmt: skip
        return self.event(data, at)

    def stream_id(self, epoch: int) -> str:
        """Vonage names the caller's leg, whichever of its sessions speaks."""
        return self.call_id if self.provider == "vonage" else f"MZ{epoch}"

    def media_started(self, at: float = 3.0, epoch: int = 1) -> AnyEvent:
        return self.event(
            MediaStarted(
                workflow_run_id=self.run, provider=self.provider, account=self.account,
                provider_call_id=self.call_id, stream_id=self.stream_id(epoch), epoch=epoch, bridge="bridge-1",
                sample_rate=8000,
            ), at,
        )  # fmt: skip

    def media_stopped(
        self, at: float = 9.0, epoch: int = 1, ended_by: Party = Party.CARRIER, reason: str = "carrier-stop"
    ) -> AnyEvent:
        return self.event(
            MediaStopped(
                workflow_run_id=self.run, provider=self.provider, account=self.account,
                provider_call_id=self.call_id, stream_id=self.stream_id(epoch), epoch=epoch, reason=reason,
                ended_by=ended_by, duration_ms=5000,
                quality=MediaQuality(caller_audio_ms=5000, agent_audio_ms=3000),
            ), at,
        )  # fmt: skip

    def agent_connected(self, at: float = 3.2) -> AnyEvent:
        data = AgentConnected(
            workflow_run_id=self.run, epoch=1, attempt=1, protocol="pcm", sample_rate=16000, connect_ms=12.0
        )
        return self.event(data, at)

    def agent_lost(self, at: float = 5.0) -> AnyEvent:
        return self.event(AgentLost(workflow_run_id=self.run, epoch=1, attempt=1, reason="refused"), at)

    def dtmf(self, at: float = 4.0) -> AnyEvent:
        return self.event(DtmfReceived(workflow_run_id=self.run, epoch=1, digit="5", at_ms=1000), at)

    def hangup_requested(self, by: Party = Party.AGENT, at: float = 8.0) -> AnyEvent:
        whose = {"provider": self.provider, "account": self.account} if by is Party.AGENT else {}
        return self.event(HangupRequested(workflow_run_id=self.run, requested_by=by, **whose), at)

    def dial_failed(self, at: float = 1.0, final: bool = True, code: str = "21211") -> AnyEvent:
        return self.event(
            CommandFailed(
                workflow_run_id=self.run, command="originate", command_id="c-1", provider=self.provider,
                code=code, message="invalid To", final=final,
            ), at,
        )  # fmt: skip

    def hangup_failed(self, at: float = 8.5, final: bool = True) -> AnyEvent:
        return self.event(
            CommandFailed(
                workflow_run_id=self.run, command="hangup", command_id="c-2", provider=self.provider,
                account=self.account, code="credentials", message="wrong credentials", final=final,
            ), at,
        )  # fmt: skip

    def seen(
        self,
        status: CallStatus | str | None,
        at: float = 60.0,
        *,
        answered: float | None = None,
        ended: float | None = None,
        **more: Any,
    ) -> AnyEvent:
        """The provider's answer at `at` to the question what became of the call."""
        times = {
            "answered_at": None if answered is None else NOON + timedelta(seconds=answered),
            "ended_at": None if ended is None else NOON + timedelta(seconds=ended),
        }
        moment = ended if ended is not None else answered
        return self.status(status, at, said_at=moment, reconciled=True, **times, **more)  # fmt: skip

    def lost(self, at: float = 90.0, found: bool = False) -> AnyEvent:
        data = CallObserved(
            workflow_run_id=self.run, provider=self.provider, account=self.account, provider_call_id=self.call_id,
            found=found, reason="silence",
        )  # fmt: skip
        return self.event(data, at)

    def transfer_requested(self, at: float = 6.0, command_id: str | None = None) -> AnyEvent:
        data = TransferRequested(
            workflow_run_id=self.run, provider=self.provider, account=self.account, to_number="+14155550123",
            mode="cold", requested_by=Party.AGENT,
            transfer_id=None if command_id is None else transfer_id(command_id),
        )  # fmt: skip
        return self.event(data, at)

    def transfer_ended(
        self, result: Any = "completed", at: float = 8.0, command_id: str | None = None
    ) -> AnyEvent:
        data = TransferEnded(
            workflow_run_id=self.run, provider=self.provider, account=self.account, mode="cold", result=result,
            transfer_id=None if command_id is None else transfer_id(command_id),
        )  # fmt: skip
        return self.event(data, at)

    def transfer_failed(
        self, at: float = 6.5, code: str = "unsupported", command_id: str = "c-3"
    ) -> AnyEvent:
        data = CommandFailed(
            workflow_run_id=self.run, command="transfer", command_id=command_id, provider=self.provider,
            account=self.account, code=code, message="not there",
        )  # fmt: skip
        return self.event(data, at)

    def recording_stored(
        self, at: float = 12.0, key: str = "2026/11/run-1.wav", size_bytes: int = 640
    ) -> AnyEvent:
        data = RecordingStored(
            workflow_run_id=self.run, key=key, duration_ms=6000, sample_rate=8000, size_bytes=size_bytes,
            gaps_ms=((1000, 2000),), delete_after=NOON + timedelta(days=30),
        )  # fmt: skip
        return self.event(data, at)

    def recording_deleted(self, at: float = 3600.0, key: str = "2026/11/run-1.wav") -> AnyEvent:
        return self.event(RecordingDeleted(workflow_run_id=self.run, key=key), at)

    def twilio_outbound(self) -> list[AnyEvent]:
        """A whole answered call, the callee hangs up."""
        return [
            self.requested(0.0),
            self.originated(0.5),
            self.status("initiated", 0.6, said_at=0, sequence=0),
            self.status("ringing", 1.1, said_at=1, sequence=1),
            self.served("connect", 2.6),
            self.status("answered", 3.2, said_at=3, sequence=2, direction="outbound"),
            self.media_started(3.3),
            self.agent_connected(3.4),
            self.dtmf(5.0),
            self.media_stopped(9.1),
            self.status("completed", 9.6, said_at=9, sequence=3, duration_s=6, sip_code=200),
        ]

    def vonage_inbound(self) -> list[AnyEvent]:
        """A whole answered call with the events of the WebSocket leg, the caller hangs up."""
        return [
            self.received(0.0),
            self.status("started", 0.1, said_at=0.01, direction="inbound"),
            self.status("ringing", 0.2, said_at=0.02, direction="inbound"),
            self.served("connect", 0.3),
            self.status("answered", 1.0, said_at=0.9, direction="inbound"),
            self.status("answered", 1.1, said_at=0.95, leg="media", provider_call_id="ws-1"),
            self.media_started(1.2),
            self.media_stopped(9.0),
            self.status("completed", 9.2, said_at=8.9, leg="media", provider_call_id="ws-1", price="0.01"),
            self.status(
                "completed", 9.3, said_at=9.0, duration_s=8, price="0.0123", price_unit="EUR", ended_by=Party.CALLER
            ),
        ]  # fmt: skip


OWN = {
    "twilio": Call(provider="twilio", account="AC1", call_id="CA1"),
    "vonage": Call(provider="vonage", account="app-1", call_id="leg-1"),
}
FOREIGN = {
    "twilio": Call(provider="twilio", account="AC666", call_id="CA666"),
    "vonage": Call(provider="vonage", account="app-666", call_id="leg-666"),
}

_seconds = st.floats(0, 60, allow_nan=False).map(lambda s: round(s, 3))
_statuses = st.sampled_from([*CallStatus, "going-strange", "human"])


@st.composite
def statuses(draw: st.DrawFn, call: Call, leg: str | None = None) -> AnyEvent:
    """Any callback a provider could send, sensible or not."""
    leg = leg or draw(st.sampled_from(["phone", "phone", "phone", "media"]))
    more: dict[str, Any] = {"leg": leg}
    if leg == "media":
        more["provider_call_id"] = draw(st.sampled_from(["ws-1", call.call_id]))
    if call.provider == "twilio":
        more["sequence"] = draw(st.none() | st.integers(0, 6))
    said_at = draw(st.none() | _seconds.map(int) if call.provider == "twilio" else _seconds)
    more["duration_s"] = draw(st.none() | st.integers(0, 100))
    more["sip_code"] = draw(st.none() | st.sampled_from([200, 404, 486, 487, 603]))
    more["ended_by"] = draw(st.none() | st.sampled_from(Party))
    more["detail"] = draw(st.none() | st.sampled_from(["declined", "invalid_number", "weird\x00word"]))
    if draw(st.integers(0, 3)) == 0:
        more |= {"reconciled": True, "sequence": None}
        for name in ("answered_at", "ended_at"):
            more[name] = draw(st.none() | _seconds.map(lambda s: NOON + timedelta(seconds=s)))
    price = draw(st.none() | st.sampled_from(["0.01", "-0.0085"]))
    if price:
        more |= {"price": price, "price_unit": draw(st.none() | st.just("EUR"))}
    return call.status(draw(_statuses), draw(_seconds), said_at=said_at, **more)


@st.composite
def from_elsewhere(draw: st.DrawFn, call: Call) -> AnyEvent:
    """Anything but a provider's callback: the bridge, the gateway, number-sync, somebody who hangs up."""
    at = draw(_seconds)
    epoch = draw(st.integers(1, 3))
    by = draw(st.sampled_from(Party))
    return draw(
        st.sampled_from(
            [
                lambda: call.media_started(at, epoch),
                lambda: call.media_stopped(at, epoch, by),
                lambda: call.media_stopped(at, epoch, Party.PLATFORM, "agent-unreachable"),
                lambda: call.agent_connected(at),
                lambda: call.agent_lost(at),
                lambda: call.dtmf(at),
                lambda: call.hangup_requested(by, at),
                lambda: call.dial_failed(at),
                lambda: call.dial_failed(at, final=False),
                lambda: call.dial_failed(at, code="canceled"),
                lambda: call.hangup_failed(at),
                lambda: call.lost(at),
                lambda: call.lost(at, found=True),
                lambda: call.transfer_requested(at),
                lambda: call.transfer_ended("completed", at),
                lambda: call.transfer_ended("busy", at),
                lambda: call.transfer_failed(at),
                lambda: call.recording_stored(at),
                lambda: call.recording_deleted(at),
                lambda: call.served("connect", at),
                lambda: call.served("hangup", at, "no-agent"),
                lambda: call.served("hangup", at, "ended"),
                lambda: call.served("hangup", at, "number-inactive"),
                lambda: call.served("refuse", at),
            ]
        )
    )()


@st.composite
def claims(draw: st.DrawFn, call: Call) -> AnyEvent:
    """What a webhook of this account causes, whatever run it names."""
    at, epoch = draw(_seconds), draw(st.integers(1, 3))
    return draw(
        st.sampled_from(
            [
                lambda: call.media_started(at, epoch),
                lambda: call.media_stopped(at, epoch),
                lambda: call.media_stopped(at, epoch, Party.PLATFORM, "agent-unreachable"),
                lambda: call.hangup_requested(Party.AGENT, at),
                lambda: call.hangup_failed(at),
                lambda: call.transfer_requested(at, "c-3"),
                lambda: call.transfer_failed(at),
                lambda: call.transfer_ended("completed", at),
                lambda: call.transfer_ended("busy", at),
                lambda: call.served("hangup", at, "no-agent"),
                lambda: call.served("refuse", at),
            ]
        )
    )()


@st.composite
def hostile_sets(draw: st.DrawFn, begun: bool | None = None) -> list[AnyEvent]:
    """Events of one run in no sensible combination. `begun`: whether the call's beginning is among them."""
    provider = draw(st.sampled_from(["twilio", "vonage"]))
    own, foreign = OWN[provider], FOREIGN[provider]
    events: list[AnyEvent] = []
    beginnings = [[own.received()], [own.requested(), own.originated()]]
    if begun is None:
        beginnings += [[], [own.requested()], [own.requested(account=None)], [own.originated()]]
    events += draw(st.sampled_from(beginnings))
    events += draw(st.lists(statuses(own), max_size=7))
    events += draw(st.lists(statuses(foreign, leg="phone"), max_size=3))
    events += draw(st.lists(from_elsewhere(own), max_size=5))
    events += draw(st.lists(claims(foreign), max_size=3))
    return events


@st.composite
def realistic_sets(draw: st.DrawFn) -> list[AnyEvent]:
    """A whole call of either provider with events missing (never its beginning)."""
    provider = draw(st.sampled_from(["twilio", "vonage"]))
    own = OWN[provider]
    whole = own.twilio_outbound() if provider == "twilio" else own.vonage_inbound()
    kept = draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    return [
        event for number, (event, keep) in enumerate(zip(whole, kept, strict=True)) if keep or number == 0
    ]


@st.composite
def shuffles(draw: st.DrawFn, events: Sequence[AnyEvent]) -> list[AnyEvent]:
    """The same events in any order, some of them several times."""
    again = draw(st.lists(st.sampled_from(events), max_size=len(events))) if events else []
    return draw(st.permutations([*events, *again]))
