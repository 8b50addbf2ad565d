"""A process ends in order: it stops being ready, finishes what it has, and exits with 0."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from offhook.http import ListenError, create_app, serve
from offhook.settings import ServiceSettings
from offhook_dev.ports import free_port

_SERVICE = """
import asyncio, os, sys
from contextlib import asynccontextmanager
from fastapi import WebSocket
from offhook.bus import BusUnavailable, OutletError
from offhook.http import create_app, run
from offhook.settings import ServiceSettings
from offhook.telemetry import logging

class Settings(ServiceSettings):
    SECRETS = frozenset()

@asynccontextmanager
async def lifespan(app):
    if "broken" in sys.argv:
        raise RuntimeError("cannot reach redis://user:hunter2@cache/0")
    if "without-kafka" in sys.argv:
        raise BusUnavailable("Kafka at kafka:9092 was not ready within 30 s")
    if "waiting" in sys.argv:
        app.state.readiness.waiting_for = "Kafka is not there"
        try:
            while not os.path.exists(sys.argv[-1]):
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            print("gave up", flush=True)
            raise
    yield
    if "sticky" in sys.argv:
        raise OutletError("3 events could not be written")
    print("lifespan ended", flush=True)

app = create_app("media-bridge", lifespan=lifespan)
calls = set()

@app.websocket("/call")
async def call(socket: WebSocket):
    await socket.accept()
    calls.add(socket)
    try:
        while (text := await socket.receive_text()) != "bye":
            await socket.send_text(text)
    finally:
        calls.discard(socket)
    await socket.close()

@app.get("/slow")
async def slow():
    print("asked", flush=True)
    await asyncio.sleep(1)
    return "done"

async def drain():
    print("draining", flush=True)
    while calls:
        await asyncio.sleep(0.02)
    print("drained", flush=True)

settings = Settings()
logging.configure("media-bridge", settings)
run(app, settings, drain=drain)
"""


class Service:
    def __init__(self, *arguments: str, **environment: str) -> None:
        self.port = free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-c", _SERVICE, *arguments],
            env={**os.environ, "OFFHOOK_LISTEN_PORT": str(self.port), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._answering = "/healthz" if "waiting" in arguments else "/readyz"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", trust_env=False, timeout=30)
        deadline = time.monotonic() + 90
        while not self._answers():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            return self.http.get(self._answering).status_code == 200
        except httpx.TransportError:
            return False

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def until_not_ready(self) -> httpx.Response:
        deadline = time.monotonic() + 60
        while (answer := self.http.get("/readyz")).status_code == 200:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return answer

    def next_line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def ended(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=90)
        return self.process.returncode, out, err


@contextmanager
def service(*arguments: str, **environment: str) -> Iterator[Service]:
    running = Service(*arguments, **environment)
    try:
        yield running
    finally:
        running.http.close()
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_lets_live_calls_finish_and_exits_with_0(number: signal.Signals) -> None:
    with service() as running, connect(f"ws://127.0.0.1:{running.port}/call") as call:
        call.send("hello")
        assert call.recv() == "hello"
        running.tell(number)
        assert running.until_not_ready().json()["problems"] == ["draining: the process is about to end"]
        call.send("still there?")
        assert call.recv() == "still there?"
        assert running.http.get("/healthz").status_code == 200
        call.send("bye")
        code, out, err = running.ended()
    assert code == 0, err
    assert out.splitlines() == ["draining", "drained", "lifespan ended"]


def test_at_the_deadline_it_ends_although_a_call_goes_on() -> None:
    with (
        service(OFFHOOK_DRAIN_TIMEOUT_S="0.3") as running,
        connect(f"ws://127.0.0.1:{running.port}/call") as call,
    ):
        call.send("hello")
        call.recv()
        running.tell(signal.SIGTERM)
        code, out, err = running.ended()
    assert code == 0, err
    assert out.splitlines() == ["draining", "lifespan ended"]
    assert "ending before everything was finished" in err


def test_a_second_signal_cuts_the_drain_short() -> None:
    with (
        service(OFFHOOK_DRAIN_TIMEOUT_S="3600") as running,
        connect(f"ws://127.0.0.1:{running.port}/call") as call,
    ):
        call.send("hello")
        call.recv()
        running.tell(signal.SIGTERM)
        running.until_not_ready()
        running.tell(signal.SIGTERM)
        code, out, err = running.ended()
    assert code == 0, err
    assert "drained" not in out


def test_it_goes_on_while_load_balancers_take_notice() -> None:
    with service(OFFHOOK_DRAIN_DELAY_S="60") as running:
        running.tell(signal.SIGTERM)
        assert running.until_not_ready().status_code == 503
        fresh = httpx.get(f"http://127.0.0.1:{running.port}/healthz", trust_env=False, timeout=30)
        assert fresh.status_code == 200
        running.tell(signal.SIGTERM)
        code, _, err = running.ended()
    assert code == 0, err


def test_from_the_signal_on_no_proxy_keeps_a_connection_for_its_next_request() -> None:
    with service(OFFHOOK_DRAIN_DELAY_S="60") as running:
        assert "connection" not in running.http.get("/healthz").headers
        running.tell(signal.SIGTERM)
        assert running.until_not_ready().headers["connection"] == "close"
        for path in ("/healthz", "/nowhere"):
            assert running.http.get(path).headers["connection"] == "close"
        running.tell(signal.SIGTERM)
        code, _, err = running.ended()
    assert code == 0, err


def test_a_request_in_flight_is_answered() -> None:
    with service() as running, socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert running.next_line() == "asked"
        running.tell(signal.SIGTERM)
        with client.makefile("rb") as answer:
            assert b'"done"' in answer.read()
        code, _, err = running.ended()
    assert code == 0, err


def test_an_address_in_use_is_one_sentence_and_exit_2() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-c", _SERVICE],
            env={**os.environ, "OFFHOOK_LISTEN_PORT": str(port)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
    assert done.returncode == 2
    assert re.fullmatch(
        rf"Cannot listen on 127\.0\.0\.1:{port} \(Address already in use\): .*\n", done.stderr
    ), done.stderr


def test_a_service_whose_start_fails_says_why_and_ends_with_a_failure() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SERVICE, "broken"],
        env={**os.environ, "OFFHOOK_LISTEN_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 3
    *_, last = done.stderr.splitlines()
    assert last == "media-bridge cannot start: cannot reach redis://[redacted]@cache/0"
    assert "Traceback" in done.stderr  # nobody foresaw it: whoever repairs it needs the place
    assert "hunter2" not in done.stderr


def test_a_start_without_what_it_needs_is_one_sentence_and_no_traceback() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SERVICE, "without-kafka"],
        env={**os.environ, "OFFHOOK_LISTEN_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 3
    *_, last = done.stderr.splitlines()
    assert last == "media-bridge cannot start: Kafka at kafka:9092 was not ready within 30 s"
    assert "Traceback" not in done.stderr


def test_an_end_that_fails_is_not_taken_for_a_good_one() -> None:
    with service("sticky") as running:
        running.tell(signal.SIGTERM)
        code, _, err = running.ended()
    assert code == 3
    *_, last = err.splitlines()
    assert last == "media-bridge did not end in order: 3 events could not be written"


def until(running: Service, path: str, status: int) -> httpx.Response:
    deadline = time.monotonic() + 60
    while (answer := running.http.get(path)).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.02)
    return answer


def test_while_it_waits_to_start_it_says_for_what_and_takes_no_work(tmp_path: Path) -> None:
    with service("waiting", str(tmp_path / "kafka")) as running:
        for path in ("/startupz", "/readyz"):
            answer = until(running, path, 503)
            assert answer.json()["problems"] == ["Kafka is not there"]
        assert running.http.get("/metrics").status_code == 200
        refused = running.http.get("/slow")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{running.port}/call"):
            pass
        (tmp_path / "kafka").touch()
        until(running, "/startupz", 200)
        assert running.http.get("/readyz").status_code == 200
        assert running.http.get("/slow").status_code == 200


def test_told_to_end_while_it_waits_to_start_it_ends_at_once_and_in_order() -> None:
    with service("waiting", "/nowhere/at/all") as running:
        until(running, "/startupz", 503)
        running.tell(signal.SIGTERM)
        code, out, err = running.ended()
    assert code == 0, err
    assert out.splitlines() == ["gave up"]


def test_a_head_without_end_is_refused() -> None:
    with service() as running, socket.create_connection(("127.0.0.1", running.port), timeout=60) as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Endless: ")
        answer = b""
        try:
            for _ in range(200):
                client.sendall(b"x" * 4096)
                time.sleep(0.001)
        except OSError:
            pass  # it hung up, as it should
        try:
            answer = client.recv(4096)
        except ConnectionError:
            answer = b"HTTP/1.1 400 (reset before it could be read)"
    assert answer.startswith(b"HTTP/1.1 400")


async def test_it_can_be_stopped_without_a_signal() -> None:
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    settings = ServiceSettings.model_construct(
        listen_host="127.0.0.1", listen_port=0, drain_delay_s=0.0, drain_timeout_s=1.0
    )
    serving = asyncio.create_task(
        serve(create_app("call-tracker"), settings, stop=stop, on_listening=port.set_result)
    )
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"http://127.0.0.1:{await port}/readyz")
    assert answer.status_code == 200
    stop.set()
    await serving


async def test_a_name_that_is_no_address_is_a_listen_error() -> None:
    settings = ServiceSettings.model_construct(listen_host="203.0.113.1", listen_port=0)
    with pytest.raises(ListenError, match=r"Cannot listen on 203\.0\.113\.1:0"):
        await serve(create_app("call-tracker"), settings)
