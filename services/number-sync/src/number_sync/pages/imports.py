"""The import page: the numbers an account owns at its provider, to be ticked and added."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from number_sync.api.parts import ONE_CONFIGURATION, Parts
from number_sync.errors import ConflictError, NotFoundError, ProviderTroubleError
from number_sync.imports import MAX_AT_ONCE, Refused
from number_sync.pages import reading
from number_sync.pages.answers import refuse
from number_sync.pages.form_values import choice, ticked_values
from number_sync.pages.refusals import sentence
from offhook.web import PageUser, Site
from offhook.web.errors import wants_json
from offhook.web.forms import Form, text_of

PER_PAGE: Final = 200
_SHOWN_REFUSALS: Final = 20


def create_router(site: Site, parts: Parts) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter(include_in_schema=False)

    async def context(
        user: PageUser, configuration_id: str, after: str | None, form: Form | None = None
    ) -> dict[str, Any]:
        configuration = await parts.configurations.get(user.user_id, configuration_id)
        adapter = parts.providers.get(configuration.provider)
        async with parts.database.read() as connection:
            workflows = await reading.workflow_choices(connection, user.user_id)
        found: dict[str, Any] = {
            "configuration": configuration,
            "provider": configuration.provider if adapter is None else adapter.label,
            "workflows": workflows,
            "workflow_id": workflows[0].id if len(workflows) == 1 else "",
            "ticked": set(),
            "available": (),
            "after": after,
            "next_after": None,
            "trouble": None,
            "conflict": None,
        }
        if form is not None:
            found["workflow_id"] = text_of(form, "workflow_id")
            found["ticked"] = set(ticked_values(form, "numbers"))
        try:
            found["available"], found["next_after"] = await parts.imports.available(
                user.user_id, configuration_id, limit=PER_PAGE, after=after
            )
        except ProviderTroubleError as error:
            found["trouble"] = error
        except ConflictError as error:
            found["conflict"] = sentence(str(error))
        return found

    @router.get(ONE_CONFIGURATION + "/import")
    async def page(
        request: Request,
        user: User,
        configuration_id: str,
        after: Annotated[str | None, Query(max_length=16, pattern=r"^\+[0-9]{1,15}$")] = None,
    ) -> Response:
        return site.render(request, "import.html", user, **await context(user, configuration_id, after))

    @router.post(ONE_CONFIGURATION + "/import")
    async def add(request: Request, user: User, configuration_id: str) -> Response:
        form = await site.form(request, user)
        chosen = ticked_values(form, "numbers")
        after = choice(form, "after")

        async def again(status: int, refusals: dict[str, str]) -> Response:
            # For the script the objections are enough: the provider need not be asked again for its list.
            found = {} if wants_json(request) else await context(user, configuration_id, after, form)
            return refuse(site, request, "import.html", user, status, refusals, **found)

        if not chosen:
            return await again(422, {"numbers": "Tick the numbers to add."})
        if len(chosen) > MAX_AT_ONCE:
            return await again(422, {"numbers": f"Add at most {MAX_AT_ONCE} numbers at a time."})
        workflow_id = choice(form, "workflow_id")
        if workflow_id is not None:
            try:
                await parts.workflows.get(user.user_id, workflow_id)
            except NotFoundError:
                refusals = {"workflow_id": "This workflow was deleted meanwhile. Choose another one."}
                return await again(422, refusals)
        try:
            added, refused = await parts.imports.add(
                user.user_id, configuration_id, chosen, workflow_id=workflow_id
            )
        except ProviderTroubleError as error:
            return await again(409, {"": f"{error.sentence} {error.remedy}".strip()})
        except ConflictError as error:
            return await again(409, {"": sentence(str(error))})
        if refused:
            return await again(409, {"": outcome(len(added), refused)})
        url = ONE_CONFIGURATION.format(configuration_id=configuration_id)
        return site.redirect(url, notice=_counted(len(added)))

    return router


def outcome(added: int, refused: list[Refused]) -> str:
    """What an import came to when some numbers could not be added."""
    shown = "; ".join(f"{one.number}: {one.reason}" for one in refused[:_SHOWN_REFUSALS])
    rest = len(refused) - _SHOWN_REFUSALS
    more = f"; and {rest} more" if rest > 0 else ""
    return f"{_counted(added)} Not added: {shown}{more}."


def _counted(added: int) -> str:
    if not added:
        return "No number was added."
    return "1 number was added." if added == 1 else f"{added} numbers were added."
