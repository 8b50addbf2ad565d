"""Vonage's WebSocket audio, in both roles."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.providers.base import (
    Audio,
    ClearAudio,
    Cleared,
    Dtmf,
    Ignored,
    MarkReached,
    MediaError,
    PlayAudio,
    StreamStarted,
)
from offhook.providers.vonage.media import VonageMediaCarrier, VonageMediaServer, frame_bytes

HEADERS = {"call_uuid": "uuid-1", "workflow_run_id": "r", "token": "t"}
RATES = [8000, 16000, 24000]


def started(rate=16000, **options):
    server, vonage = VonageMediaServer(), VonageMediaCarrier(sample_rate=rate, headers=HEADERS, **options)
    server.receive(vonage.connected())
    return server, vonage


@pytest.mark.parametrize(("rate", "size"), [(8000, 320), (16000, 640), (24000, 960)])
def test_a_stream_introduces_itself_and_frames_are_20_ms(rate, size):
    server, vonage = VonageMediaServer(), VonageMediaCarrier(sample_rate=rate, headers=HEADERS)
    event = server.receive(vonage.connected())
    assert event == StreamStarted("uuid-1", "uuid-1", None, "t", rate, {"workflow_run_id": "r"})
    assert (server.encoding, server.sample_rate, frame_bytes(rate)) == ("pcm_s16le", rate, size)


@pytest.mark.parametrize("rate", RATES)
@given(sizes=st.lists(st.integers(0, 700).map(lambda size: size * 2), max_size=12))
def test_audio_of_any_length_leaves_in_exact_frames_and_the_last_is_padded(rate, sizes):
    server, vonage = started(rate)
    sent, frames = b"", []
    for number, size in enumerate(sizes):
        payload = bytes([number + 1]) * size
        sent += payload
        frames += server.send_audio(payload)
    frames += server.flush_audio()
    assert {len(frame) for frame in frames} <= {frame_bytes(rate)}
    assert b"".join(frames).rstrip(b"\0") == sent
    assert len(b"".join(frames)) - len(sent) < frame_bytes(rate)
    assert server.flush_audio() == []
    for frame in frames:
        vonage.receive(frame, 0)
    assert vonage.violation_count == 0


def test_a_mark_first_sends_what_is_held_back():
    server, vonage = started()
    assert server.send_audio(b"x" * 100) == []
    frame, mark = server.send_mark("a")
    assert frame == b"x" * 100 + b"\0" * 540
    vonage.tick(0)
    assert vonage.receive(frame, 0) + vonage.receive(mark, 0) + vonage.tick(19) == []
    (notify,) = vonage.tick(20)
    assert server.receive(notify) == MarkReached("a")
    assert isinstance(server.receive(notify), Ignored)


def test_a_clear_drops_what_is_held_back_and_makes_the_marks_void_when_it_is_confirmed():
    server, vonage = started()
    for frame in server.send_audio(b"x" * 6400) + server.send_mark("a") + server.send_mark("b"):
        vonage.receive(frame, 0)
    server.send_audio(b"y" * 100)
    (clear,) = server.send_clear()
    after = server.send_mark("c")
    assert len(after) == 1
    (cleared,) = vonage.receive(clear, 20)
    (notify,) = vonage.receive(after[0], 20)
    assert server.receive(cleared) == Cleared(("a", "b"))
    assert server.receive(notify) == MarkReached("c")
    assert vonage.take_played() == b"x" * 640
    assert server.receive(cleared) == Cleared()


def test_a_notify_that_comes_back_in_spite_of_a_clear_is_said_once():
    server, vonage = started(notifies_survive_clear=True)
    for frame in server.send_audio(b"x" * 6400) + server.send_mark("a"):
        vonage.receive(frame, 0)
    notify, cleared = vonage.receive(server.send_clear()[0], 20)
    assert server.receive(notify) == MarkReached("a", certain=False)
    assert server.receive(cleared) == Cleared()


def test_a_mark_reached_before_its_clear_was_confirmed_is_not_void():
    server, vonage = started()
    (notify,) = vonage.receive(server.send_mark("a")[0], 0)
    (cleared,) = vonage.receive(server.send_clear()[0], 0)
    assert server.receive(notify) == MarkReached("a", certain=False)
    assert server.receive(cleared) == Cleared()


def test_digits_come_with_their_duration():
    server, vonage = started()
    assert server.receive(vonage.dtmf("5")) == Dtmf("5", 260)
    assert server.receive('{"event":"websocket:dtmf","digit":5,"duration":"260"}') == Dtmf("5", 260)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"x",
        "",
        "nonsense",
        "[]",
        "{}",
        '{"event":5}',
        '{"event":"websocket:invented"}',
        '{"event":"websocket:dtmf"}',
        '{"event":"websocket:dtmf","digit":true}',
        '{"event":"websocket:dtmf","digit":"123456789"}',
        '{"event":"websocket:notify"}',
        '{"event":"websocket:notify","payload":{"serial":[]}}',
        '{"event":"websocket:notify","payload":{"mark":"never set"}}',
        "[" * 100_000,
        '{"event":' * 100_000,
        '"\ud800"',
    ],
)
def test_what_is_not_understood_is_ignored(message):
    server, vonage = started()
    assert isinstance(server.receive(message), Ignored)
    assert isinstance(server.receive(vonage.connected()), Ignored)
    assert server.receive(b"x" * 640) == Audio(b"x" * 640)


@pytest.mark.parametrize(
    "message",
    [
        b"x" * 640,
        '{"event":"websocket:connected"}',
        '{"event":"websocket:connected","content-type":5}',
        '{"event":"websocket:connected","content-type":"audio/l16;rate=44100"}',
        '{"event":"websocket:connected","content-type":"audio/opus"}',
    ],
)
def test_a_session_that_cannot_begin_is_an_error(message):
    with pytest.raises(MediaError):
        VonageMediaServer().receive(message)


def test_headers_of_any_type_become_text():
    first = '{"event":"websocket:connected","content-type":"audio/l16;rate=8000","a":1,"b":{"c":null}}'
    assert VonageMediaServer().receive(first) == StreamStarted(
        "", "", None, "", 8000, {"a": "1", "b": '{"c":null}'}
    )


@given(st.text(max_size=60) | st.binary(max_size=60))
def test_any_message_is_understood_or_ignored(message):
    server, vonage = started()
    server.receive(message)
    vonage.receive(message, 0)


# --- the carrier: strict -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
def test_a_frame_of_another_size_is_a_violation(rate):
    vonage = VonageMediaCarrier(sample_rate=rate)
    for size in (0, 1, 160, frame_bytes(rate) - 1, frame_bytes(rate) * 2):
        assert isinstance(vonage.interpret(b"x" * size), Ignored)
    assert [violation.code for violation in vonage.violations] == ["frame-size"] * 5
    assert vonage.interpret(b"x" * frame_bytes(rate)) == PlayAudio(b"x" * frame_bytes(rate))
    tolerant = VonageMediaCarrier(sample_rate=rate, strict=False)
    assert tolerant.interpret(b"x" * 160) == PlayAudio(b"x" * 160)
    assert isinstance(tolerant.interpret(b"x"), Ignored)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("nonsense", "bad-json"),
        ("[]", "bad-json"),
        ("[" * 100_000, "bad-json"),
        ("{}", "unknown-action"),
        ('{"action":"hangup"}', "unknown-action"),
        ('{"action":["clear"]}', "unknown-action"),
        ('{"action":"notify"}', "notify-payload"),
        ('{"action":"notify","payload":"a"}', "notify-payload"),
    ],
)
def test_what_vonage_does_not_know_is_a_violation(text, code):
    vonage = VonageMediaCarrier()
    assert isinstance(vonage.interpret(text), Ignored)
    assert [violation.code for violation in vonage.violations] == [code]


def test_unknown_fields_are_noticed_and_the_action_is_done():
    vonage = VonageMediaCarrier()
    assert vonage.interpret('{"action":"clear","x":1}') == ClearAudio()
    assert [violation.code for violation in vonage.violations] == ["unknown-field"]


def test_a_notify_returns_its_payload_as_it_was():
    payload = {"id": 5, "nested": {"ü": [None, 1.5]}}
    (frame,) = VonageMediaCarrier().receive(json.dumps({"action": "notify", "payload": payload}), 0)
    assert json.loads(frame) == {"event": "websocket:notify", "payload": payload}


def test_more_than_3072_messages_are_dropped_with_a_complaint():
    vonage = VonageMediaCarrier(sample_rate=8000)
    for _ in range(3073):
        vonage.receive(b"x" * 320, 0)
    assert [violation.code for violation in vonage.violations] == ["buffer-overflow"]
    assert vonage.buffered_ms == 3072 * 20


def test_the_carrier_refuses_to_send_what_vonage_never_would():
    with pytest.raises(ValueError, match="640"):
        VonageMediaCarrier().send_audio(b"x")
    with pytest.raises(ValueError, match="44100"):
        VonageMediaCarrier(sample_rate=44100)
