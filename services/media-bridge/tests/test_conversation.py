"""The pure core without sockets: what goes where when an agent is slow, floods, or is not there."""

import json
from typing import Any

import pytest

from media_bridge.agent_links import CallDescription, PcmLink
from media_bridge.conversation import Conversation, Limits, LoopLag
from offhook.agentlink import pcm
from offhook.audio import tone
from offhook.providers.base import Audio, Cleared, Dtmf, Frame, MarkReached
from offhook.providers.vonage.media import VonageMediaServer

FRAME = 320  # 20 ms of 16-bit PCM at 8 kHz, on both sides
CALL = CallDescription("r1", "w1", "u1", "vonage", "app", "uuid", "inbound")
LOUD = tone.sine(440, 20, 8000, fade_ms=0)


class World:
    """The owner of a conversation, and both sockets."""

    def __init__(self, **limits: Any) -> None:
        self.now = 100.0
        self.carrier: list[Frame] = []
        self.agent: list[Frame] = []
        self.told: list[tuple[Any, ...]] = []
        self.objection: pcm.Rejected | None = None
        server = VonageMediaServer()
        server.receive(
            '{"event":"websocket:connected","content-type":"audio/l16;rate=8000","call_uuid":"uuid"}'
        )
        self.conversation = Conversation(
            server, self.carrier.append, self, self.now, Limits(**limits), LoopLag()
        )

    def dtmf(self, digit: str, at_ms: int) -> None:
        self.told.append(("dtmf", digit, at_ms))

    def stream_stopped(self) -> None:
        self.told.append(("stopped",))

    def agent_hung_up(self, reason: str) -> None:
        self.told.append(("hangup", reason))

    def agent_asks(self, request: pcm.TransferRequest | pcm.DtmfRequest) -> pcm.Rejected | None:
        self.told.append(("asks", request))
        return self.objection

    def answered(self, seconds: float) -> None:
        self.told.append(("answered", round(seconds, 2)))

    def interrupted(self, heard_ms: int, discarded_ms: int) -> None:
        self.told.append(("interrupted", heard_ms, discarded_ms))

    def agent_fault(self, code: str, message: str) -> None:
        self.told.append(("fault", code))

    def has_work(self) -> None:
        self.told.append(("work",))

    def attach(self, resume: pcm.Resume | None = None) -> None:
        self.conversation.attach(PcmLink(CALL, 8000), self.agent.append, self.now, resume)

    def hear(self, payload: bytes = bytes(FRAME)) -> None:
        self.now += 0.02
        self.conversation.from_carrier(Audio(payload), self.now)

    def say(self, message: Frame) -> None:
        self.conversation.from_agent(message, self.now)

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.now < until:
            self.now += 0.01
            self.conversation.pump(self.now)

    def agent_audio(self) -> bytes:
        return b"".join(message for message in self.agent if isinstance(message, bytes))

    def agent_text(self) -> list[Any]:
        return [json.loads(message) for message in self.agent if isinstance(message, str)]


@pytest.fixture
def world() -> World:
    return World()


def test_a_frame_is_on_the_other_socket_before_the_call_returns(world: World) -> None:
    world.attach()
    world.hear(LOUD)
    assert world.agent_audio() == LOUD
    world.say(LOUD)
    assert world.carrier == [LOUD]
    assert ("work",) not in world.told


def test_a_slow_agent_is_not_written_to_and_catches_up_with_what_is_remembered() -> None:
    world = World(caller_memory_ms=100)
    world.attach()
    world.conversation.stall(True)
    for _ in range(8):
        world.hear()
    assert world.agent_audio() == b""
    world.conversation.stall(False)
    assert len(world.agent_audio()) == 5 * FRAME
    assert world.conversation.dropped_ms == 60


def test_a_flood_of_audio_is_refused_and_not_even_transcoded() -> None:
    world = World(max_agent_audio_ms=1000)
    world.attach()
    world.say(bytes(FRAME * 200))
    assert [message["code"] for message in world.agent_text()[1:]] == ["audio-overflow"]
    assert world.conversation.agent_audio_waiting_ms <= 1000
    world.say(bytes(FRAME * 200))
    assert world.told.count(("fault", "audio-overflow")) == 2


def test_the_comfort_tone_goes_on_until_an_agent_comes_and_is_cut_then(world: World) -> None:
    world.conversation.comfort(world.now)
    world.pass_time(5.0)
    played = [message for message in world.carrier if isinstance(message, bytes)]
    assert 240 <= len(played) <= 255
    world.attach()
    assert world.carrier[-1] == '{"action":"clear"}'
    before = len(world.carrier)
    world.pass_time(1.0)
    assert len(world.carrier) == before
    assert world.conversation.quality.agent_frames == 0


def test_the_resume_says_how_much_is_replayed_and_the_replay_follows_it(world: World) -> None:
    world.attach()
    for _ in range(10):
        world.hear(LOUD)
    world.conversation.detach(world.now)
    world.agent.clear()
    world.hear(LOUD)
    world.attach(pcm.Resume(epoch=1, reason="agent-lost"))
    (start,) = world.agent_text()
    assert start["resume"]["replayed_ms"] == 220
    assert world.agent_audio() == LOUD * 11
    assert isinstance(world.agent[0], str)


def test_what_a_lost_agent_had_sent_is_not_played(world: World) -> None:
    world.attach()
    world.say(bytes(FRAME * 100))
    world.pass_time(0.5)
    heard_ms = world.conversation.detach(world.now)
    assert heard_ms == pytest.approx(500, abs=30)
    before = len(world.carrier)
    world.pass_time(1.0)
    assert len(world.carrier) == before


def test_at_the_end_the_agent_learns_of_its_marks_before_it_is_told_to_stop(world: World) -> None:
    world.attach()
    world.say(bytes(FRAME * 100))
    world.say('{"event":"mark","name":"a"}')
    world.conversation.close("caller-hangup", world.now)
    assert world.agent_text()[-2:] == [
        {"event": "mark", "name": "a", "heard": False},
        {"event": "stop", "reason": "caller-hangup"},
    ]
    world.say(LOUD)
    world.hear()


def test_a_carriers_confirmation_of_clear_says_nothing_new(world: World) -> None:
    world.attach()
    world.say('{"event":"mark","name":"a"}')
    world.say('{"event":"clear"}')
    world.conversation.from_carrier(MarkReached("m1", certain=False), world.now)
    world.conversation.from_carrier(Cleared(("m1",)), world.now)
    assert [message for message in world.agent_text() if message["event"] == "mark"] == [
        {"event": "mark", "name": "a", "heard": False}
    ]


def test_keys_that_are_pressed_while_no_agent_is_there_are_told_to_the_next_one(world: World) -> None:
    world.attach()
    world.conversation.detach(world.now)
    world.agent.clear()
    for digit in "1" * 40 + "2" * 40 + "#":
        world.hear()
        world.conversation.from_carrier(Dtmf(digit), world.now)
    world.attach(pcm.Resume(epoch=1, reason="agent-lost"))
    keys = [message for message in world.agent_text() if message["event"] == "dtmf"]
    assert "".join(key["digit"] for key in keys) == "1" * 23 + "2" * 40 + "#"
    assert keys[-1]["at_ms"] == world.told[-1][2] > keys[0]["at_ms"]
    assert isinstance(world.agent[1], bytes), "what the caller said comes before"
    world.conversation.detach(world.now)
    world.agent.clear()
    world.attach()
    assert [message["event"] for message in world.agent_text()] == ["start"]


def test_a_key_that_no_telephone_has_is_not_a_key(world: World) -> None:
    world.attach()
    for digit in ("5", "d", "x", "55", ""):
        world.conversation.from_carrier(Dtmf(digit), world.now)
    assert [told[1] for told in world.told] == ["5", "D"]


def test_the_agents_answer_is_timed_from_the_callers_last_sound(world: World) -> None:
    world.attach()
    for _ in range(20):
        world.hear(LOUD)
    for _ in range(25):
        world.hear()
    world.say(LOUD)
    assert ("answered", 0.5) in world.told


def test_call_control_that_is_refused_is_answered_with_the_reason(world: World) -> None:
    world.attach()
    world.objection = pcm.Rejected("unsupported", "not on this call")
    world.say('{"event":"transfer","to":"+15550001111"}')
    world.say('{"event":"dtmf","digits":"1"}')
    assert [message["code"] for message in world.agent_text()[1:]] == ["unsupported", "unsupported"]
    assert ("asks", pcm.TransferRequest("+15550001111")) in world.told


def test_tones_wait_their_turn_behind_what_the_agent_says_and_are_taken_back_with_it(world: World) -> None:
    world.attach()
    world.say(LOUD * 50)
    assert world.conversation.press("12", world.now)
    assert world.conversation.agent_audio_waiting_ms == 1000 - 80 + 400
    world.say('{"event":"clear"}')
    assert world.conversation.agent_audio_waiting_ms == 0


def test_tones_that_do_not_fit_are_not_begun() -> None:
    world = World(max_agent_audio_ms=1000)
    world.attach()
    world.say(LOUD * 50)
    assert not world.conversation.press("123456789", world.now)


def test_the_comfort_tone_is_not_something_the_caller_heard_the_agent_say(world: World) -> None:
    world.attach()
    for _ in range(20):
        world.say(bytes(FRAME))
    world.pass_time(0.2)
    heard_ms = world.conversation.detach(world.now)
    assert heard_ms >= 200
    world.conversation.comfort(world.now)
    world.pass_time(3)
    assert world.conversation.heard_ms(world.now) == heard_ms
    world.attach()
    assert world.conversation.heard_ms(world.now) == 0
