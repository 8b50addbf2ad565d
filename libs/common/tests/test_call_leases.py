"""Leases of calls, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from offhook.call_leases import LEASE_S, ORPHANED_S, CallLeases, Full, Granted, Scope
from offhook.shared_redis import SharedRedis

NOON = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


def later(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[SharedRedis]:
    shared = SharedRedis(redis_url, loss="calls are not counted", timeout_s=2.0)
    yield shared
    await shared.stop()


@pytest.fixture
def leases(redis: SharedRedis) -> CallLeases:
    return CallLeases(redis)


USER = Scope("user", "u1", max_concurrent=2)
OTHER = Scope("configuration", "c1", max_concurrent=1)


async def test_as_many_calls_as_allowed_are_granted_and_the_next_when_one_has_ended(
    leases: CallLeases,
) -> None:
    assert await leases.acquire("r1", [USER], NOON) == Granted()
    assert await leases.acquire("r2", [USER], NOON) == Granted()
    full = await leases.acquire("r3", [USER], NOON)
    assert isinstance(full, Full)
    assert (full.scope, full.per, full.limit) == (USER, "time", 2)
    assert full.retry_after_s > 0
    assert await leases.release("r1")
    assert await leases.acquire("r3", [USER], NOON) == Granted()


async def test_calls_at_once_never_get_more_than_there_are(leases: CallLeases) -> None:
    answers = await asyncio.gather(*(leases.acquire(f"r{n}", [USER], NOON) for n in range(10)))
    assert sum(isinstance(answer, Granted) for answer in answers) == 2


async def test_a_call_refused_by_one_scope_takes_nothing_of_the_others(leases: CallLeases) -> None:
    assert await leases.acquire("r1", [USER, OTHER], NOON) == Granted()
    refused = await leases.acquire("r2", [USER, OTHER], NOON)
    assert isinstance(refused, Full)
    assert refused.scope == OTHER
    assert await leases.held(USER, NOON) == 1


async def test_a_run_that_asks_again_counts_once(leases: CallLeases) -> None:
    only = Scope("user", "u1", max_concurrent=1, max_per_s=1)
    assert await leases.acquire("r1", [only], NOON) == Granted()
    assert await leases.acquire("r1", [only], NOON) == Granted()
    assert await leases.held(only, NOON) == 1


async def test_a_lease_nobody_renews_expires_and_a_renewed_one_does_not(leases: CallLeases) -> None:
    assert await leases.acquire("r1", [USER], NOON) == Granted()
    assert await leases.acquire("r2", [USER], NOON) == Granted()
    assert await leases.renew({"r1": [USER]}, later(LEASE_S - 1))
    assert await leases.held(USER, later(LEASE_S + 1)) == 1
    assert await leases.acquire("r3", [USER], later(LEASE_S + 1)) == Granted()
    assert isinstance(await leases.acquire("r4", [USER], later(LEASE_S + 1)), Full)


async def test_what_a_crash_left_behind_is_freed_and_what_is_live_or_fresh_is_not(leases: CallLeases) -> None:
    scopes = [Scope("user", "u1"), OTHER]
    assert await leases.acquire("left-behind", scopes, NOON) == Granted()
    assert await leases.drop_idle({"another"}, later(ORPHANED_S - 1), ORPHANED_S) == 0
    assert await leases.drop_idle({"left-behind"}, later(ORPHANED_S + 1), ORPHANED_S) == 0
    assert await leases.drop_idle({"another"}, later(ORPHANED_S + 1), ORPHANED_S) == 1
    assert await leases.acquire("next", [OTHER], later(ORPHANED_S + 2)) == Granted()


async def test_a_live_call_whose_lease_was_lost_has_it_again_after_the_renewal(
    leases: CallLeases, redis: SharedRedis
) -> None:
    await leases.acquire("r1", [OTHER], NOON)
    await redis.client.flushdb()
    await leases.renew({"r1": [OTHER]}, NOON)
    assert isinstance(await leases.acquire("r2", [OTHER], NOON), Full)
    await leases.release("r1")
    assert await leases.acquire("r2", [OTHER], NOON) == Granted()


async def test_after_the_end_no_renewal_and_no_repeated_beginning_takes_a_lease_again(
    leases: CallLeases, redis: SharedRedis
) -> None:
    await leases.acquire("r1", [OTHER], NOON)
    await leases.release("r1")
    await leases.renew({"r1": [OTHER]}, NOON)
    assert await leases.acquire("r1", [OTHER], NOON) == Granted()
    assert await leases.held(OTHER, NOON) == 0
    assert [key async for key in redis.client.scan_iter("offhook:leases:*")] == []


async def test_calls_begin_no_faster_than_allowed(leases: CallLeases) -> None:
    pace = Scope("configuration", "c1", max_per_s=2)
    first = [await leases.acquire(f"r{n}", [pace], NOON) for n in range(3)]
    assert first[:2] == [Granted(), Granted()]
    assert isinstance(first[2], Full)
    assert (first[2].per, first[2].limit, first[2].retry_after_s) == ("second", 2, 0.5)
    assert await leases.acquire("r3", [pace], later(0.5)) == Granted()
    assert isinstance(await leases.acquire("r4", [pace], later(0.5)), Full)


async def test_one_call_in_four_seconds_is_a_pace_too(leases: CallLeases) -> None:
    slow = Scope("user", "u1", max_per_s=0.25)
    assert await leases.acquire("r1", [slow], NOON) == Granted()
    full = await leases.acquire("r2", [slow], later(1))
    assert isinstance(full, Full)
    assert full.retry_after_s == 3.0
    assert await leases.acquire("r2", [slow], later(4)) == Granted()


async def test_a_scope_without_limits_is_counted(leases: CallLeases) -> None:
    free = Scope("user", "u1")
    for number in range(5):
        assert await leases.acquire(f"r{number}", [free], NOON) == Granted()
    assert await leases.held(free, NOON) == 5


async def test_without_redis_calls_are_granted_uncounted() -> None:
    shared = SharedRedis("redis://127.0.0.1:1/0", loss="calls are not counted", timeout_s=0.5)
    leases = CallLeases(shared)
    assert await leases.acquire("r1", [OTHER], NOON) == Granted(counted=False)
    assert not await leases.release("r1")
    assert not await leases.renew({"r1": [OTHER]}, NOON)
    assert await leases.held(OTHER, NOON) is None
    assert shared.problem is not None
    await shared.stop()
