"""Vonage as an HTTP client: signed webhooks, timeouts, the one retry.

https://developer.vonage.com/en/getting-started/concepts/webhooks and
https://api.support.vonage.com/hc/en-us/articles/17498678806044 (timeouts), …/115016024247 (retries)
"""

import hashlib
import time
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import jwt

from carrier_sim.media import compact
from carrier_sim.report import Callback, CallReport
from carrier_sim.vonage.applications import Application, Webhook
from carrier_sim.web import Answer, Failure, Timeouts, WebClient

_MAX_BODY = 1024 * 1024
_RETRIED_STATUS = {429, 503, 504}
_RETRIED = {
    Failure.CONNECT,
    Failure.CONNECT_TIMEOUT,
    Failure.READ_TIMEOUT,
    Failure.TOTAL_TIMEOUT,
    Failure.RESET,
}


def signed_token(application: Application, payload: bytes | None) -> str:
    """The Bearer token of a webhook (HS256 with the account's signature secret). `payload`: what is hashed, if anything."""
    claims: dict[str, Any] = {
        "iat": int(time.time()),
        "jti": str(uuid.uuid4()),
        "iss": "Vonage",
        "api_key": application.api_key,
        "application_id": application.id,
    }
    if payload is not None:
        claims["payload_hash"] = hashlib.sha256(payload).hexdigest()
    return jwt.encode(claims, application.signature_secret or "", algorithm="HS256")


class VonageRequests:
    """The requests of one call."""

    def __init__(self, web: WebClient, application: Application, report: CallReport) -> None:
        self._web = web
        self._application = application
        self._report = report
        self._session = web.session()

    async def close(self) -> None:
        await self._session.close()

    async def ask(
        self, purpose: str, webhook: Webhook, fields: Mapping[str, Any], copies: int = 1
    ) -> tuple[Answer, bool]:
        """Send one webhook, twice if need be. Returns the last answer and whether it counts as delivered (200 to 205)."""
        for _ in range(copies - 1):
            await self._once(purpose, webhook, fields, 1)
        answer = await self._once(purpose, webhook, fields, 1)
        if answer.failure in _RETRIED or answer.status in _RETRIED_STATUS:
            answer = await self._once(purpose, webhook, fields, 2)
        delivered = answer.status is not None and 200 <= answer.status <= 205
        if not delivered:
            why = (
                f"{answer.failure}: {answer.why}"
                if answer.status is None
                else f"the answer was {answer.status}"
            )
            code = "sim-tls-required" if answer.failure is Failure.PLAIN else "vonage-webhook-failed"
            self._report.violate(code, f"{purpose}: {why}", where=webhook.address)
        return answer, delivered

    async def _once(self, purpose: str, webhook: Webhook, fields: Mapping[str, Any], attempt: int) -> Answer:
        headers = {"Accept": "application/json", "User-Agent": "Vonage/CarrierSim"}
        url, body = webhook.address, None
        if webhook.method == "GET":
            texts = {name: _text(value) for name, value in fields.items()}
            url += ("&" if urlsplit(url).query else "?") + urlencode(texts)
            # As the support article has it: compact JSON of the query, all values strings, in order.
            hashed = compact(texts).encode()
        else:
            headers["Content-Type"] = "application/json"
            body = hashed = compact(fields).encode()
        if self._application.signs:
            headers["Authorization"] = f"Bearer {signed_token(self._application, hashed)}"
        connect_s, read_s = webhook.connect_s * self._web.patience, webhook.read_s * self._web.patience
        at_ms = self._report.now_ms()
        answer = await self._web.request(
            self._session,
            webhook.method,
            url,
            headers=headers,
            body=body,
            timeouts=Timeouts(connect_s, read_s, connect_s + read_s),
            max_body=_MAX_BODY,
        )
        self._report.callbacks.append(
            Callback(
                purpose,
                webhook.method,
                url,
                attempt,
                answer.status,
                answer.ms,
                at_ms,
                answer.why or None,
                dict(fields),
            )
        )
        return answer

    async def connect_socket(self, url: str, authorization: str | None) -> aiohttp.ClientWebSocketResponse:
        """Open an audio socket. Raises what aiohttp raises."""
        headers = {"User-Agent": "Vonage/CarrierSim"}
        if authorization:
            headers["Authorization"] = authorization
        return await self._session.ws_connect(
            url,
            headers=headers,
            max_msg_size=4 * 1024 * 1024,
            timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
            compress=0,
        )

    def socket_token(self) -> str:
        """The Authorization header of an upgrade with `authorization: {type: vonage}`; there is no payload to hash."""
        return f"Bearer {signed_token(self._application, None)}"


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else compact(value)
