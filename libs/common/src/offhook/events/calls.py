"""The vocabulary of `telephony.call-events.v1`: what can happen to a call.

Everything here is a fact, told by whoever saw it; nobody computes a call's state but call-tracker.
Times in `*_ms` are milliseconds; durations in `*_s` whole seconds, as providers bill them.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field

from offhook.events.envelope import EventData
from offhook.identities import ID_PATTERN


class CallStatus(StrEnum):
    """The neutral statuses; each provider's adapter maps its own words onto them."""

    INITIATED = "initiated"
    RINGING = "ringing"
    ANSWERED = "answered"
    COMPLETED = "completed"
    BUSY = "busy"
    NO_ANSWER = "no-answer"
    FAILED = "failed"
    CANCELED = "canceled"


TERMINAL_STATUSES = frozenset(
    {CallStatus.COMPLETED, CallStatus.BUSY, CallStatus.NO_ANSWER, CallStatus.FAILED, CallStatus.CANCELED}
)

CallDirection = Literal["inbound", "outbound"]
Leg = Literal["phone", "media"]
MachineDetection = Literal["off", "detect", "detect-message-end"]
"""Whether the provider shall find out who answers: a person or a machine; `detect-message-end` waits for the machine's beep."""
TransferMode = Literal["cold", "warm"]
TransferResult = Literal["completed", "declined", "busy", "no-answer", "failed", "unsupported"]
AnsweredBy = Literal["human", "machine", "fax", "unknown"]
MessageEnd = Literal["beep", "silence", "other"]
"""What ended an answering machine's greeting; from now on it records. `other`: the provider waited for a beep in vain."""


class Party(StrEnum):
    """Who did it."""

    CALLER = "caller"
    CALLEE = "callee"
    AGENT = "agent"
    CARRIER = "carrier"
    OPERATOR = "operator"
    PLATFORM = "platform"


class CallEventData(EventData):
    """Base of all call events: every one names its run."""

    workflow_run_id: str = Field(pattern=ID_PATTERN)


class CallRequested(CallEventData):
    """Somebody asked for an outbound call (API). The run exists from here on.

    `account` is the configuration's: callbacks of any other account are not about this call. `transfer_of` is the run
    whose caller shall be put through to this call (warm transfer).
    """

    TYPE: ClassVar[str] = "call.requested.v1"
    workflow_id: str
    user_id: str
    configuration_id: str
    provider: str
    account: str | None = None
    from_number: str
    to_number: str
    ring_timeout_s: int | None = None
    time_limit_s: int | None = None
    machine_detection: MachineDetection = "off"
    transfer_of: str | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class CallReceived(CallEventData):
    """An inbound call arrived and was verified. The run exists from here on. `workflow_id` is None when the call belongs to no
    workflow: it is told so and ended."""

    TYPE: ClassVar[str] = "call.received.v1"
    workflow_id: str | None
    user_id: str
    configuration_id: str
    provider: str
    account: str
    provider_call_id: str
    conversation_id: str | None = None
    from_number: str
    to_number: str


class CallOriginated(CallEventData):
    """The provider accepted an outbound call and named it."""

    TYPE: ClassVar[str] = "call.originated.v1"
    provider: str
    account: str
    configuration_id: str
    provider_call_id: str
    conversation_id: str | None = None


class StatusReported(CallEventData):
    """A provider's word about one leg of a call. `status` is None for words that change no state.

    `sequence` is the provider's own order where it has one (Twilio `SequenceNumber`); `provider_time` its own clock.
    `leg` is `media` for Vonage's WebSocket leg, whose end is not the call's end.

    `answered_by` is a word of `AnsweredBy`; `message_end`: the machine's greeting is over.

    `reconciled`: not told by the provider but looked up; only then it says when things were: `began_at`, `answered_at`,
    `ended_at`, each None where the provider does not tell.
    """

    TYPE: ClassVar[str] = "call.status.v1"
    provider: str
    account: str
    provider_call_id: str
    conversation_id: str | None = None
    leg: Leg = "phone"
    status: CallStatus | None
    provider_status: str
    direction: CallDirection | None = None
    sequence: int | None = None
    provider_time: datetime | None = None
    duration_s: int | None = None
    sip_code: int | None = None
    price: str | None = None
    price_unit: str | None = None
    answered_by: str | None = None
    message_end: MessageEnd | None = None
    detail: str | None = None
    ended_by: Party | None = None
    reconciled: bool = False
    began_at: datetime | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    raw: dict[str, str] = Field(default_factory=dict)


class InstructionsServed(CallEventData):
    """The gateway told the provider what to do with the call. `elapsed_ms`: request received to response ready."""

    TYPE: ClassVar[str] = "call.instructions-served.v1"
    provider: str
    account: str | None = None
    provider_call_id: str
    kind: Literal["connect", "hangup", "refuse"]
    reason: str | None = None
    elapsed_ms: float


class MediaQuality(EventData):
    """What the bridge measured on one media session. Frames are 20 ms.

    `caller_audio_ms` was sent on to the agent; `agent_audio_ms` was played to the caller. `*_active_ms` is the part of it
    that was not silence (frame level above -50 dBFS). `held_p99_ms`: how long the bridge held audio.
    """

    caller_audio_ms: int = 0
    caller_active_ms: int = 0
    agent_audio_ms: int = 0
    agent_active_ms: int = 0
    gaps: int = 0
    longest_gap_ms: int = 0
    underruns: int = 0
    held_p50_ms: float = 0.0
    held_p99_ms: float = 0.0
    interruptions: int = 0
    response_p50_ms: float | None = None
    response_max_ms: float | None = None


class MediaStarted(CallEventData):
    """A provider's audio socket was accepted: the caller can be heard. `epoch` counts the sessions of a call from 1.
    `account`: whose call it is; not known of old events."""

    TYPE: ClassVar[str] = "media.started.v1"
    provider: str
    account: str | None = None
    provider_call_id: str
    stream_id: str
    epoch: int
    bridge: str
    sample_rate: int


class MediaStopped(CallEventData):
    """A media session ended. `reason` is one of the bridge's documented words; `ended_by` who closed it. `account`: whose
    call it is; not known of old events."""

    TYPE: ClassVar[str] = "media.stopped.v1"
    provider: str
    account: str | None = None
    provider_call_id: str
    stream_id: str
    epoch: int
    reason: str
    ended_by: Party
    duration_ms: int
    quality: MediaQuality


class AgentConnected(CallEventData):
    """The agent accepted the call. `connect_ms`: dial to accepted."""

    TYPE: ClassVar[str] = "agent.connected.v1"
    epoch: int
    attempt: int
    protocol: Literal["pcm", "twilio"]
    sample_rate: int
    connect_ms: float


class AgentLost(CallEventData):
    """The agent could not be reached, or its connection ended without a goodbye."""

    TYPE: ClassVar[str] = "agent.lost.v1"
    epoch: int
    attempt: int
    reason: str


class DtmfReceived(CallEventData):
    """The caller pressed a key. `at_ms`: since the stream's start."""

    TYPE: ClassVar[str] = "media.dtmf.v1"
    epoch: int
    digit: str = Field(pattern=r"^[0-9A-D*#]$")
    at_ms: int


class HangupRequested(CallEventData):
    """Somebody wants the call to end; the provider's own event says when it has ended. `provider` and `account` where it
    comes from an agent: whose call he has."""

    TYPE: ClassVar[str] = "call.hangup-requested.v1"
    provider: str | None = None
    account: str | None = None
    requested_by: Party
    reason: str = ""


class CommandFailed(CallEventData):
    """A command could not be carried out at the provider. `final`: it will not be tried again.

    A failed `originate` ends the call as failed; any other leaves the call as it is. `account` of a `transfer` or a
    `hangup`: whose order it was; it is not about a call of another account. Old events do not say it.
    """

    TYPE: ClassVar[str] = "call.command-failed.v1"
    command: Literal["originate", "hangup", "observe", "transfer", "dtmf"]
    command_id: str
    provider: str
    account: str | None = None
    code: str
    message: str
    final: bool = True


class CallObserved(CallEventData):
    """The provider was asked what became of a call. What it said is told beside this, as `StatusReported` with `reconciled`.

    `found` is False when the provider knows no such call: it has never been there, or is too old to be remembered.
    """

    TYPE: ClassVar[str] = "call.observed.v1"
    provider: str
    account: str
    provider_call_id: str | None
    found: bool
    reason: str = ""


class TransferRequested(CallEventData):
    """Somebody wants the far end to talk with somebody else. `consult_run_id`: the call to that party (warm). `provider` and
    `account` where it comes from an agent: whose call he has. `transfer_id`: as in `TransferEnded`; old events have none."""

    TYPE: ClassVar[str] = "call.transfer-requested.v1"
    provider: str | None = None
    account: str | None = None
    to_number: str
    mode: TransferMode
    requested_by: Party
    consult_run_id: str | None = None
    transfer_id: str | None = None


class TransferEnded(CallEventData):
    """What became of a transfer. `completed`: the two were connected; after anything else the agent has the call again.
    `transfer_id` tells it from the call's other transfers. `provider` and `account` say whose word it is, or whose call: it
    is not about a call of another account. Old events do not say it."""

    TYPE: ClassVar[str] = "call.transfer-ended.v1"
    provider: str | None = None
    account: str | None = None
    mode: TransferMode
    result: TransferResult
    detail: str | None = None
    transfer_id: str | None = None


class DigitsSent(CallEventData):
    """Keys were pressed for the agent. Which ones is not told: they may be a PIN."""

    TYPE: ClassVar[str] = "media.digits-sent.v1"
    count: int
    way: Literal["provider", "in-band"]


class RecordingStored(CallEventData):
    """The recorder closed a recording. `gaps_ms`: [from, to] in ms since the recording's start where audio is missing.

    `key` is its name in the storage; two channels, caller left, agent right.
    """

    TYPE: ClassVar[str] = "recording.stored.v1"
    key: str
    duration_ms: int
    sample_rate: int
    size_bytes: int
    gaps_ms: tuple[tuple[int, int], ...] = ()
    delete_after: datetime | None = None


class RecordingDeleted(CallEventData):
    """A recording was deleted from the storage: its time was over."""

    TYPE: ClassVar[str] = "recording.deleted.v1"
    key: str
    reason: Literal["retention"] = "retention"
