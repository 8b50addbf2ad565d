"""Configurations: a user's accounts at providers."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Row

from number_sync import publishing
from number_sync.api.models import (
    ConfigurationChange,
    ConfigurationIn,
    ConfigurationOut,
    ConfigurationsOut,
    CredentialFieldOut,
    Cursor,
    Limit,
    ProviderOut,
    ProvidersOut,
    WebhooksOut,
    changes,
    instant,
)
from number_sync.api.parts import CONFIGURATIONS, ONE_CONFIGURATION, PREFIX, Parts, UserOf
from number_sync.paging import DEFAULT_LIMIT
from offhook.identities import INBOUND_FALLBACK_PATH, INBOUND_PATH, status_path
from offhook.providers.base import credential_fields


def create_router(parts: Parts, user_of: UserOf) -> APIRouter:
    User = Annotated[str, Depends(user_of)]  # noqa: N806 - a type
    router = APIRouter(tags=["configurations"])
    configurations = parts.configurations

    async def webhooks() -> WebhooksOut | None:
        async with parts.database.read() as connection:
            url = await publishing.public_url(connection)
        if url is None:
            return None
        return WebhooksOut(
            inbound_url=url + INBOUND_PATH,
            fallback_url=url + INBOUND_FALLBACK_PATH,
            status_url=url + status_path(),
        )

    def out(row: Row[Any], urls: WebhooksOut | None) -> ConfigurationOut:
        return ConfigurationOut(
            configuration_id=row.id,
            name=row.name,
            provider=row.provider,
            account=row.account,
            credentials=configurations.masked(row),
            paused=row.paused,
            default_for_outbound=row.default_for_outbound,
            webhooks=urls,
            created_at=instant(row.created_at),
            updated_at=instant(row.updated_at),
        )

    @router.get(CONFIGURATIONS + "/providers")
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
                for adapter in parts.providers.values()
            ]
        )

    @router.post(CONFIGURATIONS, status_code=201)
    async def create_configuration(user: User, body: ConfigurationIn, response: Response) -> ConfigurationOut:
        row = await configurations.create(user, **dict(body))
        response.headers["Location"] = f"{PREFIX}{CONFIGURATIONS}/{row.id}"
        return out(row, await webhooks())

    @router.get(CONFIGURATIONS)
    async def list_configurations(
        user: User, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> ConfigurationsOut:
        page = await configurations.list(user, limit=limit, after=cursor)
        urls = await webhooks()
        return ConfigurationsOut(configurations=[out(row, urls) for row in page.rows], next_cursor=page.next)

    @router.get(ONE_CONFIGURATION)
    async def read_configuration(user: User, configuration_id: str) -> ConfigurationOut:
        return out(await configurations.get(user, configuration_id), await webhooks())

    @router.patch(ONE_CONFIGURATION)
    async def change_configuration(
        user: User, configuration_id: str, body: ConfigurationChange
    ) -> ConfigurationOut:
        row = await configurations.update(user, configuration_id, changes(body))
        return out(row, await webhooks())

    @router.delete(ONE_CONFIGURATION, status_code=204)
    async def delete_configuration(
        user: User,
        configuration_id: str,
        numbers_too: Annotated[Literal["keep", "delete"], Query(alias="numbers")] = "keep",
    ) -> None:
        """With `?numbers=delete` its phone numbers go with it; without, a configuration that has any stays (409)."""
        await configurations.delete(user, configuration_id, with_numbers=numbers_too == "delete")

    return router
