"""The health command of a container: exit code, and what is wrong in one line."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from offhook.http import probe

_ANSWERS = {
    "/readyz": (
        503,
        b'{"ready": false, "problems": ["Kafka at kafka:9092 does\\nnot answer", "no public URL"]}',
    ),
    "/healthz": (200, b'{"status": "ok", "service": "media-bridge"}'),
    "/startupz": (502, b"<html>"),
}


class _Service(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = _ANSWERS[self.path]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@contextmanager
def listening() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), _Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def asked(*arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "offhook.http.probe", *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("OFFHOOK_")}
        | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stdout


def test_what_is_wrong_is_one_line_and_exit_1() -> None:
    with listening() as port:
        told = {"OFFHOOK_LISTEN_PORT": str(port), "OFFHOOK_LISTEN_HOST": "0.0.0.0"}
        assert asked("healthz", **told) == (0, "healthz: ok\n")
        assert asked("startupz", **told) == (1, "startupz: 502\n")
        line = "readyz: Kafka at kafka:9092 does not answer; no public URL\n"
        assert asked("readyz", **told) == asked(**told) == (1, line)


def test_where_health_has_a_port_of_its_own_that_one_is_asked() -> None:
    with listening() as port:
        told = {
            "OFFHOOK_ADMIN_PORT": str(port),
            "OFFHOOK_LISTEN_PORT": "1",
            "OFFHOOK_LISTEN_HOST": "203.0.113.1",
        }
        assert asked("healthz", **told) == (0, "healthz: ok\n")


def test_a_service_that_does_not_answer_is_not_well() -> None:
    code, line = asked("healthz", OFFHOOK_LISTEN_PORT="1")
    assert (code, line.partition(":")[0], line.count("\n")) == (1, "healthz", 1)
    assert "127.0.0.1:1 does not answer" in line


@pytest.mark.parametrize("arguments", [("metrics",), ("readyz", "healthz")])
def test_a_question_it_does_not_know_is_exit_2(arguments: tuple[str, ...]) -> None:
    assert asked(*arguments)[0] == 2


def test_it_imports_no_framework() -> None:
    code = "import sys, offhook.http.probe; print(*sorted(set(sys.modules) & {'fastapi', 'pydantic', 'uvicorn', 'aiokafka'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
    assert probe.main.__module__ == "offhook.http.probe"
