"""Configurations: a user's accounts at providers."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Row

from number_sync import publishing, standing
from number_sync.api.models import (
    ConfigurationChange,
    ConfigurationIn,
    ConfigurationOut,
    ConfigurationsOut,
    CountsOut,
    CredentialFieldOut,
    Cursor,
    Limit,
    ProviderOut,
    ProvidersOut,
    TestOut,
    VerificationOut,
    WebhooksOut,
    changes,
    instant,
    instant_or_none,
)
from number_sync.api.parts import CONFIGURATIONS, ONE_CONFIGURATION, PREFIX, Parts, UserOf
from number_sync.paging import DEFAULT_LIMIT
from number_sync.verification import KEY_LOST, Verification
from offhook.identities import INBOUND_FALLBACK_PATH, INBOUND_PATH, status_path
from offhook.providers.base import credential_fields
from offhook.records import DiallingRules


def create_router(parts: Parts, user_of: UserOf) -> APIRouter:
    User = Annotated[str, Depends(user_of)]  # noqa: N806 - a type
    router = APIRouter(tags=["configurations"])
    configurations = parts.configurations

    async def out(rows: Sequence[Row[Any]]) -> list[ConfigurationOut]:
        async with parts.database.read() as connection:
            url = await publishing.public_url(connection)
            counts = await standing.counts(connection, [row.id for row in rows])
        webhooks = None if url is None else _webhooks(url)
        return [one_out(row, counts[row.id], webhooks) for row in rows]

    def one_out(row: Row[Any], counts: Mapping[str, int], webhooks: WebhooksOut | None) -> ConfigurationOut:
        verification = parts.verifier.of(row)
        return ConfigurationOut(
            configuration_id=row.id,
            name=row.name,
            provider=row.provider,
            account=row.account,
            credentials=None if verification.code == KEY_LOST else configurations.masked(row),
            verification=VerificationOut(**_verification(verification)),
            paused=row.paused,
            default_for_outbound=row.default_for_outbound,
            repair_drift=row.repair_drift,
            dialling_rules=DiallingRules.model_validate(row.dialling_rules),
            max_concurrent_calls=row.max_concurrent_calls,
            max_calls_per_s=row.max_calls_per_s,
            numbers=CountsOut.model_validate(counts),
            webhooks=webhooks,
            created_at=instant(row.created_at),
            updated_at=instant(row.updated_at),
        )

    @router.get(CONFIGURATIONS + "/providers", summary="List providers")
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

    @router.post(CONFIGURATIONS, status_code=201, summary="Add a configuration")
    async def create_configuration(user: User, body: ConfigurationIn, response: Response) -> ConfigurationOut:
        """The credentials are tried at the provider, for eight seconds at most. It is stored whatever comes of that:
        see `verification`."""
        row = await configurations.create(user, **body.model_dump())
        await parts.verifier.test(user, row.id)
        response.headers["Location"] = f"{PREFIX}{CONFIGURATIONS}/{row.id}"
        return (await out([await configurations.get(user, row.id)]))[0]

    @router.get(CONFIGURATIONS, summary="List configurations")
    async def list_configurations(
        user: User, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> ConfigurationsOut:
        """The oldest first."""
        page = await configurations.list(user, limit=limit, after=cursor)
        return ConfigurationsOut(configurations=await out(page.rows), next_cursor=page.next)

    @router.get(ONE_CONFIGURATION, summary="Read a configuration")
    async def read_configuration(user: User, configuration_id: str) -> ConfigurationOut:
        """Secrets are masked."""
        return (await out([await configurations.get(user, configuration_id)]))[0]

    @router.patch(ONE_CONFIGURATION, summary="Change a configuration")
    async def change_configuration(
        user: User, configuration_id: str, body: ConfigurationChange
    ) -> ConfigurationOut:
        """Credentials that are sent are tried at the provider, as at the creation."""
        row = await configurations.update(user, configuration_id, changes(body))
        if body.credentials:
            await parts.verifier.test(user, configuration_id)
            row = await configurations.get(user, configuration_id)
        return (await out([row]))[0]

    @router.post(ONE_CONFIGURATION + "/test", summary="Try the credentials")
    async def test_configuration(user: User, configuration_id: str) -> TestOut:
        """Asks the provider, for eight seconds at most, and keeps what it says as the configuration's `verification`."""
        result = await parts.verifier.test(user, configuration_id)
        return TestOut(**_verification(result), account_name=result.account_name)

    @router.post(ONE_CONFIGURATION + "/default", summary="Make it the default for outbound calls")
    async def make_default(user: User, configuration_id: str) -> ConfigurationOut:
        """The configuration that was the default until now is it no longer."""
        row = await configurations.update(user, configuration_id, {"default_for_outbound": True})
        return (await out([row]))[0]

    @router.delete(ONE_CONFIGURATION, status_code=204, summary="Delete a configuration")
    async def delete_configuration(
        user: User,
        configuration_id: str,
        numbers: Annotated[
            Literal["keep", "detach", "leave"],
            Query(
                description="What becomes of its phone numbers. `keep`: a configuration that has any is not deleted "
                "(409). `detach`: they are deleted, and let go at the provider in the background, where it can be "
                "reached. `leave`: they are deleted, and the provider is not touched."
            ),
        ] = "keep",
    ) -> None:
        """Never waits for the provider."""
        await configurations.delete(user, configuration_id, numbers_are=numbers)

    return router


def _webhooks(url: str) -> WebhooksOut:
    return WebhooksOut(
        inbound_url=url + INBOUND_PATH,
        fallback_url=url + INBOUND_FALLBACK_PATH,
        status_url=url + status_path(),
    )


def _verification(verification: Verification) -> dict[str, Any]:
    return {
        "state": verification.state,
        "code": verification.code,
        "sentence": verification.sentence,
        "at": instant_or_none(verification.at),
    }
