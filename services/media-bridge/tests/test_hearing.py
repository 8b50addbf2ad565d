import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from media_bridge.hearing import Hearing

FRAME = 4


def test_whole_frames_pass_as_they_are() -> None:
    hearing = Hearing(FRAME, memory_ms=200)
    assert hearing.listen(b"abcd") == b"abcd"


@given(pieces=st.lists(st.binary(max_size=15), max_size=40))
def test_an_agent_hears_whole_frames_in_order_however_the_carrier_cuts_them(pieces: list[bytes]) -> None:
    hearing = Hearing(FRAME, memory_ms=200)
    heard = [hearing.listen(piece) for piece in pieces]
    assert all(len(audio) % FRAME == 0 for audio in heard)
    said = b"".join(pieces)
    assert b"".join(heard) == said[: len(said) - len(said) % FRAME]


def test_what_was_said_before_an_agent_came_is_heard_first() -> None:
    hearing = Hearing(FRAME, memory_ms=200)
    hearing.hold(b"abcd")
    hearing.hold(b"ef")
    assert hearing.catch_up(everything=False) == b"abcd"
    assert hearing.listen(b"gh") == b"efgh"
    assert hearing.dropped_ms == 0


def test_the_oldest_is_dropped_when_no_agent_comes_for_long_and_it_is_counted() -> None:
    hearing = Hearing(FRAME, memory_ms=100)
    for number in range(8):
        hearing.hold(bytes([number]) * FRAME)
    assert hearing.dropped_ms == 60
    assert hearing.catch_up(everything=False) == b"".join(bytes([number]) * FRAME for number in range(3, 8))


def test_an_agent_that_takes_over_hears_the_last_seconds_again() -> None:
    hearing = Hearing(FRAME, memory_ms=100)
    for number in range(6):
        hearing.listen(bytes([number]) * FRAME)
    hearing.hold(b"late")
    assert hearing.catch_up(everything=True) == b"".join(bytes([n]) * FRAME for n in range(2, 6)) + b"late"
    assert hearing.dropped_ms == 0
    assert hearing.catch_up(everything=False) == b""


@given(
    pieces=st.lists(st.binary(max_size=15), max_size=40),
    comes_after=st.integers(0, 40),
    everything=st.booleans(),
)
def test_nothing_is_heard_twice_or_lost_around_the_moment_an_agent_comes(
    pieces: list[bytes], comes_after: int, everything: bool
) -> None:
    hearing = Hearing(FRAME, memory_ms=10_000)
    for piece in pieces[:comes_after]:
        hearing.hold(piece)
    heard = hearing.catch_up(everything=everything)
    heard += b"".join(hearing.listen(piece) for piece in pieces[comes_after:])
    said = b"".join(pieces)
    assert heard == said[: len(said) - len(said) % FRAME]


def test_messages_without_audio_take_no_memory() -> None:
    hearing = Hearing(FRAME, memory_ms=100)
    tracemalloc.start()
    for _ in range(100_000):
        hearing.hold(b"")
        hearing.listen(b"")
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000
    assert hearing.catch_up(everything=True) == b""
