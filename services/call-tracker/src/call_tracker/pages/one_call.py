"""The page of one call: what happens, what happened, and what can be done about it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from call_tracker.dialling import Refusal
from call_tracker.pages.call_rows import CALLS
from call_tracker.pages.call_view import view
from call_tracker.pages.parts import PageParts
from call_tracker.pages.wording import readable
from call_tracker.recording.player import RecordingView
from call_tracker.webhook_log import WebhookFilter
from offhook.http import Problem
from offhook.identities import is_id
from offhook.records import CallState
from offhook.telemetry.tracing import call_trace_id
from offhook.web import PageUser, Site
from offhook.web.forms import text_of

ONE_CALL: Final = CALLS + "/{workflow_run_id}"
MAX_EVENTS: Final = 500
MAX_WEBHOOKS: Final = 100
_PIECES: Final = (
    "call-verdict", "call-actions", "call-measures", "call-timeline", "call-recording", "call-quality", "call-events",
)  # fmt: skip


def create_router(site: Site, parts: PageParts) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter()

    async def recording_of(record: CallState, known: RecordingView | None) -> RecordingView | None:
        """What was recorded; a storage is not asked every second for what stays as it is."""
        if known is not None and known.state == "stored" and record.recording is not None:
            return known
        return await parts.recordings.view(record)

    async def context(user: PageUser, run: str, known: RecordingView | None = None) -> dict[str, Any]:
        story = await parts.store.story(user.user_id, run, MAX_EVENTS) if is_id(run) else None
        if story is None:
            raise _no_such_call()
        record = story.record
        viewer = parts.viewers.viewer(user.user_id)
        requests, more_requests = await parts.webhooks.page(
            viewer, WebhookFilter(workflow_run_id=run), limit=MAX_WEBHOOKS, after=None
        )
        recording, trouble = None, None
        try:
            recording = await recording_of(record, known)
        except Problem as problem:
            trouble = problem.detail  # the rest of the page is there all the same
        workflow = parts.holdings.workflow(record.workflow_id or "")
        return {
            "call": view(record, story.events, requests, parts.clock()),
            "may_live": story.may_live,
            "cut": story.cut or more_requests is not None,
            "recording": recording,
            "recording_trouble": trouble,
            "workflow": workflow if workflow is not None and workflow.user_id == user.user_id else None,
            "trace_url": seen_at(parts.trace_url_template, run),
            "logs_url": seen_at(parts.logs_url_template, run),
            "here": f"{CALLS}/{run}",
            "errors": {},
            "sent": {"to": "", "mode": "cold"},
        }

    @router.get(ONE_CALL)
    async def detail_page(request: Request, user: User, workflow_run_id: str) -> Response:
        return site.render(request, "call.html", user, **await context(user, workflow_run_id))

    @router.get(ONE_CALL + "/live")
    async def detail_live(request: Request, user: User, workflow_run_id: str) -> Response:
        known: RecordingView | None = None

        async def fragments() -> Mapping[str, str]:
            nonlocal known
            found = await context(user, workflow_run_id, known)
            known = found["recording"]
            return {name: site.fragment(request, f"{name}.html", user, **found) for name in _PIECES}

        return site.live(request, user, fragments)

    # --- what can be done

    @router.get(ONE_CALL + "/hangup")
    async def hangup_page(request: Request, user: User, workflow_run_id: str) -> Response:
        return site.render(request, "call-hangup.html", user, **await context(user, workflow_run_id))

    @router.post(ONE_CALL + "/hangup")
    async def hang_up(request: Request, user: User, workflow_run_id: str) -> Response:
        await site.form(request, user)
        try:
            done = await parts.actions.hang_up(user.user_id, workflow_run_id, reason="page")
        except Refusal as refusal:
            return site.redirect(f"{CALLS}/{workflow_run_id}", notice=str(refusal))
        return _asked(done, workflow_run_id, "The provider was asked to end the call.")

    @router.get(ONE_CALL + "/transfer")
    async def transfer_page(request: Request, user: User, workflow_run_id: str) -> Response:
        return site.render(request, "call-transfer.html", user, **await context(user, workflow_run_id))

    @router.post(ONE_CALL + "/transfer")
    async def transfer(request: Request, user: User, workflow_run_id: str) -> Response:
        form = await site.form(request, user)
        to, mode = text_of(form, "to").strip(), text_of(form, "mode")
        try:
            done = await parts.actions.transfer(
                user.user_id, workflow_run_id, to, "warm" if mode == "warm" else "cold"
            )
        except Refusal as refusal:
            found = await context(user, workflow_run_id)
            found |= {"sent": {"to": to, "mode": mode}}
            del found["errors"]
            status = 409 if refusal.conflict else 422
            return site.refuse(
                request, "call-transfer.html", user, {"to": str(refusal)}, status=status, **found
            )
        return _asked(done, workflow_run_id, f"The call is being put through to {readable(to)}.")

    @router.post(ONE_CALL + "/look-up")
    async def look_up(request: Request, user: User, workflow_run_id: str) -> Response:
        await site.form(request, user)
        try:
            done = await parts.actions.look_up(user.user_id, workflow_run_id)
        except Refusal as refusal:
            return site.redirect(f"{CALLS}/{workflow_run_id}", notice=str(refusal))
        return _asked(
            done, workflow_run_id, "The provider is being asked; what it says appears among the events."
        )

    def _asked(record: CallState | None, run: str, notice: str) -> Response:
        if record is None:
            raise _no_such_call()
        return site.redirect(f"{CALLS}/{run}", notice=notice)

    return router


def seen_at(template: str | None, run: str) -> str | None:
    """Where the call's trace, or its log lines, are looked at. Both ids are safe in any part of a URL; every process knows the
    same trace (`telemetry.tracing`)."""
    if template is None:
        return None
    known = {"{trace_id}": call_trace_id(run), "{workflow_run_id}": quote(run, safe="")}
    for place, value in known.items():
        # A template may have been written as a URL is, with the braces escaped.
        template = template.replace(place, value).replace(quote(place), value)
    return template


def _no_such_call() -> Problem:
    return Problem(404, "There is no such call, or it is somebody else's.")
