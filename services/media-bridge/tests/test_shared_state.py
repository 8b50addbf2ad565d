"""What bridges share in a real Redis."""

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis

from media_bridge.shared_state import Claim, Prior, SharedState


@pytest.fixture
async def state(redis_url: str) -> AsyncIterator[SharedState]:
    made = SharedState(redis_url, "b1", timeout_s=5)
    yield made
    await made.stop()


@pytest.fixture
async def other(redis_url: str) -> AsyncIterator[SharedState]:
    made = SharedState(redis_url, "b2", timeout_s=5)
    yield made
    await made.stop()


def soon() -> int:
    return int(time.time()) + 60


async def test_a_token_is_used_once_whichever_bridge_sees_it_first(
    state: SharedState, other: SharedState
) -> None:
    assert not (await state.introduce("r1", "n1", soon())).token_used
    assert (await state.introduce("r1", "n1", soon())).token_used
    assert (await other.introduce("r1", "n1", soon())).token_used
    assert not (await other.introduce("r1", "n2", soon())).token_used


async def test_a_used_token_is_remembered_for_as_long_as_it_would_be_believed(
    state: SharedState, redis_url: str
) -> None:
    await state.introduce("r1", "n1", int(time.time()) + 500)
    async with Redis.from_url(redis_url) as redis:
        assert await redis.ttl("offhook:token:n1") > 500


async def test_every_session_of_a_run_has_a_higher_epoch_and_fences_off_the_one_before(
    state: SharedState, other: SharedState
) -> None:
    first = await state.claim("r1")
    assert first.epoch == 1
    assert await state.renew([("r1", 1, 400)]) == [True]
    second = await other.claim("r1")
    assert (second.epoch, second.heard_ms) == (2, 400)
    assert await state.renew([("r1", 1, 500), ("r2", 0, 0)]) == [False, True]
    assert await other.renew([("r1", 2, 0)]) == [True]


async def test_a_claim_that_is_asked_again_because_its_answer_was_lost_is_one_session(
    state: SharedState, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, asked = state._claim, []

    async def twice(**given: Any) -> Any:
        asked.append(await script(**given))
        return await script(**given)

    monkeypatch.setattr(state, "_claim", twice)
    assert (await state.claim("r1")).epoch == 1
    assert (await state.claim("r1")).epoch == 2
    assert len(asked) == 2


async def test_a_session_that_ended_in_order_leaves_what_was_heard(
    state: SharedState, other: SharedState
) -> None:
    await state.claim("r1")
    await state.release("r1", 1, 700)
    claim = await other.claim("r1")
    assert (claim.epoch, claim.heard_ms) == (2, 700)


async def test_a_session_survives_a_redis_that_forgot_everything(state: SharedState, redis_url: str) -> None:
    await state.claim("r1")
    async with Redis.from_url(redis_url) as redis:
        await redis.flushall()
    assert await state.renew([("r1", 1, 0)]) == [True]
    assert (await state.claim("r1")).epoch == 2


async def test_the_marks_expire(state: SharedState, redis_url: str) -> None:
    await state.mark_ended("r1")
    await state.mark_fallback("r1")
    async with Redis.from_url(redis_url) as redis:
        assert 0 < await redis.ttl("offhook:ended:r1") <= 6 * 3600
        assert 0 < await redis.ttl("offhook:fallback:r1") <= 6 * 3600
    assert (await state.introduce("r1", "n", soon())).ended


async def test_metadata_that_is_not_json_is_not_told(state: SharedState, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.hset("offhook:call:r1", mapping={"from": "+15550001111", "metadata": "{"})
    prior = await state.introduce("r1", "n", soon())
    assert (prior.from_number, prior.metadata) == ("+15550001111", {})


async def test_without_redis_nothing_is_refused_and_there_is_a_sentence_for_the_operator() -> None:
    state = SharedState("redis://127.0.0.1:1/0", "b1", timeout_s=0.2)
    assert await state.introduce("r1", "n1", soon()) == Prior()
    assert await state.claim("r1") == Claim(epoch=0)
    assert await state.renew([("r1", 3, 0)]) == [True]
    assert state.problem is not None
    assert "Redis" in state.problem
    await state.stop()
