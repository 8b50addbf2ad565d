"""A telephony provider's REST API as a tiny real HTTP server, which counts what it is asked.

It speaks as much of Twilio's and Vonage's call resources as dialling and hanging up need, and misbehaves as told.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; `before` runs when the request has come, `after` when the answer was sent.

    Status 0 is no answer at all: the connection ends.
    """

    status: int
    body: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None


LOST = Answer(0)


def twilio_error(status: int, code: int, message: str, **headers: str) -> Answer:
    body = {
        "code": code,
        "message": message,
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


class CountingProvider:
    """`dials`, `hang_ups`, `looks` and `steered` (transfers with their document, and keys) are what it was asked, in order.
    `to_dial`, `to_hang_up`, `to_look` and `to_steer` are answers for the next requests;
    when they are used up, it does as it is asked: it holds the calls in `held`, and a call it is
    asked for that is not there has ended."""

    def __init__(self) -> None:
        self.dials: list[dict[str, Any]] = []
        self.hang_ups: list[str] = []
        self.looks: list[str] = []
        self.steered: list[tuple[str, Any]] = []
        self.to_steer: list[Answer] = []
        self.to_dial: list[Answer] = []
        self.to_hang_up: list[Answer] = []
        self.to_look: list[Answer] = []
        self.held: list[dict[str, Any]] = []
        self.url = ""
        self._lock = threading.Lock()

    def asked_to_dial(self, request: dict[str, Any], accepted: Callable[[int], Answer]) -> Answer:
        with self._lock:
            self.dials.append(request)
            return self.to_dial.pop(0) if self.to_dial else accepted(len(self.dials))

    def asked_to_hang_up(self, call_id: str, accepted: Answer) -> Answer:
        with self._lock:
            self.hang_ups.append(call_id)
            return self.to_hang_up.pop(0) if self.to_hang_up else accepted

    def asked_to_steer(self, call_id: str, what: Any, accepted: Answer) -> Answer:
        with self._lock:
            self.steered.append((call_id, what))
            return self.to_steer.pop(0) if self.to_steer else accepted

    def asked_to_look(self, path: str) -> Answer:
        with self._lock:
            self.looks.append(path)
            if self.to_look:
                return self.to_look.pop(0)
            call_id = path.rpartition("/")[2].removesuffix(".json")
            if path.endswith("/Calls.json"):
                return Answer(200, {"calls": self.held, "next_page_uri": None})
            if path == "/v1/calls":
                return Answer(200, {"count": len(self.held), "_embedded": {"calls": self.held}})
            name = "sid" if path.endswith(".json") else "uuid"
            known = next((call for call in self.held if call[name] == call_id), None)
            return Answer(200, known or {name: call_id, "status": "completed", "direction": "outbound-api"})


def twilio_call(number: int) -> Answer:
    return Answer(
        201, {"sid": f"CA{number:032x}", "status": "queued", "account_sid": "AC", "direction": "outbound-api"}
    )


def vonage_call(number: int) -> Answer:
    uuid = f"00000000-0000-4000-8000-{number:012x}"
    body = {"uuid": uuid, "status": "started", "direction": "outbound", "conversation_uuid": f"CON-{uuid}"}
    return Answer(201, body)


@contextmanager
def counting_provider() -> Iterator[CountingProvider]:
    provider = CountingProvider()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            if self.path == "/v1/calls":
                self._send(provider.asked_to_dial(json.loads(text), vonage_call))
                return
            form = {name: values[-1] for name, values in parse_qs(text).items()}
            if self.path.endswith("/Calls.json"):
                self._send(provider.asked_to_dial(form, twilio_call))
            elif "Twiml" in form:
                call_id = self.path.rpartition("/")[2].removesuffix(".json")
                taken = Answer(200, {"sid": call_id, "status": "in-progress"})
                self._send(provider.asked_to_steer(call_id, form["Twiml"], taken))
            else:
                call_id = self.path.rpartition("/")[2].removesuffix(".json")
                self._send(
                    provider.asked_to_hang_up(call_id, Answer(200, {"sid": call_id, "status": "completed"}))
                )

        def do_GET(self) -> None:
            self._send(provider.asked_to_look(self.path.partition("?")[0]))

        def do_PUT(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
            call_id, _, part = self.path.removeprefix("/v1/calls/").partition("/")
            if part == "dtmf":
                self._send(provider.asked_to_steer(call_id, asked["digits"], Answer(200, {"uuid": call_id})))
            elif asked.get("action") == "transfer":
                self._send(provider.asked_to_steer(call_id, asked["destination"]["ncco"], Answer(204)))
            else:
                self._send(provider.asked_to_hang_up(call_id, Answer(204)))

        def _send(self, answer: Answer) -> None:
            answer.before()
            if answer.status == 0:
                self.close_connection = True
                return
            body = b"" if answer.status == 204 else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()
            answer.after()

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                return  # the client was killed, as some tests want

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    provider.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
