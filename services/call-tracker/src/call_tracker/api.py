"""The calls API: begin a call, look at calls, ask for an end or a transfer. Errors are problems (RFC 9457).

Everybody sees his own calls; somebody else's do not exist. A request with an `Idempotency-Key` can be repeated: the same
key with the same body is the same call and the same answer.
"""

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from call_tracker.actions import Actions, Begun, CallOrder
from call_tracker.dialling import Refusal
from call_tracker.store import Answer, CallFilter, Idempotency, Position, Store, StoreUnavailable
from call_tracker.store.searching import MIN_DIGITS, fragment
from offhook.events import CallDirection, CallStatus, MachineDetection, TransferMode
from offhook.http import Problem
from offhook.http.problems import problem_response
from offhook.identities import ID_PATTERN, is_id
from offhook.records import CallState

PREFIX: Final = "/api/v1/calls"
MAX_METADATA_BYTES: Final = 4096
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_EVENTS: Final = 1000
"""Events of one call that one answer holds."""

_POSITION: Final = re.compile(r"(\d{1,19}):([A-Za-z0-9_-]{1,64})")


def _bounded_json(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    try:
        size = len(msgspec.json.encode(value))
    except (UnicodeEncodeError, OverflowError, RecursionError):
        raise ValueError("it cannot be written as JSON") from None
    if size > MAX_METADATA_BYTES:
        raise ValueError(f"at most {MAX_METADATA_BYTES} bytes as JSON, this has {size}")
    return value


Id = Annotated[str, StringConstraints(pattern=ID_PATTERN)]
Number = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_bounded_json)]
IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$"),
]


class CallIn(BaseModel):
    """`to` and `from` are international numbers. Without `from`, the configuration's caller ID is used; without
    `configuration_id`, the one that has `from`, the default for outbound calls, or the only one. After `ring_timeout_s`
    seconds of ringing the call has not been answered; after `time_limit_s` seconds of talk it is ended. With
    `machine_detection` the provider finds out who answers (`detect-message-end`: waits for the machine's beep)."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, populate_by_name=True)

    workflow_id: Id
    to: Number
    from_number: Number | None = Field(None, alias="from")
    configuration_id: Id | None = None
    ring_timeout_s: int = Field(60, ge=5, le=600)
    time_limit_s: int | None = Field(None, ge=10, le=86_400)
    machine_detection: MachineDetection = "off"
    metadata: Metadata = Field(default_factory=dict)


class CallAccepted(BaseModel):
    """The call is recorded and will be dialled."""

    model_config = ConfigDict(populate_by_name=True)

    workflow_run_id: str
    status: Literal["initiated"] = "initiated"
    workflow_id: str
    configuration_id: str
    provider: str
    from_number: str
    to_number: str
    requested_at: str


class TransferIn(BaseModel):
    """`cold`: the far end is put through to `to` at once; `warm`: the agent talks with `to` first."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    to: Number
    mode: TransferMode = "cold"


class Asked(BaseModel):
    """It was asked for; the provider's events say when it is done. `status` is the call's at the time of asking."""

    workflow_run_id: str
    status: CallStatus


class CallsOut(BaseModel):
    """Newest first. `next_cursor` is what to give as `cursor` for the following page, null at the end."""

    calls: list[CallState]
    next_cursor: str | None


class EventOut(BaseModel):
    """One event as it was told."""

    id: str
    type: str
    source: str
    time: str
    data: dict[str, JsonValue]


class CallDetail(CallState):
    """A call with its events, in order of arrival. `events_cut`: there are more events than are shown."""

    events: list[EventOut]
    events_cut: bool


def create_router(
    *,
    store: Store,
    actions: Actions,
    authenticate: Callable[..., Awaitable[str]],
) -> APIRouter:
    """All routes. `authenticate` is a dependency: the user who asks (`security.api_keys.require_user`)."""
    User = Annotated[str, Depends(authenticate)]  # noqa: N806 - a type
    router = APIRouter(prefix=PREFIX, tags=["calls"])

    @router.post("", status_code=202, response_model=CallAccepted)
    async def begin_call(user: User, body: CallIn, idempotency_key: IdempotencyKey = None) -> Response:
        """Dial `to` and connect the workflow's agent. 409, 422 or 429 with `reason` when that is not possible."""
        idempotency = None
        if idempotency_key is not None:
            idempotency = Idempotency(user, idempotency_key, _digest(body))
        order = CallOrder(
            workflow_id=body.workflow_id,
            to=body.to,
            from_number=body.from_number,
            configuration_id=body.configuration_id,
            ring_timeout_s=body.ring_timeout_s,
            time_limit_s=body.time_limit_s,
            machine_detection=body.machine_detection,
            metadata=body.metadata,
        )
        answer = await actions.begin(user, order, _answer_text, idempotency)
        return _accepted(answer)

    @router.get("")
    async def list_calls(
        user: User,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
        status: CallStatus | None = None,
        direction: CallDirection | None = None,
        workflow_id: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
        provider: Annotated[str | None, Query(max_length=32)] = None,
        active: bool | None = None,
        end_reason: Annotated[str | None, Query(max_length=40)] = None,
        number: Annotated[
            str | None, Query(max_length=64, description="four digits or more of a number")
        ] = None,
        since: Annotated[AwareDatetime | None, Query(description="calls that began at or after this")] = None,
        until: Annotated[AwareDatetime | None, Query(description="calls that began before this")] = None,
        q: Annotated[
            str | None,
            Query(max_length=200, description="a run, a provider's call id, or digits of a number"),
        ] = None,
    ) -> CallsOut:
        """Calls, newest first. `active`: only calls that have not ended, or only those that have."""
        for name, text in (("end_reason", end_reason), ("number", number), ("q", q), ("provider", provider)):
            if text is not None and not text.isprintable():
                raise Problem(422, f"{name} has characters that nobody can read.", reason="bad-filter")
        if number is not None and fragment(number) is None:
            detail = f"number needs {MIN_DIGITS} digits or more, from the beginning or the end of a number."
            raise Problem(422, detail, reason="bad-filter")
        which = CallFilter(
            status, direction, workflow_id, provider, active, end_reason, number, since, until, q
        )
        after = None if cursor is None else _position(cursor)
        calls, more = await store.calls(user, which, limit=limit, after=after)
        return CallsOut(calls=calls, next_cursor=None if more is None else _cursor(more))

    @router.get("/{workflow_run_id}", responses={200: {"model": CallDetail}})
    async def read_call(user: User, workflow_run_id: str) -> Response:
        """One call with its events."""
        story = await store.story(user, workflow_run_id, MAX_EVENTS) if is_id(workflow_run_id) else None
        if story is None:
            raise _no_such_call()
        body = story.record.model_dump(mode="json")
        body["events"] = [
            {
                "id": event.id,
                "type": event.type,
                "source": event.source,
                "time": event.time.isoformat(timespec="milliseconds"),
                "data": event.data,
            }
            for event in story.events
        ]
        body["events_cut"] = story.cut
        return _json(200, msgspec.json.encode(body))

    @router.post("/{workflow_run_id}/hangup", status_code=202)
    async def hang_up(user: User, workflow_run_id: str) -> Asked:
        """Ask the provider to end the call. 409 when it has ended."""
        return _asked(await actions.hang_up(user, workflow_run_id))

    @router.post("/{workflow_run_id}/transfer", status_code=202)
    async def transfer(user: User, workflow_run_id: str, body: TransferIn) -> Asked:
        """Put the far end through to another number. What becomes of it, the record's `transfer` says."""
        return _asked(await actions.transfer(user, workflow_run_id, body.to, body.mode))

    @router.post("/{workflow_run_id}/observe", status_code=202)
    async def look_up(user: User, workflow_run_id: str) -> Asked:
        """Ask the provider what became of the call. Its answer is an event with `reconciled`."""
        return _asked(await actions.look_up(user, workflow_run_id))

    return router


def install_errors(app: FastAPI) -> None:
    """Answer refusals and an absent store with problems."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        more = {"reason": error.reason}
        if error.retry_after_s is not None:
            # RFC 9110, 10.2.3: whole seconds.
            headers = {"Retry-After": str(math.ceil(error.retry_after_s))}
            return problem_response(429, str(error), headers=headers, more=more)
        return problem_response(409 if error.conflict else 422, str(error), more=more)

    async def unavailable(request: Request, error: Exception) -> Response:
        detail = "The store does not answer; nothing was changed. Try again in a few seconds."
        return problem_response(503, detail, headers={"Retry-After": "3"})

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(StoreUnavailable, unavailable)


def _answer_text(begun: Begun) -> str:
    return CallAccepted(
        workflow_run_id=begun.workflow_run_id,
        workflow_id=begun.workflow_id,
        configuration_id=begun.configuration_id,
        provider=begun.provider,
        from_number=begun.from_number,
        to_number=begun.to_number,
        requested_at=begun.requested_at.isoformat(timespec="milliseconds"),
    ).model_dump_json()


def _asked(record: CallState | None) -> Asked:
    if record is None:
        raise _no_such_call()
    return Asked(workflow_run_id=record.workflow_run_id, status=record.status)


def _accepted(answer: Answer) -> Response:
    if not answer.same_request:
        raise Problem(
            422,
            "This Idempotency-Key was used for another request: use a fresh key for a new call.",
            reason="idempotency-key-reused",
        )
    response = _json(202, answer.response.encode())
    response.headers["Location"] = (
        f"{PREFIX}/{CallAccepted.model_validate_json(answer.response).workflow_run_id}"
    )
    if answer.repeated:
        response.headers["Idempotency-Replayed"] = "true"
    return response


def _json(status: int, body: bytes) -> Response:
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")


def _no_such_call() -> Problem:
    return Problem(404, "There is no such call.", reason="unknown-call")


def _digest(body: CallIn) -> str:
    """The same for bodies that say the same, whatever their spelling in JSON."""
    said = body.model_dump(mode="json")
    for name in ("time_limit_s", "machine_detection"):  # younger than keys that may still be repeated
        if said[name] == CallIn.model_fields[name].default:
            del said[name]
    canonical = msgspec.json.encode(said, order="deterministic")
    return hashlib.sha256(canonical).hexdigest()


def _cursor(position: Position) -> str:
    return base64.urlsafe_b64encode(f"{position.began_us}:{position.workflow_run_id}".encode()).decode()


def _position(cursor: str) -> Position:
    try:
        text = base64.urlsafe_b64decode(cursor.encode("ascii")).decode("ascii")
        found = _POSITION.fullmatch(text)
    except (UnicodeError, binascii.Error):
        found = None
    if found is None or int(found[1]) >= 2**63:
        raise Problem(
            422, "This cursor was not given by this API: start again without it.", reason="bad-cursor"
        )
    return Position(int(found[1]), found[2])
