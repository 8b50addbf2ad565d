"""Tells the gateway and the bridge, through Redis, what they cannot know of a call that was dialled here.

`offhook:call:{run}` is a hash: `direction`, `from`, `to` and `metadata` (JSON) are for the agent; `provider` and `account` say
whose call it is, before the provider's first webhook does. Written before the provider is asked, kept for a day.
"""

import json
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from offhook.events import Originate
from offhook.telemetry import metrics

_KEEP_S: Final = 24 * 3600  # the longest call a provider allows

log = structlog.get_logger(__name__)


class Introductions:
    """While Redis is away the call is made all the same: its agent then hears less about it. That is logged and counted."""

    def __init__(self, url: str, *, timeout_s: float = 0.5) -> None:
        self._redis: Redis = Redis.from_url(
            url, decode_responses=True, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )

    async def introduce(self, order: Originate, account: str) -> None:
        key = f"offhook:call:{order.workflow_run_id}"
        facts: dict[Any, Any] = {
            "direction": "outbound",
            "from": order.from_number,
            "to": order.to_number,
            "provider": order.provider,
            "account": account,
            "metadata": json.dumps(order.metadata),
        }
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hset(key, mapping=facts)
                pipe.expire(key, _KEEP_S)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            metrics.REDIS_ERRORS.labels("introduce").inc()
            log.warning("redis-away", error=type(error).__name__)

    async def close(self) -> None:
        await self._redis.aclose()
