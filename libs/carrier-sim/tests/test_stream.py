"""Twilio's end of a media stream: what it plays, gives back, and objects to."""

import base64
import json
from typing import Any

import pytest

from carrier_sim.audio import is_audible, speech, to_ulaw
from carrier_sim.report import CallReport
from carrier_sim.twilio.stream import TwilioStream

SID = "MZ" + "0" * 32
WORDS = to_ulaw(speech(0.1, 8000))


@pytest.fixture
def stream() -> TwilioStream:
    report = CallReport("twilio", "inbound", "CA1", "+1", "+2", "now")
    return TwilioStream(SID, "CA1", "AC1", {}, report)


def message(event: str, **content: Any) -> str:
    return json.dumps({"event": event, "streamSid": SID, **content})


def media(audio: bytes) -> str:
    return message("media", media={"payload": base64.b64encode(audio).decode()})


def mark(name: str) -> str:
    return message("mark", mark={"name": name})


def returned(stream: TwilioStream) -> list[str]:
    messages = [json.loads(m) for m in stream.outbox]
    stream.outbox.clear()
    return [m["mark"]["name"] for m in messages if m["event"] == "mark"]


def codes(stream: TwilioStream) -> list[tuple[str, int]]:
    return [(v.code, v.times) for v in stream.report.violations]


def test_a_mark_comes_back_when_everything_before_it_was_played(stream: TwilioStream) -> None:
    stream.receive(media(WORDS))
    stream.receive(mark("after"))
    for _ in range(4):
        assert stream.play() is not None
    assert returned(stream) == []
    stream.play()
    assert returned(stream) == ["after"]
    assert stream.report.marks[0].outcome == "played"
    assert stream.play() is None


def test_a_mark_with_nothing_buffered_comes_back_at_once(stream: TwilioStream) -> None:
    stream.receive(mark("now"))
    assert returned(stream) == ["now"]


def test_clear_empties_the_buffer_and_gives_pending_marks_back(stream: TwilioStream) -> None:
    stream.receive(media(WORDS))
    stream.receive(mark("one"))
    stream.receive(mark("two"))
    stream.receive(message("clear"))
    assert returned(stream) == ["one", "two"]
    assert stream.play() is None
    assert [m.outcome for m in stream.report.marks] == ["cleared", "cleared"]
    assert stream.report.clears == 1


@pytest.mark.parametrize("size", [1, 37, 160, 161, 800])
def test_audio_of_any_size_is_played_whole_in_20_ms_frames(stream: TwilioStream, size: int) -> None:
    for at in range(0, len(WORDS), size):
        stream.receive(media(WORDS[at : at + size]))
    frames = []
    while (frame := stream.play()) is not None:
        frames.append(frame)
    assert len(frames) == 5
    assert {len(frame) for frame in frames} == {320}
    assert is_audible(b"".join(frames))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"\xff" * 160, "31950"),
        ("{", "31951"),
        ("[]", "31951"),
        (message("hangup"), "31951"),
        (message("media"), "31951"),
        (message("media", media={"payload": "%%%"}), "31951"),
        (message("media", media={"payload": "", "track": "outbound"}), "31951"),
        (message("mark", mark={"name": 1}), "31951"),
        (message("clear", extra=1), "31951"),
        (json.dumps({"event": "clear", "streamSid": "MZ1"}), "31951"),
        (media(b"RIFF" + WORDS), "sim-audio-header"),
    ],
    ids=str,
)
def test_what_is_not_as_documented_is_warned_about_once_and_counted(
    stream: TwilioStream, sent: str | bytes, code: str
) -> None:
    stream.receive(sent)
    stream.receive(sent)
    assert codes(stream) == [(code, 2)]
    assert stream.report.violations[0].severity == "warning"


def test_more_than_ten_minutes_of_audio_are_discarded(stream: TwilioStream) -> None:
    stream.receive(media(b"\xff" * (8000 * 600)))
    assert codes(stream) == []
    stream.receive(media(b"\xff"))
    assert codes(stream) == [("31931", 1)]
