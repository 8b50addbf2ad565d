"""Turns are told from loudness, by counting samples."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offhook_agent import Turn, TurnDetector

RATE = 16000


def sound(ms: int, amplitude: float) -> bytes:
    seconds = np.arange(RATE * ms // 1000) / RATE
    return (amplitude * 32767 * np.sin(2 * np.pi * 300 * seconds)).astype("<i2").tobytes()


def turns(detector: TurnDetector, *pieces: bytes) -> list[tuple[Turn, int]]:
    """The changes, each with the milliseconds of audio heard up to and including it."""
    found, heard = [], 0
    for piece in pieces:
        for begin in range(0, len(piece), 640):
            heard += 20
            if turn := detector.hear(piece[begin : begin + 640]):
                found.append((turn, heard))
    return found


def test_a_turn_starts_after_start_ms_of_speech_and_ends_after_pause_ms_of_quiet() -> None:
    assert turns(TurnDetector(), sound(400, 0), sound(1000, 0.3), sound(1000, 0)) == [
        (Turn.STARTED, 460),
        (Turn.ENDED, 2000),
    ]


def test_a_click_is_not_a_turn_and_a_short_pause_does_not_end_one() -> None:
    pieces = [sound(40, 0.3), sound(500, 0), sound(300, 0.3), sound(300, 0), sound(300, 0.3)]
    assert turns(TurnDetector(), *pieces) == [(Turn.STARTED, 600)]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 60)), max_size=20))
def test_starts_and_ends_alternate_whatever_is_heard(pieces: list[tuple[bool, int]]) -> None:
    found = turns(TurnDetector(), *(sound(20 * frames, 0.3 if loud else 0) for loud, frames in pieces))
    assert [turn for turn, _ in found] == [Turn.STARTED, Turn.ENDED] * (len(found) // 2) + [Turn.STARTED] * (
        len(found) % 2
    )
