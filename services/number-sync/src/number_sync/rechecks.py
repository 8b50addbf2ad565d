"""Credentials are tried again, so that what is kept of them stays true: nothing is dialled with those that are not verified.

What could not be tried, and what a suspended account refused, may be right by itself a little later; credentials that were
refused seldom are. And whoever asks the provider for something else may find that it has changed its mind.
"""

import asyncio
import time
from contextlib import suppress
from itertools import islice
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
_BATCH: Final = 10  # a doubt waits for no more

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
        # When it was, ms since 1970: the last attempt, and a refusal in spite of a doubt.
        self._tried: dict[str, int] = {}
        self._in_vain: dict[str, int] = {}
        self._wake = asyncio.Event()

    def doubt(self, configuration_id: str) -> None:
        """The provider has said something else of its credentials than what is kept. Refused all the same, they are left
        alone as others are."""
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
        """Try those whose time has come, some at a time and doubted ones first."""
        now = now_ms(self._clock)
        since = now - int(self._interval_s * 1000)
        self._tried = {id_: at for id_, at in self._tried.items() if at > since}
        self._in_vain = {id_: at for id_, at in self._in_vain.items() if at > now - REFUSED_MS}
        doubted = set(islice(self._doubted, _BATCH))
        async with self._database.read() as connection:
            rows = (await connection.execute(self._due(doubted, now, since))).all()
        self._doubted -= doubted
        if self._doubted or len(rows) == _BATCH:
            self._wake.set()
        places = asyncio.Semaphore(_AT_A_TIME)

        async def test(row: Row[Any]) -> None:
            async with places:
                self._tried[row.id] = now
                answer = await self._verifier.test(row.user_id, row.id)
            if row.id in doubted and row.verification == answer.state == "refused" and answer.at is not None:
                self._in_vain[row.id] = answer.at

        again = [
            row for row in rows if row.id not in self._in_vain or self._in_vain[row.id] != row.verified_at
        ]
        for result in await asyncio.gather(*map(test, again), return_exceptions=True):
            # One that cannot be tried is not to keep the others from it.
            if isinstance(result, Exception) and not isinstance(result, NotFoundError):
                log.error("recheck.crashed", exc_info=result)

    def _due(self, doubted: set[str], now: int, since: int) -> Any:
        asked = func.coalesce(configurations.c.verified_at, configurations.c.updated_at)
        passing = or_(
            configurations.c.verification == "not-verified",
            configurations.c.verification_code == ObstacleCode.ACCOUNT_SUSPENDED.value,
        )
        refused = configurations.c.verification == "refused"
        return (
            select(configurations)
            .where(
                or_(
                    configurations.c.id.in_(doubted),
                    and_(
                        # An attempt that found nothing out leaves no trace there.
                        configurations.c.id.not_in(self._tried),
                        or_(and_(passing, asked <= since), and_(refused, asked <= now - REFUSED_MS)),
                    ),
                )
            )
            .order_by(configurations.c.id.not_in(doubted), asked)
            .limit(_BATCH)
        )
