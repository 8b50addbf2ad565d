"""What is kept of a call that is recorded: both channels at their times, whatever the network does to the frames."""

import base64
from datetime import UTC, datetime

import pytest

from media_bridge.stream_tap import StreamTap
from offhook.audio import tone
from offhook.events import AudioTap

FRAME = 320  # 20 ms of 16-bit PCM at 8 kHz
LOUD = tone.sine(440, 20, 8000, fade_ms=0)
QUIET = bytes(FRAME)
BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class Stream:
    """A tap and a clock."""

    def __init__(self) -> None:
        self.taps: list[AudioTap] = []
        self.tap = StreamTap("r1", "pcm_s16le", 8000, 100.0, BEGAN, self.taps.append)
        self.tap.identify("s1", 1)
        self.ms = 0

    @property
    def now(self) -> float:
        return 100.0 + self.ms / 1000

    def hear(self, payload: bytes, frames: int = 1) -> None:
        """Frames as carriers send them: each when its 20 ms are over."""
        for _ in range(frames):
            self.ms += 20
            self.tap.caller(payload, self.now)
            if self.ms % 1000 == 0:
                self.tap.flush(self.now)

    def burst(self, payload: bytes, frames: int) -> None:
        for _ in range(frames):
            self.tap.caller(payload, self.now)

    def close(self) -> None:
        self.tap.close(self.now)

    def channel(self, name: str) -> str:
        """One letter for each 20 ms: `#` sound, `.` silence."""
        audio = b"".join(base64.b64decode(getattr(tap, name)) for tap in self.taps)
        assert len(audio) == self.ms * FRAME // 20
        frames = [audio[start : start + FRAME] for start in range(0, len(audio), FRAME)]
        return "".join("#" if any(frame) else "." for frame in frames)


@pytest.fixture
def stream() -> Stream:
    return Stream()


def test_seconds_are_numbered_and_the_last_one_says_so(stream: Stream) -> None:
    stream.hear(LOUD, 125)
    stream.close()
    assert [(tap.index, tap.offset_ms, tap.duration_ms, tap.last) for tap in stream.taps] == [
        (0, 0, 1000, False),
        (1, 1000, 1000, False),
        (2, 2000, 500, True),
    ]
    assert stream.channel("caller") == "#" * 125
    assert stream.channel("agent") == "." * 125


def test_caller_audio_that_was_held_up_and_comes_at_once_keeps_its_place(stream: Stream) -> None:
    stream.hear(QUIET, 10)
    stream.ms += 200
    stream.burst(LOUD, 10)
    stream.hear(QUIET, 80)
    stream.close()
    assert stream.channel("caller") == "." * 10 + "#" * 10 + "." * 80


def test_caller_audio_that_never_came_leaves_silence_and_what_follows_is_not_early(stream: Stream) -> None:
    stream.hear(QUIET, 10)
    stream.ms += 400
    stream.hear(QUIET, 100)
    stream.hear(LOUD, 10)
    stream.hear(QUIET, 10)
    stream.close()
    assert stream.channel("caller").index("#") == 130


def test_audio_that_comes_after_a_long_stall_gets_back_to_its_place_in_the_first_pause(
    stream: Stream,
) -> None:
    stream.hear(LOUD, 10)
    stream.ms += 1800
    stream.tap.flush(stream.now)
    stream.burst(LOUD, 90)
    stream.hear(QUIET, 100)
    stream.hear(LOUD, 10)
    stream.close()
    assert abs(stream.channel("caller").rindex(".#") + 1 - 200) <= 4


def test_agent_audio_lies_where_the_caller_hears_it(stream: Stream) -> None:
    stream.hear(QUIET, 10)
    for _ in range(4):  # as far ahead as the bridge feeds the carrier
        stream.tap.agent(LOUD, stream.now)
    stream.hear(QUIET, 40)
    stream.tap.agent(LOUD, stream.now)
    stream.hear(QUIET, 50)
    stream.close()
    assert stream.channel("agent") == "." * 10 + "#" * 4 + "." * 36 + "#" + "." * 49


def test_what_a_clear_took_back_is_not_kept(stream: Stream) -> None:
    stream.hear(QUIET, 10)
    for _ in range(4):
        stream.tap.agent(LOUD, stream.now)
    stream.hear(QUIET, 1)
    stream.tap.cleared(stream.now)
    stream.hear(QUIET, 89)
    stream.close()
    assert stream.channel("agent") == "." * 10 + "#" + "." * 89


def test_a_stream_that_never_had_the_call_tells_nothing() -> None:
    taps: list[AudioTap] = []
    tap = StreamTap("r1", "pcm_s16le", 8000, 100.0, BEGAN, taps.append)
    for frame in range(100):
        tap.caller(LOUD, 100.0 + frame * 0.02)
    tap.flush(102.0)
    tap.close(102.0)
    assert taps == []
