"""Serving, and ending in order.

uvicorn's own answer to SIGTERM closes every live WebSocket with 1012 at once. So the signals are ours:

SIGTERM or SIGINT → /readyz says 503, everything else goes on          (drain_delay_s: load balancers take
notice) → the service's `drain` waits for its calls          (at most drain_timeout_s; a second signal cuts it
short) → the listening socket closes, requests in flight finish, the application's lifespan ends → exit 0

From the signal on every answer closes its connection: a proxy would otherwise send its next request on a connection
that is about to end, and could not know whether it was heard.

It listens before the application has started: `/healthz`, `/startupz` and `/readyz` are answered while the lifespan waits
for Kafka or a database, everything else is refused meanwhile (`lifespan`). Told to end then, it ends at once.

A lifespan that fails, at the start or at the end, is one sentence and exit 3.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn
import uvloop
from fastapi import FastAPI
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from offhook.bus.errors import BusError
from offhook.errors import OffhookError
from offhook.http.last_answers import LastAnswers
from offhook.http.lifespan import Lifespan
from offhook.security.redaction import redact_text
from offhook.telemetry import metrics, tracing

if TYPE_CHECKING:
    from offhook.settings import ServiceSettings

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_HEAD_BYTES: Final = 64 * 1024
_KEEP_ALIVE_S: Final = (
    75  # longer than the idle time of the proxies in front, so that they never reuse a dying connection
)
_IN_FLIGHT_S: Final = 5
_BACKLOG: Final = 2048
_LAG_EVERY_S: Final = 0.25

Drain = Callable[[], Awaitable[None]]


class ListenError(OffhookError):
    """The address cannot be listened on: says which, and why."""


class LifespanError(OffhookError):
    """The application could not start, or did not end in order. What it raised is the cause."""


class _Server(uvicorn.Server):
    """uvicorn without its signal handling, and which returns when the application cannot start."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            await super().startup(sockets)
        except SystemExit:
            # In a task it would break the event loop off in the middle of everything.
            self.should_exit = True


class _BoundedHttp(HttpToolsProtocol):
    """httptools accepts request lines and headers without end; more than 64 KiB of them is refused."""

    _head_bytes = 0
    _in_head = True

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("Request line and headers are too long.")


async def serve(
    app: FastAPI,
    settings: "ServiceSettings",
    *,
    drain: Drain | None = None,
    stop: asyncio.Event | None = None,
    on_listening: Callable[[int], None] | None = None,
) -> None:
    """Serve `app` at `settings.listen_host:listen_port` until SIGTERM, SIGINT or `stop`; return when all is
    finished.

    `drain` returns when nothing is left to wait for; it is cancelled at `settings.drain_timeout_s`. New
    requests are still served meanwhile: refusing new calls is the service's own decision, by
    `app.state.readiness.draining`. `on_listening` is told the port once the application has started. Raises
    `ListenError`, `LifespanError`.
    """
    listener = _listen(settings.listen_host, settings.listen_port)
    port = int(listener.getsockname()[1])
    application = Lifespan(app)
    readiness = app.state.readiness
    readiness.starting = True
    server = _Server(_config(LastAnswers(application, lambda: bool(readiness.draining))))
    ending = _Ending(stop)
    with ending.signals():
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="http-server")
        lag = asyncio.create_task(_watch_lag(), name="event-loop-lag")
        try:
            await _until_started(server, serving)
            if not serving.done():
                _log.info("listening", host=settings.listen_host, port=port)
                await ending.first_word(serving, application.settled)
            if application.started and not serving.done():
                readiness.starting = False
                _log.info("started")
                if on_listening is not None:
                    on_listening(port)
                await ending.first_word(serving, application.over)
                if not serving.done():
                    await _drain(app, settings, drain, ending)
        finally:
            server.should_exit = True
            await serving
            lag.cancel()
            listener.close()
    failure = application.failure
    if failure is not None:
        what = "did not end in order" if application.started else "cannot start"
        raise LifespanError(f"{app.state.service} {what}: {failure or type(failure).__name__}") from failure
    if not server.started:
        raise LifespanError(f"{app.state.service} cannot start")


def run(app: FastAPI, settings: "ServiceSettings", *, drain: Drain | None = None) -> None:
    """`serve` on a fresh uvloop and with tracing, for a service's `__main__`.

    An address in use: one sentence on stderr, exit 2. A lifespan that failed: one sentence, exit 3; where the
    failure is none that the service knows, its traceback is logged before.
    """
    traces = tracing.configure(app.state.service)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(app, settings, drain=drain))
    except ListenError as error:
        print(error, file=sys.stderr)  # noqa: T201 - for the person at the terminal, whatever the log format
        sys.exit(2)
    except LifespanError as error:
        if not isinstance(error.__cause__, OffhookError | BusError):
            _log.error("the application failed", exc_info=error.__cause__)
        print(redact_text(str(error)), file=sys.stderr)  # noqa: T201 - as above
        sys.exit(3)
    finally:
        traces.shutdown()


class _Ending:
    """The two words a process can be told: end in order (first signal), end now (second)."""

    def __init__(self, stop: asyncio.Event | None) -> None:
        self._stop = stop or asyncio.Event()
        self._now = asyncio.Event()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # signals arrive in the main thread only; here, `stop` is the way
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._told, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _told(self, number: int) -> None:
        if self._stop.is_set():
            self._now.set()
        _log.info("asked to end", signal=signal.Signals(number).name, now=self._now.is_set())
        self._stop.set()

    async def first_word(self, serving: asyncio.Task[None], other: asyncio.Event) -> None:
        """Until the process is told to end, `other` happens or serving ends."""
        waiting = {asyncio.create_task(self._stop.wait()), asyncio.create_task(other.wait())}
        await asyncio.wait({*waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()

    async def wait_unless_now(self, work: Awaitable[Any], timeout: float) -> bool:
        """Wait for `work`. False: it was given up, at the timeout or at the second signal."""
        task = asyncio.ensure_future(work)
        now = asyncio.create_task(self._now.wait())
        try:
            await asyncio.wait({task, now}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                task.result()
                return True
            return False
        finally:
            for one in (task, now):
                one.cancel()
            await asyncio.wait({task, now})


async def _drain(app: FastAPI, settings: "ServiceSettings", drain: Drain | None, ending: _Ending) -> None:
    app.state.readiness.draining = True
    if settings.drain_delay_s:
        delay = asyncio.sleep(settings.drain_delay_s)
        await ending.wait_unless_now(delay, settings.drain_delay_s + 1)
    if drain is None:
        return
    if not await ending.wait_unless_now(drain(), settings.drain_timeout_s):
        _log.warning("ending before everything was finished", waited_s=settings.drain_timeout_s)


async def _watch_lag() -> None:
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + _LAG_EVERY_S
        await asyncio.sleep(_LAG_EVERY_S)
        metrics.EVENT_LOOP_LAG_SECONDS.observe(max(0.0, loop.time() - due))


async def _until_started(server: uvicorn.Server, serving: asyncio.Task[None]) -> None:
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        raise ListenError(
            f"Cannot listen on {host}:{port} ({reason}): end what uses it, or set OFFHOOK_LISTEN_PORT."
        ) from error
    return listener


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=_BoundedHttp,
        ws="auto",
        lifespan="on",
        log_config=None,
        access_log=False,  # query strings may hold what must not be logged
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_IN_FLIGHT_S,
    )
