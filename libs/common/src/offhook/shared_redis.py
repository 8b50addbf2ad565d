"""Redis as the services use it: shared, short-lived facts, and nothing that may stop a call.

While Redis is away every question is answered with None, at once, and that is visible: `problem`, the metric,
one line in the log when it begins and one when it ends.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from offhook.telemetry import metrics

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)
_T = TypeVar("_T")

_AWAY_S: Final = 1.0  # after a failure Redis is left alone for so long, that few calls wait for it


class SharedRedis:
    """A Redis that may be away. You must call `stop` after use.

    `loss` says, as a clause, what is missing while Redis is away. `timeout_s` bounds connecting and each
    answer.
    """

    def __init__(
        self,
        url: str,
        *,
        loss: str,
        timeout_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.client: Redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # One retry: a connection that Redis closed while it was idle is not an outage.
            retry=Retry(NoBackoff(), 1),
        )
        self._loss = loss
        self._monotonic = monotonic
        self._away_until: float | None = None
        self._problem: str | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """Why Redis cannot be used, as a sentence for the operator; None when it can."""
        return self._problem

    async def start(self) -> None:
        """Ask once, and from now on notice Redis going and coming also when nobody asks."""
        await self._ping()
        self._watch = asyncio.create_task(self._keep_watch(), name="redis-watch")

    async def stop(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        await self.client.aclose()

    async def ask(self, operation: str, question: Callable[[], Awaitable[_T]]) -> _T | None:
        """The answer of `question`, which uses `client`; None while Redis is away. `operation` is for the metric."""
        if self._away_until is not None and self._monotonic() < self._away_until:
            metrics.REDIS_ERRORS.labels(operation).inc()
            return None
        try:
            answer = await question()
        except (RedisError, OSError, TimeoutError) as error:
            metrics.REDIS_ERRORS.labels(operation).inc()
            self._away_until = self._monotonic() + _AWAY_S
            if self._problem is None:
                _log.warning("redis-away", error=type(error).__name__)
            self._problem = (
                f"Redis does not answer: {self._loss}, calls go on; "
                "check the Redis server and OFFHOOK_REDIS_URL"
            )
            return None
        if self._problem is not None:
            self._problem = None
            _log.info("redis-back")
        return answer

    async def _ping(self) -> None:
        await self.ask("ping", self.client.ping)

    async def _keep_watch(self) -> None:
        while True:
            await asyncio.sleep(_AWAY_S * 2)
            await self._ping()
