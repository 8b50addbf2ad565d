"""Pages of configurations: the list with the first-use guide, one configuration with its numbers, and its forms."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import ValidationError
from sqlalchemy import Row
from starlette.requests import Request
from starlette.responses import Response

from number_sync import publishing
from number_sync.api.models import ConfigurationIn, Name, Strict
from number_sync.api.parts import CONFIGURATIONS, ONE_CONFIGURATION, Parts
from number_sync.errors import ConflictError, NotFoundError, NumberSyncError
from number_sync.pages import reading
from number_sync.pages.answers import refusals_of, refuse
from number_sync.pages.calling_rules import summary
from number_sync.pages.configuration_view import ConfigurationView, configuration_view, webhook_urls
from number_sync.pages.credential_inputs import credential_inputs, credential_refusals, sent_credentials
from number_sync.pages.form_values import seen, ticked
from number_sync.pages.verification_view import verification_view
from number_sync.paging import MAX_LIMIT
from number_sync.standing import STATES, counts
from offhook.errors import KeyringError
from offhook.http.problems import Problem
from offhook.providers.base import credential_fields
from offhook.web import PageUser, Site
from offhook.web.forms import Form, text_of

_SWITCHES: Final = ("paused", "default_for_outbound", "repair_drift")


class _Renamed(Strict):
    name: Name


def create_router(site: Site, parts: Parts) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter(include_in_schema=False)
    configurations = parts.configurations

    async def overview(user: PageUser) -> dict[str, Any]:
        page = await configurations.list(user.user_id, limit=MAX_LIMIT, after=None)
        async with parts.database.read() as connection:
            held = await counts(connection, [row.id for row in page.rows])
            steps = await reading.first_use(connection, user.user_id)
            public_url = await publishing.public_url(connection)
        views = [view(row, held[row.id]) for row in page.rows]
        return {"configurations": views, "guide": steps, "public_url": public_url}

    def view(row: Row[Any], held: Mapping[str, int]) -> ConfigurationView:
        return configuration_view(
            row,
            adapter=parts.providers.get(row.provider),
            verification=parts.verifier.of(row),
            counts=held,
        )

    @router.get(CONFIGURATIONS)
    async def list_page(request: Request, user: User) -> Response:
        return site.render(request, "configurations.html", user, **await overview(user))

    @router.get(CONFIGURATIONS + "/live")
    async def list_live(request: Request, user: User) -> Response:
        async def fragments() -> Mapping[str, str]:
            found = await overview(user)
            return {
                name: site.fragment(request, f"{name}.html", user, **found)
                for name in ("guide", "configuration-list")
            }

        return site.live(request, user, fragments)

    # --- a new one

    def new_page_context(provider: str, form: Form | None = None) -> dict[str, Any]:
        adapter = parts.providers.get(provider)
        return {
            "providers": [
                (one, [field.label for field in credential_fields(one.credentials_model) if field.required])
                for one in parts.providers.values()
            ],
            "adapter": adapter,
            "inputs": credential_inputs(adapter.credentials_model, {}, form) if adapter else (),
            "name": text_of(form, "name") if form is not None else "",
        }

    @router.get(CONFIGURATIONS + "/new")
    async def new_page(
        request: Request, user: User, provider: Annotated[str, Query(max_length=64)] = ""
    ) -> Response:
        return site.render(request, "configuration-new.html", user, **new_page_context(provider))

    @router.post(CONFIGURATIONS + "/new")
    async def create(request: Request, user: User) -> Response:
        form = await site.form(request, user)
        provider = text_of(form, "provider")
        adapter = parts.providers.get(provider)
        if adapter is None:
            raise Problem(404, "There is no such provider.")
        try:
            body = ConfigurationIn(
                name=text_of(form, "name"),
                provider=provider,
                credentials=sent_credentials(adapter.credentials_model, form),
            )
            row = await configurations.create(user.user_id, **body.model_dump())
        except (ValidationError, NumberSyncError) as error:
            status, found = refusals_of(error, field="name")
            refusals = credential_refusals(adapter.credentials_model, form, {}, found)
            template = "configuration-new.html"
            context = new_page_context(provider, form)
            return refuse(site, request, template, user, status, refusals, **context)
        await parts.verifier.test(user.user_id, row.id)
        # What came out stands on the next page.
        return site.redirect(f"{CONFIGURATIONS}/{row.id}", notice=f"{row.name} is saved.")

    # --- one

    async def detail(
        user: PageUser, configuration_id: str, state: str | None = None, after: str | None = None
    ) -> dict[str, Any]:
        row = await configurations.get(user.user_id, configuration_id)
        async with parts.database.read() as connection:
            held = (await counts(connection, [row.id]))[row.id]
            page = await reading.page_of_numbers(connection, user.user_id, row.id, state=state, after=after)
            steps = await reading.first_use(connection, user.user_id)
            public_url = await publishing.public_url(connection)
        return {
            "configuration": view(row, held),
            "calling_rules": summary(row),
            "numbers": page.numbers,
            "next_after": page.next,
            "state_filter": state,
            "after": after,
            "public_url": public_url,
            "webhooks": webhook_urls(public_url),
            "guide": steps,
        }

    def known_state(state: str | None) -> str | None:
        return state if state in STATES else None

    @router.get(ONE_CONFIGURATION)
    async def detail_page(
        request: Request,
        user: User,
        configuration_id: str,
        state: Annotated[str | None, Query(max_length=32)] = None,
        after: Annotated[str | None, Query(max_length=16, pattern=r"^\+[0-9]{1,15}$")] = None,
    ) -> Response:
        found = await detail(user, configuration_id, known_state(state), after)
        return site.render(request, "configuration.html", user, **found)

    @router.get(ONE_CONFIGURATION + "/live")
    async def detail_live(
        request: Request,
        user: User,
        configuration_id: str,
        state: Annotated[str | None, Query(max_length=32)] = None,
        after: Annotated[str | None, Query(max_length=16, pattern=r"^\+[0-9]{1,15}$")] = None,
    ) -> Response:
        await configurations.get(user.user_id, configuration_id)

        async def fragments() -> Mapping[str, str]:
            try:
                found = await detail(user, configuration_id, known_state(state), after)
            except NotFoundError:
                raise Problem(404, "The configuration was deleted.") from None
            return {
                name: site.fragment(request, f"{name}.html", user, **found)
                for name in ("guide", "configuration-state", "number-list")
            }

        return site.live(request, user, fragments)

    @router.post(ONE_CONFIGURATION + "/test")
    async def test(request: Request, user: User, configuration_id: str) -> Response:
        await site.form(request, user)
        found = verification_view(await parts.verifier.test(user.user_id, configuration_id))
        return site.redirect(f"{CONFIGURATIONS}/{configuration_id}", notice=f"Tested. {found.sentence}")

    @router.post(ONE_CONFIGURATION)
    async def switch(request: Request, user: User, configuration_id: str) -> Response:
        form = await site.form(request, user)
        changes = {name: ticked(form, name) for name in _SWITCHES if name in form}
        await configurations.update(user.user_id, configuration_id, changes)
        return site.redirect(f"{CONFIGURATIONS}/{configuration_id}")

    # --- change

    def edit_context(row: Row[Any], form: Form | None = None) -> dict[str, Any]:
        adapter = parts.providers.get(row.provider)
        return {
            "configuration": row,
            "adapter": adapter,
            "inputs": credential_inputs(adapter.credentials_model, masked(row), form) if adapter else (),
            "name": row.name if form is None else text_of(form, "name"),
            "seen": row.updated_at if form is None else seen(form),
            "key_lost": parts.verifier.of(row).code == "key-lost",
        }

    def masked(row: Row[Any]) -> Mapping[str, str | None]:
        try:
            return configurations.masked(row)
        except (KeyringError, ConflictError):
            return {}

    @router.get(ONE_CONFIGURATION + "/edit")
    async def edit_page(request: Request, user: User, configuration_id: str) -> Response:
        row = await configurations.get(user.user_id, configuration_id)
        return site.render(request, "configuration-edit.html", user, **edit_context(row))

    @router.post(ONE_CONFIGURATION + "/edit")
    async def edit(request: Request, user: User, configuration_id: str) -> Response:
        form = await site.form(request, user)
        row = await configurations.get(user.user_id, configuration_id)
        adapter = parts.providers.get(row.provider)
        try:
            changes: dict[str, Any] = {"name": _Renamed(name=text_of(form, "name")).name}
            credentials = sent_credentials(adapter.credentials_model, form) if adapter else {}
            if credentials:
                changes["credentials"] = credentials
            changed = await configurations.update(user.user_id, configuration_id, changes, seen=seen(form))
        except (ValidationError, NumberSyncError) as error:
            status, found = refusals_of(error, field="name")
            refusals = dict(found)
            if adapter is not None:
                refusals = credential_refusals(adapter.credentials_model, form, masked(row), found)
            template = "configuration-edit.html"
            return refuse(site, request, template, user, status, refusals, **edit_context(row, form))
        if changed.verified_at is None:
            # New credentials: what is known of the old ones is gone.
            await parts.verifier.test(user.user_id, configuration_id)
        return site.redirect(f"{CONFIGURATIONS}/{configuration_id}", notice="Saved.")

    # --- delete

    async def delete_context(user: PageUser, configuration_id: str) -> dict[str, Any]:
        row = await configurations.get(user.user_id, configuration_id)
        async with parts.database.read() as connection:
            held = (await counts(connection, [row.id]))[row.id]
            page = await reading.page_of_numbers(connection, user.user_id, row.id, limit=5)
        return {"configuration": view(row, held), "numbers": page.numbers, "choice": "detach"}

    @router.get(ONE_CONFIGURATION + "/delete")
    async def delete_page(request: Request, user: User, configuration_id: str) -> Response:
        found = await delete_context(user, configuration_id)
        return site.render(request, "configuration-delete.html", user, **found)

    @router.post(ONE_CONFIGURATION + "/delete")
    async def delete(request: Request, user: User, configuration_id: str) -> Response:
        form = await site.form(request, user)
        chosen = text_of(form, "numbers")
        numbers_are: Literal["keep", "detach", "leave"]
        if chosen == "detach":
            numbers_are = "detach"
        elif chosen == "leave":
            numbers_are = "leave"
        elif chosen == "keep":
            numbers_are = "keep"
        else:
            found = await delete_context(user, configuration_id)
            refusals = {"numbers": "Choose what happens to its numbers."}
            return refuse(site, request, "configuration-delete.html", user, 422, refusals, **found)
        row = await configurations.get(user.user_id, configuration_id)
        try:
            await configurations.delete(user.user_id, configuration_id, numbers_are=numbers_are)
        except ConflictError:
            # Numbers were added since the page was loaded, which did not ask about any.
            found = await delete_context(user, configuration_id)
            refusals = {"": "It has phone numbers by now. Choose what happens to them."}
            return refuse(site, request, "configuration-delete.html", user, 409, refusals, **found)
        return site.redirect(CONFIGURATIONS, notice=f"{row.name} is deleted.")

    return router
