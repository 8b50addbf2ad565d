"""The bridge from outside: carriers on one side, agents on the other, events on Kafka (in memory), a real
Redis.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest
from redis.asyncio import Redis
from twilio.request_validator import RequestValidator
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import Frame as RawFrame
from websockets.frames import Opcode
from websockets.utils import accept_key

from media_bridge import bridge as bridge_module
from media_bridge import call as call_module
from offhook.audio import g711, tone
from offhook.events import (
    AgentConnected,
    AgentLost,
    DtmfReceived,
    HangUp,
    HangUpNotice,
    HangupRequested,
    MediaStarted,
    MediaStopped,
    Party,
    new_event,
)
from offhook.identities import inbound_run_id, media_path
from offhook.topics import CALL_NOTICES

OTHER_CALL = "CA" + "0" * 31 + "9"


async def refusal(connecting: Any) -> int:
    """The HTTP status a socket is refused with."""
    with pytest.raises(InvalidStatus) as refused:
        await connecting
    return refused.value.response.status_code


async def marked(redis_url: str, key: str) -> bool:
    async with Redis.from_url(redis_url) as redis:
        return bool(await redis.exists(key))


def frequency(samples: np.ndarray, rate: int) -> float:
    """The strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


def as_samples(audio: bytes, encoding: str) -> np.ndarray:
    pcm = g711.mulaw_to_pcm16(audio) if encoding == "mulaw" else audio[: len(audio) // 2 * 2]
    return np.frombuffer(pcm, np.int16).astype(float)


# --- who may connect
# ----------------------------------------------------------------------------------------------


async def test_a_socket_with_a_wrong_signature_is_refused_before_it_is_opened(rig: Any) -> None:
    assert await refusal(rig.twilio(auth_token="somebody-elses")) == 403
    assert await refusal(rig.vonage(secret="x" * 32)) == 403
    assert await refusal(rig.vonage(application_id="another")) == 403


async def test_a_socket_without_a_signature_is_refused(rig: Any) -> None:
    assert await refusal(rig.twilio(headers={})) == 403


@pytest.mark.parametrize(
    ("workflow", "user"),
    [("nobody-knows", "u1"), ("w2", "u1"), ("w1", "u2"), ("w2", "u2")],
)
async def test_a_workflow_of_somebody_else_or_of_nobody_is_refused(
    rig: Any, workflow: str, user: str
) -> None:
    # Signed by tenant one; the last case is a workflow and its owner, who has another account.
    assert await refusal(rig.twilio(workflow, user=user)) == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 404),
        ("/healthz", 404),
        ("/api/v1/telephony/ws/w1/u1", 404),
        ("/api/v1/telephony/ws/w1/u1/r%20x", 404),
        ("/api/v1/telephony/ws/w1/u1/" + "r" * 65, 404),
        ("/api/v1/telephony/ws/w1/u1/r1?" + "x" * 2100, 414),
    ],
)
async def test_a_path_that_is_no_calls_is_refused(rig: Any, path: str, status: int) -> None:
    assert await refusal(rig.twilio(path=path)) == status


async def test_headers_without_end_are_not_read(rig: Any) -> None:
    with pytest.raises(InvalidHandshake):
        await rig.twilio(headers={"x-twilio-signature": "x", "x-long": "y" * 40_000})


async def test_twilio_may_sign_the_url_with_a_slash_at_its_end(rig: Any, agent: Any) -> None:
    path = media_path("w1", "u1", rig.twilio_run())
    signature = RequestValidator("the-auth-token-of-tenant-one").compute_signature(
        f"wss://voice.example.com{path}/", {}
    )
    caller = await rig.twilio(headers={"X-TWILIO-SIGNATURE": signature})
    await caller.start(rig.mint(rig.twilio_run()))
    await agent.connection()


async def test_a_subprotocol_is_never_echoed_and_nothing_is_compressed(rig: Any) -> None:
    caller = await rig.twilio(subprotocols=["audio.twilio.com"])
    assert caller.socket.response.headers.get("Sec-WebSocket-Protocol") is None
    assert caller.socket.response.headers.get("Sec-WebSocket-Extensions") is None


async def test_a_proxy_may_name_more_than_one_connection_option(rig: Any) -> None:
    path = media_path("w1", "u1", rig.twilio_run())
    signature = RequestValidator("the-auth-token-of-tenant-one").compute_signature(
        f"wss://voice.example.com{path}", {}
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(
        (
            f"GET {path} HTTP/1.1\r\nHost: voice.example.com\r\nUpgrade: WebSocket\r\n"
            "Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}\r\nx-twilio-signature: {signature}\r\n\r\n"
        ).encode()
    )
    assert (await reader.readline()).startswith(b"HTTP/1.1 101")
    writer.close()


# --- the token in the stream's start
# ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "token_of",
    [
        lambda rig: "",
        lambda rig: "m1.nonsense",
        lambda rig: rig.mint(rig.twilio_run())[:-3] + "abc",
        lambda rig: rig.mint("another-run"),
        lambda rig: rig.mint(rig.twilio_run(), call=OTHER_CALL),
        lambda rig: rig.mint(rig.twilio_run(), account="AC" + "0" * 31 + "2"),
        lambda rig: rig.mint(rig.twilio_run(), ttl_s=-5),
    ],
    ids=["none", "nonsense", "forged", "another run", "another call", "another account", "expired"],
)
async def test_a_stream_whose_token_does_not_fit_is_closed(rig: Any, agent: Any, token_of: Any) -> None:
    caller = await rig.twilio()
    await caller.start(token_of(rig))
    assert await caller.ends() == 1008
    assert agent.connections == []
    assert rig.events() == []


async def test_a_token_opens_one_stream_only(rig: Any, agent: Any) -> None:
    token = rig.mint(rig.twilio_run())
    first = await rig.twilio()
    await first.start(token)
    await agent.connection()
    second = await rig.twilio()
    await second.start(token)
    assert await second.ends() == 1008
    assert not first.closed.is_set()


async def test_a_socket_that_never_starts_is_closed(rig: Any) -> None:
    caller = await rig.twilio()
    bridge = rig.app.state.bridge
    bridge.settings = bridge.settings.model_copy(update={"start_timeout_s": 0.5})
    assert await caller.ends() == 1008
    assert "no-start" in await rig.metrics()


async def test_audio_before_the_start_closes_the_socket(rig: Any) -> None:
    caller = await rig.twilio()
    await caller.say(b"\xff" * 160)
    assert await caller.ends() == 1008


# --- what is heard
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", ["twilio", "vonage-8000", "vonage-16000", "vonage-24000"])
@pytest.mark.parametrize("protocol", ["pcm-8000", "pcm-16000", "pcm-24000", "twilio"])
async def test_every_carrier_and_every_agent_hear_each_other(
    rig: Any, agent: Any, twilio_bot: Any, carrier: str, protocol: str
) -> None:
    kind, _, rate_text = protocol.partition("-")
    server = twilio_bot if kind == "twilio" else agent
    agent_rate = int(rate_text or 8000)
    agent_encoding = "mulaw" if kind == "twilio" else "pcm_s16le"
    await rig.workflow("pair", server.url, agent_protocol=kind, sample_rate=agent_rate)

    provider, _, carrier_rate_text = carrier.partition("-")
    carrier_rate = int(carrier_rate_text or 8000)
    if provider == "twilio":
        carrier_encoding = "mulaw"
        caller = await rig.twilio("pair")
        await caller.start(rig.mint(rig.twilio_run()))
    else:
        carrier_encoding = "pcm_s16le"
        run = inbound_run_id("vonage", rig.app_id, rig.uuid)
        caller = await rig.vonage("pair")
        await caller.start(rig.mint(run, rig.app_id, rig.uuid), rate=carrier_rate)

    said = tone.sine(1000, 1000, carrier_rate, fade_ms=0)
    said = g711.pcm16_to_mulaw(said) if carrier_encoding == "mulaw" else said
    frame = len(said) // 50
    for start in range(0, len(said), frame):
        await caller.say(said[start : start + frame])
    bot = await server.connection()
    start = await bot.hears("start")
    agent_frame = agent_rate // 50 * (1 if agent_encoding == "mulaw" else 2)
    await bot.until(lambda: len(bot.audio) >= 50 * agent_frame)
    assert len(bot.audio) == 50 * agent_frame
    heard = as_samples(bytes(bot.audio), agent_encoding)[agent_rate // 10 :]
    assert frequency(heard, agent_rate) == pytest.approx(1000, abs=5)

    answer = tone.sine(700, 1000, agent_rate, fade_ms=0)
    if kind == "twilio":
        payload = base64.b64encode(g711.pcm16_to_mulaw(answer)).decode()
        await bot.send({"event": "media", "streamSid": start["streamSid"], "media": {"payload": payload}})
    else:
        await bot.send(answer)
    caller.speak()  # carriers never fall silent
    await caller.until(lambda: len(caller.audio) >= 50 * frame)
    assert len(caller.audio) == 50 * frame
    played = as_samples(bytes(caller.audio), carrier_encoding)[carrier_rate // 10 :]
    assert frequency(played, carrier_rate) == pytest.approx(700, abs=5)
    if provider == "vonage":
        assert {len(message) for message in caller.messages if isinstance(message, bytes)} == {frame}


async def test_a_twilio_caller_may_send_frames_of_any_length(rig: Any, agent: Any) -> None:
    caller = await rig.twilio()
    await caller.start(rig.mint(rig.twilio_run()))
    connection = await agent.connection()
    for size in (1, 159, 161, 7, 400, 3000, 32):
        await caller.say(b"\x20" * size)
    await connection.until(lambda: len(connection.audio) >= 3760 // 160 * 640)
    sizes = [len(message) for message in connection.messages if isinstance(message, bytes)]
    assert all(size % 640 == 0 for size in sizes)


async def test_messages_nobody_knows_do_not_disturb_a_call(rig: Any, agent: Any) -> None:
    caller = await rig.twilio()
    await caller.send({"event": "hello", "from": "the future"})
    await caller.start(rig.mint(rig.twilio_run()), more="parameters")
    connection = await agent.connection()
    for odd in (b"\0\1\2", "not json", "[]", "{}", {"event": "weather", "sun": True}, {"event": "media"}):
        await caller.send(odd)
    for odd in (b"\0", "not json", "[]", {"event": "weather"}, {"event": "mark"}):
        await connection.send(odd)
    await caller.say(b"\x20" * 160)
    await connection.until(lambda: len(connection.audio) == 640)
    await connection.until(lambda: len(connection.said("error")) == 4)
    assert {error["code"] for error in connection.said("error")} == {"bad-audio", "bad-message"}
    assert not caller.closed.is_set()


async def test_more_audio_than_one_message_may_hold_is_refused_and_the_agent_stays(
    rig: Any, agent: Any
) -> None:
    await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send(bytes(1_680_000))  # 35 seconds at 24 kHz
    assert (await connection.hears("error"))["code"] == "bad-audio"
    assert not connection.closed.is_set()
    assert rig.events(AgentLost) == []


async def test_what_the_caller_says_before_the_agent_answers_is_heard(running: Any, agent: Any) -> None:
    agent.refuse_with = 503
    async with running(agent_retry_s=0.2, agent_attempts=20) as rig:
        caller = await rig.twilio()
        await caller.start(rig.mint(rig.twilio_run()))
        for _ in range(25):
            await caller.say(b"\x10" * 160)
        await rig.tells(AgentLost)
        agent.refuse_with = None
        connection = await agent.connection()
        await connection.until(lambda: len(connection.audio) >= 25 * 640)
        assert connection.messages[0]["event"] == "start"
        assert len(connection.audio) == 25 * 640


async def test_a_fragmented_message_is_put_together(rig: Any, agent: Any) -> None:
    await rig.call()
    connection = await agent.connection()
    await connection.socket.send(iter(['{"event":"ma', 'rk","na', 'me":"a"}']))
    await connection.socket.send(iter([b"\0\1", b"\0\1\0", b"\1"]))
    caller = rig.callers[0]
    await caller.until(lambda: caller.said("mark") and caller.said("media"))


# --- keys, marks, barge-in
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
async def test_a_pressed_key_goes_to_the_agent_and_to_kafka(rig: Any, agent: Any, provider: str) -> None:
    caller = await rig.call(provider)
    connection = await agent.connection()
    await caller.press("5")
    await caller.press("#")
    await connection.until(lambda: len(connection.said("dtmf")) == 2)
    assert [message["digit"] for message in connection.said("dtmf")] == ["5", "#"]
    told = await rig.tells(DtmfReceived, 2)
    assert [event.digit for event in told] == ["5", "#"]


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
async def test_a_mark_is_heard_when_the_carrier_says_so(rig: Any, agent: Any, provider: str) -> None:
    caller = await rig.call(provider)
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send(b"\0\x10" * 640)
    await connection.send({"event": "mark", "name": "end"})
    await caller.until(lambda: caller.said("mark") or [m for m in caller.messages if "notify" in str(m)])
    assert connection.said("mark") == []
    await caller.play_marks()
    assert await connection.hears("mark") == {"event": "mark", "name": "end", "heard": True}


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
async def test_barge_in_stops_the_carrier_and_says_what_was_heard(
    rig: Any, agent: Any, provider: str
) -> None:
    caller = await rig.call(provider)
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send(b"\0\x10" * 16000 * 5)
    await connection.send({"event": "mark", "name": "end"})
    await caller.until(lambda: len(caller.audio) > 0)
    await asyncio.sleep(0.3)
    await connection.send({"event": "clear"})
    cleared = await connection.hears("cleared")
    assert cleared["heard_ms"] + cleared["discarded_ms"] == 5000
    assert 0 < cleared["heard_ms"] < 5000
    assert connection.said("mark") == [{"event": "mark", "name": "end", "heard": False}]
    await caller.until(lambda: caller.said("clear") or [m for m in caller.messages if "'clear'" in str(m)])
    # Twilio returns the marks that it forgot: nothing more may come of that.
    await caller.play_marks()
    await connection.send({"event": "mark", "name": "after"})
    await caller.until(lambda: caller.said("mark") or [m for m in caller.messages if "notify" in str(m)])
    await caller.play_marks()
    await connection.until(lambda: len(connection.said("mark")) == 2)
    assert connection.said("mark")[1] == {"event": "mark", "name": "after", "heard": True}


async def test_a_twilio_bot_gets_its_marks_back_on_clear_as_from_twilio(rig: Any, twilio_bot: Any) -> None:
    await rig.workflow("bot", twilio_bot.url, agent_protocol="twilio")
    await rig.call("vonage", "bot")
    bot = await twilio_bot.connection()
    sid = (await bot.hears("start"))["streamSid"]
    payload = base64.b64encode(b"\x10" * 8000).decode()
    await bot.send({"event": "media", "streamSid": sid, "media": {"payload": payload}})
    await bot.send({"event": "mark", "streamSid": sid, "mark": {"name": "a"}})
    await bot.send({"event": "clear", "streamSid": sid})
    assert (await bot.hears("mark"))["mark"] == {"name": "a"}


async def test_more_audio_than_is_held_is_refused_with_an_error(running: Any, agent: Any) -> None:
    async with running(max_agent_audio_s=1) as rig:
        await rig.call()
        connection = await agent.connection()
        await connection.hears("start")
        await connection.send(bytes(32000 * 3))
        assert (await connection.hears("error"))["code"] == "audio-overflow"


# --- the agent comes and goes
# -------------------------------------------------------------------------------------


async def test_the_agent_is_dialled_with_the_workflows_headers_and_the_calls_trace(
    rig: Any, agent: Any
) -> None:
    sealed = rig.keyring.seal(
        json.dumps({"Authorization": "Bearer s3cret", "Host": "evil", "X-Bad": "a\r\nb"}), context="headers"
    )
    await rig.workflow("headers", agent.url, sealed_headers=sealed)
    caller = await rig.twilio("headers")
    await caller.start(rig.mint(rig.twilio_run()))
    connection = await agent.connection()
    assert connection.headers["Authorization"] == "Bearer s3cret"
    assert connection.headers["Host"].startswith("127.0.0.1")
    assert "X-Bad" not in connection.headers
    assert connection.headers["traceparent"].startswith("00-")
    assert connection.socket.subprotocol == "offhook.pcm.v1"
    assert len(await rig.tells(AgentConnected)) == 1


async def test_who_calls_whom_is_told_to_the_agent(rig: Any, agent: Any, redis_url: str) -> None:
    run = rig.twilio_run()
    async with Redis.from_url(redis_url) as redis:
        await redis.hset(
            f"offhook:call:{run}",
            mapping={
                "direction": "outbound",
                "from": "+15550001111",
                "to": "+15550002222",
                "metadata": '{"x":1}',
            },
        )
    await rig.call()
    start = await (await agent.connection()).hears("start")
    assert (start["direction"], start["from"], start["to"]) == ("outbound", "+15550001111", "+15550002222")
    assert start["metadata"] == {"plan": "gold", "x": 1}


async def test_an_agent_whose_host_is_not_allowed_is_not_dialled(running: Any, agent: Any) -> None:
    async with running(
        agent_hosts="*.agents.svc,agent.example.com", agent_retry_s=0.01, agent_attempts=2
    ) as rig:
        caller = await rig.call()
        assert await caller.ends() == 1000
        (stopped,) = await rig.tells(MediaStopped)
        assert stopped.reason == "agent-unreachable"
        lost = rig.events(AgentLost)
        assert len(lost) == 2
        assert "127.0.0.1 is not among the hosts that may be agents here" in lost[0].reason
        assert agent.connections == []


async def test_without_an_agent_the_caller_gets_the_fallback_and_the_call_is_not_ended(
    running: Any, agent: Any, redis_url: str
) -> None:
    agent.refuse_with = 403
    async with running(agent_retry_s=0.01, agent_attempts=3) as rig:
        caller = await rig.call()
        assert await caller.ends() == 1000
        (stopped,) = await rig.tells(MediaStopped)
        assert (stopped.reason, stopped.ended_by) == ("agent-unreachable", Party.PLATFORM)
        lost = rig.events(AgentLost)
        assert [event.attempt for event in lost] == [1, 2, 3]
        assert "HTTP 403" in lost[0].reason
        assert await marked(redis_url, f"offhook:fallback:{rig.twilio_run()}")
        assert not await marked(redis_url, f"offhook:ended:{rig.twilio_run()}")
        assert rig.commands() == []


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1/", "http://127.0.0.1/", "ws://", "wss://127.0.0.1:1/"])
async def test_an_agent_that_cannot_be_reached_is_told_as_lost(running: Any, url: str) -> None:
    async with running(agent_retry_s=0.01, agent_attempts=1) as rig:
        await rig.workflow("nowhere", url)
        caller = await rig.call("twilio", "nowhere")
        assert await caller.ends() == 1000
        assert len(await rig.tells(AgentLost)) == 1


async def test_an_agent_that_chooses_another_subprotocol_is_not_trusted_with_the_call(
    running: Any, agent: Any
) -> None:
    async with running(agent_retry_s=0.01, agent_attempts=1) as rig:
        async with asyncio.timeout(90):

            async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                key = next(line.split(": ")[1] for line in request.splitlines() if "-Key" in line)
                writer.write(
                    (
                        "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                        f"Sec-WebSocket-Accept: {accept_key(key)}\r\nSec-WebSocket-Protocol: other\r\n\r\n"
                    ).encode()
                )

            server = await asyncio.start_server(answer, "127.0.0.1", 0)
            port = server.sockets[0].getsockname()[1]
            await rig.workflow("other", f"ws://127.0.0.1:{port}/")
            await rig.call("twilio", "other")
            (lost,) = await rig.tells(AgentLost)
            assert "subprotocol" in lost.reason
            server.close()


async def test_when_the_agent_is_lost_the_caller_stays_and_the_next_one_resumes(rig: Any, agent: Any) -> None:
    caller = await rig.call()
    first = await agent.connection()
    await first.until(lambda: len(first.audio) >= 640 * 20)
    await first.send(b"\0\x10" * 16000 * 3)
    await caller.until(lambda: len(caller.audio) >= 160 * 10)
    first.socket.transport.abort()
    second = await agent.connection()
    start = await second.hears("start")
    resume = start["resume"]
    assert (resume["reason"], resume["epoch"]) == ("agent-lost", 1)
    assert resume["replayed_ms"] >= 400
    assert 0 < resume["heard_ms"] < 3000
    await second.until(lambda: len(second.audio) >= resume["replayed_ms"] * 32 + 640 * 5)
    assert not caller.closed.is_set()
    await rig.tells(AgentLost)
    assert len(await rig.tells(AgentConnected, 2)) == 2
    heard_before = len(caller.audio)
    await second.send(b"\0\x10" * 16000)
    await caller.until(lambda: len(caller.audio) >= heard_before + 160 * 40)


async def test_agents_that_are_lost_and_calls_that_go_on_are_counted(rig: Any, agent: Any) -> None:
    async def counted() -> list[float]:
        exposed = await rig.metrics()
        names = (
            r'offhook_agents_lost_total{agent_protocol="pcm"}',
            r'offhook_media_resumes_total{reason="agent-lost"}',
        )
        return [
            float(next(line for line in exposed.splitlines() if line.startswith(name)).split()[1])
            for name in names
        ]

    before = await counted()
    await rig.call()
    first = await agent.connection()
    await first.hears("start")
    first.socket.transport.abort()
    await (await agent.connection()).hears("start")
    assert await counted() == [count + 1 for count in before]
    assert "\noffhook_media_capacity 1000.0\n" in await rig.metrics()


async def test_while_no_agent_is_there_the_caller_hears_that_the_line_lives(running: Any, agent: Any) -> None:
    agent.refuse_with = 503
    async with running(comfort_after_s=0.0, agent_retry_s=0.3, agent_attempts=20) as rig:
        caller = await rig.call()
        await caller.until(lambda: len(caller.audio) >= 160 * 10)
        agent.refuse_with = None
        await agent.connection()
        await caller.hears("clear")


async def test_an_agent_that_hangs_up_ends_the_call(rig: Any, agent: Any, redis_url: str) -> None:
    caller = await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send({"event": "hangup", "reason": "done"})
    assert await caller.ends() == 1000
    assert await connection.ends() == 1000
    assert connection.said("stop") == [{"event": "stop", "reason": "agent-hangup"}]
    assert await marked(redis_url, f"offhook:ended:{rig.twilio_run()}")
    (stopped,) = await rig.tells(MediaStopped)
    assert (stopped.reason, stopped.ended_by) == ("agent-hangup", Party.AGENT)
    assert [event.requested_by for event in rig.events(HangupRequested)] == [Party.AGENT]
    (command,) = rig.commands()
    assert isinstance(command, HangUp)
    assert (command.configuration_id, command.provider_call_id, command.reason) == (
        "c1",
        rig.call_sid,
        "done",
    )


async def test_vonages_stream_is_closed_at_once_when_the_agent_hangs_up_so_that_the_call_ends(
    rig: Any, agent: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_module, "_COMMAND_S", 3600.0)
    caller = await rig.call("vonage")
    await (await agent.connection()).send({"event": "hangup"})
    assert await caller.ends() == 1000
    assert await marked(redis_url, f"offhook:ended:{inbound_run_id('vonage', rig.app_id, rig.uuid)}")


@pytest.mark.parametrize(
    "who_ends_it", ["the command", "nobody", "nobody, which is known", "nobody without Kafka"]
)
async def test_twilios_stream_is_closed_when_the_command_has_not_ended_the_call(
    rig: Any, agent: Any, monkeypatch: pytest.MonkeyPatch, who_ends_it: str
) -> None:
    monkeypatch.setattr(call_module, "_COMMAND_S", 0.1 if who_ends_it == "nobody" else 3600.0)
    caller = await rig.call("twilio")
    connection = await agent.connection()
    if who_ends_it == "nobody without Kafka":
        rig.bus.cluster.away = True
        await connection.send({"event": "hangup"})
        assert await caller.ends() == 1000
        rig.bus.cluster.come_back()
        return
    await connection.send({"event": "hangup"})
    await caller.until(rig.commands)
    if who_ends_it == "the command":
        assert not caller.closed.is_set()
        await caller.stop_speaking()
        await caller.stop()
        await caller.hang_up()
    elif who_ends_it != "nobody":
        assert not caller.closed.is_set()
        refused = HangUpNotice(workflow_run_id=rig.twilio_run(), configuration_id="c1", reason="busy")
        event = new_event(refused, source="/test", time=datetime.now(UTC), subject=rig.twilio_run())
        await rig.bus.publish(CALL_NOTICES, event)
    assert await caller.ends() == 1000
    (stopped,) = await rig.tells(MediaStopped)
    assert stopped.reason == "agent-hangup"


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
async def test_a_hang_up_that_the_provider_did_not_do_ends_with_the_stream(
    rig: Any, agent: Any, redis_url: str, provider: str
) -> None:
    caller = await rig.call(provider)
    connection = await agent.connection()
    await connection.hears("start")
    (started,) = await rig.tells(MediaStarted)
    run = started.workflow_run_id
    configuration = "c1" if provider == "twilio" else "c3"
    for named in (None, "of-somebody-else", configuration):
        assert not caller.closed.is_set()
        refused = HangUpNotice(workflow_run_id=run, configuration_id=named, reason="credentials")
        await rig.bus.publish(
            CALL_NOTICES, new_event(refused, source="/test", time=datetime.now(UTC), subject=run)
        )
        if named != configuration:
            await rig.bus.settle()
    assert await caller.ends() == 1000
    assert await marked(redis_url, f"offhook:ended:{run}")
    assert await connection.hears("stop") == {"event": "stop", "reason": "caller-hangup"}
    (stopped,) = await rig.tells(MediaStopped)
    assert (stopped.reason, stopped.ended_by) == ("hang-up-ordered", Party.PLATFORM)
    assert rig.commands() == []


async def test_a_twilio_bot_hangs_up_by_closing_its_socket(rig: Any, twilio_bot: Any, redis_url: str) -> None:
    await rig.workflow("bot", twilio_bot.url, agent_protocol="twilio")
    caller = await rig.call("twilio", "bot")
    bot = await twilio_bot.connection()
    await bot.hears("start")
    await bot.socket.close()
    assert await caller.ends() == 1000
    assert await marked(redis_url, f"offhook:ended:{rig.twilio_run()}")
    await rig.tells(HangupRequested)


async def test_an_agents_server_that_shuts_down_has_not_hung_up(rig: Any, agent: Any, redis_url: str) -> None:
    caller = await rig.call()
    first = await agent.connection()
    await first.hears("start")
    await first.socket.close(1001)
    await (await agent.connection()).hears("start")
    assert not caller.closed.is_set()
    assert not await marked(redis_url, f"offhook:ended:{rig.twilio_run()}")


async def test_a_run_that_was_ended_is_not_connected_again(rig: Any, agent: Any) -> None:
    caller = await rig.call()
    await (await agent.connection()).send({"event": "hangup"})
    await caller.ends()
    again = await rig.twilio()
    await again.start(rig.mint(rig.twilio_run()))
    assert await again.ends() == 1008


# --- the carrier goes
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "close"])
async def test_when_the_caller_hangs_up_the_agent_is_told_and_the_run_is_not_marked_as_ended(
    rig: Any, agent: Any, redis_url: str, how: str
) -> None:
    caller = await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await connection.send(b"\0\x10" * 16000)
    await connection.send({"event": "mark", "name": "never"})
    await caller.until(lambda: len(caller.audio) > 0)
    await caller.stop_speaking()
    await (caller.stop() if how == "stop" else caller.hang_up())
    assert await connection.ends() == 1000
    assert connection.said("mark") == [{"event": "mark", "name": "never", "heard": False}]
    assert connection.messages[-1] == {"event": "stop", "reason": "caller-hangup"}
    (stopped,) = await rig.tells(MediaStopped)
    assert (stopped.reason, stopped.ended_by) == (
        f"carrier-{'stop' if how == 'stop' else 'closed'}",
        Party.CARRIER,
    )
    assert stopped.quality.caller_audio_ms > 0
    assert stopped.quality.agent_audio_ms > 0
    assert not await marked(redis_url, f"offhook:ended:{rig.twilio_run()}")
    assert rig.commands() == []


async def test_a_socket_on_which_nothing_comes_any_more_is_dead(rig: Any, agent: Any) -> None:
    caller = await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    await caller.stop_speaking()
    bridge = rig.app.state.bridge
    bridge.settings = bridge.settings.model_copy(update={"silence_timeout_s": 0.6})
    (stopped,) = await rig.tells(MediaStopped)
    assert stopped.reason == "carrier-silent"
    assert (await connection.hears("stop"))["reason"] == "carrier-lost"


async def test_a_later_session_of_the_run_takes_over_and_the_earlier_one_is_fenced_off(
    rig: Any, agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_module, "_TURN_S", 0.005)
    first = await rig.call()
    old_agent = await agent.connection()
    await old_agent.hears("start")
    second = await rig.call()
    new_agent = await agent.connection()
    resume = (await new_agent.hears("start"))["resume"]
    assert (resume["epoch"], resume["reason"]) == (2, "bridge-lost")
    assert await first.ends() == 1000
    assert (await old_agent.hears("stop"))["reason"] == "superseded"
    assert not second.closed.is_set()
    assert [event.epoch for event in await rig.tells(MediaStarted, 2)] == [1, 2]
    (stopped,) = await rig.tells(MediaStopped)
    assert (stopped.epoch, stopped.reason) == (1, "superseded")


async def no_renewal(calls: Any) -> None:
    """In the place of the bridge's renewal of its sessions, which would find out too that one was taken over."""


async def test_the_agent_of_a_session_that_was_taken_over_cannot_end_the_call(
    rig: Any, agent: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rig.app.state.bridge, "_renew", no_renewal)
    first = await rig.call()
    old_agent = await agent.connection()
    await old_agent.hears("start")
    second = await rig.call()
    new_agent = await agent.connection()
    await new_agent.hears("start")
    await old_agent.send({"event": "hangup"})
    assert await first.ends() == 1000
    (stopped,) = await rig.tells(MediaStopped)
    assert (stopped.epoch, stopped.reason) == (1, "superseded")
    assert rig.commands() == []
    assert not await marked(redis_url, f"offhook:ended:{rig.twilio_run()}")
    assert not second.closed.is_set()


async def test_a_session_that_was_taken_over_cannot_send_the_call_to_the_fallback(
    running: Any, agent: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(agent_attempts=1) as rig:
        monkeypatch.setattr(rig.app.state.bridge, "_renew", no_renewal)
        first = await rig.call()
        old_agent = await agent.connection()
        await old_agent.hears("start")
        await rig.call()
        await (await agent.connection()).hears("start")
        await old_agent.socket.close(1011)
        assert await first.ends() == 1000
        (stopped,) = await rig.tells(MediaStopped)
        assert stopped.reason == "superseded"
        assert not await marked(redis_url, f"offhook:fallback:{rig.twilio_run()}")


async def test_a_stream_that_stops_before_it_was_served_leaves_no_socket_behind(rig: Any) -> None:
    caller = await rig.twilio()
    await caller.start(rig.mint(rig.twilio_run()))
    await caller.stop()
    assert await caller.ends() == 1000


async def test_a_session_that_fails_leaves_no_socket_behind(rig: Any, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await redis.hset(f"offhook:session:{rig.twilio_run()}", mapping={"heard_ms": "not a number"})
    caller = await rig.call()
    assert await caller.ends() == 1011


# --- events
# -------------------------------------------------------------------------------------------------------


async def test_events_of_two_sessions_share_no_id_although_redis_counts_them_anew(
    rig: Any, agent: Any, redis_url: str
) -> None:
    for session in (1, 2):
        caller = await rig.call()
        await (await agent.connection()).hears("start")
        await caller.press("1")
        await rig.tells(DtmfReceived, session)
        await caller.leave()
        await rig.tells(MediaStopped, session)
        async with Redis.from_url(redis_url) as redis:
            await redis.flushall()
    assert [started.epoch for started in rig.events(MediaStarted)] == [1, 1]
    envelopes = rig.envelopes()
    assert len({envelope.id for envelope in envelopes}) == len(envelopes)
    assert {envelope.source for envelope in envelopes} == {"/media-bridge/b1"}
    assert {envelope.subject for envelope in envelopes} == {rig.twilio_run()}


# --- without Redis, and at the end
# --------------------------------------------------------------------------------


async def test_without_redis_calls_go_on_and_it_is_visible(running: Any, agent: Any) -> None:
    async with running(redis_url="redis://127.0.0.1:1/0") as rig:
        caller = await rig.call()
        connection = await agent.connection()
        await connection.until(lambda: len(connection.audio) >= 640 * 5)
        (started,) = await rig.tells(MediaStarted)
        assert started.epoch == 0
        status, answer = await rig.ready()
        assert status == 200, answer
        assert "offhook_redis_errors_total" in await rig.metrics()
        forged = await rig.twilio()
        await forged.start("m1.forged")
        assert await forged.ends() == 1008
        assert not caller.closed.is_set()


async def test_a_draining_bridge_refuses_new_calls_and_lets_live_ones_finish(rig: Any, agent: Any) -> None:
    caller = await rig.call()
    connection = await agent.connection()
    await connection.hears("start")
    rig.stop.set()
    async with asyncio.timeout(60):
        while True:
            status, _ = await rig.ready()
            if status == 503:
                break
            await asyncio.sleep(0.01)
    assert await refusal(rig.twilio()) == 503
    before = len(connection.audio)
    await connection.until(lambda: len(connection.audio) >= before + 640 * 10)
    await connection.send({"event": "hangup"})
    assert await caller.ends() == 1000


async def test_calls_that_load_balancers_still_send_to_a_bridge_that_ends_are_taken(
    running: Any, agent: Any
) -> None:
    async with running(drain_delay_s=300) as rig:
        rig.stop.set()
        async with asyncio.timeout(60):
            while (await rig.ready())[0] == 200:
                await asyncio.sleep(0.01)
        caller = await rig.call()
        connection = await agent.connection()
        await connection.until(lambda: len(connection.audio) >= 640 * 5)
        await connection.send({"event": "hangup"})
        assert await caller.ends() == 1000
        # The second word; else it would go on for the rest of the five minutes.
        os.kill(os.getpid(), signal.SIGTERM)


async def test_at_the_deadline_calls_are_handed_over(running: Any, agent: Any, redis_url: str) -> None:
    async with running(drain_timeout_s=0.3) as rig:
        caller = await rig.call()
        connection = await agent.connection()
        await connection.hears("start")
        rig.stop.set()
        assert await caller.ends() == 1001
        assert (await connection.hears("stop"))["reason"] == "shutdown"
        with contextlib.suppress(TimeoutError):
            await rig.tells(MediaStopped)
        (stopped,) = rig.events(MediaStopped)
        assert (stopped.reason, stopped.ended_by) == ("shutdown", Party.PLATFORM)
        assert not await marked(redis_url, f"offhook:ended:{rig.twilio_run()}")


async def test_a_full_bridge_refuses_with_503(running: Any, agent: Any) -> None:
    async with running(max_sessions=1) as rig:
        await rig.call()
        assert await refusal(rig.twilio()) == 503


async def test_sockets_that_do_not_start_cannot_take_the_places_of_calls(rig: Any, agent: Any) -> None:
    # Twilio's signature is the same for every connection to one URL: whoever has seen one can open more.
    for _ in range(4):
        await rig.twilio()
    assert await refusal(rig.twilio()) == 503
    await rig.call("vonage")
    await (await agent.connection()).hears("start")


async def test_the_metrics_count_calls_and_frames(rig: Any, agent: Any) -> None:
    # An idle bridge is not one whose load is unknown.
    assert 'offhook_media_sessions{agent_protocol="twilio",provider="vonage"} 0.0' in await rig.metrics()
    caller = await rig.call()
    connection = await agent.connection()
    await connection.until(lambda: len(connection.audio) >= 640 * 5)
    assert 'offhook_media_sessions{agent_protocol="pcm",provider="twilio"} 1.0' in await rig.metrics()
    await caller.stop_speaking()
    await caller.hang_up()
    await rig.tells(MediaStopped)
    exposed = await rig.metrics()
    assert 'offhook_media_sessions{agent_protocol="pcm",provider="twilio"} 0.0' in exposed
    assert 'offhook_media_frames_total{direction="uplink"}' in exposed


async def test_an_agent_that_asks_on_and_on_and_never_reads_is_lost(running: Any) -> None:
    async def greedy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = next(line.split(": ")[1] for line in request.splitlines() if "-Key" in line)
        writer.write(
            (
                "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
            ).encode()
        )
        nonsense = RawFrame(Opcode.TEXT, b"{" * 60).serialize(mask=False) * 200
        with contextlib.suppress(OSError):
            while True:
                writer.write(nonsense)
                await writer.drain()
                await asyncio.sleep(0)

    # A small buffer is soon full of what it does not read.
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    server = await asyncio.start_server(greedy, sock=listener, limit=4096)
    async with running(agent_attempts=1) as rig:
        await rig.workflow("greedy", f"ws://127.0.0.1:{listener.getsockname()[1]}/")
        caller = await rig.call("twilio", "greedy")
        assert await caller.ends() == 1000
        assert len(await rig.tells(AgentLost)) == 1
    server.close()


# --- faults of our own


async def test_a_fault_in_the_watch_over_calls_keeps_new_calls_away(rig, monkeypatch):
    async def fault(calls):
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(rig.app.state.bridge, "_renew", fault)
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{rig.admin_port}", trust_env=False, timeout=30
    ) as client:
        async with asyncio.timeout(60):
            while (answer := await client.get("/readyz")).status_code == 200:
                await asyncio.sleep(0.05)
    assert "watch over calls has stopped" in answer.text


async def test_a_fault_of_one_call_does_not_take_the_others_pace_away(rig):
    class Faulty:
        def pump(self, now):
            raise RuntimeError("unforeseen")

    class Sound:
        pumped = 0

        def pump(self, now):
            self.pumped += 1
            return True

    bridge, sound = rig.app.state.bridge, Sound()
    bridge._paced = {Faulty(): None, sound: None}
    bridge._tick_due = asyncio.get_running_loop().time()
    bridge._tick()
    assert sound.pumped == 1
