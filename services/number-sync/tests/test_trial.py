"""A trial tells what an agent did: real agents, and servers that are none."""

import asyncio
import contextlib
import http
import importlib.util
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from number_sync.trial import Trial, TrialAgent, try_agent
from offhook.agent_hosts import AgentHosts
from offhook.agentlink import pcm
from offhook_agent import Agent, Call, chime

SECRET = "Bearer planted-canary-4711"
Serving = Callable[[ServerConnection], Awaitable[None]]


@contextlib.asynccontextmanager
async def websocket(
    talk: Serving, *, subprotocol: str | None = pcm.SUBPROTOCOL, **options: Any
) -> AsyncIterator[str]:
    """A server that is not ours, at the URL."""
    options.setdefault("subprotocols", [subprotocol] if subprotocol else None)
    async with serve(talk, "127.0.0.1", 0, compression=None, max_size=2**22, **options) as server:
        scheme = "wss" if "ssl" in options else "ws"
        yield f"{scheme}://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/talk?key=planted-canary-4711"


@contextlib.asynccontextmanager
async def plain(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A TCP server that speaks whatever `answer` speaks."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await answer(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()


@contextlib.asynccontextmanager
async def ours(agent: Agent) -> AsyncIterator[str]:
    async with agent.serve() as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


async def tried(url: str, **more: Any) -> Trial:
    timing = {"connect_timeout_s": 20.0, "total_s": 15.0} | {
        k: more.pop(k) for k in list(more) if k.endswith("_s")
    }
    trial = await try_agent(TrialAgent(url, headers={"Authorization": SECRET}, **more), **timing)
    assert "planted-canary-4711" not in repr(trial)
    assert trial.sentence.endswith(".")
    return trial


def example(name: str) -> Any:
    path = Path(__file__).parents[3] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"example_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
async def test_the_example_agent_greets_and_says_back_what_it_heard(rate: Any) -> None:
    async with ours(example("echo_agent").agent) as url:
        trial = await tried(url, sample_rate=rate, total_s=6.0)
    assert (trial.code, trial.connected, trial.objections, trial.remedy) == ("ok", True, (), "")
    assert trial.handshake_ms is not None
    assert trial.first_audio_ms is not None
    # More than the greeting alone: the second of sound came back too.
    greeting_ms = len(chime(sample_rate=rate)) // (rate * 2 // 1000)
    assert trial.audio_ms_back > greeting_ms + 500
    assert trial.messages["audio"] > 0
    assert trial.closed is not None
    assert "1000" in trial.closed


async def test_an_agent_sees_a_call_with_the_workflows_headers_and_a_proper_end() -> None:
    seen: dict[str, Any] = {}

    async def talk(socket: ServerConnection) -> None:
        seen["headers"] = socket.request.headers if socket.request else {}
        side = pcm.PcmAgentSide()
        seen["heard"] = b""
        async for message in socket:
            match side.receive(message):
                case pcm.Start() as start:
                    seen["start"] = start
                    await socket.send(side.audio(bytes(3200)))
                    await socket.send(side.mark("said"))
                case pcm.Audio(audio):
                    seen["heard"] += audio
                case pcm.Mark(name, heard):
                    seen["mark"] = (name, heard)
                case pcm.Stop(reason):
                    seen["stop"] = reason
        seen["code"] = socket.close_code

    async with websocket(talk) as url:
        trial = await tried(
            url, workflow_id="w1", user_id="u1", metadata={"tone": "kind"},
        )  # fmt: skip
        await asyncio.sleep(0.1)
    assert (trial.code, trial.audio_ms_back, trial.messages) == ("ok", 100, {"audio": 1, "mark": 1})
    assert seen["headers"]["Authorization"] == SECRET
    assert seen["headers"]["traceparent"].startswith("00-")
    start = seen["start"]
    assert (start.workflow_id, start.user_id, start.metadata) == ("w1", "u1", {"tone": "kind"})
    assert (start.workflow_run_id, start.audio.sample_rate) == (trial.run_id, 16000)
    assert seen["mark"] == ("said", True)
    assert (seen["stop"], seen["code"]) == ("caller-hangup", 1000)
    assert any(seen["heard"][:32000]), "the caller spoke"
    assert not any(seen["heard"][32000:]), "and then was silent"


async def test_a_server_for_twilio_media_streams_is_tried_as_twilio_would_call_it() -> None:
    seen: list[dict[str, Any]] = []

    async def talk(socket: ServerConnection) -> None:
        assert socket.subprotocol is None
        async for message in socket:
            data = json.loads(message)
            seen.append(data)
            if data["event"] == "start":
                sid = data["streamSid"]
                payload = {"payload": "fn5+" * 400}
                await socket.send(json.dumps({"event": "media", "streamSid": sid, "media": payload}))
                await socket.send(json.dumps({"event": "mark", "streamSid": sid, "mark": {"name": "m"}}))

    async with websocket(talk, subprotocol=None) as url:
        trial = await tried(url, protocol="twilio", workflow_id="w1", metadata={"tone": "kind"})
    assert (trial.code, trial.audio_ms_back, trial.messages) == ("ok", 150, {"audio": 1, "mark": 1})
    kinds = [data["event"] for data in seen]
    assert kinds[:2] == ["connected", "start"]
    assert kinds[-1] == "stop"
    assert kinds.count("mark") == 1
    assert kinds.count("media") >= 50
    parameters = seen[1]["start"]["customParameters"]
    assert (parameters["workflow_id"], parameters["tone"]) == ("w1", "kind")


async def test_a_silent_agent_took_the_call_but_was_not_heard() -> None:
    async def talk(socket: ServerConnection) -> None:
        async for _ in socket:
            pass

    async with websocket(talk) as url:
        trial = await tried(url)
    assert (trial.code, trial.connected, trial.first_audio_ms, trial.messages) == ("silent", True, None, {})


@pytest.mark.parametrize(
    ("protocol", "garbage", "code"),
    [
        ("pcm", "hello", "bad-message"),
        ("pcm", b"odd", "bad-audio"),
        ("pcm", '{"event": "mark"}', "bad-message"),
        ("twilio", b"binary", "31950"),
        ("twilio", '{"event": "media"}', "31951"),
    ],
)
async def test_an_agent_that_speaks_another_language_is_told_what_is_wrong(
    protocol: Any, garbage: str | bytes, code: str
) -> None:
    answers: list[Any] = []

    async def talk(socket: ServerConnection) -> None:
        for _ in range(20):
            await socket.send(garbage)
        async for message in socket:
            answers.append(message)

    async with websocket(talk, subprotocol=pcm.SUBPROTOCOL if protocol == "pcm" else None) as url:
        trial = await tried(url, protocol=protocol)
    assert (trial.code, trial.connected) == ("unusable", True)
    assert trial.messages == {"unusable": 20}
    assert len(trial.objections) == 1
    assert trial.objections[0].startswith(code)
    assert ("Twilio" if protocol == "pcm" else "PCM") in trial.remedy
    if protocol == "pcm":
        assert sum('"error"' in a for a in answers if isinstance(a, str)) == 20


@pytest.mark.parametrize(("close", "says"), [(1011, "1011: out of memory"), (1000, "1000"), (None, "broke")])
async def test_an_agent_that_leaves_is_told_with_its_own_words(close: int | None, says: str) -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.recv()
        if close is None:
            socket.transport.abort()
        else:
            await socket.close(close, "out of memory" if close == 1011 else "")

    async with websocket(talk) as url:
        trial = await tried(url)
    assert (trial.code, trial.connected) == ("closed", True)
    assert trial.closed is not None
    assert says in trial.closed
    assert says in trial.sentence


async def test_an_agent_that_hangs_up_is_not_one_that_fails() -> None:
    agent = Agent()

    @agent.on_call
    async def talk(call: Call) -> None:
        await call.hang_up("enough")

    async with ours(agent) as url:
        trial = await tried(url)
    assert (trial.code, set(trial.messages)) == ("hung-up", {"hangup"})


async def test_secrets_that_an_agent_sends_back_are_not_told() -> None:
    async def talk(socket: ServerConnection) -> None:
        said = socket.request.headers["Authorization"] if socket.request else ""
        await socket.send(json.dumps({"event": "transfer", "to": said, "mode": said}))
        await socket.close(1011, said)

    async with websocket(talk) as url:
        trial = await tried(url)
    assert trial.closed is not None
    assert "…" in trial.closed


async def test_an_agent_that_floods_is_cut_off() -> None:
    async def talk(socket: ServerConnection) -> None:
        while True:
            await socket.send(bytes(1024 * 1024))

    async with websocket(talk) as url:
        trial = await tried(url)
    assert trial.audio_ms_back <= 17 * 2**20 // 32
    assert any("more than" in objection for objection in trial.objections)


async def test_a_message_that_is_too_long_ends_the_trial() -> None:
    async def talk(socket: ServerConnection) -> None:
        await socket.send(bytes(2 * 1024 * 1024))
        await socket.wait_closed()

    async with websocket(talk) as url:
        trial = await tried(url)
    assert trial.code == "closed"
    assert trial.closed is not None
    assert "1009" in trial.closed


async def test_an_agent_that_does_not_read_cannot_hold_the_trial() -> None:
    over = asyncio.Event()

    async def talk(socket: ServerConnection) -> None:
        socket.transport.pause_reading()
        await over.wait()
        socket.transport.resume_reading()

    async with websocket(talk) as url:
        trial = await asyncio.wait_for(tried(url, total_s=2.5), 60)
        over.set()
    assert trial.connected
    assert trial.code in ("silent", "deaf")


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (401, "unauthorized", "headers"),
        (403, "forbidden", "headers"),
        (404, "not-found", "path"),
        (302, "redirect", "final address"),
        (503, "agent-failed", "log"),
        (200, "not-a-websocket", "path"),
    ],
)
async def test_a_refused_handshake_says_what_to_check(status: int, code: str, word: str) -> None:
    def refuse(connection: ServerConnection, request: Request) -> Response:
        answer = connection.respond(http.HTTPStatus(status), "no\n")
        answer.headers["Location"] = "ws://127.0.0.1:9/"
        return answer

    async def never(socket: ServerConnection) -> None:
        raise AssertionError

    async with websocket(never, process_request=refuse) as url:
        trial = await tried(url)
    assert (trial.code, trial.connected, trial.handshake_ms) == (code, False, None)
    assert str(status) in trial.sentence
    assert word in trial.remedy


async def test_an_agent_that_wants_another_subprotocol_is_named_as_such() -> None:
    async def never(socket: ServerConnection) -> None:
        raise AssertionError

    async with websocket(never, select_subprotocol=lambda *_: "something-else") as url:
        trial = await tried(url)
    assert trial.code == "subprotocol"


async def hello(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
    await writer.drain()
    await reader.read()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(4096):
        pass


async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write_eof()
    await asyncio.sleep(0.2)


@pytest.mark.parametrize(
    ("answer", "code"),
    [(hello, "not-a-websocket"), (silence, "timeout"), (cut, "closed-early"), (leave, "closed-early")],
)
async def test_what_is_no_websocket_server_is_recognised(answer: Any, code: str) -> None:
    async with plain(answer) as url:
        trial = await tried(url, connect_timeout_s=1.0)
    assert (trial.code, trial.connected) == (code, False)


async def test_nobody_there_and_no_such_name() -> None:
    with socket.socket() as nobody:  # bound, and never listening: the port is nobody else's meanwhile
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
        for host in ("127.0.0.1", "localhost"):
            trial = await tried(f"ws://{host}:{port}/")
            assert trial.code == "refused"
            assert f"{host}:{port}" in trial.sentence
    trial = await tried("wss://agent.invalid/call")
    assert trial.code == "dns"
    assert "agent.invalid" in trial.sentence


async def test_a_host_that_may_not_be_an_agent_is_not_dialled() -> None:
    trial = await tried("ws://169.254.169.254/latest/meta-data/")
    assert trial.code == "not-allowed"
    assert "169.254.169.254" in trial.sentence
    agent = TrialAgent("ws://127.0.0.1:1/", headers={})
    assert (await try_agent(agent, hosts=AgentHosts("*.agents.svc"))).code == "not-allowed"


async def test_tls_that_is_not_as_it_should_be(tmp_path: Path) -> None:
    async def never(socket: ServerConnection) -> None:
        raise AssertionError

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with websocket(never, ssl=context) as url:
        trial = await tried(url)
        assert (trial.code, trial.connected) == ("tls", False)
        assert "certificate" in trial.sentence
        assert (await tried(url.replace("wss://", "ws://"))).code in ("closed-early", "not-a-websocket")
    async with websocket(never) as url:
        trial = await tried(url.replace("ws://", "wss://"))
    assert trial.code in ("tls", "closed-early")
    assert "ws://" in trial.remedy


async def test_the_bridges_own_headers_cannot_be_overruled() -> None:
    seen: list[Any] = []

    async def talk(socket: ServerConnection) -> None:
        seen.append(socket.request.headers if socket.request else None)
        await socket.close()

    headers = {
        "Host": "elsewhere",
        "Sec-WebSocket-Protocol": "other",
        "X-Split": "a\r\nInjected: yes",
        "X-Ok": "1",
    }
    async with websocket(talk) as url:
        await try_agent(TrialAgent(url, headers=headers), total_s=3)
    (received,) = seen
    assert received["Host"].startswith("127.0.0.1")
    assert received["Sec-WebSocket-Protocol"] == pcm.SUBPROTOCOL
    assert "Injected" not in received
    assert received["X-Ok"] == "1"
