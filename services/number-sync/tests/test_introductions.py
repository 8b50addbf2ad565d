"""What the other services are told of a dialled call, in a real Redis."""

import json

from redis.asyncio import Redis

from number_sync.introductions import Introductions
from offhook.events import Originate

ORDER = Originate(
    workflow_run_id="run-1",
    workflow_id="w1",
    user_id="u1",
    configuration_id="c1",
    provider="twilio",
    from_number="+14155550100",
    to_number="+14155550142",
    metadata={"customer": {"id": 7}},
)


async def test_the_agents_bridge_finds_numbers_and_metadata_and_the_gateway_the_account(
    redis_url: str,
) -> None:
    introductions = Introductions(redis_url)
    await introductions.introduce(ORDER, "AC1")
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        found = await redis.hgetall("offhook:call:run-1")
        assert await redis.ttl("offhook:call:run-1") > 3600
    await introductions.close()
    assert json.loads(found.pop("metadata")) == {"customer": {"id": 7}}
    assert found == {
        "direction": "outbound",
        "from": "+14155550100",
        "to": "+14155550142",
        "provider": "twilio",
        "account": "AC1",
        "configuration": "c1",
    }


async def test_a_call_is_dialled_although_redis_is_away() -> None:
    introductions = Introductions("redis://127.0.0.1:1/0")
    await introductions.introduce(ORDER, "AC1")
    await introductions.close()
