"""A media WebSocket of the carrier: it dials, sends without ever blocking the line, and notices how it ends."""

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import aiohttp

Message = bytes | str

# Frames waiting for a server that does not read: 20 s. Then the carrier gives frames up.
_MAX_WAITING = 1000

End = Literal["server-closed", "server-vanished", "we-closed", "killed", "half-open", "protocol-error"]


@dataclass(frozen=True, slots=True)
class Closed:
    """How the socket ended; `code` is the close code, if there was a close frame."""

    how: End
    code: int | None = None
    why: str = ""


class MediaSocket:
    """An open WebSocket. `send` never waits; `closed` tells the end. `overflowed` counts frames given up."""

    def __init__(self, socket_: aiohttp.ClientWebSocketResponse, receive: Callable[[Message], None]) -> None:
        self._socket = socket_
        self._receive = receive
        self._waiting: asyncio.Queue[Message] = asyncio.Queue(_MAX_WAITING)
        self._end: asyncio.Future[Closed] = asyncio.get_running_loop().create_future()
        self._tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._write()))
        self._writing = False
        self.overflowed = 0

    def send(self, message: Message) -> None:
        if self._end.done():
            return
        if self._waiting.full():
            self.overflowed += 1
            return
        self._waiting.put_nowait(message)

    async def closed(self) -> Closed:
        """Wait for the end, whoever brings it about."""
        return await asyncio.shield(self._end)

    @property
    def is_closed(self) -> bool:
        return self._end.done()

    async def close(self, *last: Message) -> None:
        """Send what waits, then `last`, then close. Gives a dead peer two seconds."""
        if self._end.done():
            await self.dispose()
            return
        for message in last:
            self.send(message)
        try:
            async with asyncio.timeout(2.0):
                while (self._writing or not self._waiting.empty()) and not self._end.done():
                    await asyncio.sleep(0.005)
                self._finish(Closed("we-closed", 1000))
                # The reader is left to its `receive`: cancelling it makes aiohttp cut the connection without
                # waiting for the peer's close frame, and the reset takes the last word from the peer's hands.
                await self._socket.close(code=1000)
        except TimeoutError:
            self._finish(Closed("we-closed"))
            self._shut()
        await self.dispose()

    def kill(self) -> None:
        """The connection dies without a word: no close frame, no TLS goodbye."""
        self._finish(Closed("killed"))
        self._shut()

    def go_half_open(self) -> None:
        """Nothing more is sent or read, but the connection stays."""
        self._finish(Closed("half-open"))
        for task in self._tasks:
            task.cancel()

    async def dispose(self) -> None:
        """Free everything; the connection, if it still stands, is cut."""
        self._finish(Closed("we-closed"))
        await self._stop_tasks()
        if not self._socket.closed:
            self._shut()
            await self._socket.close()

    async def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _shut(self) -> None:
        transport = self._socket.get_extra_info("socket")
        if transport is not None:
            try:
                transport.shutdown(socket.SHUT_RDWR)
            except OSError:
                return  # it had gone already

    def _finish(self, closed: Closed) -> None:
        if not self._end.done():
            self._end.set_result(closed)

    async def _write(self) -> None:
        try:
            while True:
                message = await self._waiting.get()
                # What was taken from the queue is not yet sent: `close` must not cut the last word off.
                self._writing = True
                if isinstance(message, str):
                    await self._socket.send_str(message)
                else:
                    await self._socket.send_bytes(message)
                self._writing = False
        except (aiohttp.ClientError, ConnectionError) as error:
            self._finish(Closed("server-vanished", why=str(error)))

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                if not self._end.done():
                    self._receive(message.data)
            elif message.type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSING,
                aiohttp.WSMsgType.CLOSED,
            ):
                # 1006 stands for "no close frame": the connection was cut.
                code = self._socket.close_code
                self._finish(Closed("server-vanished" if code in (None, 1006) else "server-closed", code))
                return
            elif message.type is aiohttp.WSMsgType.ERROR:
                error = message.data
                broken = isinstance(error, aiohttp.WebSocketError)
                self._finish(Closed("protocol-error" if broken else "server-vanished", why=str(error)))
                return


def compact(value: object) -> str:
    """JSON as the carriers write it: no spaces, characters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
