"""The service, put together."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from aiokafka.errors import KafkaError
from fastapi import FastAPI

from call_tracker.actions import Actions
from call_tracker.api import create_router, install_errors
from call_tracker.holdings import Directories
from call_tracker.pages import TEMPLATES, PageParts, create_pages
from call_tracker.reconciliation import LeaseKeeper, Reconciliation
from call_tracker.recording.serving import Recordings
from call_tracker.request_logs import RequestLogs
from call_tracker.settings import TrackerSettings
from call_tracker.silence import Patience
from call_tracker.store import Database, Outbox, Store, StoreError
from call_tracker.store.store import Clock
from call_tracker.tracker import Tracker
from offhook.bus import Bus
from offhook.bus.errors import BusError
from offhook.call_leases import CallLeases
from offhook.database import until_prepared
from offhook.http import Readiness, create_app
from offhook.records import ApiKeyRecord
from offhook.security.api_keys import ApiKeys, require_user
from offhook.security.sessions import Sessions
from offhook.shared_redis import SharedRedis
from offhook.tasks import EndlessTasks
from offhook.telemetry import metrics, tracing
from offhook.topics import API_KEYS, CALL_EVENTS
from offhook.web import Site

SERVICE: Final = "call-tracker"
REDIS_TIMEOUT_S: Final = 0.5
_HOUSEKEEPING_S: Final = 5.0
_FORGETTING_S: Final = 600.0
_FORGOTTEN_AT_ONCE: Final = 200
_FORGETTING_PAUSE_S: Final = 0.1
_LAST_DRAIN_S: Final = 2.0


def utc_now() -> datetime:
    return datetime.now(UTC)


def build(settings: TrackerSettings, bus: Bus, *, clock: Clock = utc_now) -> FastAPI:
    """The application; its lifespan starts and stops everything, `bus` included."""
    database = Database(settings.database)
    store = Store(database, clock, Patience(settings.silence_factor))
    outbox = Outbox(database, bus)
    spans = tracing.configure(SERVICE)
    holdings = Directories(bus)
    redis = SharedRedis(
        settings.redis_url, loss="calls are not counted and limits do not hold", timeout_s=REDIS_TIMEOUT_S
    )
    leases = CallLeases(redis)
    tracker = Tracker(store, outbox, spans, leases, holdings.public_url)
    reconciliation = Reconciliation(store, outbox, tracker, factor=settings.silence_factor)

    def reads_all() -> bool:
        return not bus.health().problems and bus.lag(CALL_EVENTS) < settings.batch_size

    lease_keeper = LeaseKeeper(store, leases, clock, reads_all, factor=settings.silence_factor)
    actions = Actions(
        store=store, outbox=outbox, holdings=holdings, leases=leases, clock=clock, limits=settings.user_limits
    )
    api_keys = ApiKeys(settings.api_keys, bus.directory(API_KEYS, ApiKeyRecord))
    sessions = Sessions(settings.session_key, api_keys, clock=lambda: clock().timestamp())
    site = Site(api_keys=api_keys, sessions=sessions, templates=TEMPLATES, clock=lambda: clock().timestamp())
    logs = RequestLogs(settings, bus, database, outbox, clock)
    keeper = _Housekeeping(
        store, timedelta(hours=settings.idempotency_keep_h), timedelta(days=settings.calls_keep_days)
    )
    bus.consume(
        CALL_EVENTS,
        group=SERVICE,
        handler=tracker.take,
        batch_size=settings.batch_size,
        batch_wait_s=settings.batch_wait_s,
        longest_retry_s=5.0,  # a store that is back is caught up with soon
        session_timeout_s=6.0,  # so are the partitions of a process that was killed (Kafka's least by default)
    )

    endless = EndlessTasks()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        readiness: Readiness = app.state.readiness
        await until_prepared(database, migrate=settings.auto_prepare, waiting=readiness.wait_for)
        try:
            await bus.start()
            await redis.start()
            endless.start(outbox.run(), "outbox")
            endless.start(keeper.run(), "housekeeping")
            endless.start(reconciliation.run(), "reconciliation")
            endless.start(lease_keeper.run(), "leases")
            endless.start(logs.keep(), "keeping of logs")
            yield
            with suppress(StoreError, BusError, KafkaError, TimeoutError):
                async with asyncio.timeout(_LAST_DRAIN_S):
                    await outbox.drain()  # whatever is left is told after the next start
        finally:
            await endless.stop()
            await bus.stop()
            await redis.stop()
            await site.close()
            await database.close()
            tracker.ends.flush()
            spans.shutdown()

    def outbox_waits() -> Iterable[str]:
        if outbox.problem is not None:
            yield outbox.problem

    def without_redis() -> Iterable[str]:
        if redis.problem is not None:
            yield redis.problem

    bus.add_check(outbox_waits)
    bus.add_check(logs.problems)
    bus.add_check(without_redis)
    bus.add_check(reconciliation.problems)
    app = create_app(SERVICE, bus, checks=[keeper.problems], endless=endless, lifespan=lifespan)
    install_errors(app)
    app.include_router(
        create_router(
            store=store,
            actions=actions,
            authenticate=require_user(api_keys, sessions),
        )
    )
    recordings = Recordings(database, store, settings.recordings())
    pages = PageParts(
        store=store,
        outbox=outbox,
        holdings=holdings,
        actions=actions,
        clock=clock,
        recordings=recordings,
        webhooks=logs.webhooks,
        viewers=logs.viewers,
        trace_url_template=settings.trace_url_template,
        logs_url_template=settings.logs_url_template,
    )
    app.include_router(recordings.router(site))
    app.include_router(logs.apis(require_user(api_keys, sessions)))
    app.include_router(create_pages(site, pages))
    app.include_router(logs.pages(site))
    site.install(app)
    return app


async def migrate(settings: TrackerSettings) -> None:
    """Bring the schema up to date and end. Raises `StoreUnavailable`."""
    database = Database(settings.database)
    try:
        await database.migrate()
    finally:
        await database.close()


class _Housekeeping:
    """Looks after the store now and then: does it answer, how many calls live, what may be forgotten."""

    def __init__(self, store: Store, keep: timedelta, keep_calls: timedelta) -> None:
        self._store = store
        self._keep = keep
        self._keep_calls = keep_calls
        self._problem: str | None = None

    def problems(self) -> Iterable[str]:
        if self._problem is not None:
            yield self._problem

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        forget_at = loop.time()
        while True:
            try:
                metrics.CALLS_ACTIVE.set(await self._store.active_calls())
                if loop.time() >= forget_at:
                    await self._store.forget_answers(self._keep)
                    while await self._store.forget_calls(self._keep_calls, limit=_FORGOTTEN_AT_ONCE):
                        await asyncio.sleep(_FORGETTING_PAUSE_S)
                    forget_at = loop.time() + _FORGETTING_S
                self._problem = None
            except StoreError as error:
                metrics.STORE_ERRORS.labels("housekeeping").inc()
                self._problem = str(error)
            await asyncio.sleep(_HOUSEKEEPING_S)
