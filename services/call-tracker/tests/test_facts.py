"""The facts of a call are a join-semilattice."""

from datetime import UTC, datetime, timedelta, timezone

from events_of_calls import NOON, Call, hostile_sets
from hypothesis import given
from hypothesis import strategies as st

from call_tracker.facts import Facts, decode, encode
from call_tracker.joining import FACT_LIMIT, LEG_LIMIT, MEDIA_LIMIT, gather, join
from call_tracker.lifecycle import project
from call_tracker.observing import observe
from offhook.events import CallStatus, DtmfReceived, InstructionsServed, StatusReported

facts = hostile_sets().map(gather)


@given(facts, facts)
def test_joining_is_commutative(a: Facts, b: Facts) -> None:
    assert encode(join(a, b)) == encode(join(b, a))


@given(facts, facts, facts)
def test_joining_is_associative(a: Facts, b: Facts, c: Facts) -> None:
    assert encode(join(join(a, b), c)) == encode(join(a, join(b, c)))


@given(facts)
def test_joining_is_idempotent_and_nothing_is_its_neutral_element(a: Facts) -> None:
    assert encode(join(a, a)) == encode(a) == encode(join(a, Facts())) == encode(join(Facts(), a))


@given(facts)
def test_the_stored_form_reads_back_as_the_same_facts(a: Facts) -> None:
    assert decode(encode(a)) == a


@given(hostile_sets(), st.data())
def test_gathering_in_parts_is_gathering_at_once(events: list, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(events)))
    assert encode(gather(events[cut:], gather(events[:cut]))) == encode(gather(events))


def test_events_that_say_nothing_about_the_record_tell_no_facts() -> None:
    call = Call()
    assert observe(call.dtmf()) == Facts()
    assert observe(call.served("connect")) == Facts()
    assert observe(call.status("completed", leg="media")) == Facts()
    assert observe(call.hangup_failed(final=False)) == Facts()
    assert {type(call.dtmf().data), type(call.served().data)} == {DtmfReceived, InstructionsServed}


def test_a_flood_of_foreign_legs_neither_grows_the_facts_nor_pushes_the_calls_own_out() -> None:
    call = Call()
    known = gather([call.received(), call.status("completed", 9, sequence=3)])
    for number in range(10 * LEG_LIMIT):
        intruder = Call(account=f"AC-foreign-{number}")
        known = join(known, observe(intruder.status("busy", 0, said_at=-1000, sequence=0)))
    assert len(known.legs) == LEG_LIMIT
    assert project("run-1", known).status is CallStatus.COMPLETED


def test_a_flood_of_foreign_claims_neither_grows_the_facts_nor_pushes_the_calls_own_out() -> None:
    call = Call()
    known = gather(
        [call.received(), call.transfer_ended("busy", 8), call.media_stopped(9), call.served("refuse", 9)]
    )
    before = project("run-1", known)
    for number in range(2 * FACT_LIMIT):
        intruder = Call(account=f"AC-foreign-{number}")
        for event in (
            intruder.transfer_ended("completed", 1),
            intruder.media_stopped(1),
            intruder.served("refuse", 1),
        ):
            known = join(known, observe(event))
    assert max(len(part) for part in (known.told, known.latest, known.media)) == FACT_LIMIT == MEDIA_LIMIT
    assert project("run-1", known) == before


def test_media_sessions_are_bounded_and_the_earliest_stay() -> None:
    call = Call()
    sessions = [call.media_stopped(at=epoch, epoch=epoch) for epoch in range(1, 2 * MEDIA_LIMIT)]
    assert gather(sessions) == gather(reversed(sessions))
    assert len(gather(sessions).media) == MEDIA_LIMIT


def test_a_providers_clock_that_is_days_ahead_is_not_believed() -> None:
    call = Call()
    ahead = NOON + timedelta(days=2)
    told = [call.received(), call.status("answered", 3, provider_time=ahead)]
    ended = project("run-1", gather([*told, call.status("completed", 9, provider_time=ahead)]))
    assert (ended.status, ended.talk_ms) == (CallStatus.COMPLETED, 6000)
    asked = project("run-1", gather([call.received(), call.seen("completed", 70, answered=172_800, ended=9)]))
    assert (asked.status, asked.talk_ms) == (CallStatus.COMPLETED, None)


def test_figures_and_times_out_of_all_bounds_are_survived() -> None:
    call = Call()
    extremes = [
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone(timedelta(hours=-14))),
        datetime(2026, 1, 1),  # noqa: DTZ001 - a provider may forget its offset; UTC is meant
        datetime(2026, 1, 1, tzinfo=UTC),
    ]
    for moment in extremes:
        for status in CallStatus:
            event = call.status(
                status,
                provider_time=moment,
                sequence=-(10**30),
                duration_s=10**30,
                sip_code=-5,
                detail="x" * 10_000,
            )
            assert isinstance(event.data, StatusReported)
            record = project("run-1", decode(encode(gather([call.requested(), event]))))
            assert record.duration_s is None
            assert record.sip_code is None
