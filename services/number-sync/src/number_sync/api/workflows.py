"""Workflows: which agent takes a call."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Response
from sqlalchemy import Row

from number_sync.api.models import (
    Cursor,
    Fallback,
    Limit,
    TrialOut,
    WorkflowChange,
    WorkflowIn,
    WorkflowOut,
    WorkflowsOut,
    changes,
    instant,
)
from number_sync.api.parts import PREFIX, Parts, UserOf
from number_sync.paging import DEFAULT_LIMIT
from number_sync.workflows import Workflows
from offhook.errors import KeyringError

WORKFLOWS: Final = "/workflows"
ONE_WORKFLOW: Final = WORKFLOWS + "/{workflow_id}"


def create_router(parts: Parts, user_of: UserOf) -> APIRouter:
    User = Annotated[str, Depends(user_of)]  # noqa: N806 - a type
    router = APIRouter(tags=["workflows"])
    workflows = parts.workflows

    def out(row: Row[Any]) -> WorkflowOut:
        return WorkflowOut(
            workflow_id=row.id,
            name=row.name,
            agent_url=row.agent_url,
            agent_protocol=row.agent_protocol,
            sample_rate=row.sample_rate,
            headers=_headers(workflows, row),
            record_audio=row.record_audio,
            fallback=Fallback.model_validate(row.fallback),
            metadata=row.metadata,
            created_at=instant(row.created_at),
            updated_at=instant(row.updated_at),
        )

    @router.post(WORKFLOWS, status_code=201, summary="Add a workflow")
    async def create_workflow(user: User, body: WorkflowIn, response: Response) -> WorkflowOut:
        """The agent is not asked for anything."""
        row = await workflows.create(user, body.model_dump())
        response.headers["Location"] = f"{PREFIX}{WORKFLOWS}/{row.id}"
        return out(row)

    @router.get(WORKFLOWS, summary="List workflows")
    async def list_workflows(user: User, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None) -> WorkflowsOut:
        """The oldest first."""
        page = await workflows.list(user, limit=limit, after=cursor)
        return WorkflowsOut(workflows=[out(row) for row in page.rows], next_cursor=page.next)

    @router.get(ONE_WORKFLOW, summary="Read a workflow")
    async def read_workflow(user: User, workflow_id: str) -> WorkflowOut:
        """The values of headers are masked."""
        return out(await workflows.get(user, workflow_id))

    @router.patch(ONE_WORKFLOW, summary="Change a workflow")
    async def change_workflow(user: User, workflow_id: str, body: WorkflowChange) -> WorkflowOut:
        """Calls that come in from now on are answered the new way."""
        return out(await workflows.update(user, workflow_id, changes(body)))

    @router.post(ONE_WORKFLOW + "/try", summary="Try the agent")
    async def try_workflow(user: User, workflow_id: str) -> TrialOut:
        """Connects to the agent as a call would, plays a second of audio, and says what came back. Takes up to 13 s."""
        trial = await parts.trials.run(user, workflow_id)
        return TrialOut(
            code=trial.code,
            connected=trial.connected,
            sentence=trial.sentence,
            remedy=trial.remedy,
            handshake_ms=trial.handshake_ms,
            first_audio_ms=trial.first_audio_ms,
            audio_ms_back=trial.audio_ms_back,
            messages=dict(trial.messages),
            closed=trial.closed,
            objections=list(trial.objections),
        )

    @router.delete(ONE_WORKFLOW, status_code=204, summary="Delete a workflow")
    async def delete_workflow(user: User, workflow_id: str) -> None:
        """409 while phone numbers use it."""
        await workflows.delete(user, workflow_id)

    return router


def _headers(workflows: Workflows, row: Row[Any]) -> dict[str, str] | None:
    # One lost key must not take the whole list away.
    try:
        return workflows.masked_headers(row)
    except KeyringError:
        return None
