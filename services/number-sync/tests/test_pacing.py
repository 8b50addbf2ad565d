"""The pace at which a provider is asked: steady, resting when told, slower afterwards. Time is given."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from number_sync.sync.pacing import Bucket, Pacer
from offhook.providers.errors import RestError


def turns(bucket: Bucket, count: int, now: float) -> list[float]:
    """When the next `count` requests leave, if all are ready at `now`."""
    return [now + bucket.reserve(now) for _ in range(count)]


def test_requests_leave_at_the_pace_however_many_wait() -> None:
    assert turns(Bucket(4), 5, 0) == [0, 0.25, 0.5, 0.75, 1.0]


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.5, 20))
def test_never_more_than_the_pace_and_one_leave_in_any_second(gaps: list[float], rate: float) -> None:
    bucket, now, left = Bucket(rate), 0.0, []
    for gap in gaps:
        now += gap
        left.append(now + bucket.reserve(now))
    for start in left:
        assert sum(start <= each < start + 1 for each in left) <= rate + 2


def test_a_throttled_account_rests_as_long_as_it_is_told() -> None:
    bucket = Bucket(4)
    bucket.reserve(0)
    bucket.throttled(0, 30)
    assert bucket.rests_for(0) == 30
    assert bucket.reserve(10) >= 20
    assert bucket.rests_for(30) == 0


def test_without_retry_after_the_rest_doubles() -> None:
    bucket, now, rests = Bucket(4), 0.0, []
    for _ in range(7):
        bucket.throttled(now, None)
        rests.append(bucket.rests_for(now))
        now += rests[-1]
    assert rests == [2, 4, 8, 16, 32, 60, 60]
    bucket.answered(now)
    bucket.throttled(now, None)
    assert bucket.rests_for(now) == 2


def test_after_a_429_the_pace_is_halved_and_slowly_comes_back() -> None:
    bucket = Bucket(4)
    bucket.throttled(0, 0)
    assert bucket.rate(0) == 2
    assert bucket.rate(30) == 3
    assert bucket.rate(60) == bucket.rate(1000) == 4


def test_several_429_at_once_slow_down_once() -> None:
    bucket = Bucket(4)
    for _ in range(5):
        bucket.throttled(0, 10)
    assert bucket.rate(0) == 2


def test_threads_wait_for_their_accounts_turn_and_only_for_theirs() -> None:
    now, slept = [0.0], []
    pacer = Pacer(2, clock=lambda: now[0])
    ada, bob = (pacer.hook("twilio", name, sleep=slept.append) for name in ("AC1", "AC2"))
    threads = [threading.Thread(target=pace) for pace in (ada, ada, ada, bob)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == [0.5, 1.0]


def test_no_thread_waits_for_an_account_that_rests_long() -> None:
    pacer = Pacer(2, clock=lambda: 0.0)
    assert pacer.throttled("twilio", "AC1", 90) == 90
    with pytest.raises(RestError) as refused:
        pacer.hook("twilio", "AC1")()
    assert (refused.value.kind, refused.value.retry_after_s) == ("busy", 90)
