"""The agent's server: the bridge dials in, one WebSocket a call."""

import asyncio
import contextlib
import hmac
import http
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from offhook.agentlink import pcm as protocol
from offhook.audio import warm_up
from offhook_agent.call import Call, CallEnded

_log: Final = logging.getLogger("offhook_agent")

OnCall = Callable[[Call], Awaitable[None]]

_START_WITHIN_S: Final = 10.0
_FINISH_WITHIN_S: Final = 5.0
_MAX_MESSAGE: Final = 1024 * 1024


class Agent:
    """Answers calls with one function.

    `token`: when set, the bridge must send `Authorization: Bearer <token>` (give it to the workflow as a header); without it
    anybody who reaches the port can talk to the agent.
    """

    def __init__(self, *, token: str | None = None) -> None:
        self._token = token
        self._on_call: OnCall | None = None
        self.calls: set[Call] = set()
        """The calls that are live now."""

    def on_call(self, function: OnCall) -> OnCall:
        """Register the function that holds a call. It runs once a call, concurrently with others.

        When it returns, the call is hung up. When it raises, the connection is closed as failed, and the bridge dials the agent
        again with `resume`. When the call ends first, it gets a few seconds to finish and is cancelled then.
        """
        self._on_call = function
        return function

    @contextlib.asynccontextmanager
    async def serve(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Server]:
        """Serve while the context lasts; live calls are cut at its end. `port` 0 takes a free one (`server.sockets`)."""
        if self._on_call is None:
            raise RuntimeError("register a function with @agent.on_call first")
        # Compiles the audio kernels now, not in the middle of somebody's sentence.
        await asyncio.to_thread(warm_up)
        async with serve(
            self._serve_connection,
            host,
            port,
            subprotocols=[protocol.SUBPROTOCOL],  # type: ignore[list-item]  # a NewType of str
            compression=None,  # audio does not compress, and the attempt costs more than the audio
            max_size=_MAX_MESSAGE,
            process_request=self._admit,
        ) as server:
            yield server

    def run(self, host: str = "127.0.0.1", port: int = 8765, *, drain_s: float = 300.0) -> None:
        """Serve until SIGTERM or Ctrl-C; then take no new calls and give live ones `drain_s` seconds to end. Asked again, cut
        them at once. Where nobody has set up logging, it goes to stderr."""
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
        asyncio.run(self._run(host, port, drain_s))

    async def _run(self, host: str, port: int, drain_s: float) -> None:
        ending, cutting = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def asked() -> None:
            (cutting if ending.is_set() else ending).set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked)
        async with self.serve(host, port) as server:
            _log.info("agent listens on ws://%s:%s", host, port)
            await ending.wait()
            server.close(close_connections=False)
            deadline = loop.time() + drain_s
            while self.calls and loop.time() < deadline and not cutting.is_set():
                await asyncio.sleep(0.1)
            # The server, closed once, would wait for them for ever.
            await asyncio.gather(*(each.close(1001, "the agent ends") for each in server.connections))

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        if request.path == "/healthz":
            return connection.respond(http.HTTPStatus.OK, "ok\n")
        if self._token is not None:
            offered = request.headers.get("Authorization", "")
            if not hmac.compare_digest(offered.encode(), f"Bearer {self._token}".encode()):
                return connection.respond(
                    http.HTTPStatus.UNAUTHORIZED, "the Authorization header is not right\n"
                )
        return None

    async def _serve_connection(self, connection: ServerConnection) -> None:
        if connection.subprotocol != protocol.SUBPROTOCOL:
            await connection.close(1002, f"offer the subprotocol {protocol.SUBPROTOCOL}")
            return
        link = protocol.PcmAgentSide()
        try:
            async with asyncio.timeout(_START_WITHIN_S):
                first = await connection.recv()
            start = link.receive(first)
        except (TimeoutError, protocol.RemoteProtocolError) as error:
            await connection.close(1002, str(error)[:100] or "no start came")
            return
        except ConnectionClosed:
            return
        assert isinstance(start, protocol.Start)  # `receive` returns nothing else first
        headers = connection.request.headers if connection.request is not None else {}
        call = Call(link, start, connection.send, traceparent=headers.get("traceparent"))
        self.calls.add(call)
        try:
            await self._hold(call, link, connection)
        finally:
            self.calls.discard(call)

    async def _hold(self, call: Call, link: protocol.PcmAgentSide, connection: ServerConnection) -> None:
        assert self._on_call is not None
        talking = asyncio.ensure_future(self._on_call(call))
        listening = asyncio.create_task(self._listen(call, connection))
        try:
            await asyncio.wait({talking, listening}, return_when=asyncio.FIRST_COMPLETED)
            if not talking.done() and listening.exception() is None:
                await asyncio.wait({talking}, timeout=_FINISH_WITHIN_S)
        finally:
            for task in (talking, listening):
                task.cancel()
            await asyncio.wait({talking, listening})
        # What was registered for single events fails in `listening`.
        ends = [task.exception() for task in (listening, talking) if not task.cancelled()]
        faults = [
            end for end in ends if end is not None and not isinstance(end, CallEnded | ConnectionClosed)
        ]
        if faults:
            _log.error("the agent failed in call %s", call.workflow_run_id, exc_info=faults[0])
            await connection.close(1011, "the agent failed")
            return
        with contextlib.suppress(ConnectionClosed):
            if not call.ended and not link.stopped:
                await connection.send(link.hangup("the agent has finished"))
        await connection.close(1000)

    @staticmethod
    async def _listen(call: Call, connection: ServerConnection) -> None:
        """Hand messages to the call until the bridge says stop or the connection is gone."""
        try:
            async for message in connection:
                call.receive(message)
                if call.ended:
                    return
            call.end("closed")
        except ConnectionClosed:
            call.end("connection-lost")
        except protocol.RemoteProtocolError as error:
            _log.error("call %s: %s", call.workflow_run_id, error)
            call.end("protocol-error")
            await connection.close(1002, str(error)[:100])
