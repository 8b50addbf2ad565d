"""What every telephony provider's adapter does, in the field's neutral words.

Adapters are pure: no I/O, no clock, no randomness. The gateway, the bridge and number-sync own the sockets;
they hand the adapter bytes and the time, and carry out what it answers. The provider's REST calls (`rest` in
each room) are described here as plain data; number-sync makes them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

import msgspec
from pydantic import BaseModel

from offhook.events.calls import CallDirection, CallStatus, Leg, Party


class ProviderError(Exception):
    """Base of what an adapter can object to."""


class SignatureFault(StrEnum):
    """Why a request was not believed."""

    MISSING = "signature-missing"
    MALFORMED = "signature-malformed"
    MISMATCH = "signature-mismatch"
    BODY_MISMATCH = "body-hash-mismatch"
    WRONG_ACCOUNT = "wrong-account"
    WRONG_ISSUER = "wrong-issuer"
    TOO_OLD = "token-too-old"
    FROM_THE_FUTURE = "token-from-the-future"


class SignatureError(ProviderError):
    """The request is not proven to come from the provider.

    `tried` are the URL forms the signature was compared with, for the operator's webhook log.
    """

    def __init__(self, fault: SignatureFault, message: str, tried: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.fault = fault
        self.tried = tuple(tried)


class RequestError(ProviderError):
    """The provider's request (already verified, or not yet) cannot be understood. Says what was expected and
    what came."""


class InstructionError(ProviderError):
    """A plan cannot be said in the provider's language: says which limit of the provider it breaks."""


class MediaError(ProviderError):
    """A media message broke the provider's protocol so badly that the session cannot go on."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request (or WebSocket upgrade) as it came, before any framework touched it.

    `origins` are the public base URLs providers may have used, without trailing slash and without path, the
    configured one first: `https://voice.example.com`, `https://voice.example.com:8443`. `path` and `query`
    are the raw bytes of the request target as text (percent-encoding untouched, no `?` in `query`). Header
    names are lower case.
    """

    method: str
    origins: tuple[str, ...]
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def is_upgrade(self) -> bool:
        """Whether the request opens a WebSocket: always a GET (RFC 6455, 4.1).

        What a signature covers depends on it, and any sender can write the header: who takes requests that
        cannot be upgraded leaves it out of `headers`.
        """
        return self.method == "GET" and self.headers.get("upgrade", "").strip().lower() == "websocket"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What to answer the provider with."""

    status: int
    content_type: str | None = None
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Verified:
    """A request that is proven. `replay_key` is set where the provider makes each delivery unique (Vonage
    `jti`): the caller of `verify` remembers it and refuses a second, different use. `url` is the form that
    was signed, if any."""

    replay_key: str | None = None
    issued_at: float | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A webhook that asks what to do with a call. Numbers are E.164 where the provider gave one, else as they
    came (`anonymous`, a SIP URI, `client:name`)."""

    provider_call_id: str
    conversation_id: str | None
    account: str
    from_number: str
    to_number: str
    status: CallStatus | None
    provider_status: str
    direction: CallDirection | None
    error: str | None = None  # set on fallback requests: what went wrong before
    failed_url: str | None = None  # set on fallback requests: the URL that went wrong, where it is known
    raw: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StatusReport:
    """A callback about a call's progress. See `events.calls.StatusReported` for the meaning of the fields.

    `identity` are the parts the event's id is derived from: the same callback delivered twice has the same
    parts. `provider_call_id` is the leg's own id (of a media leg: not the call's), '' if the provider names
    only the conversation; `phone_call_id` is the id of the caller's leg, where the report lets it be known.
    """

    identity: tuple[str, ...]
    provider_call_id: str
    conversation_id: str | None
    account: str
    leg: Leg
    status: CallStatus | None
    provider_status: str
    direction: CallDirection | None = None
    from_number: str | None = None
    to_number: str | None = None
    sequence: int | None = None
    provider_time: datetime | None = None
    duration_s: int | None = None
    sip_code: int | None = None
    price: str | None = None
    price_unit: str | None = None
    answered_by: str | None = None
    detail: str | None = None
    ended_by: Party | None = None
    phone_call_id: str | None = None
    # The provider accepts new instructions in the answer to this request (Vonage `disconnected`, synchronous
    # events).
    wants_instructions: bool = False
    raw: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConnectPlan:
    """How to connect a call's audio to the bridge. All URLs absolute and public.

    `token` is the one-time media token; `continue_url` is asked for new instructions when the stream ends
    while the call lives; `status_url` takes events about the media leg. `sample_rate` is a wish; a provider
    with one fixed rate ignores it.
    """

    media_url: str
    token: str
    continue_url: str
    status_url: str
    workflow_run_id: str
    provider_call_id: str
    sample_rate: int = 16000


class Webhooks(Protocol):
    """A provider's HTTP side, for the gateway. Implemented by `offhook.providers.<name>.webhooks`."""

    def recognises(self, request: HttpRequest) -> bool:
        """Whether the request claims to come from this provider (header and field names only; nothing is
        proven)."""

    def claimed_account(self, request: HttpRequest) -> str | None:
        """The account the request names, *unverified*: only to find the credentials to verify with."""

    def verify(self, request: HttpRequest, credentials: Mapping[str, str], now: float) -> Verified:
        """Prove that the request comes from the account. `now` is Unix time in seconds. Raises
        `SignatureError`.

        Works for webhooks and for WebSocket upgrades (`upgrade: websocket` header; scheme ws/wss in the
        signed URL).
        """

    def unverified_answer(self, fault: SignatureFault) -> HttpAnswer:
        """The refusal of an unproven request (403; Vonage without a token: 503, which Vonage retries)."""

    def parse_call(self, request: HttpRequest) -> CallRequest:
        """Raises `RequestError`."""

    def parse_status(self, request: HttpRequest) -> StatusReport:
        """Raises `RequestError`."""

    def connect(self, plan: ConnectPlan) -> HttpAnswer:
        """Instructions that connect the audio, and that survive the loss of the bridge."""

    def say_and_hang_up(self, text: str, language: str) -> HttpAnswer:
        """Words for the caller, then the end. `text` is meant for people, at most 1000 characters are
        used."""

    def refuse(self, busy: bool) -> HttpAnswer:
        """Refuse the call before it is answered, as silently as the provider can."""

    def hang_up(self) -> HttpAnswer:
        """Instructions that end the call now."""

    def acknowledge(self) -> HttpAnswer:
        """The answer to a status callback that needs none."""


# --- media
# -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StreamStarted:
    """The provider's audio socket introduced itself. `token` is the in-band media token, '' when there was
    none.

    `parameters` are whatever else our instructions put on the stream. `sample_rate` in Hz of both directions.
    """

    stream_id: str
    provider_call_id: str
    account: str | None
    token: str
    sample_rate: int
    parameters: Mapping[str, str]


class Audio(msgspec.Struct, frozen=True, gc=False):
    """Audio from the far end, in the stream's own encoding; `timestamp_ms` since the stream's start, if the
    protocol has one."""

    payload: bytes
    timestamp_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Dtmf:
    digit: str
    duration_ms: int | None = None


@dataclass(frozen=True, slots=True)
class MarkReached:
    """A mark came back. `certain` is False where `clear` was sent while the mark was out: what was before it
    may never have been heard (Twilio returns such marks as well)."""

    name: str
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Cleared:
    """The provider confirms that its buffer is empty (Vonage only).

    `void_marks` are the marks, in order, that were out when `clear` was sent and did not come back: they
    never will.
    """

    void_marks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The provider says the stream is over."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message we do not know or could not read; the session goes on. `why` is for the log and counters."""

    why: str


MediaEvent = StreamStarted | Audio | Dtmf | MarkReached | Cleared | StreamStopped | Ignored
Frame = bytes | str
"""One WebSocket message: bytes is binary, str is text."""


class MediaServer(Protocol):
    """The server role of a provider's media protocol, sans I/O: what the bridge speaks southbound. One object
    a socket.

    Audio in and out is in `encoding` at `sample_rate` (both known after `StreamStarted`). All `send_*` return
    the WebSocket messages to write, in order.
    """

    encoding: Literal["mulaw", "pcm_s16le"]
    sample_rate: int

    def receive(self, message: Frame) -> MediaEvent:
        """Interpret one message. Raises `MediaError` when the session cannot go on (e.g. audio before the
        start)."""

    def send_audio(self, payload: bytes) -> list[Frame]:
        """Whole 20 ms frames or any length; the protocol cuts and pads as its provider requires."""

    def flush_audio(self) -> list[Frame]:
        """Whatever `send_audio` holds back for a whole frame, padded with silence."""

    def send_mark(self, name: str) -> list[Frame]: ...

    def send_clear(self) -> list[Frame]: ...


@dataclass(frozen=True, slots=True)
class Violation:
    """What a carrier would reject or warn about in what a media server sent. `code` is the vendor's error
    number where there is one (Twilio 31951), else a word of ours (`frame-size`)."""

    code: str
    message: str


class PlayAudio(msgspec.Struct, frozen=True, gc=False):
    """The server wants this played to the caller; in the stream's encoding."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class SetMark:
    """The server wants to hear of `name` when everything before it was played."""

    name: str


@dataclass(frozen=True, slots=True)
class ClearAudio:
    """The server wants everything that is queued dropped."""


CarrierCommand = PlayAudio | SetMark | ClearAudio | Ignored


class MediaCarrier(Protocol):
    """The carrier role of a provider's media protocol, sans I/O: what the simulator plays, and the bridge
    towards an agent that speaks this protocol. One object a socket.

    Either use `receive` and `tick`, which keep a playout buffer (time is given, in ms, never going back), or
    use `interpret` and keep your own. Violations are collected in `violations`, the first 1000 of
    `violation_count`.
    """

    encoding: Literal["mulaw", "pcm_s16le"]
    sample_rate: int

    @property
    def violations(self) -> list[Violation]: ...

    @property
    def violation_count(self) -> int: ...

    def opening(self) -> list[Frame]:
        """The messages that introduce the stream."""

    def send_audio(self, payload: bytes) -> list[Frame]:
        """One frame of the caller's audio."""

    def send_dtmf(self, digit: str) -> list[Frame]: ...

    def send_mark(self, name: str) -> list[Frame]:
        """Tell the server that a mark was reached (or is void)."""

    def send_cleared(self) -> list[Frame]:
        """Tell the server that its audio was dropped; nothing where the protocol has no such message."""

    def closing(self) -> list[Frame]:
        """The messages that end the stream, if the protocol has any; then close the socket."""

    def interpret(self, message: Frame) -> CarrierCommand:
        """Understand one message of the server. Never raises; what is wrong with it becomes a violation."""

    def receive(self, message: Frame, now_ms: float) -> list[Frame]:
        """`interpret`, then queue, mark or clear. Returns the messages to send at once."""

    def tick(self, now_ms: float) -> list[Frame]:
        """Play until `now_ms`. Returns the marks reached, as messages to send."""

    def take_played(self) -> bytes:
        """The audio played since the last call (without the silence between); at most the last minute."""

    @property
    def buffered_ms(self) -> float:
        """How much audio waits to be played, as of the last `receive` or `tick`."""


# --- REST: what number-sync asks a provider for
# --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dial:
    """An outbound call to place. URLs absolute and public."""

    from_number: str
    to_number: str
    answer_url: str
    status_url: str
    fallback_url: str
    ring_timeout_s: int = 60


@dataclass(frozen=True, slots=True)
class Dialled:
    """The provider's acceptance of an outbound call."""

    provider_call_id: str
    conversation_id: str | None
    provider_status: str


class RestError(ProviderError):
    """A provider's REST API refused or failed.

    `kind`: `credentials` (wrong or suspended), `rejected` (the provider will never accept this), `gone` (no
    such call, or it has ended), `too-early` (try again in seconds), `busy` (429: retry later), `unavailable`
    (5xx, retry later), `unknown-outcome` (the answer was lost: it may or may not have happened).
    """

    def __init__(
        self,
        kind: Literal[
            "credentials", "rejected", "gone", "too-early", "busy", "unavailable", "unknown-outcome"
        ],
        code: str,
        message: str,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.retry_after_s = retry_after_s


class Rest(Protocol):
    """A provider's REST API for one account, through the vendor's official SDK. Blocking: call it in a
    thread.

    `offhook.providers.<name>.rest` holds it; it is imported by number-sync only, so that nothing else needs
    the SDKs.
    """

    def dial(self, dial: Dial) -> Dialled:
        """Raises `RestError`."""

    def hang_up(self, provider_call_id: str) -> None:
        """End the call. A call that has already ended is `RestError(kind="gone")`."""


class RestFactory(Protocol):
    """Makes a `Rest`. `base_url` replaces scheme, host and port of the provider's API; None is the real
    provider."""

    def __call__(
        self, credentials: Mapping[str, str], base_url: str | None = None, timeout_s: float = 10
    ) -> Rest: ...


# --- the adapter
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ProviderAdapter:
    """Everything pure that is special to one provider, in one hand. `registry.PROVIDERS` has one of each.

    `account_of` reads from credentials what the provider's requests name (see `ConfigurationRecord.account`).
    """

    name: str
    label: str
    webhooks: Webhooks
    media_server: Callable[[], MediaServer]
    credentials_model: type[BaseModel]
    account_of: Callable[[Mapping[str, str]], str]


@dataclass(frozen=True, slots=True)
class CredentialField:
    """One field of a credentials form. Secret ones are never shown again."""

    name: str
    label: str
    help: str
    secret: bool
    required: bool


def credential_fields(model: type[BaseModel]) -> tuple[CredentialField, ...]:
    """The fields of a credentials model, in order, for forms and for masking."""
    fields = []
    for name, info in model.model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        fields.append(
            CredentialField(
                name,
                info.title or name,
                info.description or "",
                bool(extra.get("secret")),
                info.is_required(),
            )
        )
    return tuple(fields)
