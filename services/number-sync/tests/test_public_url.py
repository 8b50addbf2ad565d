"""Following a tunnel's name, as cloudflared tells it: against a small metrics server on loopback."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st
from running_number_sync import PUBLIC_URL, RunService
from syncing import SID, Board

from number_sync import publishing
from number_sync.database import Database
from number_sync.sync.public_url import TunnelError, TunnelFollower, adopt, tunnel_url
from offhook.records import PublicUrlRecord
from offhook.topics import SETTINGS

ONE = "+14155551234"


class Tunnel:
    """cloudflared's metrics server. `answer` is what it says, `status` how."""

    def __init__(self) -> None:
        self.answer = b'{"hostname":"first.trycloudflare.com"}'
        self.status = 200
        self.asked = 0
        self.url = ""

    def named(self, host: str) -> None:
        self.answer = b'{"hostname":"%s"}' % host.encode()


@pytest.fixture
def tunnel() -> Iterator[Tunnel]:
    state = Tunnel()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked += 1
            assert self.path == "/quicktunnel"
            self.send_response(state.status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.end_headers()
            self.wfile.write(state.answer)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


@asynccontextmanager
async def following(board: Board, tunnel: Tunnel) -> AsyncIterator[TunnelFollower]:
    follower = TunnelFollower(board.database, tunnel.url, clock=board.clock, every_s=0.01)
    task = asyncio.create_task(follower.run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task])


async def known(database: Database) -> str | None:
    async with database.read() as connection:
        return await publishing.public_url(connection)


async def becomes(database: Database, url: str) -> None:
    async with asyncio.timeout(20):
        while await known(database) != url:
            await asyncio.sleep(0.01)


async def looks_again(tunnel: Tunnel) -> None:
    seen = tunnel.asked
    async with asyncio.timeout(20):
        while tunnel.asked < seen + 2:
            await asyncio.sleep(0.01)


async def test_a_new_name_makes_every_number_due_and_set_again(database: Database, tunnel: Tunnel) -> None:
    board = await Board(database).open(None)
    board.accounts[SID].own(ONE)
    number = await board.add(await board.configure(), ONE)
    async with following(board, tunnel):
        await becomes(database, "https://first.trycloudflare.com")
        await board.settle()
        assert (await board.state(number)).state == "synced"
        tunnel.named("second.trycloudflare.com")
        await becomes(database, "https://second.trycloudflare.com")
        await board.settle()
    row = await board.state(number)
    assert (row.state, row.last_drift) == ("synced", None)
    held = board.accounts[SID].lines[ONE].settings
    assert held["VoiceUrl"].startswith("https://second.trycloudflare.com/")


async def test_the_same_name_makes_nothing_due(database: Database, tunnel: Tunnel) -> None:
    board = await Board(database).open(None)
    board.accounts[SID].own(ONE)
    number = await board.add(await board.configure(), ONE)
    async with following(board, tunnel):
        await becomes(database, "https://first.trycloudflare.com")
        await board.settle()
        due_at = (await board.state(number)).due_at
        await looks_again(tunnel)
    async with following(board, tunnel):  # a process that has just started
        await looks_again(tunnel)
    assert (await board.state(number)).due_at == due_at


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (200, b'{"hostname":""}', "no host name"),
        (200, b"<html>", "does not answer as cloudflared"),
        (200, b'{"hostname":"a b/c"}', "does not tell a host name"),
        (200, b"x" * 10_000, "too long"),
        (503, b"", "status 503"),
    ],
)
async def test_without_a_name_the_last_one_holds_and_health_says_so(
    database: Database, tunnel: Tunnel, status: int, answer: bytes, why: str
) -> None:
    board = await Board(database).open(None)
    async with following(board, tunnel) as follower:
        await becomes(database, "https://first.trycloudflare.com")
        tunnel.status, tunnel.answer = status, answer
        await looks_again(tunnel)
        assert why in (follower.problem or "")
        assert await known(database) == "https://first.trycloudflare.com"
        tunnel.status = 200
        tunnel.named("second.trycloudflare.com")
        await becomes(database, "https://second.trycloudflare.com")
        await looks_again(tunnel)
        assert follower.problem is None


async def test_a_tunnel_that_is_not_there_is_a_problem_and_no_crash(database: Database) -> None:
    board = await Board(database).open(None)
    nowhere = Tunnel()
    nowhere.url = "http://127.0.0.1:1"
    async with following(board, nowhere) as follower, asyncio.timeout(20):
        while follower.problem is None:
            await asyncio.sleep(0.01)
    assert "ConnectError" in follower.problem


async def test_a_restart_keeps_the_last_name_and_tells_it_again(
    run_service: RunService, tunnel: Tunnel
) -> None:
    url = PublicUrlRecord(url="https://first.trycloudflare.com")
    for answer in (tunnel.answer, b'{"hostname":""}'):
        tunnel.answer = answer
        async with run_service(public_url=None, tunnel_metrics_url=tunnel.url) as service:
            async with asyncio.timeout(20):
                while (await service.newest(SETTINGS)).get(PublicUrlRecord.KEY) != url:
                    await asyncio.sleep(0.01)


async def test_the_configured_address_wins(run_service: RunService, tunnel: Tunnel) -> None:
    async with run_service(tunnel_metrics_url=tunnel.url) as service:
        assert (await service.newest(SETTINGS))[PublicUrlRecord.KEY] == PublicUrlRecord(url=PUBLIC_URL)
    assert tunnel.asked == 0


async def test_another_address_leaves_no_number_synced_before_it_is_set(database: Database) -> None:
    board = await Board(database).open()
    board.accounts[SID].own(ONE)
    main = await board.configure()
    number, idle = await board.add(main, ONE), await board.add(main, "+14155551235", workflow_id=None)
    await board.settle()
    await board.set_public_url(PUBLIC_URL)
    assert (await board.state(number)).state == "synced"
    await board.set_public_url("https://other.example.com")
    assert (await board.state(number)).state == "pending"
    assert (await board.state(idle)).state == "detached"
    await board.settle()
    assert (await board.state(number)).state == "synced"


async def test_another_address_of_the_installation_is_a_change_once(database: Database) -> None:
    async with database.write() as connection:
        assert await adopt(connection, "https://a.example", at=1)
        assert not await adopt(connection, "https://a.example", at=2)
        assert await adopt(connection, None, at=3)


@given(st.binary(max_size=200))
def test_whatever_is_answered_is_an_address_or_an_objection(answer: bytes) -> None:
    try:
        url = tunnel_url(answer)
    except TunnelError:
        return
    assert url.startswith("https://")
