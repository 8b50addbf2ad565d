"""Logging in with an API key, and out again.

Who knows no key learns nothing by trying, for a key has 256 bits; that tries are counted keeps the load of trying, and
the noise in the log, away. Counted in Redis for all processes together; in this process alone while Redis is away.
"""

import ipaddress
import math
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import structlog
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from offhook.http.problems import Problem
from offhook.security.api_keys import ApiKeys
from offhook.security.sessions import COOKIE, LIFETIME_S, Sessions
from offhook.shared_redis import SharedRedis
from offhook.web.forms import from_own_page, page_after_login, read_form, text_of

if TYPE_CHECKING:
    from offhook.web.site import Site

HOME: Final = "/telephony-configurations"
TRIES: Final = 10
TRIES_IN_TOTAL: Final = 300
WINDOW_S: Final = 300
# Where a proxy of ours stands: this machine, or a private network (RFC 1918, 4193, 6598; RFC 3927, 4291 for link-local).
_INSIDE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16",
        "::1/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
_MAX_ADDRESSES: Final = 10_000
_REDIS_TIMEOUT_S: Final = 0.5

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


def client_address(request: Request) -> str:
    """Who asks, for counting: an IPv4 address, or the /64 network of an IPv6 one (one customer has at least that).

    The last hop of `X-Forwarded-For` is what the proxy in front of us saw; what stands before it, anybody may have
    written. So a hop counts only when whoever wrote it is a proxy of ours: on this machine or in a private network.
    There may be several in a row (a tunnel's client before the gateway), through which everybody comes.
    """
    address = _parsed(request.client.host if request.client else "")
    for text in reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")):
        hop = _parsed(text.strip())
        if hop is None or not (address is None or _is_inside(address)):
            break
        address = hop
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address) if address is not None else "unknown"


def came_by_https(request: Request) -> bool:
    """Whether the browser spoke https: to us, or to the first proxy. That says so, unless the next one writes over it;
    the browser says so with a form."""
    first = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    return "https" in (first or request.url.scheme, request.headers.get("origin", "").partition(":")[0])


class LoginLimit:
    """How often somebody may try: `tries` from one address, and fail: `in_total` from all, within `window_s` seconds.

    A try that succeeds is given back, so an office behind one address is not kept out by its own people. Nor is
    anybody with a key kept out by those who try from many addresses.
    """

    def __init__(
        self,
        redis_url: str | None,
        *,
        clock: Callable[[], float] = time.time,
        tries: int = TRIES,
        in_total: int = TRIES_IN_TOTAL,
        window_s: int = WINDOW_S,
    ) -> None:
        self._shared = redis_url and SharedRedis(
            redis_url, loss="tries to log in are counted by each process alone", timeout_s=_REDIS_TIMEOUT_S
        )
        self._clock = clock
        self._tries = tries
        self._in_total = in_total
        self._window_s = window_s
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def count(self, address: str) -> int:
        """Count a try, before it is looked at. Returns 0, or the seconds to wait when it is one too many."""
        return 0 if await self._add(self._key(address), 1) <= self._tries else self._wait_s()

    async def give_back(self, address: str) -> None:
        """The try succeeded."""
        await self._add(self._key(address), -1)

    async def count_failed(self) -> int:
        """The try failed. Returns 0, or the seconds to wait when all addresses together failed too often."""
        return 0 if await self._add(self._key(""), 1) <= self._in_total else self._wait_s()

    async def close(self) -> None:
        if self._shared:
            await self._shared.stop()

    def _key(self, address: str) -> str:
        return f"offhook:login:{int(self._clock() // self._window_s)}:{address}"

    def _wait_s(self) -> int:
        return max(1, math.ceil(self._window_s - self._clock() % self._window_s))

    async def _add(self, key: str, amount: int) -> int:
        if self._shared:
            shared = self._shared

            async def add() -> int:
                async with shared.client.pipeline(transaction=True) as pipe:
                    pipe.incrby(key, amount)
                    pipe.expire(key, self._window_s * 2)
                    count, _ = await pipe.execute()
                return int(count)

            counted = await shared.ask("login", add)
            if counted is not None:
                return counted
        self._counts[key] = self._counts.get(key, 0) + amount
        self._counts.move_to_end(key)
        while len(self._counts) > _MAX_ADDRESSES:
            self._counts.popitem(last=False)
        return self._counts[key]


class Login:
    """`/login`, `/logout`, and `/`, which leads to the first page."""

    def __init__(self, site: "Site", api_keys: ApiKeys, sessions: Sessions, limit: LoginLimit) -> None:
        self._site = site
        self._api_keys = api_keys
        self._sessions = sessions
        self._limit = limit

    def router(self) -> APIRouter:
        router = APIRouter(include_in_schema=False)
        router.add_api_route("/", self._home, methods=["GET"])
        router.add_api_route("/login", self._page, methods=["GET"])
        router.add_api_route("/login", self._log_in, methods=["POST"])
        router.add_api_route("/logout", self._log_out, methods=["POST"])
        return router

    async def _home(self) -> Response:
        return self._site.redirect(HOME)

    async def _page(self, request: Request) -> Response:
        there = page_after_login(request.query_params.get("next", ""), HOME)
        if self._site.user_of(request) is not None:
            return self._site.redirect(there)
        return self._site.render(request, "login.html", next_page=there)

    async def _log_in(self, request: Request) -> Response:
        if not from_own_page(request):
            raise Problem(403, "Sign in from this site's own page.")
        form = await read_form(request)
        there = page_after_login(text_of(form, "next"), HOME)
        address = client_address(request)
        wait_s = await self._limit.count(address)
        holder = None if wait_s else self._api_keys.holder_of(text_of(form, "key").strip())
        if holder is None and not wait_s:
            wait_s = await self._limit.count_failed()
        if wait_s:
            _log.warning("login-limited", address=address)
            minutes = math.ceil(wait_s / 60)
            detail = f"Too many tries. Try again in {minutes} minute{'s' if minutes > 1 else ''}."
            refused = self._again(request, there, detail, status=429)
            refused.headers["Retry-After"] = str(wait_s)
            return refused
        if holder is None:
            _log.info("login-refused", address=address)
            return self._again(request, there, "This is not a key of this installation, or it was revoked.")
        await self._limit.give_back(address)
        _log.info("login", user_id=holder.user_id)
        response = self._site.redirect(there)
        response.set_cookie(
            COOKIE,
            self._sessions.open(holder, nonce=secrets.token_urlsafe(24)),
            max_age=LIFETIME_S,
            httponly=True,
            samesite="lax",
            secure=came_by_https(request),
        )
        return response

    async def _log_out(self, request: Request) -> Response:
        user = self._site.user_of(request)
        if user is not None:
            await self._site.form(request, user)
        response = self._site.redirect("/login", notice="You are signed out.")
        response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=came_by_https(request))
        return response

    def _again(self, request: Request, there: str, detail: str, *, status: int = 401) -> Response:
        return self._site.render(
            request, "login.html", status=status, next_page=there, errors={"key": detail}
        )


def _is_inside(peer: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(peer in network for network in _INSIDE if network.version == peer.version)


def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
