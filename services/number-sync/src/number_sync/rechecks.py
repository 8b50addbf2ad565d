"""Credentials are tried again, so that what is kept of them stays true: nothing is dialled with those that are not verified.

What could not be tried, and what a suspended account refused, may be right by itself a little later; credentials that were
refused seldom are. And whoever asks the provider for something else may find that it has changed its mind.
"""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final

import structlog
from sqlalchemy import Row, and_, func, or_, select
from sqlalchemy.exc import SQLAlchemyError

from number_sync.database import Clock, Database, now_ms
from number_sync.errors import NotFoundError
from number_sync.schema import configurations
from number_sync.verification import Verifier
from offhook.providers.obstacles import ObstacleCode
from offhook.telemetry import metrics

REFUSED_MS: Final = 3600 * 1000
"""How long refused credentials are left alone."""
_AT_A_TIME: Final = 2  # people who test theirs come first

log = structlog.get_logger(__name__)


class Rechecks:
    """`run` works until cancelled. `interval_s`: how soon what was not verified is tried again."""

    def __init__(
        self, database: Database, verifier: Verifier, *, interval_s: float, clock: Clock = time.time
    ) -> None:
        self._database = database
        self._verifier = verifier
        self._interval_s = interval_s
        self._clock = clock
        self._doubted: set[str] = set()
        self._wake = asyncio.Event()

    def doubt(self, configuration_id: str) -> None:
        """The provider has said something else of its credentials than what is kept."""
        self._doubted.add(configuration_id)
        self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.recheck()
            except (SQLAlchemyError, OSError) as error:
                metrics.STORE_ERRORS.labels("recheck").inc()
                log.warning("recheck.store_unavailable", reason=type(error).__name__)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval_s / 4):
                    await self._wake.wait()

    async def recheck(self) -> None:
        """Try everything whose time has come."""
        doubted, self._doubted = self._doubted, set()
        async with self._database.read() as connection:
            rows = (await connection.execute(self._due(doubted))).all()
        places = asyncio.Semaphore(_AT_A_TIME)

        async def test(row: Row[Any]) -> None:
            async with places:
                await self._verifier.test(row.user_id, row.id)

        for result in await asyncio.gather(*map(test, rows), return_exceptions=True):
            # One that cannot be tried is not to keep the others from it.
            if isinstance(result, Exception) and not isinstance(result, NotFoundError):
                log.error("recheck.crashed", exc_info=result)

    def _due(self, doubted: set[str]) -> Any:
        now = now_ms(self._clock)
        since = func.coalesce(configurations.c.verified_at, configurations.c.updated_at)
        passing = or_(
            configurations.c.verification == "not-verified",
            configurations.c.verification_code == ObstacleCode.ACCOUNT_SUSPENDED.value,
        )
        return (
            select(configurations.c.id, configurations.c.user_id)
            .where(
                or_(
                    configurations.c.id.in_(doubted),
                    and_(passing, since <= now - int(self._interval_s * 1000)),
                    and_(configurations.c.verification == "refused", since <= now - REFUSED_MS),
                )
            )
            .order_by(since)
        )
