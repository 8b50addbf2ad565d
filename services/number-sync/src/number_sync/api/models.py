"""What goes in and out of the API, as JSON. What is sent is checked here for form; what it means, by the domain."""

import json
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from number_sync.dialling_rules import MOST_CALLS_PER_S, MOST_CONCURRENT_CALLS, MOST_PREFIXES
from number_sync.paging import MAX_LIMIT
from offhook.identities import ID_PATTERN
from offhook.records import DiallingRules

MAX_METADATA_BYTES: Final = 4096
MOST_COUNTRIES: Final = 300


def _clean(text: str) -> str:
    if not text.isprintable():
        raise ValueError("no line breaks and no control characters")
    return text


def _bounded_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        # Python reads NaN, infinities and lone surrogates; JSON has none of them, and PostgreSQL refuses them.
        size = len(json.dumps(value, allow_nan=False, ensure_ascii=False).encode())
    except (ValueError, RecursionError):
        raise ValueError("it cannot be written as JSON") from None
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"at most {MAX_METADATA_BYTES} bytes as JSON, this has {size}")
    return value


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_clean)
]
Label = Annotated[str, StringConstraints(strip_whitespace=True, max_length=100), AfterValidator(_clean)]
Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Text = Annotated[str, StringConstraints(max_length=16384)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_bounded_json)]
Headers = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=100)], Annotated[str, StringConstraints(max_length=8192)]
    ],
    Field(max_length=50),
]
Credentials = Annotated[
    dict[Annotated[str, StringConstraints(max_length=64)], Text | None], Field(max_length=50)
]
Prefixes = Annotated[list[Annotated[str, StringConstraints(max_length=64)]], Field(max_length=MOST_PREFIXES)]
ConcurrentCalls = Annotated[int | None, Field(ge=1, le=MOST_CONCURRENT_CALLS)]
CallsPerSecond = Annotated[float | None, Field(ge=0.01, le=MOST_CALLS_PER_S, allow_inf_nan=False)]
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Cursor = Annotated[str | None, Query(pattern=ID_PATTERN)]


class Strict(BaseModel):
    """A misspelt field is told, not ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class DiallingRulesIn(Strict):
    """`countries`: ISO 3166-1 codes, two letters; none: every country. Numbers that begin with one of `denied_prefixes`
    (E.164) are never called; those that begin with one of `allowed_prefixes` are called whatever their country."""

    countries: Annotated[
        list[Annotated[str, StringConstraints(max_length=12)]], Field(max_length=MOST_COUNTRIES)
    ] = []
    allowed_prefixes: Prefixes = []
    denied_prefixes: Prefixes = []


class ConfigurationIn(Strict):
    """`credentials`: the fields that `GET /telephony-configurations/providers` lists for the provider.

    `repair_drift`: settings that somebody else changed at the provider are set again; false: only reported.
    `max_concurrent_calls`, `max_calls_per_s`: how many calls, in and out, may be live and may begin in a second; null: no
    limit here.
    """

    name: Name
    provider: Annotated[str, StringConstraints(max_length=32)]
    credentials: Credentials
    paused: bool = False
    default_for_outbound: bool = False
    repair_drift: bool = True
    dialling_rules: DiallingRulesIn = Field(default_factory=DiallingRulesIn)
    max_concurrent_calls: ConcurrentCalls = None
    max_calls_per_s: CallsPerSecond = None


class ConfigurationChange(Strict):
    """What is left out stays. A credential sent as a mask stays, sent as null is removed. `dialling_rules` replace all
    of them."""

    name: Name = Field(default="")
    provider: Annotated[str, StringConstraints(max_length=32)] = ""
    credentials: Credentials = Field(default_factory=dict)
    paused: bool = False
    default_for_outbound: bool = False
    repair_drift: bool = True
    dialling_rules: DiallingRulesIn = Field(default_factory=DiallingRulesIn)
    max_concurrent_calls: ConcurrentCalls = None
    max_calls_per_s: CallsPerSecond = None


class NumberIn(Strict):
    """`number`: E.164, or as it is written in `country` (ISO 3166-1, two letters)."""

    number: Annotated[str, StringConstraints(max_length=200)]
    country: Annotated[str | None, StringConstraints(max_length=12)] = None
    label: Label = ""
    active: bool = True
    workflow_id: Id | None = None
    default_caller_id: bool = False


class NumberChange(Strict):
    """What is left out stays; `workflow_id` null: nobody answers. The number itself cannot change."""

    label: Label = ""
    active: bool = True
    workflow_id: Id | None = None
    default_caller_id: bool = False


class Fallback(Strict):
    """What the caller hears when no agent answers; `language` is a BCP 47 tag such as en-US."""

    message: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), AfterValidator(_clean)
    ] = "We are sorry, nobody can take your call right now. Please try again later."
    language: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}$")] = "en-US"


class WorkflowIn(Strict):
    """`sample_rate` in Hz is for the protocol `pcm`. All values of `headers` are treated as secrets."""

    name: Name
    agent_url: Annotated[str, StringConstraints(max_length=4096)]
    agent_protocol: Literal["pcm", "twilio"] = "pcm"
    sample_rate: Literal[8000, 16000, 24000] = 16000
    headers: Headers = Field(default_factory=dict)
    record_audio: bool = False
    fallback: Fallback = Field(default_factory=Fallback)
    metadata: Metadata = Field(default_factory=dict)


class WorkflowChange(Strict):
    """What is left out stays. `headers` replaces all headers; a value sent as a mask keeps the stored one of that name."""

    name: Name = Field(default="")
    agent_url: Annotated[str, StringConstraints(max_length=4096)] = ""
    agent_protocol: Literal["pcm", "twilio"] = "pcm"
    sample_rate: Literal[8000, 16000, 24000] = 16000
    headers: Headers = Field(default_factory=dict)
    record_audio: bool = False
    fallback: Fallback = Field(default_factory=Fallback)
    metadata: Metadata = Field(default_factory=dict)


class CredentialFieldOut(BaseModel):
    name: str
    label: str
    help: str
    secret: bool
    required: bool


class ProviderOut(BaseModel):
    """A provider and the fields of its credentials, for forms."""

    name: str
    label: str
    credentials: list[CredentialFieldOut]


class ProvidersOut(BaseModel):
    providers: list[ProviderOut]


class WebhooksOut(BaseModel):
    """What to enter at the provider. One set of URLs serves every configuration."""

    inbound_url: str
    fallback_url: str
    status_url: str


class VerificationOut(BaseModel):
    """What the provider said to the credentials. `code` and `sentence`, with the remedy, say why they are refused or not
    verified; `at` is when the provider was asked."""

    state: Literal["verified", "refused", "not-verified"]
    code: str | None
    sentence: str | None
    at: datetime | None


class TestOut(VerificationOut):
    """`account_name`: what the provider calls the account."""

    __test__ = False  # not a test, whatever its name says

    account_name: str | None


class CountsOut(BaseModel):
    """How many of the configuration's numbers are in which sync state."""

    total: int
    pending: int
    synced: int
    drifted: int
    failed: int
    detached: int


class ConfigurationOut(BaseModel):
    """`account`: the provider's name for it. Secret credentials are masked; null where nothing is stored.

    `credentials` is null as a whole when they cannot be opened (`verification.code` is then `key-lost`). `webhooks` is
    null while the installation has no public URL.
    """

    configuration_id: str
    name: str
    provider: str
    account: str
    credentials: dict[str, str | None] | None
    verification: VerificationOut
    paused: bool
    default_for_outbound: bool
    repair_drift: bool
    dialling_rules: DiallingRules
    max_concurrent_calls: int | None
    max_calls_per_s: float | None
    numbers: CountsOut
    webhooks: WebhooksOut | None
    created_at: datetime
    updated_at: datetime


class ConfigurationsOut(BaseModel):
    configurations: list[ConfigurationOut]
    next_cursor: str | None


class DifferenceOut(BaseModel):
    """A setting by the provider's own name; an empty text is "not set"."""

    setting: str
    wanted: str
    found: str


class DriftOut(BaseModel):
    """The last time somebody else had changed the number's settings, and whether they were set again."""

    at: datetime
    differs: list[DifferenceOut]
    repaired: bool


class SyncOut(BaseModel):
    """Where the number stands at its provider.

    `state`: `pending` (to be set), `synced` (seen to be as wanted), `drifted` (somebody changed it), `failed`,
    `detached` (nothing of ours is set: nobody answers here). `reason` is a documented code, `sentence` and `remedy` are
    for people. `differs` and `compared` are of the comparison at `compared_at`; `changed_at` is when the state changed,
    `pushed_at` when something was last set, `next_at` when it will be compared again (null: not before something changes).
    """

    state: Literal["pending", "synced", "drifted", "failed", "detached"]
    reason: str | None
    sentence: str | None
    remedy: str | None
    differs: list[DifferenceOut]
    compared: list[str]
    compared_at: datetime | None
    changed_at: datetime | None
    pushed_at: datetime | None
    last_drift: DriftOut | None
    next_at: datetime | None


class LastCallOut(BaseModel):
    """The last call that came in, at `at`. `answered` and `completed` mean that an agent took it. `answered_at`: when an
    agent first took any call at this number."""

    workflow_run_id: str
    status: str
    at: datetime
    answered_at: datetime | None


class NumberOut(BaseModel):
    """`number` is E.164. `last_call` is null until one has come in."""

    number_id: str
    configuration_id: str
    number: str
    label: str
    active: bool
    workflow_id: str | None
    default_caller_id: bool
    sync: SyncOut
    last_call: LastCallOut | None
    created_at: datetime
    updated_at: datetime


class NumbersOut(BaseModel):
    phone_numbers: list[NumberOut]
    next_cursor: str | None


class AvailableNumberOut(BaseModel):
    """A number that the account owns at the provider. `added`: it is in this configuration already; `elsewhere`: it is in
    another one, so it cannot be imported here. `voice`: it can take calls. `country` is ISO 3166 alpha-2, or empty."""

    number: str
    name: str
    country: str
    voice: bool
    added: bool
    elsewhere: bool


class AvailableNumbersOut(BaseModel):
    available_numbers: list[AvailableNumberOut]
    next_cursor: str | None


class ImportIn(Strict):
    """`numbers` in E.164, as the list of available numbers has them; all get `workflow_id`."""

    numbers: Annotated[
        list[Annotated[str, StringConstraints(pattern=r"^\+[0-9]{1,15}$")]],
        Field(min_length=1, max_length=500),
    ]
    workflow_id: Id | None = None


class RefusedOut(BaseModel):
    number: str
    reason: str


class ImportOut(BaseModel):
    """Every number is imported by itself; `refused` says which were not, and why."""

    imported: list[NumberOut]
    refused: list[RefusedOut]


class WorkflowOut(BaseModel):
    """The values of `headers` are masked; null when they cannot be opened, because the key ring has lost their key."""

    workflow_id: str
    name: str
    agent_url: str
    agent_protocol: str
    sample_rate: int
    headers: dict[str, str] | None
    record_audio: bool
    fallback: Fallback
    metadata: dict[str, JsonValue]
    created_at: datetime
    updated_at: datetime


class TrialOut(BaseModel):
    """What came of calling the agent with a second of audio.

    `code` is a word for programs, `sentence` and `remedy` are for people. `handshake_ms`: until the WebSocket was open;
    `first_audio_ms`: from then to the first audio; `audio_ms_back`: how much audio came. `messages` counts the agent's
    messages by kind, `closed` says how the connection ended, `objections` what a call would object to.
    """

    code: str
    connected: bool
    sentence: str
    remedy: str
    handshake_ms: int | None
    first_audio_ms: int | None
    audio_ms_back: int
    messages: dict[str, int]
    closed: str | None
    objections: list[str]


class WorkflowsOut(BaseModel):
    workflows: list[WorkflowOut]
    next_cursor: str | None


def changes(body: BaseModel) -> dict[str, Any]:
    """The fields that were sent."""
    return body.model_dump(include=body.model_fields_set)


def instant(ms: int) -> datetime:
    """Milliseconds since 1970, as the API tells an instant."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def instant_or_none(ms: int | None) -> datetime | None:
    return None if ms is None else instant(ms)
