"""An agent, dialled by a bridge that speaks the real protocol over a real socket."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from offhook.agentlink import pcm as protocol
from offhook_agent import Agent, Call, CallEnded
from offhook_dev.ports import free_port

START = protocol.Start(
    workflow_run_id="run1",
    workflow_id="workflow1",
    user_id="user1",
    provider="twilio",
    provider_call_id="CA1",
    direction="inbound",
    audio=protocol.AudioFormat(16000),
    from_="+14155550142",
    to="+14155550100",
    metadata={"language": "en"},
)
FRAME = b"\x01\x02" * 320


class Bridge:
    """The bridge's side of one call."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.side = protocol.PcmBridgeSide(16000)

    async def heard(self) -> object:
        async with asyncio.timeout(30):
            return self.side.receive(await self.socket.recv())

    async def closed(self) -> int | None:
        async with asyncio.timeout(30):
            await self.socket.wait_closed()
        return self.socket.close_code


@contextlib.asynccontextmanager
async def calling(agent: Agent, start: protocol.Start = START) -> AsyncIterator[Bridge]:
    async with agent.serve() as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(
            f"ws://127.0.0.1:{port}/", subprotocols=[protocol.SUBPROTOCOL], proxy=None
        ) as socket:
            bridge = Bridge(socket)
            await socket.send(bridge.side.start(start))
            yield bridge


async def test_the_agent_knows_who_is_calling() -> None:
    agent, seen = Agent(), asyncio.Queue[Call]()

    @agent.on_call
    async def answer(call: Call) -> None:
        seen.put_nowait(call)

    async with calling(agent):
        call = await asyncio.wait_for(seen.get(), 30)
    assert (call.from_number, call.to_number, call.direction) == ("+14155550142", "+14155550100", "inbound")
    assert (call.workflow_run_id, call.sample_rate, call.metadata) == ("run1", 16000, {"language": "en"})
    assert call.resume is None


async def test_the_agent_can_go_on_in_the_calls_trace() -> None:
    agent, seen = Agent(), asyncio.Queue[Call]()

    @agent.on_call
    async def on_call(call: Call) -> None:
        seen.put_nowait(call)

    traceparent = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    async with agent.serve() as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        headers = {"traceparent": traceparent}
        async with connect(
            url, subprotocols=[protocol.SUBPROTOCOL], additional_headers=headers, proxy=None
        ) as socket:
            await socket.send(protocol.PcmBridgeSide(16000).start(START))
            assert (await asyncio.wait_for(seen.get(), 30)).traceparent == traceparent
    async with calling(agent):
        assert (await asyncio.wait_for(seen.get(), 30)).traceparent is None


async def test_caller_audio_comes_in_order_and_can_be_played_back() -> None:
    agent = Agent()

    @agent.on_call
    async def answer(call: Call) -> None:
        async for audio in call.audio():
            await call.play(audio)

    async with calling(agent) as bridge:
        frames = [bytes([n, 0]) * 320 for n in range(20)]
        for frame in frames:
            await bridge.socket.send(bridge.side.audio(frame))
        assert [await bridge.heard() for _ in frames] == [protocol.Audio(frame) for frame in frames]


async def test_played_waits_until_the_caller_heard_it_and_tells_when_they_did_not() -> None:
    agent, answers = Agent(), asyncio.Queue[bool]()

    @agent.on_call
    async def answer(call: Call) -> None:
        for _ in range(2):
            await call.play(FRAME)
            answers.put_nowait(await call.played())

    async with calling(agent) as bridge:
        for heard in (True, False):
            assert await bridge.heard() == protocol.Audio(FRAME)
            mark = await bridge.heard()
            assert isinstance(mark, protocol.MarkRequest)
            assert answers.empty()
            await bridge.socket.send(bridge.side.mark(mark.name, heard))
            assert await asyncio.wait_for(answers.get(), 30) is heard


async def test_clear_tells_how_much_was_heard() -> None:
    agent, answers = Agent(), asyncio.Queue[protocol.Cleared]()

    @agent.on_call
    async def answer(call: Call) -> None:
        await call.play(FRAME * 50)
        answers.put_nowait(await call.clear())

    async with calling(agent) as bridge:
        while not isinstance(await bridge.heard(), protocol.ClearRequest):
            pass
        await bridge.socket.send(bridge.side.cleared(400, 600))
        assert await asyncio.wait_for(answers.get(), 30) == protocol.Cleared(400, 600)


async def test_keys_reach_the_agent_and_the_agent_hangs_up() -> None:
    agent = Agent()

    @agent.on_call
    async def answer(call: Call) -> None:
        async for digit in call.digits():
            if digit == "#":
                await call.hang_up("done")

    async with calling(agent) as bridge:
        for digit in "1#":
            await bridge.socket.send(bridge.side.dtmf(digit, 100))
        assert await bridge.heard() == protocol.HangupRequest("done")


async def test_an_agent_that_returns_ends_the_call() -> None:
    agent = Agent()

    @agent.on_call
    async def answer(call: Call) -> None:
        return

    async with calling(agent) as bridge:
        assert isinstance(await bridge.heard(), protocol.HangupRequest)
        assert await bridge.closed() == 1000


async def test_an_agent_that_fails_closes_as_failed_so_that_the_bridge_dials_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Agent()

    @agent.on_call
    async def answer(call: Call) -> None:
        raise RuntimeError("the model is gone")

    async with calling(agent) as bridge:
        assert await bridge.closed() == 1011
    assert "the model is gone" in caplog.text


async def test_a_function_for_an_event_that_fails_closes_as_failed_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = Agent()

    @agent.on_call
    async def answer(call: Call) -> None:
        @call.on_answered_by
        def hear(result: protocol.AnswerResult) -> None:
            raise RuntimeError("the model is gone")

        await asyncio.Event().wait()

    async with calling(agent) as bridge:
        await bridge.socket.send(bridge.side.answered_by("human"))
        assert await bridge.closed() == 1011
    assert "the model is gone" in caplog.text


async def test_when_the_call_ends_iterators_end_and_waiting_raises() -> None:
    agent, ends = Agent(), asyncio.Queue[str]()

    @agent.on_call
    async def answer(call: Call) -> None:
        await call.play(FRAME)
        with pytest.raises(CallEnded) as ended:
            await call.played()
        ends.put_nowait(ended.value.reason)
        async for _ in call.audio():
            pass
        with pytest.raises(CallEnded):
            await call.play(FRAME)
        ends.put_nowait("iterators ended")

    async with calling(agent) as bridge:
        await bridge.heard()
        await bridge.heard()
        await bridge.socket.send(bridge.side.stop("caller-hung-up"))
        assert await asyncio.wait_for(ends.get(), 30) == "caller-hung-up"
        assert await asyncio.wait_for(ends.get(), 30) == "iterators ended"
        assert await bridge.closed() == 1000
    assert not agent.calls


async def test_a_lost_connection_ends_the_call_too() -> None:
    agent, ends = Agent(), asyncio.Queue[bool]()

    @agent.on_call
    async def answer(call: Call) -> None:
        async for _ in call.audio():
            pass
        ends.put_nowait(call.ended)

    async with calling(agent) as bridge:
        bridge.socket.transport.abort()
        assert await asyncio.wait_for(ends.get(), 30)


async def test_play_waits_before_the_bridge_holds_too_much() -> None:
    agent, done = Agent(), asyncio.Event()

    @agent.on_call
    async def answer(call: Call) -> None:
        await call.play(bytes(16000 * 2 * 120))  # two minutes
        done.set()
        await asyncio.Event().wait()

    async with calling(agent) as bridge:
        waiting_ms, unheard, most_ms = 0.0, [], 0.0
        while not done.is_set():
            try:
                async with asyncio.timeout(0.3):
                    said = bridge.side.receive(await bridge.socket.recv())
            except TimeoutError:
                if waiting_ms <= 20_000:
                    continue  # held up in the middle; once it waits for us, there is more
                name, length = unheard.pop(0)
                waiting_ms -= length
                await bridge.socket.send(bridge.side.mark(name, True))
                continue
            if isinstance(said, protocol.Audio):
                waiting_ms += len(said.pcm) / 32
                most_ms = max(most_ms, waiting_ms)
            elif isinstance(said, protocol.MarkRequest):
                unheard.append((said.name, waiting_ms - sum(length for _, length in unheard)))
    assert 20_000 < most_ms < 60_000


async def test_a_play_that_is_cancelled_while_it_waits_makes_no_room_for_the_next_one() -> None:
    agent, cancelled, go_on = Agent(), asyncio.Event(), asyncio.Event()

    @agent.on_call
    async def answer(call: Call) -> None:
        for _ in range(10):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(call.play(bytes(320 * 50 * 100)), 0.3)
        cancelled.set()
        await go_on.wait()

    audio = 0
    async with calling(agent) as bridge:
        while not cancelled.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    message = await bridge.socket.recv()
                    audio += len(message) if isinstance(message, bytes) else 0
        go_on.set()
    assert audio <= 45 * 32000  # bytes of 45 s: the bridge holds 60


async def test_every_transfer_gets_its_own_answer() -> None:
    agent, results = Agent(), asyncio.Queue[list[str]]()

    @agent.on_call
    async def answer(call: Call) -> None:
        with pytest.raises(protocol.LocalProtocolError):
            await call.transfer("home")
        asked = [call.transfer("+14155550001"), call.transfer("+14155550002")]
        results.put_nowait(list(await asyncio.gather(*asked)))

    async with calling(agent) as bridge:
        for _ in range(2):
            assert isinstance(await bridge.heard(), protocol.TransferRequest)
        await bridge.socket.send(bridge.side.transfer("busy"))
        await bridge.socket.send(bridge.side.transfer("completed"))
        assert await asyncio.wait_for(results.get(), 30) == ["busy", "completed"]


async def test_an_agent_that_does_not_listen_keeps_the_newest_audio_only() -> None:
    agent, kept = Agent(), asyncio.Queue[tuple[int, float]]()
    go = asyncio.Event()

    @agent.on_call
    async def answer(call: Call) -> None:
        await go.wait()
        frames = 0
        async for _ in call.audio():
            frames += 1
        kept.put_nowait((frames, call.dropped_ms))

    async with calling(agent) as bridge:
        for _ in range(600):
            await bridge.socket.send(bridge.side.audio(FRAME))
        await bridge.socket.send(bridge.side.stop("over"))
        while not any(call.ended for call in agent.calls):
            await asyncio.sleep(0.01)
        go.set()
        assert await asyncio.wait_for(kept.get(), 30) == (500, 2000.0)


async def test_strangers_are_refused_when_a_token_is_set() -> None:
    agent = Agent(token="not-a-real-token")

    @agent.on_call
    async def answer(call: Call) -> None:
        return

    async with agent.serve() as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, subprotocols=[protocol.SUBPROTOCOL], proxy=None)
        assert refused.value.response.status_code == 401
        headers = {"Authorization": "Bearer not-a-real-token"}
        async with connect(url, subprotocols=[protocol.SUBPROTOCOL], additional_headers=headers, proxy=None):
            pass


@pytest.mark.parametrize("first", ["not json", '{"event":"mark","name":"x","heard":true}', b"\0\0"])
async def test_nonsense_instead_of_a_start_is_refused(first: str | bytes) -> None:
    agent = Agent()

    @agent.on_call
    async def answer(call: Call) -> None:
        raise AssertionError("no call may begin")

    async with agent.serve() as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        async with connect(url, subprotocols=[protocol.SUBPROTOCOL], proxy=None) as socket:
            await socket.send(first)
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 30)
            assert socket.close_code == 1002


_ENDLESS = """
import sys
from offhook_agent import Agent, Call
agent = Agent()
@agent.on_call
async def answer(call: Call) -> None:
    async for audio in call.audio():
        await call.play(audio)
agent.run(port=int(sys.argv[1]), drain_s=float(sys.argv[2]))
"""


async def takes_no_calls(port: int) -> None:
    """Returns when nobody listens any more: a signal was taken in, and the next one is another."""
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                return
            writer.close()
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("drain_s", "times"), [(0.5, 1), (300, 2)])
async def test_asked_to_end_it_cuts_what_outlasts_its_time_or_is_asked_twice(
    drain_s: float, times: int
) -> None:
    port = free_port()
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", _ENDLESS, str(port), str(drain_s))
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    live = await connect(
                        f"ws://127.0.0.1:{port}/", subprotocols=[protocol.SUBPROTOCOL], proxy=None
                    )
                    break
                except OSError:
                    await asyncio.sleep(0.1)
        bridge = Bridge(live)
        await live.send(bridge.side.start(START))
        await live.send(FRAME)
        assert await bridge.heard() == protocol.Audio(FRAME)
        for _ in range(times):
            program.send_signal(signal.SIGTERM)
            await takes_no_calls(port)
        assert await bridge.closed() == 1001
        async with asyncio.timeout(60):
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
