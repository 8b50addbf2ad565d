"""What stands in front of the REST APIs: the rules of bad days, the accounts' rate limits, and the log of every request."""

import asyncio
import json
import time

import jwt
from aiohttp import BasicAuth, web
from aiohttp.typedefs import Handler, Middleware

from carrier_sim.rest_faults import Provider, RestFault, RestFaults
from carrier_sim.rest_log import RateLimits, RestLog, RestRequest, bounded
from carrier_sim.twilio import rest_errors as twilio_errors
from carrier_sim.twilio.carrier import TwilioCarrier
from carrier_sim.twilio.fields import API_VERSION
from carrier_sim.vonage import rest_common as vonage_errors
from carrier_sim.vonage.carrier import VonageCarrier

_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n"
    "<body><center><h1>502 Bad Gateway</h1></center><hr><center>proxy</center></body></html>\n"
)
_ODD = '[{"unexpected": true}, null, "not what was asked for", 7]'
_PIECE = b"x" * (64 * 1024)
# How often a held connection is looked at, and how long it is held at most (seconds).
_LOOK_S = 0.1
_HELD_S = 900.0


class RestGate:
    """An aiohttp middleware, but for the simulator's own paths (`/_sim/`)."""

    def __init__(self, twilio: TwilioCarrier, vonage: VonageCarrier) -> None:
        self.faults = RestFaults()
        self.limits = RateLimits()
        self.log = RestLog()
        self._twilio = twilio
        self._vonage = vonage
        self._stopping = False

    def stop(self) -> None:
        """Hold no connection any longer."""
        self._stopping = True

    def middleware(self) -> Middleware:
        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path.startswith("/_sim"):
                return await handler(request)
            return await self._pass(request, handler)

        return guard

    async def _pass(self, request: web.Request, handle: Handler) -> web.StreamResponse:
        at = time.time()
        provider: Provider = "twilio" if request.path.startswith(f"/{API_VERSION}") else "vonage"
        account = self._account(request, provider)
        status: int | None = None
        told: str | None = None
        try:
            fault = self.faults.take(provider, request.method, request.path, account)
            if fault is not None:
                told = fault.do
                response = await self._misbehave(fault, provider, request, handle)
                status = response.status if response is not None else None
                return response if response is not None else web.Response()
            if account and not self.limits.admits(account, time.monotonic()):
                told = "limit"
                response = _error(provider, 429, request.path)
            else:
                response = await handle(request)
            status = response.status
            return response
        finally:
            self.log.enter(
                RestRequest(at, provider, account, request.method, bounded(request.path), status, told)
            )

    def _account(self, request: web.Request, provider: Provider) -> str:
        """Whose request it claims to be: a known Account SID or API key, or nothing."""
        if provider == "twilio":
            account, _, _ = request.path.removeprefix(f"/{API_VERSION}/Accounts/").partition("/")
            account = account.removesuffix(".json")
            return account if account in self._twilio.accounts else ""
        applications = self._vonage.applications
        authorization = request.headers.get("Authorization", "")
        scheme, _, token = authorization.partition(" ")
        key = request.query.get("api_key", "")
        try:
            if scheme.lower() == "bearer":
                # Only to tell whose request it is; whether the token is good is decided where it is answered.
                claims = jwt.decode(token, options={"verify_signature": False})
                application = applications.get(str(claims.get("application_id")))
                return application.api_key if application else ""
            if authorization:
                key = BasicAuth.decode(authorization).login
        except (jwt.PyJWTError, ValueError):
            return ""
        return key if any(a.api_key == key for a in applications.values()) else ""

    async def _misbehave(
        self, fault: RestFault, provider: Provider, request: web.Request, handle: Handler
    ) -> web.StreamResponse | None:
        """The wrong answer; None when there is none and the connection is gone."""
        done = await handle(request) if fault.works else None
        if fault.delay_s:
            await self._wait(request, fault.delay_s)
        if fault.do == "silence":
            await self._wait(request, _HELD_S)
        if fault.do in ("silence", "cut"):
            if request.transport is not None:
                request.transport.abort()
            return None
        if fault.do == "status":
            return _error(provider, fault.status or 500, request.path, fault)
        if fault.do == "huge":
            return await _huge(request, fault)
        if fault.do == "html":
            return web.Response(text=_PAGE, content_type="text/html", status=fault.status or 200)
        if fault.do == "wrong-shape":
            body = fault.body if fault.body is not None else _ODD
            return web.Response(text=body, content_type="application/json", status=fault.status or 200)
        if not isinstance(done, web.Response):
            raise TypeError(f"{fault.do}: the work has no answer")
        if fault.do == "truncated":
            whole = done.body if isinstance(done.body, bytes) else b""
            return web.Response(
                body=whole[: len(whole) // 2],
                content_type="application/json",
                status=fault.status or done.status,
            )
        return done

    async def _wait(self, request: web.Request, seconds: float) -> None:
        """Until then, or until nobody is there any more: the other side is gone, or the simulation ends."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping:
            if request.transport is None or request.transport.is_closing():
                return
            await asyncio.sleep(min(left, _LOOK_S))


def _error(provider: Provider, status: int, path: str, fault: RestFault | None = None) -> web.Response:
    code = fault.code if fault else None
    of_status = twilio_errors.of_status if provider == "twilio" else vonage_errors.of_status
    response = of_status(status, path, code)
    if fault is not None and fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


async def _huge(request: web.Request, fault: RestFault) -> web.StreamResponse:
    response = web.StreamResponse(status=fault.status or 200, headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(json.dumps({"filler": ""}).removesuffix('"}').encode())
    left = fault.huge_bytes
    while left > 0:
        await response.write(_PIECE[:left])
        left -= len(_PIECE)
    await response.write(b'"}')
    await response.write_eof()
    return response
