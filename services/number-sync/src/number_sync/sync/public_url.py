"""The installation's public address: the configured one, or the one a Cloudflare tunnel has at the moment.

cloudflared tells the host name of a quick tunnel at its metrics address: `GET /quicktunnel` answers
`{"hostname": "x.trycloudflare.com"}`, with an empty name for tunnels of other kinds. The name is another one after each
start of the tunnel; every number is then set again.
"""

import asyncio
import json
import re
from typing import Any, Final

import httpx
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import publishing
from number_sync.database import Clock, Database, now_ms
from number_sync.sync import store

_EVERY_S: Final = 5.0
_TIMEOUT_S: Final = 3.0
_LONGEST_ANSWER: Final = 4096
# RFC 1123: labels of letters, digits and hyphens. Never underscores: Twilio refuses them.
_HOST: Final = re.compile(
    r"(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)+"
)

log = structlog.get_logger(__name__)


async def adopt(connection: AsyncConnection, url: str | None, *, at: int) -> bool:
    """Make `url` the public base URL (None: there is none) and tell the other services; when it is another one than
    before, all numbers are due, and none is synced. Returns whether it is. `at`: ms since 1970."""
    changed = await publishing.public_url(connection) != url
    await publishing.set_public_url(connection, url, at=at)
    if changed:
        await store.mark_due(connection, at=at)
        await store.unsettle(connection, at=at)
    return changed


class TunnelError(Exception):
    """The tunnel's metrics address does not tell a host name. The message is for people."""


def tunnel_url(answer: bytes) -> str:
    """The public base URL in an answer to `GET /quicktunnel`. Raises `TunnelError`."""
    try:
        told: Any = json.loads(answer)
    except ValueError:
        raise TunnelError("it does not answer as cloudflared does") from None
    host = told.get("hostname") if isinstance(told, dict) else None
    if host == "":
        raise TunnelError("it has no host name: the tunnel is a named one, or has not come up yet")
    if not isinstance(host, str) or _HOST.fullmatch(host.lower()) is None:
        raise TunnelError("it does not tell a host name")
    return f"https://{host.lower()}"


class TunnelFollower:
    """Asks the tunnel for its name, again and again. While it does not tell one, the last one holds."""

    def __init__(
        self,
        database: Database,
        metrics_url: str,
        *,
        clock: Clock,
        every_s: float = _EVERY_S,
    ) -> None:
        self._database = database
        self._url = metrics_url.rstrip("/") + "/quicktunnel"
        self._clock = clock
        self._every_s = every_s
        self._known: str | None = None
        self.problem: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        # Not through a proxy: the tunnel is beside this process.
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False, follow_redirects=False) as client:
            while True:
                await self._look(client)
                await asyncio.sleep(self._every_s)

    async def _look(self, client: httpx.AsyncClient) -> None:
        try:
            url = tunnel_url(await self._ask(client))
            await self._adopt(url)
        except TunnelError as error:
            self._trouble(f"the tunnel at {self._url} does not tell its address: {error}")
        except (SQLAlchemyError, OSError) as error:
            self._trouble(f"the tunnel's address cannot be stored: {type(error).__name__}")
        else:
            self.problem = None

    async def _ask(self, client: httpx.AsyncClient) -> bytes:
        answer = b""
        try:
            async with asyncio.timeout(2 * _TIMEOUT_S), client.stream("GET", self._url) as response:
                if response.status_code != 200:
                    raise TunnelError(f"it answers with status {response.status_code}")
                async for part in response.aiter_bytes():
                    answer += part
                    if len(answer) > _LONGEST_ANSWER:
                        raise TunnelError("its answer is too long")
        except (httpx.HTTPError, TimeoutError) as error:
            raise TunnelError(f"it does not answer ({type(error).__name__})") from None
        return answer

    async def _adopt(self, url: str) -> None:
        if url == self._known:
            return

        async def work(connection: AsyncConnection) -> bool:
            # Another process may have seen it first.
            if await publishing.public_url(connection) == url:
                return False
            return await adopt(connection, url, at=now_ms(self._clock))

        if await self._database.transact(work):
            log.info("public_url.changed", public_url=url)
        self._known = url

    def _trouble(self, problem: str) -> None:
        if problem != self.problem:
            log.warning("public_url.unknown", reason=problem)
        self.problem = problem
