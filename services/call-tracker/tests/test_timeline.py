"""The drawing of a call and its words: to scale, readable, and complete."""

import re
from datetime import timedelta

import msgspec
import pytest
from events_of_calls import NOON, AnyEvent, Call, hostile_sets
from hypothesis import given

from call_tracker.causes import END_REASONS
from call_tracker.joining import gather
from call_tracker.lifecycle import project
from call_tracker.pages.call_view import CallView, view
from call_tracker.pages.explanations import EXPLANATIONS, sentence
from call_tracker.pages.timeline import NARROW_PX
from call_tracker.pages.wording import clock, duration, offset, readable
from call_tracker.store import StoredEvent
from offhook.events import encode
from offhook.events.calls import CallEventData
from offhook.records import CallState


def seen(events: list[AnyEvent], after_s: float = 3600.0) -> CallView:
    """The page's view of a call with these events, looked at so long after its beginning."""
    record = project("run-1", gather(events))
    stored = [
        StoredEvent(event.id, event.type, event.source, event.time, msgspec.Raw(encode(event)[0]))
        for event in events
        if isinstance(event.data, CallEventData)
    ]
    return view(record, stored, [], NOON + timedelta(seconds=after_s))


def test_every_end_reason_is_explained() -> None:
    assert set(END_REASONS) <= set(EXPLANATIONS)
    for reason, said in EXPLANATIONS.items():
        assert said.remedy or said.kind in ("good", "info"), reason


@pytest.mark.parametrize("reason", sorted(END_REASONS))
@pytest.mark.parametrize("direction", ["inbound", "outbound"])
def test_every_end_has_a_sentence(reason: str, direction: str) -> None:
    record = CallState.model_validate(
        {
            **seen(Call().twilio_outbound()).record.model_dump(),
            "end_reason": reason,
            "direction": direction,
        }
    )
    said = sentence(record, NOON)
    assert re.fullmatch(r"[A-Z+].*\.", said)
    assert "None" not in said


@pytest.mark.parametrize(
    ("code", "happened", "remedy"),
    [
        ("outcome-unknown", "may have rung", "provider's console"),
        ("expired", "too old", "Call again"),
        ("configuration-paused", "paused", "Resume"),
        ("rejected", "did not accept the call", "caller ID"),
    ],
)
def test_a_call_that_was_not_dialled_says_why_and_what_to_do(code: str, happened: str, remedy: str) -> None:
    call = Call()
    told = seen([call.requested(), call.dial_failed(code=code)])
    assert happened in told.sentence
    assert told.explanation is not None
    assert remedy in (told.explanation.remedy or "")


@pytest.mark.parametrize(
    ("word", "happened", "remedy"),
    [
        ("number-unknown", "no configuration of this account has", "import the account's numbers"),
        ("number-without-workflow", "No workflow answers the number", "Give the number a workflow"),
        ("configuration-paused", "paused", "Resume"),
        ("dawn", "refused the call", "events below name the reason"),
    ],
)
def test_a_call_that_was_refused_says_why_and_what_to_do(word: str, happened: str, remedy: str) -> None:
    call = Call()
    told = seen(
        [call.received(workflow_id=None), call.served("hangup", 1, word), call.status("completed", 2)]
    )
    assert happened in told.sentence
    assert told.explanation is not None
    assert remedy in (told.explanation.remedy or "")


def test_the_sentence_says_who_ended_it_and_after_how_long() -> None:
    assert seen(Call().twilio_outbound()).sentence == "+1 415-555-0199 hung up after 6.0 s."
    call = Call()
    assert seen([call.requested(), call.originated(), call.status("busy", 3)]).sentence.endswith("was busy.")


def test_a_live_call_says_how_long_it_lasts() -> None:
    events = Call().twilio_outbound()[:8]
    shown = seen(events, 63.4)
    assert shown.live
    assert shown.sentence == "In conversation for 1 min 00 s."
    assert shown.timeline is not None
    assert shown.timeline.now is not None
    assert [bar.live for lane in shown.timeline.lanes for bar in lane.bars if "Talking" in bar.text] == [True]


def test_lengths_are_to_scale() -> None:
    shown = seen(Call().twilio_outbound())
    assert shown.timeline is not None
    bars = {bar.text.split()[0]: bar for lane in shown.timeline.lanes for bar in lane.bars}
    # It rang for 2 s and talked for 6 s; the end was told 9.6 s after the beginning; 94 % of the width are the call.
    assert bars["Ringing"].width == pytest.approx(2 / 9.6 * 94, abs=0.5)
    assert bars["Talking"].width == pytest.approx(6 / 9.6 * 94, abs=0.5)


def test_marks_cover_each_other_nowhere_however_many_there_are() -> None:
    call = Call()
    events = [
        call.received(),
        *(call.dtmf(5 + number / 100) for number in range(40)),
        call.status("completed", 7200),
    ]
    shown = seen(events, 9000)
    assert shown.timeline is not None
    for lane in shown.timeline.lanes:
        for one in lane.marks:
            for other in lane.marks:
                if one is not other and one.top == other.top:
                    assert abs(one.left - other.left) * NARROW_PX / 100 >= 19.9
    shown_numbers = {
        told.number for lane in shown.timeline.lanes for mark in lane.marks for told in mark.told
    }
    assert shown_numbers == {told.number for told in shown.told}


def test_what_comes_hours_later_does_not_squeeze_the_call() -> None:
    call = Call()
    late = call.status(None, 7000, price="-0.01", price_unit="USD", provider_status="completed")
    shown = seen([*call.twilio_outbound(), late])
    assert shown.timeline is not None
    assert [told.id for told in shown.timeline.later] == [late.id]
    assert shown.timeline.lasts_ms < 20_000


def test_a_call_that_ended_at_once_is_drawn() -> None:
    call = Call()
    shown = seen([call.requested(), call.dial_failed(0.001)])
    assert shown.timeline is not None
    assert shown.timeline.lasts_ms == 1000
    assert len(shown.timeline.ticks) > 1


def test_a_word_nobody_knows_is_shown_as_such() -> None:
    shown = seen([*Call().twilio_outbound()[:4], Call(run="run-1").status("going-strange", 2, leg="phone")])
    strange = [told for told in shown.told if told.tone == "strange"]
    assert [told.title for told in strange] == ["Provider said “going-strange”"]


@given(hostile_sets())
def test_whatever_was_told_can_be_shown(events: list[AnyEvent]) -> None:
    shown = seen(events)
    assert [told.number for told in shown.told] == list(range(1, len(shown.told) + 1))
    if shown.timeline is not None:
        drawn = [told for lane in shown.timeline.lanes for mark in lane.marks for told in mark.told]
        assert sorted(told.number for told in [*drawn, *shown.timeline.later]) == [
            told.number for told in shown.told
        ]
        for lane in shown.timeline.lanes:
            assert lane.bottom <= shown.timeline.axis
            for bar in lane.bars:
                assert 0 <= bar.left <= bar.left + bar.width <= 100.7
            for mark in lane.marks:
                assert 0 <= mark.left <= 100


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0.0 s"), (9949, "9.9 s"), (9950, "10 s"), (59_600, "1 min 00 s"), (3_600_000, "1 h 00 min")],
)
def test_times_are_read_aloud(ms: float, text: str) -> None:
    assert duration(ms) == text


def test_numbers_and_offsets_are_readable() -> None:
    assert readable("+442079460000") == "+44 20 7946 0000"
    assert readable("anonymous") == "anonymous"
    assert readable(None) == "unknown"
    assert clock(3_725_000) == "1:02:05"
    assert offset(NOON + timedelta(seconds=1.5), NOON) == "+1.50 s"
    assert offset(NOON + timedelta(seconds=61), NOON) == "+1:01"
