"""Pieces of a page that follow what happens: server-sent events (WHATWG HTML, 9.2).

Each message is a JSON object: the HTML of every piece that changed, by the id of its element. The first one has all of
them, because the page may be older than the stream. A stream ends by itself; the browser then opens the next.
"""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import StreamingResponse

from offhook.http.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_STREAMS: Final = 500
MAX_STREAMS_OF_A_USER: Final = 20
KEEP_ALIVE_S: Final = 15.0
LIFETIME_S: Final = 600.0
SHARE: Final = 0.25
"""How much of the time all streams together may look: the process has calls to make."""

_LOOKS_AT_ONCE: Final = 2
_LONGEST_PAUSE_S: Final = 30.0
_RETRY_MS: Final = 2000
_ENDED: Final = "event: ended\ndata: {}\n\n"

Fragments = Callable[[], Awaitable[Mapping[str, str]]]


class Streams:
    """The open streams of a process: how many there are, and what ends them."""

    def __init__(
        self,
        *,
        limit: int = MAX_STREAMS,
        limit_of_a_user: int = MAX_STREAMS_OF_A_USER,
        keep_alive_s: float = KEEP_ALIVE_S,
        lifetime_s: float = LIFETIME_S,
        share: float = SHARE,
    ) -> None:
        self._limit = limit
        self._limit_of_a_user = limit_of_a_user
        self._keep_alive_s = keep_alive_s
        self._lifetime_s = lifetime_s
        self._share = share
        self._turns = asyncio.Semaphore(_LOOKS_AT_ONCE)
        self._looking: set[asyncio.Future[Mapping[str, str]]] = set()
        self._open: Counter[str] = Counter()

    @property
    def open(self) -> int:
        return self._open.total()

    def response(
        self,
        request: Request,
        user_id: str,
        fragments: Fragments,
        *,
        every_s: float,
        goes_on: Callable[[], bool],
    ) -> StreamingResponse:
        """A stream that looks every `every_s` seconds, or less often when many look or looking takes long, as long as
        `goes_on` says so. Raises a problem: 429 or 503."""
        if self._open[user_id] >= self._limit_of_a_user:
            raise Problem(429, "Too many pages are open; close some of them.", headers={"Retry-After": "15"})
        if self.open >= self._limit:
            raise Problem(503, "Too many pages are open here.", headers={"Retry-After": "15"})
        return StreamingResponse(
            self._messages(request, user_id, fragments, every_s, goes_on),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    async def _messages(
        self,
        request: Request,
        user_id: str,
        fragments: Fragments,
        every_s: float,
        goes_on: Callable[[], bool],
    ) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._lifetime_s
        with self._counted(user_id):
            yield f"retry: {_RETRY_MS}\n\n"
            if self._open[user_id] > self._limit_of_a_user or self.open > self._limit:
                # It was asked for at the same time as others, before they were counted.
                yield _ENDED
                return
            sent: dict[str, str] | None = None
            spoke_at = loop.time()
            while loop.time() < ends_at:
                if not goes_on():
                    yield _ENDED
                    return
                try:
                    async with self._turns:
                        looked_at = loop.time()
                        current = await self._to_the_end(fragments)
                        took_s = loop.time() - looked_at
                except HTTPException:
                    # What the page shows is no longer there, or no longer this user's.
                    yield "event: gone\ndata: {}\n\n"
                    return
                known = sent or {}
                changed = {name: html for name, html in current.items() if known.get(name) != html}
                if changed or sent is None:
                    sent = known | changed
                    spoke_at = loop.time()
                    yield f"data: {json.dumps(changed)}\n\n"
                looks_at = loop.time() + min(_LONGEST_PAUSE_S, took_s * self.open / self._share)
                while True:
                    await asyncio.sleep(every_s)
                    if await request.is_disconnected():
                        return
                    if loop.time() - spoke_at >= self._keep_alive_s:
                        spoke_at = loop.time()
                        yield ": \n\n"
                    if loop.time() >= looks_at or not goes_on():
                        break

    async def _to_the_end(self, fragments: Fragments) -> Mapping[str, str]:
        """`fragments()`, which goes on when the browser leaves meanwhile: cut off in the middle of a read, it would
        cost a connection to the database."""
        looking = asyncio.ensure_future(fragments())
        self._looking.add(looking)
        looking.add_done_callback(self._looked)
        return await asyncio.shield(looking)

    def _looked(self, looking: "asyncio.Future[Mapping[str, str]]") -> None:
        self._looking.discard(looking)
        if not looking.cancelled():
            looking.exception()  # told to whoever waits, if anybody still does

    @contextmanager
    def _counted(self, user_id: str) -> "Iterator[None]":
        self._open[user_id] += 1
        try:
            yield
        finally:
            self._open[user_id] -= 1
            if not self._open[user_id]:
                del self._open[user_id]
