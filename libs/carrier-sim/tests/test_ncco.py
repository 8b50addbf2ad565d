"""NCCOs are read as strictly as Vonage reads them."""

import json
from typing import Any

import pytest

from carrier_sim.vonage import ncco

ENDPOINT: dict[str, Any] = {
    "type": "websocket",
    "uri": "wss://a.example/media",
    "content-type": "audio/l16;rate=16000",
    "headers": {"token": "abc"},
}


def connect(**changes: Any) -> dict[str, Any]:
    endpoint = ENDPOINT | changes.pop("endpoint", {})
    return {"action": "connect", "endpoint": [endpoint], **changes}


def codes(instructions: ncco.Ncco) -> list[str]:
    return [objection.code for objection in instructions.objections]


def test_the_instructions_of_an_agent_are_read_without_objection() -> None:
    action = connect(
        eventType="synchronous",
        eventUrl=["https://a.example/event"],
        endpoint={"authorization": {"type": "vonage"}},
    )
    instructions = ncco.read(json.dumps([action]).encode(), "application/json")
    assert codes(instructions) == []
    (read,) = instructions.actions
    assert isinstance(read, ncco.Connect)
    assert (read.sample_rate, read.synchronous, read.vonage_authorization) == (16000, True, True)
    assert read.event_url == "https://a.example/event"


@pytest.mark.parametrize(
    "data",
    [
        {"action": "talk", "text": "not an array"},
        ["talk"],
        [{"action": "hangup"}],
        [{"action": "reject"}],
        [{"text": "no action"}],
        [{"action": "talk"}],
        [{"action": "talk", "text": "x" * 1501}],
        [{"action": "connect", "endpoint": ENDPOINT}],
        [{"action": "connect", "endpoint": [ENDPOINT, ENDPOINT]}],
        [connect(eventUrl="https://a.example/event")],
        [connect(eventType="asynchronous")],
        [connect(endpoint={"content-type": "audio/l16;rate=44100"})],
        [connect(endpoint={"headers": "token=abc"})],
        [connect(endpoint={"authorization": {"type": "basic"}})],
        [connect(endpoint={"authorization": {"type": "custom"}})],
        [connect(endpoint={"uri": ""})],
        [connect(endpoint={"type": "telepathy"})],
    ],
    ids=lambda data: json.dumps(data)[:50],
)
def test_a_syntax_error_refuses_the_whole_ncco(data: Any) -> None:
    instructions = ncco.read_actions(data)
    assert instructions.failed
    assert codes(instructions) == ["vonage-ncco-syntax"]
    assert instructions.reason == "Syntax error in NCCO. Invalid value type or action."


def test_headers_may_take_512_bytes() -> None:
    def one(size: int) -> ncco.Ncco:
        overhead = len(json.dumps({"t": ""}, separators=(",", ":")))
        return ncco.read_actions([connect(endpoint={"headers": {"t": "x" * (size - overhead)}})])

    assert codes(one(512)) == []
    assert codes(one(513)) == ["vonage-headers-too-large"]


def test_a_header_that_hides_a_field_of_the_first_message_is_objected_to() -> None:
    assert codes(ncco.read_actions([connect(endpoint={"headers": {"event": "x"}})])) == [
        "vonage-header-collision"
    ]


def test_unknown_fields_are_warned_about() -> None:
    instructions = ncco.read_actions([connect(colour="red", endpoint={"shape": "round"})])
    assert codes(instructions) == ["vonage-ncco-unknown-field"] * 2
    assert not instructions.failed


@pytest.mark.parametrize("media_type", ["text/plain", "text/html", ""])
def test_only_json_is_an_ncco(media_type: str) -> None:
    assert codes(ncco.read(b"[]", media_type)) == ["vonage-content-type"]


def test_a_notify_names_one_url_and_has_a_payload() -> None:
    action = {"action": "notify", "payload": {}, "eventUrl": ["https://a.example/x"]}
    assert ncco.read_actions([action]).actions == (ncco.Notify({}, "https://a.example/x"),)
    assert ncco.read_actions([{**action, "payload": "text"}]).failed
    assert ncco.read_actions([{**action, "eventUrl": "https://a.example/x"}]).failed
