"""What an agent is told, and how it is understood, in both protocols."""

import base64
import json
from typing import Any

import pytest

from media_bridge.agent_links import CallDescription, PcmLink, TwilioLink
from offhook.agentlink import pcm

CALL = CallDescription(
    workflow_run_id="r1",
    workflow_id="w1",
    user_id="u1",
    provider="vonage",
    account="app-1",
    provider_call_id="uuid-1",
    direction="inbound",
    from_number="+15550001111",
    to_number="+15550002222",
    metadata={"plan": "gold", "limits": {"minutes": 5}},
)
RESUME = pcm.Resume(epoch=2, reason="agent-lost", elapsed_ms=9, heard_ms=4, replayed_ms=3)


def spoken(frames: list[bytes | str]) -> list[Any]:
    return [json.loads(frame) for frame in frames]


def test_a_pcm_agent_gets_the_call_in_its_start() -> None:
    (start,) = spoken(PcmLink(CALL, 24000).open(RESUME))
    assert start["from"] == "+15550001111"
    assert start["audio"] == {"encoding": "pcm_s16le", "sample_rate": 24000}
    assert start["metadata"] == {"plan": "gold", "limits": {"minutes": 5}}
    assert start["resume"]["reason"] == "agent-lost"


def test_a_twilio_agent_gets_what_twilio_would_send_with_the_call_as_custom_parameters() -> None:
    connected, start = spoken(TwilioLink(CALL, "1").open(RESUME))
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    assert start["start"]["mediaFormat"] == {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
    parameters = start["start"]["customParameters"]
    assert parameters["plan"] == "gold"
    assert json.loads(parameters["limits"]) == {"minutes": 5}
    assert (parameters["workflow_run_id"], parameters["from"], parameters["to"]) == (
        "r1",
        "+15550001111",
        "+15550002222",
    )
    assert json.loads(parameters["resume"])["heard_ms"] == 4


def test_ids_that_are_not_twilios_get_stable_ones_of_its_shape() -> None:
    first = spoken(TwilioLink(CALL, "1").open(None))[1]["start"]
    again = spoken(TwilioLink(CALL, "2").open(None))[1]["start"]
    assert first["callSid"].startswith("CA")
    assert len(first["callSid"]) == 34
    assert first["callSid"] == again["callSid"]
    assert first["streamSid"] != again["streamSid"]


def test_the_metadata_cannot_hide_what_the_call_is() -> None:
    call = CallDescription(
        "r1", "w1", "u1", "twilio", "AC1", "CA1", "inbound", metadata={"workflow_run_id": "other"}
    )
    start = spoken(TwilioLink(call, "1").open(None))[1]["start"]
    assert start["customParameters"]["workflow_run_id"] == "r1"


def test_a_parameter_longer_than_twilio_allows_is_left_out() -> None:
    call = CallDescription("r1", "w1", "u1", "twilio", "AC1", "CA1", "inbound", metadata={"novel": "x" * 600})
    link = TwilioLink(call, "1")
    start = spoken(link.open(None))[1]["start"]
    assert "novel" not in start["customParameters"]
    assert link.left_out == ("novel",)


def test_a_twilio_agent_gets_whole_frames_of_20_ms() -> None:
    link = TwilioLink(CALL, "1")
    link.open(None)
    payloads = [base64.b64decode(message["media"]["payload"]) for message in spoken(link.audio(bytes(480)))]
    assert [len(payload) for payload in payloads] == [160, 160, 160]


@pytest.mark.parametrize(
    ("message", "meant"),
    [
        ({"event": "media", "media": {"payload": base64.b64encode(b"abc").decode()}}, b"abc"),
        ({"event": "mark", "mark": {"name": "a"}}, pcm.MarkRequest("a")),
        ({"event": "clear"}, pcm.ClearRequest()),
        # With a field that Twilio would warn about, or another stream's id: understood all the same.
        ({"event": "clear", "extra": 1}, pcm.ClearRequest()),
        ({"event": "mark", "mark": {"name": "a"}, "streamSid": "MZother"}, pcm.MarkRequest("a")),
    ],
)
def test_what_a_twilio_agent_says_is_understood(message: dict[str, Any], meant: object) -> None:
    link = TwilioLink(CALL, "1")
    sid = spoken(link.open(None))[1]["streamSid"]
    assert link.receive(json.dumps({"streamSid": sid, **message})) == meant


@pytest.mark.parametrize("message", [b"\0\1", "nonsense", "[]", '{"event":"media"}'])
def test_what_a_twilio_agent_gets_wrong_ends_nothing(message: bytes | str) -> None:
    link = TwilioLink(CALL, "1")
    link.open(None)
    assert isinstance(link.receive(message), pcm.Rejected)
