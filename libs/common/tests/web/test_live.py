"""Live pieces: all of them first, then those that changed, until the login or the page is gone."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pages_under_test import KEYS, Service, make_service

from offhook.web.live import Streams
from offhook_dev.ports import free_port


@asynccontextmanager
async def served(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    """The service behind a real socket, for streams that do not end by themselves; the client is Ada's."""
    port = free_port()
    config = uvicorn.Config(service.app, port=port, log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    headers = {"authorization": f"Bearer {KEYS['ada']}", "accept": "text/event-stream"}
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False, timeout=60
    ) as client:
        yield client
    server.should_exit = True
    await serving


class Stream:
    """The events of a stream, one by one."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def line(self) -> str:
        async with asyncio.timeout(60):
            return await anext(self._lines)

    async def rest(self) -> list[str]:
        async with asyncio.timeout(60):
            return [line async for line in self._lines]

    async def message(self) -> Any:
        while not (line := await self.line()).startswith("data: "):
            pass
        return json.loads(line.removeprefix("data: "))


async def test_first_everything_then_what_changed(service: Service) -> None:
    service.pieces |= {"one": "1", "two": "<2>"}
    async with served(service) as client, client.stream("GET", "/live") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-store"
        stream = Stream(response)
        assert await stream.message() == {"one": '<p id="piece">1</p>', "two": '<p id="piece">&lt;2&gt;</p>'}
        service.pieces["two"] = "new\nline"
        assert await stream.message() == {"two": '<p id="piece">new\nline</p>'}


async def test_silence_is_broken_so_that_no_proxy_cuts_the_stream(service: Service) -> None:
    async with served(service) as client, client.stream("GET", "/live") as response:
        stream = Stream(response)
        while await stream.line() != ": ":
            pass


async def test_a_stream_ends_when_what_it_shows_is_gone(service: Service) -> None:
    async with served(service) as client, client.stream("GET", "/live") as response:
        stream = Stream(response)
        await stream.message()
        service.pieces["gone"] = ""
        while await stream.line() != "event: gone":
            pass
        assert await stream.message() == {}
        assert await stream.rest() == [""]


async def test_a_stream_ends_with_the_login(service: Service) -> None:
    async with served(service) as client:
        del client.headers["authorization"]
        await client.post("/login", data={"key": KEYS["ada"]})
        async with client.stream("GET", "/live") as response:
            stream = Stream(response)
            await stream.message()
            service.clock.now += 13 * 3600
            while await stream.line() != "event: ended":
                pass


async def test_a_process_that_is_to_end_ends_its_streams(service: Service) -> None:
    async with served(service) as client, client.stream("GET", "/live") as response:
        stream = Stream(response)
        await stream.message()
        service.app.state.readiness.draining = True
        while await stream.line() != "event: ended":
            pass


async def test_streams_are_counted_and_bounded_and_forgotten_when_they_close(tmp_path: Path) -> None:
    service = make_service(tmp_path, streams=Streams(limit_of_a_user=2, limit=3))
    async with served(service) as client:
        bob = {"authorization": f"Bearer {KEYS['bob']}"}
        async with client.stream("GET", "/live") as one, client.stream("GET", "/live") as two:
            streams = [Stream(one), Stream(two)]
            for stream in streams:
                await stream.message()
            third = await client.get("/live")
            assert (third.status_code, third.headers["retry-after"]) == (429, "15")
            async with client.stream("GET", "/live", headers=bob) as his:
                streams.append(Stream(his))
                await streams[-1].message()
                assert (await client.get("/live", headers=bob)).status_code == 503
        async with asyncio.timeout(60):
            while service.streams.open:
                await asyncio.sleep(0.01)


async def test_streams_asked_for_at_the_same_time_are_as_bounded(tmp_path: Path) -> None:
    service = make_service(tmp_path, streams=Streams(limit_of_a_user=2, limit=3))

    async def lasts(client: httpx.AsyncClient) -> bool:
        async with client.stream("GET", "/live") as response:
            if response.status_code != 200:
                return False
            stream = Stream(response)
            while (line := await stream.line()) != "event: ended":
                if line.startswith("data: "):
                    await all_told.wait()
                    return True
            return False

    all_told = asyncio.Event()
    async with served(service) as client:
        asked = [asyncio.create_task(lasts(client)) for _ in range(12)]
        async with asyncio.timeout(60):
            while sum(one.done() for one in asked) < 10:
                await asyncio.sleep(0.01)
        all_told.set()
        assert sum([await one for one in asked]) == 2


async def test_the_more_streams_look_and_the_longer_it_takes_the_less_often_they_look(tmp_path: Path) -> None:
    service = make_service(tmp_path, streams=Streams(share=0.2))
    loop = asyncio.get_running_loop()
    looks: list[tuple[float, float]] = []

    async def slow() -> dict[str, str]:
        if service.streams.open == 2:
            began = loop.time()
            await asyncio.sleep(0.05)
            looks.append((began, loop.time()))
        return {}

    live = service.site.live
    service.site.live = lambda request, user, fragments, **more: live(request, user, slow, **more)  # type: ignore[method-assign]
    async with served(service) as client, client.stream("GET", "/live"), client.stream("GET", "/live"):
        async with asyncio.timeout(60):
            while len(looks) < 8:
                await asyncio.sleep(0.01)
    took = [ended - began for began, ended in looks]
    elapsed = max(ended for _, ended in looks) - min(began for began, _ in looks)
    # A fifth of the time may be spent on looking, and once more each: its pause is yet to come.
    assert sum(took) <= 0.2 * elapsed + 2 * max(took)


async def test_a_stream_that_waits_ends_with_the_process_all_the_same(tmp_path: Path) -> None:
    service = make_service(tmp_path, streams=Streams(share=1e-9))
    async with served(service) as client, client.stream("GET", "/live") as response:
        stream = Stream(response)
        await stream.message()
        service.app.state.readiness.draining = True
        while await stream.line() != "event: ended":
            pass


async def test_a_stream_has_a_lifetime(tmp_path: Path) -> None:
    service = make_service(tmp_path, streams=Streams(lifetime_s=0.05))
    browser = await service.signed_in()
    answer = await browser.get("/live")
    assert answer.text.startswith("retry: 2000\n\ndata: {}\n\n")
    assert service.streams.open == 0


async def test_nobody_gets_a_stream_without_a_login(service: Service) -> None:
    answer = await service.browser(headers={"accept": "text/event-stream"}).get("/live")
    assert answer.status_code == 401
