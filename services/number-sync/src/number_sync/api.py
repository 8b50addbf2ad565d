"""The HTTP API: configurations, their phone numbers, and workflows. Errors are problems (RFC 9457).

Everybody sees what is his own; what is somebody else's does not exist. Lists come in pages: `next` is what to give as
`after` for the following one.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from sqlalchemy import Row
from sqlalchemy.exc import InterfaceError, OperationalError

from number_sync import publishing
from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.errors import (
    ConflictError,
    FixedError,
    InvalidError,
    LimitError,
    NotFoundError,
    NumberSyncError,
)
from number_sync.numbers import Numbers
from number_sync.paging import DEFAULT_LIMIT, MAX_LIMIT
from number_sync.workflows import Workflows
from offhook.errors import KeyringError
from offhook.http.problems import problem_response
from offhook.identities import ID_PATTERN, INBOUND_FALLBACK_PATH, INBOUND_PATH, status_path
from offhook.providers.base import ProviderAdapter, credential_fields
from offhook.security.api_keys import ApiKeys, require_user
from offhook.telemetry import metrics

PREFIX: Final = "/api/v1"
MAX_METADATA_BYTES: Final = 4096

log = structlog.get_logger(__name__)


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
Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
Cursor = Annotated[str | None, Query(pattern=ID_PATTERN)]


class _Strict(BaseModel):
    """A misspelt field is told, not ignored."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class ConfigurationIn(_Strict):
    """`credentials`: the fields that `GET /telephony-configurations/providers` lists for the provider."""

    name: Name
    provider: Annotated[str, StringConstraints(max_length=32)]
    credentials: Credentials
    paused: bool = False
    default_for_outbound: bool = False


class ConfigurationChange(_Strict):
    """What is left out stays. A credential sent as a mask stays, sent as null is removed."""

    name: Name = Field(default="")
    provider: Annotated[str, StringConstraints(max_length=32)] = ""
    credentials: Credentials = Field(default_factory=dict)
    paused: bool = False
    default_for_outbound: bool = False


class NumberIn(_Strict):
    """`number`: E.164, or as it is written in `country` (ISO 3166-1, two letters)."""

    number: Annotated[str, StringConstraints(max_length=200)]
    country: Annotated[str | None, StringConstraints(max_length=12)] = None
    label: Label = ""
    active: bool = True
    workflow_id: Id | None = None
    default_caller_id: bool = False


class NumberChange(_Strict):
    """What is left out stays; `workflow_id` null: nobody answers. The number itself cannot change."""

    label: Label = ""
    active: bool = True
    workflow_id: Id | None = None
    default_caller_id: bool = False


class Fallback(_Strict):
    """What the caller hears when no agent answers; `language` is a BCP 47 tag such as en-US."""

    message: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), AfterValidator(_clean)
    ] = "We are sorry, nobody can take your call right now. Please try again later."
    language: Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}$")] = "en-US"


class WorkflowIn(_Strict):
    """`sample_rate` in Hz is for the protocol `pcm`. All values of `headers` are treated as secrets."""

    name: Name
    agent_url: Annotated[str, StringConstraints(max_length=4096)]
    agent_protocol: Literal["pcm", "twilio"] = "pcm"
    sample_rate: Literal[8000, 16000, 24000] = 16000
    headers: Headers = Field(default_factory=dict)
    record_audio: bool = False
    fallback: Fallback = Field(default_factory=Fallback)
    metadata: Metadata = Field(default_factory=dict)


class WorkflowChange(_Strict):
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


class ConfigurationOut(BaseModel):
    """`account`: the provider's name for it. Secret credentials are masked; null where nothing is stored.

    `webhooks` is null while the installation has no public URL.
    """

    configuration_id: str
    name: str
    provider: str
    account: str
    credentials: dict[str, str | None]
    paused: bool
    default_for_outbound: bool
    webhooks: WebhooksOut | None
    created_at: datetime
    updated_at: datetime


class ConfigurationsOut(BaseModel):
    configurations: list[ConfigurationOut]
    next_cursor: str | None


class NumberOut(BaseModel):
    """`number` is E.164."""

    number_id: str
    configuration_id: str
    number: str
    label: str
    active: bool
    workflow_id: str | None
    default_caller_id: bool
    created_at: datetime
    updated_at: datetime


class NumbersOut(BaseModel):
    phone_numbers: list[NumberOut]
    next_cursor: str | None


class WorkflowOut(BaseModel):
    """The values of `headers` are masked."""

    workflow_id: str
    name: str
    agent_url: str
    agent_protocol: str
    sample_rate: int
    headers: dict[str, str]
    record_audio: bool
    fallback: Fallback
    metadata: dict[str, JsonValue]
    created_at: datetime
    updated_at: datetime


class WorkflowsOut(BaseModel):
    workflows: list[WorkflowOut]
    next_cursor: str | None


def create_router(
    *,
    database: Database,
    configurations: Configurations,
    numbers: Numbers,
    workflows: Workflows,
    providers: Mapping[str, ProviderAdapter],
    api_keys: ApiKeys,
) -> APIRouter:
    """All routes; each needs a bearer key."""
    user_of = require_user(api_keys)
    User = Annotated[str, Depends(user_of)]  # noqa: N806 - a type
    router = APIRouter(prefix=PREFIX)
    base = "/telephony-configurations"
    one = base + "/{configuration_id}"
    one_number = one + "/phone-numbers/{number_id}"

    async def webhooks() -> WebhooksOut | None:
        async with database.read() as connection:
            url = await publishing.public_url(connection)
        if url is None:
            return None
        return WebhooksOut(
            inbound_url=url + INBOUND_PATH,
            fallback_url=url + INBOUND_FALLBACK_PATH,
            status_url=url + status_path(),
        )

    def configuration_out(row: Row[Any], urls: WebhooksOut | None) -> ConfigurationOut:
        return ConfigurationOut(
            configuration_id=row.id,
            name=row.name,
            provider=row.provider,
            account=row.account,
            credentials=configurations.masked(row),
            paused=row.paused,
            default_for_outbound=row.default_for_outbound,
            webhooks=urls,
            created_at=_instant(row.created_at),
            updated_at=_instant(row.updated_at),
        )

    def workflow_out(row: Row[Any]) -> WorkflowOut:
        return WorkflowOut(
            workflow_id=row.id,
            name=row.name,
            agent_url=row.agent_url,
            agent_protocol=row.agent_protocol,
            sample_rate=row.sample_rate,
            headers=workflows.masked_headers(row),
            record_audio=row.record_audio,
            fallback=Fallback.model_validate(row.fallback),
            metadata=row.metadata,
            created_at=_instant(row.created_at),
            updated_at=_instant(row.updated_at),
        )

    @router.get(base + "/providers")
    async def list_providers(user: User) -> ProvidersOut:
        """The providers there are, and what each needs to know."""
        return ProvidersOut(
            providers=[
                ProviderOut(
                    name=adapter.name,
                    label=adapter.label,
                    credentials=[
                        CredentialFieldOut(
                            name=field.name,
                            label=field.label,
                            help=field.help,
                            secret=field.secret,
                            required=field.required,
                        )
                        for field in credential_fields(adapter.credentials_model)
                    ],
                )
                for adapter in providers.values()
            ]
        )

    @router.post(base, status_code=201)
    async def create_configuration(user: User, body: ConfigurationIn, response: Response) -> ConfigurationOut:
        row = await configurations.create(user, **dict(body))
        response.headers["Location"] = f"{PREFIX}{base}/{row.id}"
        return configuration_out(row, await webhooks())

    @router.get(base)
    async def list_configurations(
        user: User, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> ConfigurationsOut:
        page = await configurations.list(user, limit=limit, after=cursor)
        urls = await webhooks()
        return ConfigurationsOut(
            configurations=[configuration_out(row, urls) for row in page.rows], next_cursor=page.next
        )

    @router.get(one)
    async def read_configuration(user: User, configuration_id: str) -> ConfigurationOut:
        return configuration_out(await configurations.get(user, configuration_id), await webhooks())

    @router.patch(one)
    async def change_configuration(
        user: User, configuration_id: str, body: ConfigurationChange
    ) -> ConfigurationOut:
        row = await configurations.update(user, configuration_id, _changes(body))
        return configuration_out(row, await webhooks())

    @router.delete(one, status_code=204)
    async def delete_configuration(
        user: User,
        configuration_id: str,
        numbers_too: Annotated[Literal["keep", "delete"], Query(alias="numbers")] = "keep",
    ) -> None:
        """With `?numbers=delete` its phone numbers go with it; without, a configuration that has any stays (409)."""
        await configurations.delete(user, configuration_id, with_numbers=numbers_too == "delete")

    @router.post(one + "/phone-numbers", status_code=201)
    async def create_number(
        user: User, configuration_id: str, body: NumberIn, response: Response
    ) -> NumberOut:
        row = await numbers.create(user, configuration_id, **dict(body))
        response.headers["Location"] = f"{PREFIX}{base}/{configuration_id}/phone-numbers/{row.id}"
        return _number_out(row)

    @router.get(one + "/phone-numbers")
    async def list_numbers(
        user: User, configuration_id: str, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> NumbersOut:
        page = await numbers.list(user, configuration_id, limit=limit, after=cursor)
        return NumbersOut(phone_numbers=[_number_out(row) for row in page.rows], next_cursor=page.next)

    @router.get(one_number)
    async def read_number(user: User, configuration_id: str, number_id: str) -> NumberOut:
        return _number_out(await numbers.get(user, configuration_id, number_id))

    @router.patch(one_number)
    async def change_number(
        user: User, configuration_id: str, number_id: str, body: NumberChange
    ) -> NumberOut:
        return _number_out(await numbers.update(user, configuration_id, number_id, _changes(body)))

    @router.delete(one_number, status_code=204)
    async def delete_number(user: User, configuration_id: str, number_id: str) -> None:
        await numbers.delete(user, configuration_id, number_id)

    @router.post("/workflows", status_code=201)
    async def create_workflow(user: User, body: WorkflowIn, response: Response) -> WorkflowOut:
        row = await workflows.create(user, body.model_dump())
        response.headers["Location"] = f"{PREFIX}/workflows/{row.id}"
        return workflow_out(row)

    @router.get("/workflows")
    async def list_workflows(user: User, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> WorkflowsOut:
        page = await workflows.list(user, limit=limit, after=cursor)
        return WorkflowsOut(workflows=[workflow_out(row) for row in page.rows], next_cursor=page.next)

    @router.get("/workflows/{workflow_id}")
    async def read_workflow(user: User, workflow_id: str) -> WorkflowOut:
        return workflow_out(await workflows.get(user, workflow_id))

    @router.patch("/workflows/{workflow_id}")
    async def change_workflow(user: User, workflow_id: str, body: WorkflowChange) -> WorkflowOut:
        return workflow_out(await workflows.update(user, workflow_id, _changes(body)))

    @router.delete("/workflows/{workflow_id}", status_code=204)
    async def delete_workflow(user: User, workflow_id: str) -> None:
        """409 while phone numbers use it."""
        await workflows.delete(user, workflow_id)

    return router


def install_errors(app: FastAPI) -> None:
    """Answer what the store objects to with a problem."""
    app.add_exception_handler(NumberSyncError, _problem)
    app.add_exception_handler(KeyringError, _lost_key)
    for away in (OperationalError, InterfaceError, OSError):
        app.add_exception_handler(away, _store_away)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    detail = str(error)
    detail = detail[:1].upper() + detail[1:]
    match error:
        case NotFoundError():
            return problem_response(404, detail)
        case ConflictError() | LimitError():
            return problem_response(409, detail)
        case InvalidError(field=field):
            status = 400 if isinstance(error, FixedError) else 422
            # As the framework's own validation errors look.
            location = ["body", *field.split(".", 1)]
            return problem_response(
                status, f"{field}: {error}", more={"errors": [{"location": location, "message": str(error)}]}
            )
    raise error


async def _lost_key(request: Request, error: Exception) -> JSONResponse:
    return problem_response(
        500, "Stored secrets cannot be opened: OFFHOOK_KEYRING does not hold the key they were sealed with."
    )


async def _store_away(request: Request, error: Exception) -> JSONResponse:
    metrics.STORE_ERRORS.labels("api").inc()
    log.error("store.unavailable", exc_info=error)
    return problem_response(503, "The store cannot be reached; try again.", headers={"Retry-After": "5"})


def _changes(body: BaseModel) -> dict[str, Any]:
    """The fields that were sent."""
    return body.model_dump(include=body.model_fields_set)


def _number_out(row: Row[Any]) -> NumberOut:
    return NumberOut(
        number_id=row.id,
        configuration_id=row.configuration_id,
        number=row.e164,
        label=row.label,
        active=row.active,
        workflow_id=row.workflow_id,
        default_caller_id=row.default_caller_id,
        created_at=_instant(row.created_at),
        updated_at=_instant(row.updated_at),
    )


def _instant(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
