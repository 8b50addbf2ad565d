"""Tells the gateway and the bridge, through Redis, what they cannot know of a call that was dialled here.

`offhook:call:{run}` is a hash: `direction`, `from`, `to` and `metadata` (JSON) are for the agent; `provider` and `account` say
whose call it is, before the provider's first webhook does, and `configuration` through which of the account's configurations it
runs; `transfer_of` is the run whose caller waits to be put through to this call. Written before the provider is asked, kept for
a day.
"""

import json
from typing import Any, Final

from offhook.events import Originate
from offhook.shared_redis import SharedRedis

_KEEP_S: Final = 24 * 3600  # the longest call a provider allows


class Introductions:
    """While Redis is away the call is made all the same: its agent then hears less about it. That is logged and counted."""

    def __init__(self, url: str, *, timeout_s: float = 0.5) -> None:
        self._shared = SharedRedis(
            url,
            loss="agents are not told about calls dialled from here, and no limit is asked",
            timeout_s=timeout_s,
        )

    @property
    def redis(self) -> SharedRedis:
        """The connection, for what else shares it."""
        return self._shared

    async def introduce(self, order: Originate, account: str) -> None:
        key = f"offhook:call:{order.workflow_run_id}"
        facts: dict[Any, Any] = {
            "direction": "outbound",
            "from": order.from_number,
            "to": order.to_number,
            "provider": order.provider,
            "account": account,
            "configuration": order.configuration_id,
            "metadata": json.dumps(order.metadata),
        }
        if order.transfer_of is not None:
            facts["transfer_of"] = order.transfer_of

        async def write() -> None:
            async with self._shared.client.pipeline(transaction=True) as pipe:
                pipe.hset(key, mapping=facts)
                pipe.expire(key, _KEEP_S)
                await pipe.execute()

        await self._shared.ask("introduce", write)

    async def close(self) -> None:
        await self._shared.stop()
