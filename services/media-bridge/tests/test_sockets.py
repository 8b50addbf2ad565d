"""Messages out of frames, on real sockets: what RFC 6455 demands beside what picows does by itself."""

import asyncio
from collections.abc import AsyncIterator

import picows
import pytest
from websockets.frames import Frame as RawFrame
from websockets.frames import Opcode

from media_bridge.sockets import ABNORMAL, MAX_UNREAD, NO_STATUS, MessageSocket
from offhook.providers.base import Frame


class Recorder(MessageSocket):
    def __init__(self) -> None:
        super().__init__(max_message=1000)
        self.messages: list[Frame] = []
        self.code: int | None = None

    def message(self, message: Frame) -> None:
        self.messages.append(message)

    def ended(self, code: int) -> None:
        self.code = code


class Peer:
    """A client that sends whatever frames it is told to."""

    def __init__(self, server: Recorder, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    def send(self, opcode: Opcode, data: bytes, fin: bool = True, rsv1: bool = False) -> None:
        frame = bytearray(RawFrame(opcode, data, fin).serialize(mask=True))
        frame[0] |= 0x40 if rsv1 else 0
        self.writer.write(frame)

    async def close_code(self) -> int:
        """The code in the close frame that the server sends, whatever comes before it."""
        async with asyncio.timeout(60):
            while True:
                head = await self.reader.readexactly(2)
                payload = await self.reader.readexactly(head[1] & 0x7F)
                if head[0] & 0x0F == Opcode.CLOSE:
                    return int.from_bytes(payload[:2], "big")

    async def gone(self) -> int | None:
        await asyncio.wait_for(self.server.gone.wait(), 60)
        return self.server.code


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    recorder = Recorder()
    server = await picows.ws_create_server(lambda request: recorder, "127.0.0.1", 0, enable_auto_pong=False)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    yield Peer(recorder, reader, writer)
    writer.close()
    server.close()


async def test_fragments_are_put_together_and_a_ping_between_them_is_answered(peer: Peer) -> None:
    peer.send(Opcode.TEXT, "Grü".encode()[:-1], fin=False)
    peer.send(Opcode.PING, b"?")
    peer.send(Opcode.CONT, "ü".encode()[1:] + b"n", fin=True)
    peer.send(Opcode.BINARY, b"\0\1")
    peer.send(Opcode.CLOSE, (1000).to_bytes(2, "big"))
    assert await peer.close_code() == 1000
    assert peer.server.messages == ["Grün", b"\0\1"]
    assert await peer.gone() == 1000


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ([(Opcode.TEXT, b"\xff\xff", True, False)], 1007),
        ([(Opcode.TEXT, b"\xff", False, False), (Opcode.CONT, b"\xff", True, False)], 1007),
        ([(Opcode.CONT, b"x", True, False)], 1002),
        ([(Opcode.TEXT, b"x", False, False), (Opcode.TEXT, b"x", True, False)], 1002),
        ([(Opcode.TEXT, b"x", True, True)], 1002),
        ([(Opcode.BINARY, bytes(900), False, False)] + [(Opcode.CONT, bytes(900), False, False)] * 10, 1009),
        ([(Opcode.BINARY, b"", False, False)] + [(Opcode.CONT, b"", False, False)] * 200, 1009),
    ],
    ids=[
        "utf-8",
        "utf-8 in fragments",
        "continuation of nothing",
        "new message inside",
        "rsv1",
        "too big",
        "endless",
    ],
)
async def test_what_breaks_the_protocol_closes_the_connection_with_its_code(
    peer: Peer, frames: list[tuple[Opcode, bytes, bool, bool]], code: int
) -> None:
    for frame in frames:
        peer.send(*frame)
    assert await peer.close_code() == code


async def test_a_close_without_a_code_is_told_apart_from_no_close_at_all(peer: Peer) -> None:
    peer.send(Opcode.CLOSE, b"")
    assert await peer.close_code() == 1000
    assert await peer.gone() == NO_STATUS


async def test_a_connection_that_breaks_ended_abnormally(peer: Peer) -> None:
    peer.writer.transport.abort()
    assert await peer.gone() == ABNORMAL


async def test_after_our_goodbye_nothing_more_is_listened_to_and_the_answer_ends_the_connection(
    peer: Peer,
) -> None:
    peer.server.close(1008, "refused")
    peer.server.close(1000)
    assert await peer.close_code() == 1008
    peer.send(Opcode.TEXT, b"but")
    peer.send(Opcode.CLOSE, (1008).to_bytes(2, "big"))
    await peer.gone()
    assert peer.server.messages == []


async def test_a_peer_that_never_answers_our_goodbye_is_left_behind(peer: Peer) -> None:
    peer.server.close(1000)
    await peer.gone()


async def test_a_peer_that_does_not_read_is_left_behind_before_it_fills_the_memory(peer: Peer) -> None:
    most = 0
    for _ in range(5000):
        peer.server.write(bytes(10_000))
        most = max(most, peer.server.buffered_bytes())
        await asyncio.sleep(0)
    assert await peer.gone() == ABNORMAL
    assert most <= MAX_UNREAD + 20_000


async def test_pings_of_a_peer_that_does_not_read_are_not_answered(peer: Peer) -> None:
    most = 0
    for _ in range(800):
        for _ in range(200):
            peer.send(Opcode.PING, bytes(125))
        await peer.writer.drain()
        most = max(most, peer.server.buffered_bytes())
        await asyncio.sleep(0)
    assert most <= MAX_UNREAD
