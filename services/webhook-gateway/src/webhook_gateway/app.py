"""The service, put together."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from fastapi import FastAPI

from offhook.bus import Bus
from offhook.bus.outlet import Outlet
from offhook.call_leases import CallLeases
from offhook.http import create_app
from offhook.records import ConfigurationRecord
from offhook.security.keyring import Keyring
from offhook.security.tokens import MediaTokens
from offhook.topics import WEBHOOK_REPLAYS
from webhook_gateway.admission import CallAdmission
from webhook_gateway.audit import AuditTrail
from webhook_gateway.credentials import CredentialBook
from webhook_gateway.directory import Records
from webhook_gateway.gateway import Gateway
from webhook_gateway.instructing import Instructor
from webhook_gateway.policy import Limits
from webhook_gateway.refusals import Refusals
from webhook_gateway.replays import Replays
from webhook_gateway.routes import ProvidersFirst, webhook_routes
from webhook_gateway.settings import GatewaySettings
from webhook_gateway.shared_state import SharedState
from webhook_gateway.verification import Verifier

SERVICE: Final = "webhook-gateway"
# After the drain, what the last requests brought.
_LAST_WORDS_S: Final = 2.0


def build(settings: GatewaySettings, bus: Bus) -> FastAPI:
    """The application; its lifespan starts and stops everything, `bus` included. Drain it with `app.state.drain`: a spool
    must not be left on a disk that goes with the process."""
    records = Records(bus, settings.extra_origins)
    keyring = Keyring.parse(settings.keyring.get_secret_value())
    credentials = CredentialBook(keyring)

    def forget(key: str, old: ConfigurationRecord | None, new: ConfigurationRecord | None) -> None:
        credentials.forget(key)

    records.configurations.on_change(forget)
    state = SharedState(
        settings.redis_url, window_s=settings.reconnect_window_s, timeout_s=settings.redis_timeout_s
    )
    outlet = Outlet(bus, settings.state_dir / "spool", max_bytes=settings.spool_max_bytes)
    audit = AuditTrail(bus, Refusals(records, credentials, keyring), state.seen_before)
    verifier = Verifier(records, credentials)
    replays = Replays(
        bus=bus, outlet=outlet, records=records, verifier=verifier, state=state, keyring=keyring
    )
    bus.consume(WEBHOOK_REPLAYS, group=SERVICE, handler=replays.take, batch_size=20)
    instructor = Instructor(
        records=records,
        state=state,
        outlet=outlet,
        tokens=MediaTokens.parse(settings.token_key),
        limits=Limits(per_window=settings.reconnect_limit),
        token_ttl_s=settings.media_token_ttl_s,
        admission=CallAdmission(
            CallLeases(state.redis),
            user_max_concurrent=settings.user_max_concurrent_calls,
            user_max_per_s=settings.user_max_calls_per_s,
        ),
    )
    gateway = Gateway(
        records=records, verifier=verifier, state=state, outlet=outlet, audit=audit, instructor=instructor
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await state.start()
        try:
            await bus.start()
            await outlet.start()
            await audit.start()
            yield
        finally:
            await audit.stop()
            await outlet.stop(_LAST_WORDS_S)
            await bus.stop()
            await state.stop()

    def without_public_url() -> Iterable[str]:
        if not records.origins():
            yield "no public URL is known: number-sync has not published one"

    def without_redis() -> Iterable[str]:
        if state.problem is not None:
            yield state.problem

    bus.add_check(without_redis)
    bus.add_check(audit.problems)
    app = create_app(
        SERVICE,
        bus,
        checks=[without_public_url],
        lifespan=lifespan,
        max_body_bytes=16 * settings.max_body_bytes,  # the routes refuse, and audit, at the limit itself
        docs_url=None,
        openapi_url=None,
    )
    routes = webhook_routes(gateway, max_body=settings.max_body_bytes, body_timeout_s=settings.body_timeout_s)
    app.add_middleware(ProvidersFirst, routes=routes)
    app.state.gateway = gateway
    app.state.drain = outlet.emptied
    return app
