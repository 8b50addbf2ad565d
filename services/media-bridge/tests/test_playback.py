"""Pacing, marks and barge-in, with a clock of the test's own. A frame is 4 bytes here, so 20 ms are easy to
see.
"""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from media_bridge.playback import MAX_MARKS, AudioFrame, CarrierMark, Playback

FRAME = 4
LEAD_S = 0.08


@dataclass
class Carrier:
    """Plays what it is sent at real time, as carriers do; the oracle of what was heard."""

    play_until: float = 0.0
    received: bytearray = field(default_factory=bytearray)
    marks: list[tuple[str, float]] = field(default_factory=list)
    most_ahead: float = 0.0

    def take_all(self, playback: Playback, now: float) -> None:
        while (item := playback.take(now)) is not None:
            if isinstance(item, AudioFrame):
                assert len(item.payload) == FRAME
                self.play_until = max(self.play_until, now) + 0.02
                self.received += item.payload
                self.most_ahead = max(self.most_ahead, self.play_until - now)
            else:
                self.marks.append((item.name, self.play_until))

    def reached(self, now: float) -> list[str]:
        due = [name for name, at in self.marks if at <= now]
        self.marks = [(name, at) for name, at in self.marks if at > now]
        return due


def playback(**options: int) -> Playback:
    return Playback(FRAME, b"\xff", lead_s=LEAD_S, **options)


def run(buffer: Playback, carrier: Carrier, since: float, until: float) -> None:
    now = since
    while now < until:
        carrier.take_all(buffer, now)
        now += 0.01


def test_a_frame_that_comes_in_time_goes_out_at_once() -> None:
    buffer = playback()
    for number in range(50):
        now = 100 + number * 0.02
        buffer.push(b"abcd", now, True)
        assert buffer.take(now) == AudioFrame(b"abcd", True)
        assert buffer.take(now) is None
        assert not buffer.waiting


def test_audio_that_comes_faster_than_real_time_is_sent_at_most_the_lead_ahead() -> None:
    buffer, carrier = playback(), Carrier()
    buffer.push(b"abcd" * 500, 100.0)
    run(buffer, carrier, 100.0, 111.0)
    assert bytes(carrier.received) == b"abcd" * 500
    assert carrier.most_ahead <= LEAD_S + 1e-9
    assert buffer.underruns == 0


def test_the_last_unfinished_frame_is_filled_with_silence_when_nothing_follows() -> None:
    buffer, carrier = playback(), Carrier()
    buffer.push(b"abcdef", 100.0)
    run(buffer, carrier, 100.0, 100.2)
    assert bytes(carrier.received) == b"abcdef\xff\xff"
    assert not buffer.waiting


def test_an_unfinished_frame_waits_for_its_rest_while_the_carrier_has_something_to_play() -> None:
    buffer, carrier = playback(), Carrier()
    buffer.push(b"abcdef", 100.0)
    carrier.take_all(buffer, 100.0)
    buffer.push(b"gh", 100.015)
    carrier.take_all(buffer, 100.015)
    assert bytes(carrier.received) == b"abcdefgh"


@given(pieces=st.lists(st.binary(max_size=23), max_size=30))
def test_however_audio_is_cut_it_arrives_whole_and_in_order(pieces: list[bytes]) -> None:
    buffer, carrier = playback(), Carrier()
    for piece in pieces:
        buffer.push(piece, 100.0)
    run(buffer, carrier, 100.0, 106.0)
    audio = b"".join(pieces)
    assert bytes(carrier.received) == audio + b"\xff" * (-len(audio) % FRAME)


def test_what_does_not_fit_is_reported_and_not_taken() -> None:
    buffer, carrier = playback(max_ms=100), Carrier()
    assert buffer.push(b"abcd" * 4, 100.0) == 0
    assert buffer.push(b"efgh" * 4, 100.0) == 60
    assert buffer.room_ms == 0
    run(buffer, carrier, 100.0, 101.0)
    assert bytes(carrier.received) == b"abcd" * 4 + b"efgh"


def test_a_mark_goes_to_the_carrier_after_everything_before_it() -> None:
    buffer = playback()
    buffer.push(b"abcd" * 2, 100.0)
    buffer.mark("a")
    items = [buffer.take(100.0) for _ in range(4)]
    assert [type(item) for item in items] == [AudioFrame, AudioFrame, CarrierMark, type(None)]


def test_a_mark_behind_an_unfinished_frame_does_not_cut_the_speech() -> None:
    buffer, carrier = playback(), Carrier()
    buffer.push(b"ab", 100.0)
    buffer.mark("word")
    buffer.push(b"cdef", 100.0)
    run(buffer, carrier, 100.0, 100.001)
    assert bytes(carrier.received) == b"abcd"
    assert len(carrier.marks) == 1


def test_marks_of_the_same_name_are_told_apart() -> None:
    buffer = playback()
    buffer.mark("a")
    buffer.mark("a")
    first, second = buffer.take(100.0), buffer.take(100.0)
    assert isinstance(first, CarrierMark)
    assert isinstance(second, CarrierMark)
    assert buffer.reached(first.name) == ("a",)
    assert buffer.reached(first.name) == ()
    assert buffer.reached(second.name) == ("a",)


def test_a_returned_mark_proves_those_before_it() -> None:
    buffer = playback()
    buffer.mark("a")
    buffer.mark("b")
    buffer.take(100.0)
    last = buffer.take(100.0)
    assert isinstance(last, CarrierMark)
    assert buffer.reached(last.name) == ("a", "b")


def test_clear_says_what_was_heard_and_forgets_the_rest() -> None:
    buffer, carrier = playback(), Carrier()
    buffer.push(b"abcd" * 100, 100.0)
    buffer.mark("end")
    run(buffer, carrier, 100.0, 100.501)
    outcome = buffer.clear(100.5)
    assert outcome.heard_ms == pytest.approx(500, abs=20)
    assert outcome.heard_ms + outcome.discarded_ms == 2000
    assert outcome.voided == ("end",)
    assert not buffer.waiting


def test_a_mark_that_comes_back_after_clear_proves_nothing() -> None:
    buffer, carrier = playback(), Carrier()
    buffer.push(b"abcd", 100.0)
    buffer.mark("a")
    carrier.take_all(buffer, 100.0)
    assert buffer.clear(100.0).voided == ("a",)
    buffer.mark("a")
    carrier.take_all(buffer, 100.0)
    old, new = (name for name, _ in carrier.marks)
    assert buffer.reached(old) == ()
    assert buffer.reached(new) == ("a",)


def test_what_was_heard_counts_from_the_last_silence() -> None:
    buffer, carrier = playback(), Carrier()
    buffer.push(b"abcd" * 50, 100.0)
    run(buffer, carrier, 100.0, 102.0)
    buffer.push(b"abcd" * 50, 103.0)
    run(buffer, carrier, 103.0, 103.301)
    assert buffer.heard_ms(103.3) == pytest.approx(300, abs=20)


def test_an_utterance_that_ended_was_heard_in_full() -> None:
    buffer, carrier = playback(), Carrier()
    buffer.push(b"abcd" * 50, 100.0)
    run(buffer, carrier, 100.0, 102.0)
    outcome = buffer.clear(110.0)
    assert (outcome.heard_ms, outcome.discarded_ms) == (1000, 0)


def test_a_hole_in_speech_is_an_underrun_and_a_pause_between_sentences_is_not() -> None:
    buffer = playback()
    for now in (100.0, 100.02, 100.14, 101.0):
        buffer.push(b"abcd", now)
        buffer.take(now)
    assert buffer.underruns == 1


def test_too_many_marks_are_refused() -> None:
    buffer = playback()
    assert all(buffer.mark(str(number)) for number in range(MAX_MARKS))
    assert not buffer.mark("one more")


Step = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 40)),
    st.tuples(st.just("mark"), st.integers(0, 3)),
    st.tuples(st.just("clear"), st.just(0)),
    st.tuples(st.just("wait"), st.integers(1, 60)),
)


@given(steps=st.lists(Step, max_size=60), carrier_returns_voided=st.booleans())
def test_every_mark_is_resolved_exactly_once(
    steps: list[tuple[str, int]], carrier_returns_voided: bool
) -> None:
    buffer, carrier = playback(max_ms=2000), Carrier()
    now, asked, resolved = 100.0, 0, 0

    def advance(to: float) -> None:
        nonlocal now, resolved
        while now < to:
            now += 0.01
            carrier.take_all(buffer, now)
            for name in carrier.reached(now):
                resolved += len(buffer.reached(name))

    for step, size in steps:
        if step == "push":
            buffer.push(b"x" * size, now)
            carrier.take_all(buffer, now)
        elif step == "mark":
            asked += buffer.mark(str(size))
            carrier.take_all(buffer, now)
        elif step == "clear":
            outcome = buffer.clear(now)
            resolved += len(outcome.voided)
            if carrier_returns_voided:
                for name, _ in carrier.marks:
                    assert buffer.reached(name) == ()
            carrier.marks.clear()
            carrier.play_until = min(carrier.play_until, now)
            assert outcome.heard_ms >= 0
            assert outcome.discarded_ms >= 0
        else:
            advance(now + size / 100)
        assert carrier.most_ahead <= LEAD_S + 1e-9
    advance(now + 5)
    assert resolved == asked
    assert not buffer.waiting
