"""How long a call may be silent, by where it is."""

from collections.abc import Sequence

import pytest
from events_of_calls import NOON, AnyEvent, Call

from call_tracker.joining import gather
from call_tracker.lifecycle import project
from call_tracker.silence import AFTERWARDS_S, GIVE_UP_S, SILENCE_S, Patience, Stage, stage_of
from offhook.events import Party

NOON_US = int(NOON.timestamp() * 1_000_000)
CALL = Call()
HEARD = [CALL.received(), CALL.media_started(3)]
SILENT = [*HEARD, CALL.media_stopped(9)]


def stage(events: Sequence[AnyEvent]) -> Stage | None:
    facts = gather(events)
    return stage_of(project("run-1", facts), facts)


def wait_s(
    events: Sequence[AnyEvent], *, at: float = 0.0, looks: int = 0, factor: float = 1.0
) -> float | None:
    """Seconds from `at` (after noon) to the next look."""
    facts = gather(events)
    now_us = NOON_US + int(at * 1_000_000)
    look = Patience(factor).next_look_us(project("run-1", facts), facts, now_us, looks)
    return None if look is None else (look - now_us) / 1_000_000


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([CALL.requested()], Stage.INITIATED),
        ([CALL.requested(), CALL.status("ringing")], Stage.RINGING),
        ([CALL.received(), CALL.status("answered")], Stage.WITHOUT_AUDIO),
        (HEARD, Stage.TALKING),
        (SILENT, Stage.AFTER_AUDIO),
        ([*SILENT, CALL.media_started(10, epoch=2)], Stage.TALKING),
        ([*SILENT, CALL.transfer_requested(8)], Stage.TRANSFERRED),
        ([*SILENT, CALL.transfer_requested(8), CALL.transfer_ended("busy", 9)], Stage.AFTER_AUDIO),
        ([*HEARD, CALL.hangup_requested(Party.AGENT)], Stage.ENDING),
        ([*HEARD, CALL.hangup_requested(Party.OPERATOR, 8), CALL.hangup_failed(40)], Stage.TALKING),
        ([*HEARD, CALL.status("completed", 9)], None),
        ([CALL.requested(), CALL.dial_failed(1)], None),
        ([CALL.requested(), CALL.dial_failed(1), CALL.status("ringing", 2)], Stage.DOUBTED),
        ([CALL.requested(), CALL.lost(200), CALL.status("ringing", 300)], Stage.DOUBTED),
    ],
)  # fmt: skip
def test_where_a_call_is(events: list[AnyEvent], expected: Stage | None) -> None:
    assert stage(events) is expected


def test_a_call_may_ring_as_long_as_it_was_allowed_to_before_its_silence_counts() -> None:
    assert wait_s([CALL.requested(ring_timeout_s=20)]) == SILENCE_S[Stage.INITIATED] + 20
    assert (
        wait_s([CALL.requested(ring_timeout_s=20), CALL.status("ringing")]) == SILENCE_S[Stage.RINGING] + 20
    )


def test_a_talking_call_with_a_time_limit_is_looked_at_soon_after_it() -> None:
    talking = [CALL.requested(time_limit_s=120), CALL.media_started(3)]
    assert wait_s(talking) == 150
    assert wait_s([CALL.requested(time_limit_s=86_400), CALL.media_started(3)]) == SILENCE_S[Stage.TALKING]


def test_questions_nobody_answers_are_repeated_ever_more_rarely_and_never_given_up_asking() -> None:
    waits = [wait_s(SILENT, looks=looks) for looks in range(12)]
    assert waits[:4] == [60, 120, 240, 480]
    assert waits[-1] == waits[-2] == 1800


def test_the_factor_shortens_everything() -> None:
    assert wait_s(SILENT, factor=0.01) == 0.6


def test_after_the_end_the_cost_is_asked_for_over_a_day_and_then_no_more() -> None:
    whole = CALL.twilio_outbound()  # it ends at 9 s, without a price
    at, waits = 9.0, []
    while (wait := wait_s(whole, at=at)) is not None:
        at += wait
        waits.append(round(at - 9))
    assert waits == list(AFTERWARDS_S)
    priced = CALL.seen("completed", 70, answered=3, ended=9, duration_s=6, price="0.01", price_unit="USD")
    assert wait_s([*whole, priced], at=70) is None


def test_a_call_whose_answering_nobody_told_is_looked_at_after_its_end() -> None:
    end = CALL.status("completed", 9, said_at=9, duration_s=6, price="0.01")
    assert wait_s([CALL.received(), end], at=9) == AFTERWARDS_S[0]
    assert wait_s([CALL.received(), CALL.status("answered", 3, said_at=3), end], at=9) is None


def test_a_call_that_was_given_up_and_spoken_of_again_is_asked_for_a_day_at_most() -> None:
    doubted = [CALL.requested(), CALL.lost(200), CALL.status("ringing", 300)]
    assert wait_s(doubted, at=300) == SILENCE_S[Stage.DOUBTED]
    assert wait_s(doubted, at=GIVE_UP_S, looks=60) is not None
    assert wait_s(doubted, at=GIVE_UP_S + 1, looks=0) == SILENCE_S[Stage.DOUBTED]
    assert wait_s(doubted, at=GIVE_UP_S + 1, looks=60) is None


def test_a_call_that_was_answered_has_its_cost_asked_for_however_it_ended() -> None:
    failed = [
        CALL.requested(),
        CALL.status("answered", 3),
        CALL.status("failed", 600, said_at=600, duration_s=597),
    ]
    assert wait_s(failed, at=600) == AFTERWARDS_S[0]
    assert wait_s([*failed, CALL.seen("failed", 700, ended=600, price="0.01")], at=700) is None


def test_a_call_that_was_not_answered_costs_nothing_to_ask_for() -> None:
    assert wait_s([CALL.requested(), CALL.status("busy", 3, said_at=3)], at=3) is None


def test_a_call_is_given_up_only_when_nobody_has_answered_for_longer_than_a_call_lasts() -> None:
    record = project("run-1", gather(SILENT))
    ended = project("run-1", gather([*SILENT, CALL.status("completed", 9)]))
    patience, later = Patience(), NOON_US + (GIVE_UP_S + 1) * 1_000_000
    assert patience.has_given_up(record, NOON_US, later, looks=5)
    assert not patience.has_given_up(record, NOON_US, later, looks=4)
    assert not patience.has_given_up(record, NOON_US, NOON_US + 1_000_000, looks=50)
    assert not patience.has_given_up(ended, NOON_US, later, looks=5)
