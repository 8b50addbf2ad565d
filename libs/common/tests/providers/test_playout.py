"""A carrier's playout buffer."""

from hypothesis import given
from hypothesis import strategies as st

from offhook.providers.playout import Playout


def test_audio_plays_at_real_time_and_marks_are_reached_when_it_has():
    playout = Playout(8)
    playout.advance(1000)
    playout.push(b"a" * 160, 1000)
    assert not playout.mark("one")
    playout.push(b"b" * 80, 1000)
    assert not playout.mark("two")
    assert playout.advance(1019.9) == []
    assert playout.buffered_ms == (240 - 159) / 8
    assert playout.advance(1020) == ["one"]
    assert playout.advance(1029) == []
    assert playout.advance(1030) == ["two"]
    assert playout.take_played() == b"a" * 160 + b"b" * 80
    assert (playout.take_played(), playout.buffered_ms, playout.messages) == (b"", 0, 0)


def test_a_pause_is_not_made_up_for():
    playout = Playout(8)
    playout.advance(0)
    assert playout.advance(5000) == []
    playout.push(b"a" * 160, 5000)
    playout.mark("one")
    assert playout.advance(5010) == []
    assert playout.advance(5020) == ["one"]


def test_a_mark_behind_nothing_is_reached_at_once():
    assert Playout(8).mark("one")


def test_clearing_returns_the_marks_that_waited():
    playout = Playout(8)
    playout.advance(0)
    playout.push(b"a" * 800, 0)
    playout.mark("one")
    playout.mark("two")
    playout.advance(50)
    assert playout.clear() == ["one", "two"]
    assert (playout.buffered_ms, playout.messages, playout.advance(1000)) == (0, 0, [])
    assert playout.take_played() == b"a" * 400


def test_time_that_goes_back_plays_nothing():
    playout = Playout(8)
    playout.advance(1000)
    playout.push(b"a" * 160, 1000)
    playout.advance(500)
    playout.advance(1010)
    assert playout.buffered_ms == 10


def test_what_was_played_is_kept_for_a_minute_at_most():
    playout = Playout(8)
    playout.advance(0)
    playout.push(b"a" * 8 * 120_000, 0)
    playout.advance(120_000)
    assert len(playout.take_played()) == 8 * 60_000


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(1, 500)),
            st.tuples(st.just("mark"), st.integers(0, 3)),
            st.tuples(st.just("wait"), st.integers(0, 60)),
        ),
        max_size=40,
    )
)
def test_everything_is_played_once_in_order_and_every_mark_is_reached_once(steps):
    playout, now = Playout(8), 0.0
    sent, marks, reached = b"", [], []
    for number, (kind, value) in enumerate(steps):
        reached += playout.advance(now)
        if kind == "push":
            payload = bytes([number]) * value
            sent += payload
            playout.push(payload, now)
        elif kind == "mark":
            marks.append(f"{number}")
            if playout.mark(f"{number}"):
                reached.append(f"{number}")
        else:
            now += value
    reached += playout.advance(now)
    reached += playout.advance(now + len(sent) / 8 + 1)
    assert reached == marks
    assert playout.take_played() == sent
