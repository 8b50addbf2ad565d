"""The agent protocol in both roles, against each other and against the published schema."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.agentlink import pcm
from offhook.audio import RateError

SCHEMA = json.loads((Path(__file__).parents[4] / "docs" / "agent-protocol.schema.json").read_text())


def valid(side: str) -> Callable[[str], Any]:
    """Parse a message that `side` sent, having proven it against the published schema, with no property
    beside it.
    """
    validator = jsonschema.Draft202012Validator({"$ref": f"#/$defs/from-{side}", "$defs": SCHEMA["$defs"]})

    def parse(text: str) -> Any:
        message = json.loads(text)
        validator.validate(message)
        known = SCHEMA["$defs"][f"{side}-{message['event']}"]["properties"]
        assert set(message) <= set(known), "a property is not in the schema"
        return message

    return parse


from_bridge, from_agent = valid("bridge"), valid("agent")


def start(sample_rate: int = 16000, resume: pcm.Resume | None = None) -> pcm.Start:
    return pcm.Start(
        workflow_run_id="r1",
        workflow_id="w1",
        user_id="u1",
        provider="twilio",
        provider_call_id="CA1",
        direction="inbound",
        from_="+15550001111",
        to="+15550002222",
        audio=pcm.AudioFormat(sample_rate),
        metadata={"plan": "gold"},
        resume=resume,
    )


@pytest.fixture
def bridge() -> pcm.PcmBridgeSide:
    side = pcm.PcmBridgeSide(16000)
    side.start(start())
    return side


@pytest.fixture
def agent() -> pcm.PcmAgentSide:
    side = pcm.PcmAgentSide()
    side.receive(pcm.PcmBridgeSide(16000).start(start()))
    return side


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_the_schema_has_every_message_of_both_sides() -> None:
    names = {name for name in SCHEMA["$defs"] if name.startswith(("bridge-", "agent-"))}
    assert names == {f"bridge-{event}" for event in pcm._FROM_BRIDGE} | {
        f"agent-{event}" for event in pcm._FROM_AGENT
    }


@pytest.mark.parametrize(
    "resume", [None, pcm.Resume(epoch=2, reason="bridge-lost", elapsed_ms=9, heard_ms=4, replayed_ms=0)]
)
def test_the_start_arrives_as_it_was_sent_and_as_published(resume: pcm.Resume | None) -> None:
    text = pcm.PcmBridgeSide(16000).start(start(resume=resume))
    assert from_bridge(text)["from"] == "+15550001111"
    agent = pcm.PcmAgentSide()
    assert agent.receive(text) == start(resume=resume)
    assert agent.started == start(resume=resume)


@pytest.mark.parametrize(
    ("send", "arrives"),
    [
        (lambda side: side.dtmf("#", 120), pcm.Dtmf("#", 120)),
        (lambda side: side.mark("a", False), pcm.Mark("a", False)),
        (lambda side: side.cleared(840, 1960), pcm.Cleared(840, 1960)),
        (lambda side: side.answered_by("machine"), pcm.AnsweredBy("machine")),
        (lambda side: side.answered_by("machine", "beep"), pcm.AnsweredBy("machine", "beep")),
        (
            lambda side: side.transfer("failed", "limit-reached"),
            pcm.TransferResult("failed", "limit-reached"),
        ),
        (lambda side: side.digits_failed("gone"), pcm.DigitsResult("gone")),
        (lambda side: side.transfer("declined"), pcm.TransferResult("declined")),
        (lambda side: side.error("bad-audio", "odd"), pcm.ErrorReport("bad-audio", "odd")),
        (lambda side: side.stop("caller-hangup"), pcm.Stop("caller-hangup")),
    ],
)
def test_what_the_bridge_says_is_what_the_agent_hears(
    send: Callable[[pcm.PcmBridgeSide], str],
    arrives: object,
    bridge: pcm.PcmBridgeSide,
    agent: pcm.PcmAgentSide,
) -> None:
    text = send(bridge)
    from_bridge(text)
    assert agent.receive(text) == arrives


@pytest.mark.parametrize(
    ("send", "arrives"),
    [
        (lambda side: side.mark("a"), pcm.MarkRequest("a")),
        (lambda side: side.clear(), pcm.ClearRequest()),
        (lambda side: side.hangup("done"), pcm.HangupRequest("done")),
        (lambda side: side.transfer("+15550001111", "warm"), pcm.TransferRequest("+15550001111", "warm")),
        (lambda side: side.join(), pcm.TransferRequest(mode="join")),
        (lambda side: side.dtmf("12#w9"), pcm.DtmfRequest("12#w9")),
    ],
)
def test_what_the_agent_says_is_what_the_bridge_hears(
    send: Callable[[pcm.PcmAgentSide], str],
    arrives: object,
    bridge: pcm.PcmBridgeSide,
    agent: pcm.PcmAgentSide,
) -> None:
    text = send(agent)
    from_agent(text)
    assert bridge.receive(text) == arrives


def test_audio_goes_both_ways_untouched(bridge: pcm.PcmBridgeSide, agent: pcm.PcmAgentSide) -> None:
    assert agent.receive(bridge.audio(bytes(1280))) == pcm.Audio(bytes(1280))
    assert bridge.receive(agent.audio(bytes(6))) == pcm.Audio(bytes(6))


@pytest.mark.parametrize("size", [0, 638, 641])
def test_the_bridge_sends_whole_frames_only(size: int, bridge: pcm.PcmBridgeSide) -> None:
    with pytest.raises(pcm.LocalProtocolError, match="whole frames"):
        bridge.audio(bytes(size))


@pytest.mark.parametrize("text", ['{"event":"emotion","mood":"fine"}', '{"event":"mark2"}'])
def test_events_nobody_knows_yet_are_ignored_by_both(
    text: str, bridge: pcm.PcmBridgeSide, agent: pcm.PcmAgentSide
) -> None:
    assert isinstance(bridge.receive(text), pcm.Ignored)
    assert isinstance(agent.receive(text), pcm.Ignored)


def test_properties_nobody_knows_yet_are_ignored(bridge: pcm.PcmBridgeSide) -> None:
    assert bridge.receive('{"event":"mark","name":"a","colour":{"deep":[1]}}') == pcm.MarkRequest("a")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\0\0\0", "bad-audio"),
        (bytes(pcm.MAX_AUDIO + 2), "bad-audio"),
        ("{", "bad-message"),
        ("[]", "bad-message"),
        ('{"event":7}', "bad-message"),
        ('{"event":"mark"}', "bad-message"),
        ('{"event":"mark","name":"' + "a" * 257 + '"}', "bad-message"),
        ('{"event":"dtmf","digits":"x"}', "bad-message"),
        ('{"event":"transfer","to":"call me"}', "bad-message"),
        ('{"event":"transfer","to":"+15550001111\\n"}', "bad-message"),
        ('{"event":"transfer","to":"+1555\\u0661"}', "bad-message"),
        ('{"event":"transfer","mode":"warm"}', "bad-message"),
        ('{"event":"dtmf","digits":"1\\n"}', "bad-message"),
        ('{"event":"mark","name":"' + "a" * pcm.MAX_TEXT + '"}', "bad-message"),
        ("\ud800", "bad-message"),
        ('{"event":"mark","name":' + "[" * 20_000, "bad-message"),
        ("[" * 20_000, "bad-message"),
    ],
)
def test_what_an_agent_gets_wrong_is_answered_and_the_call_goes_on(
    message: bytes | str, code: str, bridge: pcm.PcmBridgeSide
) -> None:
    rejected = bridge.receive(message)
    assert isinstance(rejected, pcm.Rejected)
    assert rejected.code == code
    assert code in pcm.ERROR_CODES
    from_bridge(bridge.error(rejected.code, rejected.message))


@given(message=st.one_of(st.binary(max_size=64), st.text(max_size=64)))
def test_no_message_of_an_agent_can_make_the_bridge_fail(message: bytes | str) -> None:
    pcm.PcmBridgeSide(8000).receive(message)


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=5
    )
)
def test_no_value_in_a_known_event_can_make_the_bridge_fail(value: object) -> None:
    side = pcm.PcmBridgeSide(8000)
    for event, field in (("mark", "name"), ("hangup", "reason"), ("transfer", "to"), ("dtmf", "digits")):
        side.receive(json.dumps({"event": event, field: value}))


def test_the_bridge_says_start_first_and_stop_last() -> None:
    side = pcm.PcmBridgeSide(16000)
    with pytest.raises(pcm.LocalProtocolError):
        side.dtmf("1", 0)
    side.start(start())
    with pytest.raises(pcm.LocalProtocolError):
        side.start(start())
    side.stop("caller-hangup")
    with pytest.raises(pcm.LocalProtocolError):
        side.audio(bytes(640))


def test_the_announced_rate_is_the_rate_of_the_link() -> None:
    with pytest.raises(pcm.LocalProtocolError, match="8000"):
        pcm.PcmBridgeSide(16000).start(start(8000))
    with pytest.raises(RateError):
        pcm.PcmBridgeSide(44100)


@pytest.mark.parametrize(
    "first",
    [
        b"\0\0",
        '{"event":"mark","name":"a","heard":true}',
        '{"event":"hello"}',
        "no json",
        '{"event":"start","metadata":' + "[" * 20_000,
        pcm.PcmBridgeSide(8000).start(start(8000)).replace('"version":1', '"version":2'),
        pcm.PcmBridgeSide(8000).start(start(8000)).replace("pcm_s16le", "opus"),
    ],
)
def test_an_agent_takes_no_call_it_does_not_understand(first: bytes | str) -> None:
    with pytest.raises(pcm.RemoteProtocolError):
        pcm.PcmAgentSide().receive(first)


def test_an_agent_says_nothing_before_start_or_after_stop(agent: pcm.PcmAgentSide) -> None:
    with pytest.raises(pcm.LocalProtocolError):
        pcm.PcmAgentSide().clear()
    agent.receive('{"event":"stop","reason":"caller-hangup"}')
    with pytest.raises(pcm.LocalProtocolError):
        agent.audio(bytes(2))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda side: side.audio(b"\0"),
        lambda side: side.mark("a" * 257),
        lambda side: side.dtmf("hello"),
        lambda side: side.transfer("home"),
        lambda side: side.transfer(""),
    ],
)
def test_an_agent_is_told_what_the_bridge_would_refuse(
    wrong: Callable[[pcm.PcmAgentSide], object], agent: pcm.PcmAgentSide
) -> None:
    with pytest.raises(pcm.LocalProtocolError):
        wrong(agent)


def test_every_error_code_is_in_the_published_page() -> None:
    page = (Path(__file__).parents[4] / "docs" / "agent-protocol.md").read_text()
    for code in pcm.ERROR_CODES:
        assert f"`{code}`" in page
