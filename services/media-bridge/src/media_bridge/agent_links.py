"""The agent's side of a call, in each protocol an agent may speak. Pure: messages in, messages out.

`PcmLink` is `offhook.pcm.v1`; `TwilioLink` plays Twilio towards a server that was written for Twilio Media
Streams. The rest of the bridge sees `AgentLink` only.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from offhook.agentlink import pcm
from offhook.audio import Encoding
from offhook.identities import derived_id
from offhook.providers.base import ClearAudio, Frame, PlayAudio, SetMark
from offhook.providers.twilio.media import TwilioMediaCarrier
from offhook.records import WorkflowRecord

# https://www.twilio.com/docs/voice/twiml/stream: name and value of a parameter have at most 500 characters
# together.
_MAX_PARAMETER: Final = 500

AgentRequest = (
    pcm.MarkRequest
    | pcm.ClearRequest
    | pcm.HangupRequest
    | pcm.TransferRequest
    | pcm.DtmfRequest
    | pcm.Rejected
    | pcm.Ignored
)


@dataclass(frozen=True, slots=True)
class CallDescription:
    """What an agent is told about a call. `transfer`: what became of the transfer it comes back from."""

    workflow_run_id: str
    workflow_id: str
    user_id: str
    provider: str
    account: str
    provider_call_id: str
    direction: Literal["inbound", "outbound"]
    from_number: str = ""
    to_number: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    answered_by: pcm.AnswerResult | None = None
    message_end: pcm.MessageEnd | None = None
    transfer: pcm.TransferOutcome | None = None


class AgentLink(Protocol):
    """One connection to an agent. All methods but `receive` return the WebSocket messages to write, in order.

    You must send `open` first and `stop` last. Audio is in `encoding` at `sample_rate`, both ways.
    """

    encoding: Encoding
    sample_rate: int
    left_out: tuple[str, ...]
    """Names of what `open` could not tell, because the protocol has no room for it."""

    def open(self, resume: pcm.Resume | None) -> list[Frame]: ...

    def audio(self, payload: bytes) -> list[Frame]:
        """Caller audio: one or more whole 20 ms frames."""

    def dtmf(self, digit: str, at_ms: int) -> list[Frame]: ...

    def mark(self, name: str, heard: bool) -> list[Frame]: ...

    def cleared(self, heard_ms: int, discarded_ms: int) -> list[Frame]: ...

    def answered_by(self, result: pcm.AnswerResult, message_end: pcm.MessageEnd | None) -> list[Frame]: ...

    def transfer(self, result: pcm.TransferOutcome, reason: str = "") -> list[Frame]: ...

    def digits_failed(self, reason: str) -> list[Frame]: ...

    def error(self, code: str, message: str) -> list[Frame]: ...

    def stop(self, reason: str) -> list[Frame]: ...

    def receive(self, message: Frame) -> bytes | AgentRequest:
        """Interpret one message: `bytes` is audio to play. Never raises for what the agent did."""


class PcmLink:
    """An agent that speaks `offhook.pcm.v1`."""

    encoding: Encoding = "pcm_s16le"
    left_out: tuple[str, ...] = ()

    def __init__(self, call: CallDescription, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._call = call
        self._side = pcm.PcmBridgeSide(sample_rate)

    def open(self, resume: pcm.Resume | None) -> list[Frame]:
        call = self._call
        start = pcm.Start(
            workflow_run_id=call.workflow_run_id,
            workflow_id=call.workflow_id,
            user_id=call.user_id,
            provider=call.provider,
            provider_call_id=call.provider_call_id,
            direction=call.direction,
            from_=call.from_number,
            to=call.to_number,
            audio=pcm.AudioFormat(self.sample_rate),
            metadata=dict(call.metadata),
            resume=resume,
        )
        messages: list[Frame] = [self._side.start(start)]
        if call.answered_by is not None:
            messages += self.answered_by(call.answered_by, call.message_end)
        if call.transfer is not None:
            messages += self.transfer(call.transfer)
        return messages

    def audio(self, payload: bytes) -> list[Frame]:
        return [self._side.audio(payload)]

    def dtmf(self, digit: str, at_ms: int) -> list[Frame]:
        return [self._side.dtmf(digit, at_ms)]

    def mark(self, name: str, heard: bool) -> list[Frame]:
        return [self._side.mark(name, heard)]

    def cleared(self, heard_ms: int, discarded_ms: int) -> list[Frame]:
        return [self._side.cleared(heard_ms, discarded_ms)]

    def answered_by(self, result: pcm.AnswerResult, message_end: pcm.MessageEnd | None) -> list[Frame]:
        return [self._side.answered_by(result, message_end)]

    def transfer(self, result: pcm.TransferOutcome, reason: str = "") -> list[Frame]:
        return [self._side.transfer(result, reason)]

    def digits_failed(self, reason: str) -> list[Frame]:
        return [self._side.digits_failed(reason)]

    def error(self, code: str, message: str) -> list[Frame]:
        return [self._side.error(code, message)]

    def stop(self, reason: str) -> list[Frame]:
        return [self._side.stop(reason)]

    def receive(self, message: Frame) -> bytes | AgentRequest:
        event = self._side.receive(message)
        return event.pcm if isinstance(event, pcm.Audio) else event


class TwilioLink:
    """An agent that speaks Twilio Media Streams, whatever carries the call.

    What Twilio has no message for (`cleared`, errors, results) is not said; what is known at the start stands in the
    custom parameters. Marks come back as Twilio sends them, also those that `clear` made void.
    """

    encoding: Encoding = "mulaw"
    sample_rate = 8000

    def __init__(self, call: CallDescription, connection: str) -> None:
        """`connection` tells this one from the call's others: each is a stream of its own."""
        self._call = call
        self._stream_sid = "MZ" + derived_id("stream", call.workflow_run_id, connection)
        self.left_out: tuple[str, ...] = ()
        self._carrier = self._play_twilio(None)

    def open(self, resume: pcm.Resume | None) -> list[Frame]:
        if resume is not None:
            self._carrier = self._play_twilio(resume)
        return self._carrier.opening()

    def audio(self, payload: bytes) -> list[Frame]:
        if len(payload) <= 160:
            return [self._carrier.media(payload)]
        return [self._carrier.media(payload[start : start + 160]) for start in range(0, len(payload), 160)]

    def dtmf(self, digit: str, at_ms: int) -> list[Frame]:
        return [self._carrier.dtmf(digit)]

    def mark(self, name: str, heard: bool) -> list[Frame]:
        return [self._carrier.mark(name)]

    def cleared(self, heard_ms: int, discarded_ms: int) -> list[Frame]:
        return []

    def answered_by(self, result: pcm.AnswerResult, message_end: pcm.MessageEnd | None) -> list[Frame]:
        return []

    def transfer(self, result: pcm.TransferOutcome, reason: str = "") -> list[Frame]:
        return []

    def digits_failed(self, reason: str) -> list[Frame]:
        return []

    def error(self, code: str, message: str) -> list[Frame]:
        return []

    def stop(self, reason: str) -> list[Frame]:
        return [self._carrier.stop()]

    def receive(self, message: Frame) -> bytes | AgentRequest:
        faults = self._carrier.violation_count
        command = self._carrier.interpret(message)
        match command:
            case PlayAudio(payload):
                return payload
            case SetMark(name):
                return pcm.MarkRequest(name[: pcm.MAX_NAME])
            case ClearAudio():
                return pcm.ClearRequest()
            case _ if self._carrier.violation_count > faults:
                return pcm.Rejected("bad-message", command.why)
            case _:
                return pcm.Ignored(command.why)

    def _play_twilio(self, resume: pcm.Resume | None) -> TwilioMediaCarrier:
        call = self._call
        return TwilioMediaCarrier(
            stream_sid=self._stream_sid,
            call_sid=_sid("CA", call.provider_call_id),
            account_sid=_sid("AC", call.account),
            parameters=self._parameters(resume),
            strict=False,
        )

    def _parameters(self, resume: pcm.Resume | None) -> dict[str, str]:
        call = self._call
        told: dict[str, Any] = {
            **call.metadata,
            "workflow_run_id": call.workflow_run_id,
            "workflow_id": call.workflow_id,
            "user_id": call.user_id,
            "provider": call.provider,
            "provider_call_id": call.provider_call_id,
            "direction": call.direction,
            "from": call.from_number,
            "to": call.to_number,
        }
        if call.answered_by is not None:
            told["answered_by"] = call.answered_by
        if call.message_end is not None:
            told["message_end"] = call.message_end
        if call.transfer is not None:
            told["transfer_result"] = call.transfer
        if resume is not None:
            told["resume"] = {
                "epoch": resume.epoch,
                "reason": resume.reason,
                "elapsed_ms": resume.elapsed_ms,
                "heard_ms": resume.heard_ms,
                "replayed_ms": resume.replayed_ms,
            }
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in told.items()}
        fitting = {name: text for name, text in texts.items() if len(name) + len(text) <= _MAX_PARAMETER}
        self.left_out = tuple(name for name in texts if name not in fitting)
        return fitting


def _sid(prefix: str, text: str) -> str:
    """A SID of Twilio's shape, which bots check and use as a key: `text` itself if it is one, else a stable
    stand-in.
    """
    return (
        text if re.fullmatch(prefix + "[0-9a-fA-F]{32}", text) else prefix + derived_id("sid", prefix, text)
    )


def subprotocol_for(workflow: WorkflowRecord) -> str | None:
    """The WebSocket subprotocol to offer the agent; Twilio offers none."""
    return pcm.SUBPROTOCOL if workflow.agent_protocol == "pcm" else None


def link_for(workflow: WorkflowRecord, call: CallDescription, connection: str) -> AgentLink:
    """The link the workflow's agent speaks."""
    if workflow.agent_protocol == "twilio":
        return TwilioLink(call, connection)
    return PcmLink(call, workflow.sample_rate)
