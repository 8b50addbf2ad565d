"""Pages of workflows: which agent answers, how it is reached, and a try of it."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from number_sync.api.parts import Parts
from number_sync.errors import ConflictError, NumberSyncError
from number_sync.pages import calling, reading
from number_sync.pages.answers import refusals_of, refuse
from number_sync.pages.countries import readable
from number_sync.pages.form_values import header_refusals, headers_of, seen
from number_sync.pages.refusals import sentence
from number_sync.pages.trial_view import trial_view
from number_sync.pages.workflow_form import WorkflowForm, new_form, sent_form, stored_form, workflow_in
from number_sync.paging import MAX_LIMIT
from offhook.errors import KeyringError
from offhook.web import PageUser, Site
from offhook.web.errors import wants_json
from offhook.web.forms import text_of

WORKFLOWS: Final = "/workflows"
ONE_WORKFLOW: Final = WORKFLOWS + "/{workflow_id}"


def create_router(site: Site, parts: Parts) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter(include_in_schema=False)
    workflows = parts.workflows

    @router.get(WORKFLOWS)
    async def list_page(request: Request, user: User, after: str | None = None) -> Response:
        page = await workflows.list(user.user_id, limit=MAX_LIMIT, after=after)
        async with parts.database.read() as connection:
            answered = await reading.count_by_workflow(connection, user.user_id)
            steps = await reading.first_use(connection, user.user_id)
        found: dict[str, Any] = {
            "workflows": page.rows,
            "next_after": page.next,
            "answered": answered,
            "guide": steps,
        }
        return site.render(request, "workflows.html", user, **found)

    # --- a new one

    @router.get(WORKFLOWS + "/new")
    async def new_page(request: Request, user: User) -> Response:
        return site.render(request, "workflow-new.html", user, form=new_form())

    @router.post(WORKFLOWS + "/new")
    async def create(request: Request, user: User) -> Response:
        form = await site.form(request, user)
        headers, refusals = headers_of(form, {})
        status = 422
        if not refusals:
            try:
                body = workflow_in(form, headers)
                row = await workflows.create(user.user_id, body.model_dump())
            except (ValidationError, NumberSyncError) as error:
                status, found = refusals_of(error)
                refusals = header_refusals(form, found)
            else:
                return site.redirect(f"{WORKFLOWS}/{row.id}", notice=f"{row.name} is saved.")
        shown = sent_form(form, {})
        return refuse(site, request, "workflow-new.html", user, status, refusals, form=shown)

    # --- one

    def masked(row: Row[Any]) -> dict[str, str]:
        try:
            return workflows.masked_headers(row)
        except KeyringError:
            return {}

    async def context(user: PageUser, row: Row[Any], form: WorkflowForm | None = None) -> dict[str, Any]:
        async with parts.database.read() as connection:
            numbers, total = await reading.numbers_of_workflow(connection, user.user_id, row.id)
            idle = await reading.numbers_without_workflow(connection, user.user_id)
            active = await reading.active_numbers(connection, user.user_id)
            steps = await reading.first_use(connection, user.user_id)
        return {
            "workflow": row,
            "form": form or stored_form(row, masked(row)),
            "key_lost": key_lost(row),
            "numbers": numbers,
            "numbers_total": total,
            "idle_numbers": idle,
            "idle_choices": [
                (number.id, f"{readable(number.e164)} {number.label}".strip()) for number in idle
            ],
            "guide": steps,
            "trial": None,
            "call_form": calling.from_workflow(row.id, row.name, active, numbers),
        }

    def key_lost(row: Row[Any]) -> bool:
        try:
            workflows.headers(row)
        except KeyringError:
            return True
        return False

    @router.get(ONE_WORKFLOW)
    async def detail_page(request: Request, user: User, workflow_id: str) -> Response:
        row = await workflows.get(user.user_id, workflow_id)
        return site.render(request, "workflow.html", user, **await context(user, row))

    @router.post(ONE_WORKFLOW)
    async def change(request: Request, user: User, workflow_id: str) -> Response:
        form = await site.form(request, user)
        row = await workflows.get(user.user_id, workflow_id)
        headers, refusals = headers_of(form, masked(row))
        status = 422
        if not refusals:
            try:
                changes = workflow_in(form, headers).model_dump(exclude={"metadata"})
                await workflows.update(user.user_id, workflow_id, changes, seen=seen(form))
            except (ValidationError, NumberSyncError) as error:
                status, found = refusals_of(error)
                refusals = header_refusals(form, found)
            else:
                return site.redirect(f"{WORKFLOWS}/{workflow_id}", notice="Saved.")
        shown = await context(user, row, sent_form(form, masked(row)))
        return refuse(site, request, "workflow.html", user, status, refusals, **shown)

    @router.post(ONE_WORKFLOW + "/try")
    async def try_it(request: Request, user: User, workflow_id: str) -> Response:
        await site.form(request, user)
        row = await workflows.get(user.user_id, workflow_id)
        found = trial_view(await parts.trials.run(user.user_id, workflow_id))
        if wants_json(request):
            piece = site.fragment(request, "trial.html", user, workflow=row, trial=found)
            return JSONResponse({"fragments": {"trial": piece}, "notice": found.sentence})
        return site.render(request, "workflow.html", user, **(await context(user, row) | {"trial": found}))

    @router.post(ONE_WORKFLOW + "/numbers")
    async def answer(request: Request, user: User, workflow_id: str) -> Response:
        """Let the workflow answer one more number."""
        form = await site.form(request, user)
        row = await workflows.get(user.user_id, workflow_id)
        async with parts.database.read() as connection:
            found = await reading.numbers_by_id(connection, user.user_id, [text_of(form, "number_id")])
        number = found[0].row if found else None
        if number is None or number.workflow_id not in (None, workflow_id):
            why = (
                "Choose one of your numbers."
                if number is None
                else "Another workflow answers this number by now. Give it this one on the number's own page."
            )
            shown = await context(user, row)
            return refuse(site, request, "workflow.html", user, 422, {"number_id": why}, **shown)
        changes = {"workflow_id": workflow_id}
        try:
            await parts.numbers.update(
                user.user_id, number.configuration_id, number.id, changes, seen=number.updated_at
            )
        except NumberSyncError as error:
            status, refusals = refusals_of(error, field="number_id")
            shown = await context(user, row)
            return refuse(site, request, "workflow.html", user, status, refusals, **shown)
        return site.redirect(
            f"{WORKFLOWS}/{workflow_id}", notice=f"{row.name} answers {readable(number.e164)} now."
        )

    # --- delete

    async def delete_context(user: PageUser, workflow_id: str) -> dict[str, Any]:
        row = await workflows.get(user.user_id, workflow_id)
        async with parts.database.read() as connection:
            numbers, total = await reading.numbers_of_workflow(connection, user.user_id, workflow_id)
        return {"workflow": row, "numbers": numbers, "numbers_total": total}

    @router.get(ONE_WORKFLOW + "/delete")
    async def delete_page(request: Request, user: User, workflow_id: str) -> Response:
        found = await delete_context(user, workflow_id)
        return site.render(request, "workflow-delete.html", user, **found)

    @router.post(ONE_WORKFLOW + "/delete")
    async def delete(request: Request, user: User, workflow_id: str) -> Response:
        await site.form(request, user)
        found = await delete_context(user, workflow_id)
        try:
            await workflows.delete(user.user_id, workflow_id)
        except ConflictError as error:
            refusals = {"": sentence(str(error))}
            return refuse(site, request, "workflow-delete.html", user, 409, refusals, **found)
        return site.redirect(WORKFLOWS, notice=f"{found['workflow'].name} is deleted.")

    return router
