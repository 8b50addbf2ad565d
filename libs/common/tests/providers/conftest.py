"""A provider's REST API, as small as it can be: a real HTTP server that answers what it is told and keeps what it was sent."""

import json
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from carrier_sim import CarrierSim
from offhook_dev.published_requests import FOLDER, PublishedRequests


@dataclass
class Sent:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class RestApi:
    """`answer` is status, headers and body; `hang` answers never, `drop` closes without an answer."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = field(default_factory=dict)
    behaviour: str = "answer"
    sent: list[Sent] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def answer(self, status: int, body: Any, **headers: str) -> None:
        self.status, self.body = status, body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def came(self, count: int) -> int:
        """How many requests came, once there are `count`: of one that was given up, the server may learn later."""
        deadline = time.monotonic() + 30
        while len(self.sent) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        return len(self.sent)


@pytest.fixture
def rest_api() -> Iterator[RestApi]:
    api = RestApi()

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            api.sent.append(
                Sent(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            )
            if api.behaviour == "hang":
                api.released.wait(10)
            if api.behaviour != "answer":
                self.close_connection = True
                return
            content = api.body if isinstance(api.body, bytes) else json.dumps(api.body).encode()
            self.send_response(api.status)
            for name, value in {"Content-Type": "application/json", **api.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield api
    api.released.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def _descriptions() -> PublishedRequests:
    if not FOLDER.is_dir():
        message = f"the vendors' OpenAPI documents are not at {FOLDER}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return PublishedRequests()


@pytest.fixture
def published(_descriptions: PublishedRequests, monkeypatch: pytest.MonkeyPatch) -> PublishedRequests:
    """Every request that leaves through `requests` is judged on its way by what the vendors have published."""
    _descriptions.judged.clear()
    send = requests.Session.send

    def judged(
        session: requests.Session, request: requests.PreparedRequest, **options: Any
    ) -> requests.Response:
        content_type = str(request.headers.get("Content-Type", ""))
        _descriptions.judge(str(request.method), str(request.url), content_type, request.body)
        return send(session, request, **options)

    monkeypatch.setattr(requests.Session, "send", judged)
    return _descriptions


@pytest.fixture
async def sim(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CarrierSim]:
    """Both carriers, as strict as the real ones; their certificate is trusted."""
    async with CarrierSim() as simulation:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("SSL_CERT_FILE", str(simulation.ca_pem))
        yield simulation


@pytest.fixture(scope="session")
def private_key() -> str:
    """A PEM file, as Vonage gives it to its customers."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
def specifications(_descriptions: PublishedRequests) -> Path:
    """The vendors' published OpenAPI documents, which stand beside the repository."""
    return FOLDER
