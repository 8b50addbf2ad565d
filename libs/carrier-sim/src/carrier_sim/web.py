"""The carrier as an HTTP client: one request with the carrier's timeouts, and exactly what became of it."""

import asyncio
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL


class Failure(StrEnum):
    """Why there was no usable HTTP answer. The providers give each its own code."""

    PLAIN = "plain"
    BAD_URL = "bad-url"
    DNS = "dns"
    CONNECT = "connect"
    CONNECT_TIMEOUT = "connect-timeout"
    TLS = "tls"
    CERTIFICATE = "certificate"
    CERTIFICATE_NAME = "certificate-name"
    CERTIFICATE_EXPIRED = "certificate-expired"
    READ_TIMEOUT = "read-timeout"
    TOTAL_TIMEOUT = "total-timeout"
    RESET = "reset"
    PROTOCOL = "protocol"
    TOO_LARGE = "too-large"


# Nothing was received, and the request may not have been processed: connecting or securing the connection failed.
CONNECTION_FAILURES = frozenset(
    {Failure.CONNECT, Failure.CONNECT_TIMEOUT, Failure.DNS, Failure.TLS, Failure.CERTIFICATE,
     Failure.CERTIFICATE_NAME, Failure.CERTIFICATE_EXPIRED}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: to connect including TLS, between bytes of the answer, and in all."""

    connect: float
    read: float
    total: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What one attempt came to: either `status` with headers (lower-case names) and body, or `failure` with words for it."""

    ms: float
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: Failure | None = None
    why: str = ""

    @property
    def media_type(self) -> str:
        """The Content-Type without parameters, lower case."""
        return self.headers.get("content-type", "").split(";")[0].strip().lower()


class _Resolver(AbstractResolver):
    """The system's resolver, but for the hosts of `fixed` (host → address and port), as curl's `--resolve`."""

    def __init__(self, fixed: Mapping[str, str]) -> None:
        self._fixed = fixed
        self._system = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        target = self._fixed.get(host)
        if target is None:
            return await self._system.resolve(host, port, family)
        address, _, fixed_port = target.rpartition(":")
        return [
            ResolveResult(
                hostname=host, host=address, port=int(fixed_port), family=socket.AF_INET, proto=0,
                flags=socket.AI_NUMERICHOST,
            )
        ]  # fmt: skip

    async def close(self) -> None:
        await self._system.close()


class WebClient:
    """All connections of the carrier to its customers. A fresh connection each request: nothing hides behind a warm one.

    Its users multiply the carrier's time limits by `patience`.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        *,
        allow_plain: bool,
        resolve: Mapping[str, str] | None = None,
        patience: float = 1.0,
    ) -> None:
        self.patience = patience
        self._context = context
        self._allow_plain = allow_plain
        self._connector = aiohttp.TCPConnector(
            ssl=context,
            force_close=True,
            limit=0,
            resolver=_Resolver({} if resolve is None else resolve),
            use_dns_cache=False,
        )

    async def close(self) -> None:
        await self._connector.close()

    def session(self) -> aiohttp.ClientSession:
        """A session of its own cookies, for one call. The caller closes it."""
        return aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            cookie_jar=aiohttp.CookieJar(unsafe=True),
            auto_decompress=True,
            skip_auto_headers=("User-Agent",),
        )

    def objection(self, url: str, schemes: tuple[str, str]) -> tuple[Failure, str] | None:
        """What is wrong with a URL before anybody calls it. `schemes`: the secure one, the plain one."""
        secure, plain = schemes
        try:
            parsed = URL(url, encoded=True)
            host = parsed.host
        except ValueError as error:
            return Failure.BAD_URL, f"{url!r} is not a URL: {error}"
        if parsed.scheme not in schemes or not host:
            return Failure.BAD_URL, f"{url!r} is not an absolute {secure} URL"
        if parsed.scheme == plain and not self._allow_plain:
            return Failure.PLAIN, f"{url} is not encrypted: {secure} is required"
        return None

    async def request(
        self,
        session: aiohttp.ClientSession,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeouts: Timeouts,
        max_body: int,
    ) -> Answer:
        """One attempt. `url` goes out exactly as given (no fragment, no user information in it)."""
        if objection := self.objection(url, ("https", "http")):
            return Answer(0.0, failure=objection[0], why=objection[1])
        began = time.monotonic()

        def failed(failure: Failure, why: str) -> Answer:
            return Answer(_ms_since(began), failure=failure, why=why)

        try:
            async with (
                asyncio.timeout(timeouts.total),
                session.request(
                    method,
                    URL(url, encoded=True),
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(
                        sock_connect=timeouts.connect, sock_read=timeouts.read, ceil_threshold=3600
                    ),
                ) as response,
            ):
                received = await response.content.read(max_body + 1)
                while len(received) <= max_body and not response.content.at_eof():
                    more = await response.content.read(max_body + 1 - len(received))
                    received += more
                if len(received) > max_body:
                    return failed(Failure.TOO_LARGE, f"the answer is larger than {max_body} bytes")
                return Answer(
                    _ms_since(began),
                    status=response.status,
                    headers={name.lower(): value for name, value in response.headers.items()},
                    body=received,
                )
        except aiohttp.ConnectionTimeoutError:
            return failed(Failure.CONNECT_TIMEOUT, f"no connection within {timeouts.connect:g} s")
        except aiohttp.SocketTimeoutError:
            return failed(Failure.READ_TIMEOUT, f"no answer within {timeouts.read:g} s")
        except TimeoutError:
            return failed(Failure.TOTAL_TIMEOUT, f"not finished within {timeouts.total:g} s")
        except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
            return failed(*classify(error))


def classify(error: BaseException) -> tuple[Failure, str]:
    """Name what aiohttp raised."""
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failure.DNS, f"the host {error.host} has no address"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = str(error.certificate_error)
        if "expired" in why:
            return Failure.CERTIFICATE_EXPIRED, why
        name = "mismatch" in why or "not valid for" in why
        return (Failure.CERTIFICATE_NAME if name else Failure.CERTIFICATE), why
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return Failure.TLS, str(error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failure.CONNECT, str(error)
    if isinstance(error, aiohttp.InvalidURL):
        return Failure.BAD_URL, str(error)
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError | OSError):
        return Failure.RESET, f"the connection broke: {error}"
    return Failure.PROTOCOL, f"not understandable HTTP: {error}"


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 1)
