"""Pages of phone numbers: add one, look at where it stands at the provider, change it, remove it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends
from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import Response

from number_sync import publishing
from number_sync.api.models import NumberChange, NumberIn
from number_sync.api.parts import ONE_CONFIGURATION, Parts
from number_sync.errors import InvalidError, NotFoundError, NumberSyncError
from number_sync.pages import calling, reading
from number_sync.pages.answers import refusals_of, refuse
from number_sync.pages.countries import countries, readable
from number_sync.pages.form_values import choice, seen, ticked
from number_sync.standing import standings
from offhook.http.problems import Problem
from offhook.web import PageUser, Site
from offhook.web.forms import Form, text_of

NUMBERS: Final = ONE_CONFIGURATION + "/phone-numbers"
ONE_NUMBER: Final = NUMBERS + "/{number_id}"

_NO_WORKFLOW: Final = {"workflow_id": "This workflow was deleted meanwhile. Choose another one."}


def number_url(configuration_id: str, number_id: str) -> str:
    return ONE_NUMBER.format(configuration_id=configuration_id, number_id=number_id)


def create_router(site: Site, parts: Parts) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter(include_in_schema=False)
    configurations, numbers = parts.configurations, parts.numbers

    # --- a new one

    async def new_context(user: PageUser, configuration_id: str, form: Form | None = None) -> dict[str, Any]:
        configuration = await configurations.get(user.user_id, configuration_id)
        async with parts.database.read() as connection:
            workflows = await reading.workflow_choices(connection, user.user_id)
        # The usual number answers at once, so a workflow is chosen already where there is only one.
        values: dict[str, Any] = {
            "number": "",
            "country": "",
            "label": "",
            "workflow_id": workflows[0].id if len(workflows) == 1 else "",
            "active": True,
            "default_caller_id": False,
        }
        if form is not None:
            values = {name: text_of(form, name) for name in ("number", "country", "label", "workflow_id")}
            values |= {name: ticked(form, name) for name in ("active", "default_caller_id")}
        return {
            "configuration": configuration,
            "provider": provider_label(configuration.provider),
            "workflows": workflows,
            "countries": countries(),
            "values": values,
        }

    def provider_label(provider: str) -> str:
        adapter = parts.providers.get(provider)
        return provider if adapter is None else adapter.label

    @router.get(NUMBERS + "/new")
    async def new_page(request: Request, user: User, configuration_id: str) -> Response:
        return site.render(request, "number-new.html", user, **await new_context(user, configuration_id))

    @router.post(NUMBERS + "/new")
    async def create(request: Request, user: User, configuration_id: str) -> Response:
        form = await site.form(request, user)
        await configurations.get(user.user_id, configuration_id)
        try:
            if not text_of(form, "number").strip():
                raise InvalidError("number", "type a phone number, such as +1 415 555 2671")
            body = NumberIn(
                number=text_of(form, "number"),
                country=choice(form, "country"),
                label=text_of(form, "label"),
                active=ticked(form, "active"),
                workflow_id=choice(form, "workflow_id"),
                default_caller_id=ticked(form, "default_caller_id"),
            )
            row = await numbers.create(user.user_id, configuration_id, **dict(body))
        except NotFoundError:
            found = await new_context(user, configuration_id, form)
            return refuse(site, request, "number-new.html", user, 422, _NO_WORKFLOW, **found)
        except (ValidationError, NumberSyncError) as error:
            status, refusals = refusals_of(error, field="number")
            found = await new_context(user, configuration_id, form)
            return refuse(site, request, "number-new.html", user, status, refusals, **found)
        return site.redirect(number_url(configuration_id, row.id), notice=f"{readable(row.e164)} is added.")

    # --- one

    async def sync_context(user: PageUser, configuration_id: str, number_id: str) -> dict[str, Any]:
        configuration = await configurations.get(user.user_id, configuration_id)
        await numbers.get(user.user_id, configuration_id, number_id)
        async with parts.database.read() as connection:
            found = await reading.numbers_by_id(connection, user.user_id, [number_id])
            sync = await reading.sync_detail(connection, configuration_id, number_id)
            standing = (await standings(connection, [number_id]))[number_id]
            public_url = await publishing.public_url(connection)
            steps = await reading.first_use(connection, user.user_id)
        if not found:
            raise Problem(404, "The number was removed.")
        return {
            "configuration": configuration,
            "provider": provider_label(configuration.provider),
            "number": found[0],
            "sync": sync,
            "last_call": standing.last_call,
            "public_url": public_url,
            "guide": steps,
        }

    async def detail_context(
        user: PageUser, configuration_id: str, number_id: str, form: Form | None = None
    ) -> dict[str, Any]:
        found = await sync_context(user, configuration_id, number_id)
        async with parts.database.read() as connection:
            found["workflows"] = await reading.workflow_choices(connection, user.user_id)
        row = found["number"].row
        found["call_form"] = calling.from_number(row, found["workflows"])
        found["values"] = {
            "label": row.label,
            "workflow_id": row.workflow_id or "",
            "active": row.active,
            "default_caller_id": row.default_caller_id,
        }
        if form is not None:
            found["values"] = {name: text_of(form, name) for name in ("label", "workflow_id")}
            found["values"] |= {name: ticked(form, name) for name in ("active", "default_caller_id")}
        return found

    @router.get(ONE_NUMBER)
    async def detail_page(request: Request, user: User, configuration_id: str, number_id: str) -> Response:
        found = await detail_context(user, configuration_id, number_id)
        return site.render(request, "number.html", user, **found)

    @router.get(ONE_NUMBER + "/live")
    async def detail_live(request: Request, user: User, configuration_id: str, number_id: str) -> Response:
        await numbers.get(user.user_id, configuration_id, number_id)

        async def fragments() -> Mapping[str, str]:
            try:
                found = await sync_context(user, configuration_id, number_id)
            except NotFoundError:
                raise Problem(404, "The number was removed.") from None
            return {
                name: site.fragment(request, f"{name}.html", user, **found)
                for name in ("guide", "number-head", "number-sync")
            }

        return site.live(request, user, fragments)

    @router.post(ONE_NUMBER)
    async def change(request: Request, user: User, configuration_id: str, number_id: str) -> Response:
        form = await site.form(request, user)
        await numbers.get(user.user_id, configuration_id, number_id)
        try:
            body = NumberChange(
                label=text_of(form, "label"),
                active=ticked(form, "active"),
                workflow_id=choice(form, "workflow_id"),
                default_caller_id=ticked(form, "default_caller_id"),
            )
            await numbers.update(user.user_id, configuration_id, number_id, dict(body), seen=seen(form))
        except NotFoundError:
            found = await detail_context(user, configuration_id, number_id, form)
            return refuse(site, request, "number.html", user, 422, _NO_WORKFLOW, **found)
        except (ValidationError, NumberSyncError) as error:
            status, refusals = refusals_of(error)
            found = await detail_context(user, configuration_id, number_id, form)
            return refuse(site, request, "number.html", user, status, refusals, **found)
        return site.redirect(number_url(configuration_id, number_id), notice="Saved.")

    @router.post(ONE_NUMBER + "/check")
    async def check(request: Request, user: User, configuration_id: str, number_id: str) -> Response:
        form = await site.form(request, user)
        await numbers.get(user.user_id, configuration_id, number_id)
        await parts.check_now(number_id)
        there = number_url(configuration_id, number_id)
        if text_of(form, "back") == "configuration":
            there = ONE_CONFIGURATION.format(configuration_id=configuration_id)
        return site.redirect(there, notice="The provider is being asked. What it says shows here.")

    # --- remove

    async def remove_context(user: PageUser, configuration_id: str, number_id: str) -> dict[str, Any]:
        found = await sync_context(user, configuration_id, number_id)
        return found | {"choice": "detach"}

    @router.get(ONE_NUMBER + "/remove")
    async def remove_page(request: Request, user: User, configuration_id: str, number_id: str) -> Response:
        found = await remove_context(user, configuration_id, number_id)
        return site.render(request, "number-remove.html", user, **found)

    @router.post(ONE_NUMBER + "/remove")
    async def remove(request: Request, user: User, configuration_id: str, number_id: str) -> Response:
        form = await site.form(request, user)
        chosen = text_of(form, "at_provider")
        if chosen not in ("detach", "leave"):
            found = await remove_context(user, configuration_id, number_id)
            refusals = {"at_provider": "Choose what happens at the provider."}
            return refuse(site, request, "number-remove.html", user, 422, refusals, **found)
        row = await numbers.get(user.user_id, configuration_id, number_id)
        await numbers.delete(
            user.user_id, configuration_id, number_id, at_provider="leave" if chosen == "leave" else "detach"
        )
        there = ONE_CONFIGURATION.format(configuration_id=configuration_id)
        return site.redirect(there, notice=f"{readable(row.e164)} is removed.")

    return router
