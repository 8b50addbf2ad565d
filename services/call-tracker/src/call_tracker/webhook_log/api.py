"""`/api/v1/webhooks`: the webhook log."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel

from call_tracker.cursors import cursor, place_of
from call_tracker.store import Outbox
from call_tracker.viewers import Viewer, Viewers
from call_tracker.webhook_log.entries import Entry, WebhookFilter, WebhookLog
from call_tracker.webhook_log.explanation import Surroundings, explain
from offhook.http import Problem
from offhook.identities import ID_PATTERN

PREFIX: Final = "/api/v1/webhooks"
NO_NUL: Final = r"^[^\x00]*$"
"""What PostgreSQL takes as text."""

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
NO_SUCH: Final = "There is no such webhook, or it is somebody else's."
NOT_KEPT: Final = (
    "This request was not kept, so it cannot be tried again: it was accepted, too large, or one of too many."
)


class ExplanationOut(BaseModel):
    """What it says, for people."""

    title: str
    sentence: str
    remedy: str | None


class WebhookOut(BaseModel):
    """One request as the gateway tells it. `near_misses` name what would have verified; `replayable`: it was kept."""

    id: str
    at: datetime
    provider: str
    account: str | None
    workflow_run_id: str | None
    provider_call_id: str | None
    kind: str
    method: str
    path: str
    verified: bool
    reason: str | None
    status_code: int
    elapsed_ms: float
    repeated: bool
    remote: str | None
    signed_url: str | None
    tried_urls: tuple[str, ...]
    near_misses: tuple[str, ...]
    replay_of: str | None
    requested_by: str | None
    replayable: bool
    replay_requested_at: datetime | None
    replay_requested_by: str | None
    explanation: ExplanationOut


class WebhooksOut(BaseModel):
    """Newest first. `next_cursor` is what to give as `cursor` for the following page, null at the end."""

    webhooks: list[WebhookOut]
    next_cursor: str | None


class WebhookDetail(WebhookOut):
    """One request, and what came of its replays, newest first."""

    replays: list[WebhookOut]


class ReplayAsked(BaseModel):
    """The gateway was asked; what came of it is one more entry, with this id as its `replay_of`."""

    id: str


def surroundings(viewers: Viewers, viewer: Viewer) -> Surroundings:
    """What explanations to this viewer may name."""

    def name_of(configuration_id: str) -> str | None:
        record = viewers.configuration(configuration_id)
        if record is None or not (viewer.operator or record.user_id == viewer.user_id):
            return None
        return record.name

    return Surroundings(viewers.public_url(), name_of)


def create_router(
    *,
    webhooks: WebhookLog,
    viewers: Viewers,
    outbox: Outbox,
    authenticate: Callable[..., Awaitable[str]],
) -> APIRouter:
    """All routes. `authenticate` is a dependency: the user who asks."""
    User = Annotated[str, Depends(authenticate)]  # noqa: N806 - a type
    router = APIRouter(prefix=PREFIX, tags=["webhooks"])

    @router.get("")
    async def list_webhooks(
        user: User,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor_text: Annotated[str | None, Query(alias="cursor", max_length=400)] = None,
        provider: Annotated[str | None, Query(max_length=40, pattern=NO_NUL)] = None,
        account: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
        verified: bool | None = None,
        reason: Annotated[str | None, Query(max_length=60, pattern=NO_NUL)] = None,
        workflow_run_id: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
        since: AwareDatetime | None = None,
        until: AwareDatetime | None = None,
    ) -> WebhooksOut:
        """What providers sent, newest first: of accounts you hold, or of all for an operator."""
        viewer = viewers.viewer(user)
        which = WebhookFilter(provider, account, verified, reason, workflow_run_id, since, until)
        entries, more = await webhooks.page(viewer, which, limit=limit, after=place_of(cursor_text))
        around = surroundings(viewers, viewer)
        return WebhooksOut(webhooks=[_out(entry, around) for entry in entries], next_cursor=cursor(more))

    @router.get("/{webhook_id}")
    async def read_webhook(user: User, webhook_id: str) -> WebhookDetail:
        """One request, why it was refused, and what would have been right."""
        viewer = viewers.viewer(user)
        entry = await webhooks.find(viewer, webhook_id)
        if entry is None:
            raise Problem(404, NO_SUCH, reason="unknown-webhook")
        around = surroundings(viewers, viewer)
        replays = [_out(one, around) for one in await webhooks.results(entry.id)]
        return WebhookDetail(**_out(entry, around).model_dump(), replays=replays)

    @router.post("/{webhook_id}/replay", status_code=202)
    async def replay_webhook(user: User, webhook_id: str) -> ReplayAsked:
        """Have a refused request tried again, as of the time of its arrival, with the configurations of today."""
        asked = await webhooks.ask_again(viewers.viewer(user), webhook_id)
        if asked is None:
            raise Problem(404, NO_SUCH, reason="unknown-webhook")
        if not asked:
            raise Problem(409, NOT_KEPT, reason="not-kept")
        outbox.wake()
        return ReplayAsked(id=webhook_id)

    return router


def _out(entry: Entry, around: Surroundings) -> WebhookOut:
    said = explain(entry.data, around)
    data = entry.data.model_dump(exclude={"sealed_request"})
    return WebhookOut(
        id=entry.id,
        at=entry.at,
        **data,
        replayable=entry.can_replay,
        replay_requested_at=entry.replay_at,
        replay_requested_by=entry.replay_by,
        explanation=ExplanationOut(title=said.title, sentence=said.sentence, remedy=said.remedy),
    )
