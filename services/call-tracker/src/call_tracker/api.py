"""The calls API: begin a call, look at calls, ask for an end. Errors are problems (RFC 9457).

Everybody sees his own calls; somebody else's do not exist. A request with an `Idempotency-Key` can be repeated: the same
key with the same body is the same call and the same answer.
"""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from call_tracker.dialling import DialPlan, Holdings, Refusal, plan
from call_tracker.store import (
    SOURCE,
    Answer,
    CallFilter,
    Idempotency,
    Outbox,
    Position,
    Store,
    StoreUnavailable,
    Telling,
)
from call_tracker.store.store import Clock
from offhook.events import (
    CallDirection,
    CallRequested,
    CallStatus,
    Event,
    EventData,
    HangUp,
    HangupRequested,
    Originate,
    Party,
    new_event,
)
from offhook.http import Problem
from offhook.http.problems import problem_response
from offhook.identities import ID_PATTERN, is_id, new_id
from offhook.records import CallState
from offhook.topics import CALL_COMMANDS, CALL_EVENTS

PREFIX: Final = "/api/v1/calls"
MAX_METADATA_BYTES: Final = 4096
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
MAX_EVENTS: Final = 1000
"""Events of one call that one answer holds."""

PATIENCE_S: Final = 1.5
MAY_APPEAR: Final = frozenset(
    {"unknown-workflow", "unknown-configuration", "no-configuration", "no-active-number", "not-your-number"}
)
"""Refusals that may be true only until the directories have heard of the newest changes."""

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
    seconds of ringing the call has not been answered."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, populate_by_name=True)

    workflow_id: Id
    to: Number
    from_number: Number | None = Field(None, alias="from")
    configuration_id: Id | None = None
    ring_timeout_s: int = Field(60, ge=5, le=600)
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


class EndAsked(BaseModel):
    """The end was asked for; the provider's event says when it has come."""

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
    outbox: Outbox,
    holdings: Holdings,
    authenticate: Callable[..., Awaitable[str]],
    clock: Clock,
) -> APIRouter:
    """All routes. `authenticate` is a dependency: the user who asks (`security.api_keys.require_user`)."""
    User = Annotated[str, Depends(authenticate)]  # noqa: N806 - a type
    router = APIRouter(prefix=PREFIX, tags=["calls"])

    @router.post("", status_code=202, response_model=CallAccepted)
    async def begin_call(user: User, body: CallIn, idempotency_key: IdempotencyKey = None) -> Response:
        """Dial `to` and connect the workflow's agent. 409 or 422 with `reason` when that is not possible."""
        idempotency = None
        if idempotency_key is not None:
            idempotency = Idempotency(user, idempotency_key, _digest(body))
            earlier = await store.answer_to(idempotency)
            if earlier is not None:
                return _accepted(earlier)
        call = await _plan_patiently(holdings, user, body)
        run, now = new_id(), clock()
        common: dict[str, Any] = {
            "workflow_run_id": run,
            "workflow_id": body.workflow_id,
            "user_id": user,
            "configuration_id": call.configuration.configuration_id,
            "provider": call.configuration.provider,
            "from_number": call.from_number,
            "to_number": call.to_number,
        }
        requested: Event[EventData] = new_event(
            CallRequested(**common, account=call.configuration.account, metadata=body.metadata),
            source=SOURCE,
            time=now,
            subject=run,
        )
        originate: Event[EventData] = new_event(
            Originate(**common, metadata=body.metadata, ring_timeout_s=body.ring_timeout_s),
            source=SOURCE,
            time=now,
            subject=run,
        )
        del common["user_id"]
        accepted = CallAccepted(**common, requested_at=now.isoformat(timespec="milliseconds"))
        answer = await store.request_call(
            requested,
            [(CALL_EVENTS, requested), (CALL_COMMANDS, originate)],
            accepted.model_dump_json(),
            idempotency,
        )
        outbox.wake()
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
    ) -> CallsOut:
        """Calls, newest first. `active`: only calls that have not ended, or only those that have."""
        which = CallFilter(status, direction, workflow_id, provider, active)
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
    async def hang_up(user: User, workflow_run_id: str) -> EndAsked:
        """Ask the provider to end the call. 409 when it has ended."""

        def make(record: CallState) -> tuple[Event[EventData], Sequence[Telling]]:
            now = clock()
            asked: Event[EventData] = new_event(
                HangupRequested(workflow_run_id=workflow_run_id, requested_by=Party.OPERATOR, reason="api"),
                source=SOURCE, time=now, subject=workflow_run_id,
            )  # fmt: skip
            command: Event[EventData] = new_event(
                HangUp(
                    workflow_run_id=workflow_run_id,
                    configuration_id=record.configuration_id or "",
                    provider=record.provider or "",
                    provider_call_id=record.provider_call_id,
                    requested_by=Party.OPERATOR,
                    reason="api",
                ),
                source=SOURCE, time=now, subject=workflow_run_id,
            )  # fmt: skip
            return asked, [(CALL_EVENTS, asked), (CALL_COMMANDS, command)]

        outcome = await store.request_end(user, workflow_run_id, make) if is_id(workflow_run_id) else None
        if outcome is None:
            raise _no_such_call()
        record, asked_now = outcome
        if not asked_now:
            raise Problem(409, f"The call has ended already ({record.status.value}).", reason="call-ended")
        outbox.wake()
        return EndAsked(workflow_run_id=workflow_run_id, status=record.status)

    return router


def install_errors(app: FastAPI) -> None:
    """Answer refusals and an absent store with problems."""

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return problem_response(409 if error.conflict else 422, str(error), more={"reason": error.reason})

    async def unavailable(request: Request, error: Exception) -> Response:
        detail = "The store does not answer; nothing was changed. Try again in a few seconds."
        return problem_response(503, detail, headers={"Retry-After": "3"})

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(StoreUnavailable, unavailable)


async def _plan_patiently(holdings: Holdings, user: str, body: CallIn) -> DialPlan:
    """The plan; before a refusal because something is not there, look again for a moment.

    What was created or changed just now by another API is on its way to us through Kafka.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while True:
        try:
            return plan(
                holdings,
                user_id=user,
                workflow_id=body.workflow_id,
                to=body.to,
                from_number=body.from_number,
                configuration_id=body.configuration_id,
            )
        except Refusal as refusal:
            if refusal.reason not in MAY_APPEAR or loop.time() >= deadline:
                raise
        await asyncio.sleep(0.05)


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
    canonical = msgspec.json.encode(body.model_dump(mode="json"), order="deterministic")
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
