"""`offhook.pcm.v1`: the bridge and an agent talk over one WebSocket. Both roles, sans I/O.

Binary messages are audio: signed 16-bit little-endian PCM, mono, at 8, 16 or 24 kHz. Text messages are JSON
objects with an `event`. The bridge dials and speaks first:

    bridge                                    agent
      | start ------------------------------->  |     once, before anything else
      | binary (whole 20 ms frames) --------->  |     the caller
      | dtmf, mark, cleared, answered-by, … ->  |
      |  <------------------------------ binary |     any even number of bytes, faster than real time if it
      likes
      |  <-------- mark, clear, hangup, dtmf, … |
      | stop -------------------------------->  |     once; then the socket is closed with 1000

Both sides ignore events and fields they do not know, so either may be newer. What an agent sends and the
bridge cannot make sense of is answered with `error`; the call goes on. What the bridge sends and an agent
cannot make sense of is a `RemoteProtocolError`: an agent cannot take a call it does not understand. The
published form is `docs/agent-protocol.md` with `docs/agent-protocol.schema.json`.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final, Literal, get_args

import msgspec

from offhook.audio import FRAME_MS, RATES, RateError

SUBPROTOCOL: Final = "offhook.pcm.v1"
VERSION: Final = 1
ENCODING: Final = "pcm_s16le"

MAX_TEXT: Final = 64 * 1024
"""Characters of a text message from the agent; longer ones are refused."""

MAX_AUDIO: Final = 1024 * 1024
"""Bytes of a binary message from the agent; longer ones are refused."""

MAX_NAME: Final = 256
"""Characters of a mark's name."""

Direction = Literal["inbound", "outbound"]
ResumeReason = Literal["agent-lost", "bridge-lost", "transfer"]
AnswerResult = Literal["human", "machine", "fax", "unknown"]
MessageEnd = Literal["beep", "silence", "other"]
TransferOutcome = Literal["completed", "declined", "busy", "no-answer", "failed", "unsupported"]


class ProtocolError(Exception):
    """Base of what can be wrong with a conversation in this protocol."""


class LocalProtocolError(ProtocolError):
    """We tried to say something that may not be said now: a mistake in our own code."""


class RemoteProtocolError(ProtocolError):
    """The other side said something we cannot go on from. Says what was expected and what came."""


# --- what goes over the wire
# -------------------------------------------------------------------------------------


class AudioFormat(msgspec.Struct, frozen=True):
    """`sample_rate` in Hz, of both directions."""

    sample_rate: int
    encoding: str = ENCODING


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """The call is not new: another agent or another bridge had it before, or a transfer brought it back.

    `epoch` counts the media sessions of the call from 1. `elapsed_ms`: since the call's first stream started.
    `heard_ms`: how much the caller heard of what was being said when it broke off. `replayed_ms`: caller
    audio from before this message that now follows it, before live audio.
    """

    epoch: int
    reason: ResumeReason
    elapsed_ms: int = 0
    heard_ms: int = 0
    replayed_ms: int = 0


class Start(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", tag="start"):
    """The bridge's first message. `from_` and `to` are E.164 where the provider gave a number, '' when
    unknown.
    """

    workflow_run_id: str
    workflow_id: str
    user_id: str
    provider: str
    provider_call_id: str
    direction: Direction
    audio: AudioFormat
    from_: str = msgspec.field(name="from", default="")
    to: str = ""
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    resume: Resume | None = None
    version: int = VERSION


class Dtmf(msgspec.Struct, frozen=True, tag_field="event", tag="dtmf"):
    """The caller pressed a key. `at_ms`: since the stream's start."""

    digit: str
    at_ms: int = 0


class Mark(msgspec.Struct, frozen=True, tag_field="event", tag="mark"):
    """Everything before the mark was played (`heard`), or was cleared or lost. Exactly once for each mark."""

    name: str
    heard: bool = True


class Cleared(msgspec.Struct, frozen=True, tag_field="event", tag="cleared"):
    """The answer to `clear`: of what was sent since the last silence, what the caller heard and what is
    forgotten.
    """

    heard_ms: int = 0
    discarded_ms: int = 0


class AnsweredBy(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", tag="answered-by"):
    """Who picked up an outbound call, as far as the carrier can tell. `message_end`: a machine's greeting is over, and it
    records from now on; where the carrier tells it later, this comes a second time."""

    result: AnswerResult
    message_end: MessageEnd | None = None


class TransferResult(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", tag="transfer"):
    """How a transfer ended. Who is told still has the caller, or has him again. `reason`: why it was not begun."""

    result: TransferOutcome
    reason: str = ""


class DigitsResult(msgspec.Struct, frozen=True, tag_field="event", tag="digits"):
    """Keys that the carrier was to press were not pressed, or nobody knows (`outcome-unknown`)."""

    reason: str
    result: Literal["failed"] = "failed"


class ErrorReport(msgspec.Struct, frozen=True, tag_field="event", tag="error"):
    """Something the agent sent was not done; the session goes on. `code` is a word of `ERROR_CODES`."""

    code: str
    message: str


class Stop(msgspec.Struct, frozen=True, tag_field="event", tag="stop"):
    """The call is over, or no longer here. The socket is closed next."""

    reason: str


class MarkRequest(msgspec.Struct, frozen=True, tag_field="event", tag="mark"):
    """Tell me when everything so far was heard."""

    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME)]


class ClearRequest(msgspec.Struct, frozen=True, tag_field="event", tag="clear"):
    """Stop playing now and forget the rest."""


class HangupRequest(msgspec.Struct, frozen=True, tag_field="event", tag="hangup"):
    """End the call. Takes effect at once: wait for a mark first if the last words shall be heard."""

    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


class TransferRequest(msgspec.Struct, frozen=True, tag_field="event", tag="transfer"):
    """Connect the caller to somebody else (`to`, E.164): at once (`cold`), or after talking to them (`warm`).

    `join`, in the call to whom that was, puts the caller who waits through to them; `to` is not needed.
    """

    to: Annotated[str, msgspec.Meta(pattern=r"^(\+[1-9][0-9]{1,14})?\Z")] = ""
    mode: Literal["cold", "warm", "join"] = "cold"

    def __post_init__(self) -> None:
        if not self.to and self.mode != "join":
            raise ValueError("`to` is missing: the number to connect the caller to")


class DtmfRequest(msgspec.Struct, frozen=True, tag_field="event", tag="dtmf"):
    """Press keys on the agent's side; `w` is a pause of half a second."""

    digits: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-D*#w]{1,32}\Z")]


ERROR_CODES: Final = {
    "bad-audio": "A binary message is not whole samples, or too long; it was not played.",
    "bad-message": "A text message is not JSON, has no `event`, or lacks what it needs; it was ignored.",
    "audio-overflow": "More audio waits than the bridge holds; the end of it was not taken.",
    "too-many-marks": "More marks wait than the bridge holds; this one counts as not heard.",
    "unsupported": "The call control asked for is not available on this call.",
    "transfer-pending": "A transfer is under way; this one was not begun.",
    "too-many-transfers": "More transfers were asked for than one session may; this one was not begun.",
    "too-many-keys": "More keys were pressed than one session may; these were not.",
}
"""The words of `ErrorReport.code`."""

BridgeMessage = (
    Start | Dtmf | Mark | Cleared | AnsweredBy | TransferResult | DigitsResult | ErrorReport | Stop
)
AgentMessage = MarkRequest | ClearRequest | HangupRequest | TransferRequest | DtmfRequest


# --- what `receive` returns beside these messages
# ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Audio:
    """PCM in the session's sample rate."""

    pcm: bytes


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event this version does not know."""

    event: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message of the agent that cannot be used. The bridge sends it back as `error` and goes on."""

    code: str
    message: str


class _Envelope(msgspec.Struct):
    event: str


# What decoding raises for what came: nothing else must escape it.
_DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeEncodeError, RecursionError)

_ENCODER: Final = msgspec.json.Encoder()
_ENVELOPE: Final = msgspec.json.Decoder(_Envelope)


def _decoders(union: Any) -> dict[str, msgspec.json.Decoder[Any]]:
    return {message.__struct_config__.tag: msgspec.json.Decoder(message) for message in get_args(union)}


_FROM_BRIDGE: Final = _decoders(BridgeMessage)
_FROM_AGENT: Final = _decoders(AgentMessage)


def _encode(message: BridgeMessage | AgentMessage) -> str:
    return _ENCODER.encode(message).decode()


@dataclass(slots=True)
class PcmBridgeSide:
    """The bridge's role. One object a connection; the caller owns the socket.

    You must send `start` first and `stop` last; everything else lies between, in any order. Every method
    returns the message to write. Raises `LocalProtocolError` when used otherwise, `RateError` for an unusual
    sample rate.
    """

    sample_rate: int
    subprotocol: ClassVar[str] = SUBPROTOCOL
    _state: Literal["new", "open", "stopped"] = field(default="new", init=False)

    def __post_init__(self) -> None:
        if self.sample_rate not in RATES:
            raise RateError(f"a rate of {self.sample_rate} Hz is not one of {', '.join(map(str, RATES))}")

    @property
    def frame_bytes(self) -> int:
        """Size of one 20 ms frame."""
        return self.sample_rate * FRAME_MS // 1000 * 2

    def start(self, start: Start) -> str:
        if self._state != "new":
            raise LocalProtocolError("`start` is sent once, before everything else")
        if start.audio.sample_rate != self.sample_rate:
            raise LocalProtocolError(
                f"announced {start.audio.sample_rate} Hz on a link of {self.sample_rate} Hz"
            )
        self._state = "open"
        return _encode(start)

    def audio(self, pcm: bytes) -> bytes:
        """Caller audio: one or more whole 20 ms frames."""
        self._must_be_open()
        if not pcm or len(pcm) % self.frame_bytes:
            raise LocalProtocolError(
                f"caller audio must be whole frames of {self.frame_bytes} bytes, not {len(pcm)}"
            )
        return pcm

    def dtmf(self, digit: str, at_ms: int) -> str:
        return self._say(Dtmf(digit, at_ms))

    def mark(self, name: str, heard: bool) -> str:
        return self._say(Mark(name, heard))

    def cleared(self, heard_ms: int, discarded_ms: int) -> str:
        return self._say(Cleared(heard_ms, discarded_ms))

    def answered_by(self, result: AnswerResult, message_end: MessageEnd | None = None) -> str:
        return self._say(AnsweredBy(result, message_end))

    def transfer(self, result: TransferOutcome, reason: str = "") -> str:
        return self._say(TransferResult(result, reason))

    def digits_failed(self, reason: str) -> str:
        return self._say(DigitsResult(reason))

    def error(self, code: str, message: str) -> str:
        """`code` is one of `ERROR_CODES`."""
        return self._say(ErrorReport(code, message))

    def stop(self, reason: str) -> str:
        self._must_be_open()
        self._state = "stopped"
        return _encode(Stop(reason))

    def receive(self, message: bytes | str) -> Audio | AgentMessage | Ignored | Rejected:
        """Interpret one message of the agent: `bytes` is binary, `str` is text. Never raises for what the
        agent did.
        """
        if isinstance(message, bytes):
            if len(message) & 1:
                return Rejected("bad-audio", f"audio must be an even number of bytes, not {len(message)}")
            if len(message) > MAX_AUDIO:
                return Rejected("bad-audio", f"at most {MAX_AUDIO} bytes in one message, not {len(message)}")
            return Audio(message)
        if len(message) > MAX_TEXT:
            return Rejected(
                "bad-message", f"at most {MAX_TEXT} characters in one message, not {len(message)}"
            )
        try:
            event = _ENVELOPE.decode(message).event
        except _DECODE_ERRORS as error:
            return Rejected("bad-message", f"expected a JSON object with an `event`: {error}")
        decoder = _FROM_AGENT.get(event)
        if decoder is None:
            return Ignored(event[:MAX_NAME])
        try:
            request: AgentMessage = decoder.decode(message)
        except _DECODE_ERRORS as error:
            return Rejected("bad-message", f"{event}: {error}")
        return request

    def _say(self, message: BridgeMessage) -> str:
        self._must_be_open()
        return _encode(message)

    def _must_be_open(self) -> None:
        if self._state != "open":
            raise LocalProtocolError("nothing may be sent before `start` or after `stop`")


@dataclass(slots=True)
class PcmAgentSide:
    """The agent's role. One object a connection; the caller owns the socket.

    You must hand every message to `receive` in order, the first of which is `Start`; after `Stop` nothing
    more may be sent. The methods return the message to write and raise `LocalProtocolError` when used before
    the start, after the stop, or with something the bridge would refuse.
    """

    subprotocol: ClassVar[str] = SUBPROTOCOL
    started: Start | None = field(default=None, init=False)
    stopped: bool = field(default=False, init=False)

    def receive(self, message: bytes | str) -> Audio | BridgeMessage | Ignored:
        """Interpret one message of the bridge. Raises `RemoteProtocolError`."""
        if isinstance(message, bytes):
            if self.started is None:
                raise RemoteProtocolError("expected `start` first, but audio came")
            if len(message) & 1:
                raise RemoteProtocolError(f"audio must be an even number of bytes, not {len(message)}")
            return Audio(message)
        try:
            event = _ENVELOPE.decode(message).event
            decoder = _FROM_BRIDGE.get(event)
            said: BridgeMessage | None = decoder.decode(message) if decoder else None
        except _DECODE_ERRORS as error:
            raise RemoteProtocolError(f"expected an event of {SUBPROTOCOL}: {error}") from error
        if self.started is None:
            self.started = _checked_start(said, event)
        elif isinstance(said, Start):
            raise RemoteProtocolError("`start` came twice")
        elif isinstance(said, Stop):
            self.stopped = True
        return Ignored(event) if said is None else said

    def audio(self, pcm: bytes) -> bytes:
        """Audio to play, in the session's sample rate: any even number of bytes up to `MAX_AUDIO`."""
        self._must_be_open()
        if len(pcm) & 1 or len(pcm) > MAX_AUDIO:
            raise LocalProtocolError(
                f"audio must be an even number of at most {MAX_AUDIO} bytes, not {len(pcm)}"
            )
        return pcm

    def mark(self, name: str) -> str:
        if len(name) > MAX_NAME:
            raise LocalProtocolError(f"a mark's name has at most {MAX_NAME} characters, not {len(name)}")
        return self._say(MarkRequest(name))

    def clear(self) -> str:
        return self._say(ClearRequest())

    def hangup(self, reason: str = "") -> str:
        return self._say(HangupRequest(reason[:500]))

    def transfer(self, to: str, mode: Literal["cold", "warm"] = "cold") -> str:
        if not to:
            raise LocalProtocolError("a transfer needs the number to connect the caller to")
        return self._say(TransferRequest(to, mode))

    def join(self) -> str:
        """In the call to whom a warm transfer goes: put the caller who waits through."""
        return self._say(TransferRequest(mode="join"))

    def dtmf(self, digits: str) -> str:
        return self._say(DtmfRequest(digits))

    def _say(self, message: AgentMessage) -> str:
        self._must_be_open()
        text = _encode(message)
        try:
            _FROM_AGENT[message.__struct_config__.tag].decode(text)  # type: ignore[index]  # every message has a tag
        except msgspec.ValidationError as error:
            raise LocalProtocolError(f"the bridge would refuse this: {error}") from error
        return text

    def _must_be_open(self) -> None:
        if self.started is None:
            raise LocalProtocolError("nothing may be sent before the bridge's `start` came")
        if self.stopped:
            raise LocalProtocolError("nothing may be sent after the bridge's `stop`")


def _checked_start(said: BridgeMessage | None, event: str) -> Start:
    if not isinstance(said, Start):
        raise RemoteProtocolError(f"expected `start` first, but `{event}` came")
    if said.version != VERSION:
        raise RemoteProtocolError(f"expected version {VERSION}, not {said.version}")
    if said.audio.encoding != ENCODING or said.audio.sample_rate not in RATES:
        raise RemoteProtocolError(
            f"expected {ENCODING} at one of {', '.join(map(str, RATES))} Hz, not {said.audio.encoding} "
            f"at {said.audio.sample_rate} Hz"
        )
    return said
