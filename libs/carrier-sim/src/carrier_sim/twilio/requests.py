"""Twilio as an HTTP client: signatures, connection overrides, retries and the fallback URL.

https://www.twilio.com/docs/usage/security, https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
"""

import base64
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlencode, urljoin, urlsplit, urlunsplit

import aiohttp
from twilio.request_validator import RequestValidator

from carrier_sim.report import Callback, CallReport
from carrier_sim.twilio import twiml
from carrier_sim.web import CONNECTION_FAILURES, Answer, Failure, Timeouts, WebClient

_MAX_REDIRECTS = 10
_POLICIES = {"4xx", "5xx", "ct", "rt", "all"}

_CODES: Mapping[Failure, str] = {
    Failure.PLAIN: "sim-tls-required",
    Failure.BAD_URL: "11100",
    Failure.DNS: "11210",
    Failure.CONNECT: "11205",
    Failure.CONNECT_TIMEOUT: "11205",
    Failure.TLS: "11220",
    Failure.CERTIFICATE: "11237",
    Failure.CERTIFICATE_NAME: "11235",
    Failure.CERTIFICATE_EXPIRED: "11236",
    Failure.READ_TIMEOUT: "11200",
    Failure.TOTAL_TIMEOUT: "11200",
    Failure.RESET: "11205",
    Failure.PROTOCOL: "11206",
    Failure.TOO_LARGE: "11750",
}


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the URL's fragment sets: milliseconds, number of retries, and on which failures."""

    connect_ms: int = 5000
    read_ms: int = 15000
    total_ms: int = 15000
    retries: int = 1
    policy: frozenset[str] = frozenset({"ct"})
    invalid: str | None = None


def overrides(url: str) -> Overrides:
    """Read `#ct=2000&rt=5000&tt=10000&rc=2&rp=4xx,5xx`. What is out of range is `invalid` and does not count."""
    fragment = urlsplit(url).fragment
    if "=" not in fragment:
        return Overrides()
    values = dict(parse_qsl(fragment))
    problems: list[str] = []

    def number(name: str, low: int, high: int, default: int) -> int:
        text = values.get(name)
        if text is None:
            return default
        if not text.isdigit() or not low <= int(text) <= high:
            problems.append(f"{name}={text} (allowed: {low} to {high})")
            return default
        return int(text)

    policy = frozenset(values.get("rp", "ct").split(","))
    if not policy <= _POLICIES:
        problems.append(f"rp={values['rp']} (allowed: {', '.join(sorted(_POLICIES))})")
        policy = frozenset({"ct"})
    return Overrides(
        connect_ms=number("ct", 100, 10000, 5000),
        read_ms=number("rt", 100, 15000, 15000),
        total_ms=number("tt", 1, 15000, 15000),
        retries=number("rc", 0, 5, 1),
        policy=policy,
        invalid="; ".join(problems) or None,
    )


def requested_url(url: str) -> str:
    """What goes on the wire: without user information and fragment."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def signed_url(url: str) -> str:
    """What is signed: over https the port is dropped too, over http it is kept."""
    parts = urlsplit(requested_url(url))
    netloc = parts.netloc
    if parts.scheme == "https":
        host, colon, port = netloc.rpartition(":")
        if colon and port.isdigit():
            netloc = host
    return urlunsplit(parts._replace(netloc=netloc))


def signature(auth_token: str, url: str, fields: Mapping[str, str]) -> str:
    """The official library's signature."""
    return str(RequestValidator(auth_token).compute_signature(url, dict(fields)))


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a request is for, which decides how its answer is read. `name` as in `report.Callback`."""

    name: str
    instructions: bool = False


class TwilioRequests:
    """The requests of one call."""

    def __init__(self, web: WebClient, auth_token: str, report: CallReport) -> None:
        self._web = web
        self._auth_token = auth_token
        self._report = report
        self._session = web.session()

    async def close(self) -> None:
        await self._session.close()

    async def ask(
        self, purpose: Purpose, method: str, url: str, fields: Mapping[str, str], copies: int = 1
    ) -> tuple[Answer, str | None, str]:
        """Send one request with its retries. Returns the last answer, Twilio's code when it is a failure, and the
        final URL (after redirects). `copies` > 1 repeats it with the same idempotency token, as a retry would be."""
        settings = overrides(url)
        if settings.invalid:
            self._report.violate("11243", f"HTTP retry policy is invalid: {settings.invalid}", where=url)
        host = urlsplit(url).hostname or ""
        if "_" in host:
            why = f"the host name {host} holds an underscore, which Twilio refuses"
            self._report.violate("11100", why, where=url)
            return Answer(0.0, failure=Failure.BAD_URL, why=why), "11100", url
        token = str(uuid.uuid4())
        deadline = time.monotonic() + settings.total_ms / 1000 * self._web.patience
        for _ in range(copies - 1):
            await self._attempt(purpose, method, url, fields, settings, deadline, token, 1)
        attempt = 0
        while True:
            attempt += 1
            answer, final_url = await self._attempt(
                purpose, method, url, fields, settings, deadline, token, attempt
            )
            code = _failure_code(answer)
            if code is None:
                return answer, None, final_url
            if attempt > settings.retries or not _retried(answer, settings) or time.monotonic() >= deadline:
                self._report.violate(code, _failure_text(answer), where=url)
                return answer, code, final_url

    async def _attempt(
        self,
        purpose: Purpose,
        method: str,
        url: str,
        fields: Mapping[str, str],
        settings: Overrides,
        deadline: float,
        token: str,
        attempt: int,
    ) -> tuple[Answer, str]:
        target = url
        authorization: str | None = None
        for _ in range(_MAX_REDIRECTS + 1):
            timeouts = Timeouts(
                settings.connect_ms / 1000 * self._web.patience,
                settings.read_ms / 1000 * self._web.patience,
                max(0.05, deadline - time.monotonic()),
            )
            answer = await self._once(
                purpose, method, target, fields, timeouts, token, attempt, authorization
            )
            if answer.status == 401 and authorization is None and (basic := _basic(url)):
                authorization = basic
                continue
            location = answer.headers.get("location")
            if answer.status in (301, 302, 303, 307, 308) and location:
                target = urljoin(requested_url(target), location)
                if answer.status in (301, 302, 303) and method == "POST":
                    method, fields = "GET", {}
                continue
            return answer, target
        return Answer(0.0, status=310, why="too many redirects"), target

    async def _once(
        self,
        purpose: Purpose,
        method: str,
        url: str,
        fields: Mapping[str, str],
        timeouts: Timeouts,
        token: str,
        attempt: int,
        authorization: str | None,
    ) -> Answer:
        headers = {
            "Accept": "*/*",
            "User-Agent": "TwilioProxy/1.1",
            "I-Twilio-Idempotency-Token": token,
        }
        if authorization:
            headers["Authorization"] = authorization
        body: bytes | None = None
        if method == "GET":
            if fields:
                separator = "&" if urlsplit(url).query else "?"
                url = requested_url(url) + separator + urlencode(fields)
            headers["X-Twilio-Signature"] = signature(self._auth_token, signed_url(url), {})
        else:
            headers["X-Twilio-Signature"] = signature(self._auth_token, signed_url(url), fields)
            headers["Content-Type"] = "application/x-www-form-urlencoded; charset=UTF-8"
            body = urlencode(fields).encode("ascii")
        at_ms = self._report.now_ms()
        answer = await self._web.request(
            self._session,
            method,
            requested_url(url),
            headers=headers,
            body=body,
            timeouts=timeouts,
            max_body=twiml.MAX_BODY,
        )
        self._report.callbacks.append(
            Callback(purpose.name, method, requested_url(url), attempt, answer.status, answer.ms, at_ms,
                     answer.why or None, dict(fields))
        )  # fmt: skip
        if purpose.instructions and answer.status is not None and 200 <= answer.status < 300:
            self._report.instructions_ms.append(answer.ms)
        return answer

    async def connect_socket(self, url: str, sign_as: str) -> aiohttp.ClientWebSocketResponse:
        """Open a media socket. The upgrade is signed over the wss URL. Raises what aiohttp raises."""
        return await self._session.ws_connect(
            url,
            headers={
                "X-Twilio-Signature": signature(self._auth_token, sign_as, {}),
                "User-Agent": "Twilio.TmeWs/1.0",
            },
            max_msg_size=4 * 1024 * 1024,
            timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
            compress=0,
            autoping=True,
        )


def _basic(url: str) -> str | None:
    parts = urlsplit(url)
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


def _failure_code(answer: Answer) -> str | None:
    if answer.failure is not None:
        return _CODES[answer.failure]
    if answer.status == 310:
        return "11215"
    if answer.status is None or not 200 <= answer.status < 300:
        return "11200"
    return None


def _failure_text(answer: Answer) -> str:
    if answer.status is None:
        return f"{answer.failure}: {answer.why}"
    if answer.status == 310:
        return f"more than {_MAX_REDIRECTS} redirects"
    return f"HTTP retrieval failure: the answer was {answer.status}"


def _retried(answer: Answer, settings: Overrides) -> bool:
    if answer.failure in (Failure.PLAIN, Failure.BAD_URL, Failure.TOO_LARGE):
        return False
    if "all" in settings.policy:
        return True
    if answer.failure in CONNECTION_FAILURES:
        return "ct" in settings.policy
    if answer.failure in (Failure.READ_TIMEOUT, Failure.TOTAL_TIMEOUT):
        return "rt" in settings.policy
    if answer.status is not None:
        return f"{answer.status // 100}xx" in settings.policy
    return False
