"""A provider's HTTP side: what it asks and reports, and what it can be answered. For the gateway."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from offhook.events.calls import CallDirection, CallStatus, Leg, MessageEnd, Party, TransferResult
from offhook.providers.errors import SignatureFault

GOING_ON: Final[Literal["going on"]] = "going on"
TransferProgress = TransferResult | Literal["going on"]
"""What became of a transfer, or that nothing has become of it yet."""


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
    was signed, if any. `retry_key` is what a delivery and the provider's own retry of it have in common, where the
    provider says so beside what it signs: good for telling people, for nothing else."""

    replay_key: str | None = None
    issued_at: float | None = None
    url: str | None = None
    retry_key: str | None = None


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
    message_end: MessageEnd | None = None
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
    with one fixed rate ignores it. `transfer`: the call comes back from a transfer with this result; the bridge finds
    it in `StreamStarted.parameters["transfer"]`.
    """

    media_url: str
    token: str
    continue_url: str
    status_url: str
    workflow_run_id: str
    provider_call_id: str
    sample_rate: int = 16000
    transfer: TransferResult | None = None


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

    def parse_transfer(self, request: HttpRequest) -> TransferProgress | None:
        """What a request to the `result_url` of `Documents.cold` says became of the other party's call.

        None: it is not about another party at all. Raises `RequestError`.
        """

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
