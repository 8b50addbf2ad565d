"""What number-sync publishes on the compacted topics, as the other services see it.

A record is the whole truth about its key; a tombstone deletes it. Secrets travel sealed (`security.keyring`).
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from offhook.events.calls import CallDirection, CallStatus, Party
from offhook.events.envelope import EventData


class DiallingRules(EventData):
    """Where a configuration may call. `countries`: ISO 3166 codes, empty means everywhere; a number that begins with one
    of `denied_prefixes` (E.164) is never called, one that begins with one of `allowed_prefixes` always is."""

    countries: tuple[str, ...] = ()
    allowed_prefixes: tuple[str, ...] = ()
    denied_prefixes: tuple[str, ...] = ()


class ConfigurationRecord(EventData):
    """A user's account at a provider. `account` is what the provider's requests name: Twilio Account SID, Vonage application id.

    `sealed_credentials` opens (with `Keyring.open`, context `configuration_id`) to the JSON of the provider's credentials model.
    """

    TYPE: ClassVar[str] = "record.configuration.v1"
    configuration_id: str
    user_id: str
    provider: str
    name: str
    account: str
    sealed_credentials: str
    paused: bool = False
    default_for_outbound: bool = False
    verification: Literal["verified", "refused", "not-verified"] = "not-verified"
    dialling_rules: DiallingRules = Field(default_factory=DiallingRules)
    max_concurrent_calls: int | None = None
    max_calls_per_s: float | None = None


class NumberRecord(EventData):
    """A phone number (E.164) of a configuration; `workflow_id` answers its calls, None means nobody does."""

    TYPE: ClassVar[str] = "record.number.v1"
    number_id: str
    configuration_id: str
    user_id: str
    e164: str
    label: str = ""
    active: bool = True
    workflow_id: str | None = None
    default_caller_id: bool = False


class NoAgentFallback(EventData):
    """What the caller hears when no agent answers; the call then ends."""

    message: str = "We are sorry, nobody can take your call right now. Please try again later."
    language: str = "en-US"


class WorkflowRecord(EventData):
    """Which agent takes a call. `sample_rate` in Hz applies to the `pcm` protocol; `twilio` is always 8 kHz mu-law.

    `sealed_headers` opens (context `workflow_id`) to a JSON object of HTTP headers for the agent's handshake; None: no headers.
    """

    TYPE: ClassVar[str] = "record.workflow.v1"
    workflow_id: str
    user_id: str
    name: str
    agent_url: str
    agent_protocol: Literal["pcm", "twilio"] = "pcm"
    sample_rate: Literal[8000, 16000, 24000] = 16000
    sealed_headers: str | None = None
    record_audio: bool = False
    fallback: NoAgentFallback = Field(default_factory=NoAgentFallback)
    metadata: dict[str, Any] = Field(default_factory=dict)


class ApiKeyRecord(EventData):
    """An API key of a user. `digest` is the SHA-256 of the key, 64 hexadecimal digits; the key itself is nowhere."""

    TYPE: ClassVar[str] = "record.api-key.v1"
    key_id: str
    user_id: str
    digest: str
    label: str = ""
    revoked: bool = False


class PublicUrlRecord(EventData):
    """Where providers reach the installation, e.g. `https://voice.example.com`; no trailing slash. Key: `public-url`."""

    KEY: ClassVar[str] = "public-url"
    TYPE: ClassVar[str] = "record.public-url.v1"
    url: str


class RecordingFacts(EventData):
    """The recording of a call. See `events.RecordingStored`."""

    key: str
    duration_ms: int
    size_bytes: int
    gaps_ms: tuple[tuple[int, int], ...] = ()
    delete_after: str | None = None


class CallState(EventData):
    """The record of a call as call-tracker knows it now (topic `telephony.call-states.v1`, and the calls API).

    `end_detail`: why the call was refused, or its dialling given up, in the word of who did. `reconciled`: the end was
    learned by asking the provider. `transfer`: what became of the last transfer. `transfer_of`:
    the run whose caller this call was to take over.
    """

    TYPE: ClassVar[str] = "record.call-state.v1"
    workflow_run_id: str
    workflow_id: str | None
    user_id: str | None
    configuration_id: str | None
    provider: str | None
    provider_call_id: str | None
    direction: CallDirection | None
    from_number: str | None
    to_number: str | None
    status: CallStatus
    statuses: tuple[CallStatus, ...]
    end_reason: str | None = None
    ended_by: Party | None = None
    end_detail: str | None = None
    requested_at: str | None = None
    ringing_at: str | None = None
    answered_at: str | None = None
    ended_at: str | None = None
    duration_s: int | None = None
    ring_ms: int | None = None
    talk_ms: int | None = None
    sip_code: int | None = None
    price: str | None = None
    price_unit: str | None = None
    answered_by: str | None = None
    message_end: str | None = None
    reconciled: bool = False
    transfer: str | None = None
    transfer_of: str | None = None
    recording: RecordingFacts | None = None
    caller_audio_ms: int = 0
    agent_audio_ms: int = 0
    metadata: dict[str, Any] = Field(default_factory=dict)
