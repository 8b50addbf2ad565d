"""A small customer of the carriers: answers webhooks as told, keeps what came, speaks on the media socket."""

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import WSMsgType, web

from carrier_sim import CallReport, CarrierSim
from carrier_sim.audio import speech, to_ulaw


@dataclass
class Received:
    method: str
    path: str
    url: str
    headers: Mapping[str, str]
    fields: dict[str, str]
    body: bytes


Answerer = Callable[[Received], web.Response | Awaitable[web.Response]]
Talker = Callable[[web.WebSocketResponse, web.Request], Awaitable[None]]


def xml(text: str, content_type: str = "text/xml") -> web.Response:
    return web.Response(text='<?xml version="1.0" encoding="UTF-8"?>' + text, content_type=content_type)


@dataclass
class Customer:
    """`answers[path]` answers a path, everything else is 204; `talk` runs on media sockets."""

    sim: CarrierSim
    tls: bool = True
    hosts: tuple[str, ...] = ()
    answers: dict[str, Answerer] = field(default_factory=dict)
    received: list[Received] = field(default_factory=list)
    upgrades: list[web.Request] = field(default_factory=list)
    messages: list[Any] = field(default_factory=list)
    talk: Talker | None = None
    port: int = 0

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=1.0)
        await self._runner.setup()
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.sim.certificate_files(*self.hosts))
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def url(self, path: str) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def ws(self, path: str) -> str:
        return self.url(path).replace("http", "ws", 1)

    def at(self, path: str) -> list[Received]:
        return [r for r in self.received if r.path == path]

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket" and self.talk is not None:
            self.upgrades.append(request)
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            await self.talk(socket, request)
            return socket
        body = await request.read()
        fields = dict(request.query)
        if request.content_type == "application/x-www-form-urlencoded":
            fields |= {k: str(v) for k, v in (await request.post()).items()}
        elif request.content_type == "application/json" and body:
            fields |= json.loads(body)
        received = Received(
            request.method, request.path, f"{request.scheme}://{request.host}{request.raw_path}",
            {k.lower(): v for k, v in request.headers.items()}, fields, body,
        )  # fmt: skip
        self.received.append(received)
        if answer := self.answers.get(request.path):
            response = answer(received)
            return response if isinstance(response, web.Response) else await response
        return web.Response(status=204)


async def twilio_agent(customer: Customer, socket: web.WebSocketResponse, *, seconds: float = 1.0) -> None:
    """Speaks once at the start and once whenever the caller was quiet for 400 ms after words."""
    start: dict[str, Any] = {}
    quiet, spoke = 0, False

    async def speak(name: str) -> None:
        audio = to_ulaw(speech(seconds, 8000, seed=7))
        sid = start["streamSid"]
        payload = base64.b64encode(audio).decode()
        # The carrier may hang up meanwhile; what it said before is still to be read.
        with contextlib.suppress(ConnectionError):
            await socket.send_json({"event": "media", "streamSid": sid, "media": {"payload": payload}})
            await socket.send_json({"event": "mark", "streamSid": sid, "mark": {"name": name}})

    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        data = json.loads(message.data)
        customer.messages.append(data)
        if data["event"] == "start":
            start = data["start"]
            await speak("greeting")
        elif data["event"] == "media":
            loud = set(base64.b64decode(data["media"]["payload"])) != {0xFF}
            quiet = 0 if loud else quiet + 1
            spoke = spoke or loud
            if spoke and quiet == 20:
                spoke = False
                await speak("answer")


async def vonage_agent(
    customer: Customer, socket: web.WebSocketResponse, *, rate: int = 16000, seconds: float = 1.0
) -> None:
    """The same over Vonage's socket."""
    size = rate // 50 * 2
    quiet, spoke = 0, False

    async def speak(name: str) -> None:
        audio = speech(seconds, rate, seed=7)
        with contextlib.suppress(ConnectionError):
            for at in range(0, len(audio), size):
                await socket.send_bytes(audio[at : at + size].ljust(size, b"\0"))
            await socket.send_json({"action": "notify", "payload": {"id": name}})

    async for message in socket:
        if message.type is WSMsgType.TEXT:
            data = json.loads(message.data)
            customer.messages.append(data)
            if data["event"] == "websocket:connected":
                await speak("greeting")
        elif message.type is WSMsgType.BINARY:
            customer.messages.append(message.data)
            loud = any(message.data)
            quiet = 0 if loud else quiet + 1
            spoke = spoke or loud
            if spoke and quiet == 20:
                spoke = False
                await speak("answer")


async def until_silent(report: CallReport) -> None:
    """Returns when the person on the phone has spoken, and says nothing more."""
    said_ms = 0
    while report.caller_audio_ms > said_ms or said_ms == 0:
        said_ms = report.caller_audio_ms
        await asyncio.sleep(0.3)


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
