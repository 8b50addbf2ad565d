"""The service, put together."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import publishing
from number_sync.api import Parts, create_router, install_errors
from number_sync.configurations import Configurations
from number_sync.database import Clock, Database, now_ms
from number_sync.imports import Imports
from number_sync.inquiries import Inquiries
from number_sync.introductions import Introductions
from number_sync.last_calls import LastCalls
from number_sync.numbers import Numbers
from number_sync.orders import CommandWorker, WorkerSettings
from number_sync.orders.places import Places
from number_sync.outbox import Relay
from number_sync.pages import TEMPLATES, create_pages
from number_sync.rechecks import Rechecks
from number_sync.settings import NumberSyncSettings
from number_sync.sync.pacing import Pacer
from number_sync.sync.public_url import TunnelFollower, adopt
from number_sync.sync.reconciler import Reconciler, SyncSettings
from number_sync.sync.requests import Requests, RequestSettings
from number_sync.trials import Trials
from number_sync.verification import Verifier
from number_sync.workflows import Workflows
from offhook.bus import Bus
from offhook.call_leases import CallLeases
from offhook.database import until_prepared
from offhook.http import Readiness, create_app
from offhook.identities import new_id
from offhook.providers import registry
from offhook.records import ApiKeyRecord
from offhook.security.api_keys import ApiKeys, require_user
from offhook.security.keyring import Keyring
from offhook.security.sessions import Sessions
from offhook.tasks import EndlessTasks
from offhook.topics import API_KEYS, CALL_COMMANDS, CALL_EVENTS
from offhook.web import Site

SERVICE: Final = "number-sync"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class NumberSync:
    """The application and what must be done before it ends."""

    app: FastAPI
    drain: Callable[[], Awaitable[None]]


def build(settings: NumberSyncSettings, bus: Bus, *, clock: Clock = time.time) -> NumberSync:
    """The application; its lifespan starts and stops everything, `bus` included."""
    owner = new_id()
    database = Database(settings.database)
    keyring = Keyring.parse(settings.keyring.get_secret_value())
    relay = Relay(database, bus, owner=owner, clock=clock)
    database.after_commit(relay.wake)
    introductions = Introductions(settings.redis_url)
    pacer = Pacer(settings.sync_rate_per_s)
    worker = CommandWorker(
        database,
        keyring,
        rest_of=registry.rest,
        api_url=settings.api_url,
        settings=WorkerSettings(
            concurrency=settings.provider_concurrency,
            timeout_s=settings.provider_timeout_s,
            deadline_s=settings.provider_deadline_s,
            originate_max_age_s=settings.originate_max_age_s,
            outcome_grace_s=settings.outcome_grace_s,
        ),
        introduce=introductions.introduce,
        places=Places(
            CallLeases(introductions.redis),
            now=lambda: now_ms(clock),
            user_max_concurrent=settings.user_max_concurrent_calls,
            user_max_per_s=settings.user_max_calls_per_s,
        ),
        pacer=pacer,
        clock=clock,
        owner=owner,
    )
    bus.consume(CALL_COMMANDS, group=SERVICE, handler=worker.record_commands)
    bus.consume(CALL_EVENTS, group=SERVICE, handler=worker.observe_life, traced=False)
    last_calls = LastCalls(database)
    bus.consume(CALL_EVENTS, group=f"{SERVICE}-last-calls", handler=last_calls.observe, traced=False)
    numbers = Numbers(database, clock=clock)
    inquiries = Inquiries(rest_of=registry.rest, api_url=settings.api_url, pacer=pacer)
    verifier = Verifier(database, keyring, registry.PROVIDERS, inquiries, clock=clock)
    rechecks = Rechecks(database, verifier, interval_s=settings.sync_interval_s, clock=clock)
    reconciler = Reconciler(
        database,
        keyring,
        Requests(
            pacer,
            rest_of=registry.rest,
            api_url=settings.api_url,
            settings=RequestSettings(
                timeout_s=settings.provider_timeout_s, deadline_s=settings.provider_deadline_s
            ),
        ),
        registry.PROVIDERS,
        settings=SyncSettings(interval_s=settings.sync_interval_s, retry_s=settings.sync_retry_s),
        doubt=rechecks.doubt,
        clock=clock,
        owner=owner,
    )
    database.after_commit(reconciler.wake)
    follower: TunnelFollower | None = None
    if settings.tunnel_metrics_url is not None and settings.public_url is None:
        follower = TunnelFollower(database, settings.tunnel_metrics_url, clock=clock)
    # Keys made by another process (`offhook keys`) come back by way of the topic, as they come to call-tracker.
    api_keys = ApiKeys(settings.api_keys, bus.directory(API_KEYS, ApiKeyRecord))
    sessions = Sessions(settings.session_key, api_keys, clock=clock)
    site = Site(
        api_keys=api_keys,
        sessions=sessions,
        templates=TEMPLATES,
        clock=clock,
        login=True,
        redis_url=settings.redis_url,
    )
    endless = EndlessTasks()

    async def tell_everything(connection: AsyncConnection) -> int:
        url = settings.public_url
        if follower is not None:
            # The last name the tunnel had holds until it tells another one.
            url = await publishing.public_url(connection)
        await adopt(connection, url, at=now_ms(clock))
        return await publishing.republish(connection)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        relaying = False
        try:
            readiness: Readiness = app.state.readiness
            await until_prepared(database, migrate=settings.auto_prepare, waiting=readiness.wait_for)
            if settings.public_url is not None and settings.tunnel_metrics_url is not None:
                log.warning(
                    "public_url.configured",
                    public_url=settings.public_url,
                    hint="OFFHOOK_PUBLIC_URL is set and wins; the tunnel at OFFHOOK_TUNNEL_METRICS_URL is not followed",
                )
            log.info("store.ready", records=await database.transact(tell_everything))
            for name in registry.PROVIDERS:
                # The vendors' SDKs take seconds to import: not while somebody waits for a call.
                await asyncio.to_thread(registry.rest, name)
            await bus.start()
            relaying = True
            endless.start(relay.run(), "outbox relay")
            endless.start(worker.run(), "command worker")
            endless.start(reconciler.run(), "number reconciler")
            endless.start(rechecks.run(), "credentials rechecks")
            if follower is not None:
                endless.start(follower.run(), "tunnel follower")
            yield
        finally:
            await endless.stop()
            if relaying:
                await relay.release()
            await bus.stop()
            await introductions.close()
            await site.close()
            await database.close()

    def waiting() -> Iterable[str]:
        # The API works meanwhile: changes are stored, and published when Kafka is back.
        for source in (relay, worker, reconciler, follower):
            if source is not None and source.problem is not None:
                yield source.problem

    bus.add_check(waiting)
    app = create_app(
        SERVICE,
        bus,
        endless=endless,
        lifespan=lifespan,
        title="Offhook number-sync",
        description="Telephony configurations, phone numbers and workflows.",
    )
    install_errors(app)
    workflows = Workflows(database, keyring, clock=clock, hosts=settings.allowed_agents)
    parts = Parts(
        database=database,
        configurations=Configurations(
            database, keyring, registry.PROVIDERS, clock=clock, objection=verifier.objection
        ),
        numbers=numbers,
        workflows=workflows,
        verifier=verifier,
        imports=Imports(database, keyring, registry.PROVIDERS, numbers, inquiries),
        trials=Trials(workflows, hosts=settings.allowed_agents),
        check_now=reconciler.check_now,
        providers=registry.PROVIDERS,
    )
    app.include_router(create_router(parts, require_user(api_keys, sessions)))
    app.include_router(create_pages(site, parts))

    site.install(app)

    async def drain() -> None:
        await asyncio.gather(worker.drain(), reconciler.drain())
        await relay.drain()

    return NumberSync(app, drain)
