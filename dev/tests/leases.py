"""The places that running calls hold, as they are in Redis."""

import asyncio

import redis.asyncio
from installation import Installation


async def no_lease(installation: Installation, run: str) -> None:
    """Returns when nobody holds a place for the call; its record shows its end a moment earlier."""
    async with (
        redis.asyncio.from_url(installation.stack.redis_url) as client,
        asyncio.timeout(30),
    ):
        while await client.exists(f"offhook:leases:of:{run}"):
            await asyncio.sleep(0.05)
