"""A real Redis that goes and comes."""

from collections.abc import AsyncIterator

import pytest

from offhook.shared_redis import SharedRedis
from offhook_dev.redis import RedisServer


class Time:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def shared(url: str, clock: Time | None = None) -> SharedRedis:
    return SharedRedis(url, loss="nothing is remembered", timeout_s=5, monotonic=clock or Time())


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[SharedRedis]:
    made = shared(redis_url)
    yield made
    await made.stop()


async def test_a_question_is_answered(redis: SharedRedis) -> None:
    assert await redis.ask("set", lambda: redis.client.set("offhook:k", "v")) is True
    assert await redis.ask("get", lambda: redis.client.get("offhook:k")) == "v"
    assert redis.problem is None


async def test_redis_going_and_coming_back_is_noticed(redis_server: RedisServer, redis_url: str) -> None:
    clock = Time()
    redis = shared(redis_url, clock)
    await redis.start()
    try:
        assert redis.problem is None
        redis_server.stop_now()
        assert await redis.ask("get", lambda: redis.client.get("offhook:k")) is None
        assert redis.problem == (
            "Redis does not answer: nothing is remembered, calls go on; "
            "check the Redis server and OFFHOOK_REDIS_URL"
        )
        redis_server.start_now()
        clock.now += 1
        assert await redis.ask("set", lambda: redis.client.set("offhook:k", "v")) is True
        assert redis.problem is None
    finally:
        await redis.stop()


async def test_for_a_second_after_a_failure_redis_is_not_asked() -> None:
    clock = Time()
    redis = shared("redis://127.0.0.1:1/0", clock)
    asked = []

    async def question() -> bool:
        asked.append(clock.now)
        return bool(await redis.client.ping())

    for _ in range(3):
        assert await redis.ask("ping", question) is None
        clock.now += 0.5
    assert asked == [1000.0, 1001.0]
    await redis.stop()


async def test_a_redis_that_is_away_at_the_start_is_a_problem_from_the_start() -> None:
    redis = shared("redis://127.0.0.1:1/0")
    await redis.start()
    assert redis.problem is not None
    await redis.stop()


async def test_what_redis_refuses_is_a_failure_and_what_the_question_does_wrong_is_not(
    redis: SharedRedis,
) -> None:
    async def broken() -> None:
        raise KeyError("a mistake of ours")

    with pytest.raises(KeyError):
        await redis.ask("broken", broken)
    assert redis.problem is None
    await redis.ask("set", lambda: redis.client.set("offhook:k", "not a hash"))
    assert await redis.ask("hgetall", lambda: redis.client.hgetall("offhook:k")) is None
    assert redis.problem is not None
