"""Twilio Media Streams, in both roles."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.providers.base import (
    Audio,
    ClearAudio,
    Dtmf,
    Ignored,
    MarkReached,
    MediaError,
    PlayAudio,
    SetMark,
    StreamStarted,
    StreamStopped,
)
from offhook.providers.twilio.media import TwilioMediaCarrier, TwilioMediaServer

STREAM, CALL, ACCOUNT = "MZ" + "1" * 32, "CA" + "2" * 32, "AC" + "3" * 32


def carrier(**options):
    fields = {
        "stream_sid": STREAM,
        "call_sid": CALL,
        "account_sid": ACCOUNT,
        "parameters": {"token": "t", "a": "b"},
    }
    return TwilioMediaCarrier(**fields | options)


def started():
    server, twilio = TwilioMediaServer(), carrier()
    for message in twilio.opening():
        server.receive(message)
    return server, twilio


# --- the server: lenient -----------------------------------------------------------------------------------


def test_a_stream_introduces_itself():
    server, twilio = TwilioMediaServer(), carrier()
    assert server.receive(twilio.connected()) == Ignored("connected")
    assert server.receive(twilio.start()) == StreamStarted(STREAM, CALL, ACCOUNT, "t", 8000, {"a": "b"})
    assert (server.encoding, server.sample_rate) == ("mulaw", 8000)


def test_the_published_examples_are_read():
    server = TwilioMediaServer()
    server.receive('{"event":"connected","protocol":"Call","version":"1.0.0"}')
    start = (
        '{"event":"start","sequenceNumber":"1","start":{"accountSid":"AC1","streamSid":"MZ1","callSid":"CA1","tracks":'
        '["inbound"],"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1},'
        '"customParameters":{"FirstName":"Jane"}},"streamSid":"MZ1"}'
    )
    assert server.receive(start) == StreamStarted("MZ1", "CA1", "AC1", "", 8000, {"FirstName": "Jane"})
    media = (
        '{"event":"media","sequenceNumber":"4","media":{"track":"inbound","chunk":"2","timestamp":"5","payload":"no+JhoaJjpw="},'
        '"streamSid":"MZ1"}'
    )
    assert server.receive(media) == Audio(base64.b64decode("no+JhoaJjpw="), 5)
    dtmf = (
        '{"event":"dtmf","streamSid":"MZ1","sequenceNumber":"5","dtmf":{"track":"inbound_track","digit":"1"}}'
    )
    assert server.receive(dtmf) == Dtmf("1")
    stop = (
        '{"event":"stop","sequenceNumber":"5","stop":{"accountSid":"AC1","callSid":"CA1"},"streamSid":"MZ1"}'
    )
    assert server.receive(stop) == StreamStopped("stop")


@given(st.binary(max_size=5000))
def test_audio_of_any_length_comes_and_goes_unchanged(payload):
    server, twilio = started()
    assert server.receive(twilio.media(payload)) == Audio(payload, 0)
    frames = server.send_audio(payload)
    if payload:
        assert twilio.interpret(frames[0]) == PlayAudio(payload)
    assert (len(frames), server.flush_audio(), twilio.violation_count) == (int(bool(payload)), [], 0)


@pytest.mark.parametrize("number", [7, "7", 7.0, "7.0"])
def test_numbers_may_be_strings_or_numbers(number):
    server, _ = started()
    media = {"event": "media", "sequenceNumber": number, "streamSid": STREAM}
    media["media"] = {"payload": "AAAA", "timestamp": number, "chunk": number, "track": "inbound", "new": [1]}
    assert server.receive(json.dumps(media)) == Audio(b"\0\0\0", 7)


@pytest.mark.parametrize(
    "message",
    [
        b"\x00\x01",
        "",
        "nonsense",
        "[]",
        "{}",
        '{"event":5}',
        '{"event":"invented"}',
        '{"event":"media"}',
        '{"event":"media","media":{}}',
        '{"event":"media","media":5}',
        '{"event":"mark"}',
        '{"event":"dtmf","dtmf":{"digit":5}}',
        json.dumps({"event": "media", "streamSid": STREAM, "media": {"payload": "not base64!"}}),
        json.dumps(
            {"event": "media", "streamSid": STREAM, "media": {"payload": "AAAA", "track": "outbound"}}
        ),
        json.dumps({"event": "media", "streamSid": "MZother", "media": {"payload": "AAAA"}}),
        json.dumps({"event": "mark", "streamSid": STREAM, "mark": {"name": "never set"}}),
        "[" * 100_000,
        '{"event":"x","y":' + "[" * 100_000,
        '{"event":"media","media":{"payload":"\ud800"}}',
    ],
)
def test_what_is_not_understood_is_ignored(message):
    server, twilio = started()
    assert isinstance(server.receive(message), Ignored)
    assert isinstance(server.receive(twilio.start()), Ignored)
    assert server.receive(twilio.media(b"x")) == Audio(b"x", 0)


@pytest.mark.parametrize(
    "message",
    [
        '{"event":"media","streamSid":"MZ1","media":{"payload":"AAAA"}}',
        '{"event":"start"}',
        '{"event":"start","start":{"callSid":"CA1"}}',
        '{"event":"start","streamSid":"MZ1","start":{}}',
        '{"event":"start","streamSid":"MZ1","start":{"callSid":"CA1","mediaFormat":{"encoding":"audio/opus"}}}',
        '{"event":"start","streamSid":"MZ1","start":{"callSid":"CA1","mediaFormat":{"sampleRate":16000}}}',
    ],
)
def test_a_session_that_cannot_begin_is_an_error(message):
    with pytest.raises(MediaError):
        TwilioMediaServer().receive(message)


def test_a_start_may_leave_out_what_is_always_the_same():
    event = TwilioMediaServer().receive('{"event":"start","streamSid":"MZ1","start":{"callSid":"CA1","x":1}}')
    assert event == StreamStarted("MZ1", "CA1", None, "", 8000, {})


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_message_is_understood_or_ignored(message):
    server, twilio = started()
    server.receive(message)
    twilio.receive(message, 0)


def test_marks_come_back_and_those_that_a_clear_overtook_prove_nothing():
    server, twilio = started()
    for name in ("a", "b", "a"):
        server.send_mark(name)
    assert server.receive(twilio.mark("a")) == MarkReached("a")
    server.send_clear()
    server.send_mark("a")
    assert server.receive(twilio.mark("b")) == MarkReached("b", certain=False)
    assert server.receive(twilio.mark("a")) == MarkReached("a", certain=False)
    assert server.receive(twilio.mark("a")) == MarkReached("a")
    assert isinstance(server.receive(twilio.mark("a")), Ignored)


def test_names_with_quotes_survive():
    server, twilio = started()
    assert twilio.interpret(server.send_mark('say "ü"\n')[0]) == SetMark('say "ü"\n')
    assert server.receive(twilio.mark('say "ü"\n')) == MarkReached('say "ü"\n')


# --- the carrier: strict -------------------------------------------------------------------------------------


def test_the_carrier_counts_in_strings_as_twilio_does():
    twilio = carrier()
    twilio.opening()
    first, second = json.loads(twilio.media(b"x" * 160)), json.loads(twilio.media(b"x" * 160))
    assert first["sequenceNumber"] == "2"
    assert second == {
        "event": "media",
        "sequenceNumber": "3",
        "media": {
            "track": "inbound",
            "chunk": "2",
            "timestamp": "20",
            "payload": base64.b64encode(b"x" * 160).decode(),
        },
        "streamSid": STREAM,
    }
    assert json.loads(twilio.dtmf("#"))["dtmf"] == {"track": "inbound_track", "digit": "#"}
    assert json.loads(twilio.stop())["sequenceNumber"] == "5"
    assert "sequenceNumber" not in json.loads(twilio.connected())


def test_marks_return_when_the_audio_before_them_has_played():
    server, twilio = started()
    twilio.tick(0)
    for frame in server.send_audio(b"x" * 800) + server.send_mark("end"):
        assert twilio.receive(frame, 0) == []
    assert twilio.tick(99) == []
    (mark,) = twilio.tick(100)
    assert server.receive(mark) == MarkReached("end")
    assert twilio.take_played() == b"x" * 800
    (at_once,) = twilio.receive(server.send_mark("again")[0], 120)
    assert server.receive(at_once) == MarkReached("again")


def test_a_clear_returns_every_mark_and_drops_the_audio():
    server, twilio = started()
    frames = (
        server.send_audio(b"x" * 8000)
        + server.send_mark("a")
        + server.send_audio(b"y" * 80)
        + server.send_mark("b")
    )
    for frame in frames:
        twilio.receive(frame, 0)
    returned = twilio.receive(server.send_clear()[0], 500)
    assert [server.receive(frame) for frame in returned] == [
        MarkReached("a", certain=False),
        MarkReached("b", certain=False),
    ]
    assert (twilio.buffered_ms, twilio.take_played(), twilio.violation_count) == (0, b"x" * 4000, 0)


def message(**changes):
    fields = {"event": "media", "streamSid": STREAM, "media": {"payload": "AAAA"}, **changes}
    return json.dumps({name: value for name, value in fields.items() if value is not None})


@pytest.mark.parametrize(
    ("text", "lenient"),
    [
        (message(streamSid="MZother"), PlayAudio(b"\0\0\0")),
        (message(streamSid=None), PlayAudio(b"\0\0\0")),
        (message(extra=1), PlayAudio(b"\0\0\0")),
        (message(media={"payload": "AAAA", "track": "outbound"}), PlayAudio(b"\0\0\0")),
        (message(media={}), None),
        (message(media={"payload": "not base64!"}), None),
        (message(event="invented"), None),
        (message(event="mark", media=None, mark={"name": "a"}, sequenceNumber="1"), SetMark("a")),
        (message(event="mark", media=None, mark={"name": 5}), None),
        (message(event="clear"), ClearAudio()),
        ("nonsense", None),
        ("[" * 100_000, None),
    ],
)
def test_what_twilio_warns_about_is_ignored_and_the_lenient_carrier_makes_the_best_of_it(text, lenient):
    strict, tolerant = carrier(), carrier(strict=False)
    assert isinstance(strict.interpret(text), Ignored)
    assert [violation.code for violation in strict.violations] == ["31951"]
    understood = tolerant.interpret(text)
    assert understood == lenient if lenient else isinstance(understood, Ignored)
    assert tolerant.violation_count >= 1


def test_binary_messages_are_reported_once():
    twilio = carrier()
    for _ in range(3):
        assert isinstance(twilio.interpret(b"x"), Ignored)
    assert [violation.code for violation in twilio.violations] == ["31950"]


def test_more_than_ten_minutes_of_audio_are_discarded_with_a_warning():
    server, twilio = started()
    minute = server.send_audio(b"x" * 8000 * 60)[0]
    for _ in range(10):
        twilio.receive(minute, 0)
    assert (twilio.violation_count, twilio.buffered_ms) == (0, 600_000)
    twilio.receive(server.send_audio(b"x")[0], 0)
    assert [violation.code for violation in twilio.violations] == ["31931"]
    assert twilio.buffered_ms == 600_000


def test_kept_violations_are_bounded():
    twilio = carrier()
    for _ in range(1500):
        twilio.interpret("nonsense")
    assert (len(twilio.violations), twilio.violation_count) == (1000, 1500)
