"""The webhook log and the dead letters, put together: what is consumed, served and forgotten."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Final

from fastapi import APIRouter

from call_tracker.dead_letters import DeadLetterBox
from call_tracker.dead_letters.api import create_router as dead_letters_api
from call_tracker.pages.dead_letters import create_router as dead_letter_pages
from call_tracker.pages.webhooks import create_router as webhook_pages
from call_tracker.settings import TrackerSettings
from call_tracker.store import Database, Outbox, StoreError
from call_tracker.store.store import Clock
from call_tracker.viewers import Viewers
from call_tracker.webhook_log import WebhookLog
from call_tracker.webhook_log.api import create_router as webhooks_api
from offhook.bus import Bus
from offhook.telemetry import metrics
from offhook.topics import DEAD_LETTERS, WEBHOOK_AUDIT
from offhook.web import Site

_FORGETTING_S: Final = 600.0


class RequestLogs:
    """Make it before the bus starts; run `keep` until the process ends."""

    def __init__(
        self, settings: TrackerSettings, bus: Bus, database: Database, outbox: Outbox, clock: Clock
    ) -> None:
        self.viewers = Viewers(bus, settings.operator_ids)
        self.webhooks = WebhookLog(database, clock)
        self.letters = DeadLetterBox(database, bus, clock)
        self.outbox = outbox
        self._settings = settings
        self._problem: str | None = None
        # Groups of their own: a batch of these must not hold up the events of calls, and neither a rebalance.
        bus.consume(
            WEBHOOK_AUDIT, group="call-tracker-webhooks", handler=self.webhooks.take, batch_wait_s=0.1,
            longest_retry_s=5.0,
        )  # fmt: skip
        bus.consume_records(DEAD_LETTERS, group="call-tracker-dead-letters", handler=self.letters.take)

    def apis(self, authenticate: Callable[..., Awaitable[str]]) -> APIRouter:
        """`/api/v1/webhooks` and `/api/v1/dead-letters`."""
        router = APIRouter()
        router.include_router(
            webhooks_api(
                webhooks=self.webhooks, viewers=self.viewers, outbox=self.outbox, authenticate=authenticate
            )
        )
        router.include_router(
            dead_letters_api(letters=self.letters, viewers=self.viewers, authenticate=authenticate)
        )
        return router

    def pages(self, site: Site) -> APIRouter:
        """`/webhooks` and `/dead-letters`."""
        router = APIRouter()
        router.include_router(
            webhook_pages(site, webhooks=self.webhooks, viewers=self.viewers, outbox=self.outbox)
        )
        router.include_router(dead_letter_pages(site, letters=self.letters, viewers=self.viewers))
        return router

    def problems(self) -> Iterable[str]:
        """What is wrong right now."""
        if self._problem is not None:
            yield self._problem

    async def keep(self) -> None:
        """Forget what is too old or too much, every ten minutes, until cancelled."""
        while True:
            try:
                await self.forget()
                self._problem = None
            except StoreError as error:
                metrics.STORE_ERRORS.labels("housekeeping").inc()
                self._problem = f"old webhooks and dead letters cannot be forgotten: {error}"
            await asyncio.sleep(_FORGETTING_S)

    async def forget(self) -> None:
        """Once."""
        settings = self._settings
        while await self.webhooks.forget(
            timedelta(days=settings.webhooks_keep_days), settings.webhooks_max_rows
        ):
            await asyncio.sleep(0)
        while await self.letters.forget(
            timedelta(days=settings.dead_letters_keep_days), settings.dead_letters_max_rows
        ):
            await asyncio.sleep(0)
