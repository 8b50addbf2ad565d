"""The media streams of a Twilio call: dialled, judged, and told about. https://www.twilio.com/docs/voice/twiml/stream"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit

import aiohttp

from carrier_sim.config import SimConfig
from carrier_sim.line import Line
from carrier_sim.live import SocketPort
from carrier_sim.media import Closed, MediaSocket
from carrier_sim.report import CallReport
from carrier_sim.twilio import twiml
from carrier_sim.twilio.fields import new_sid
from carrier_sim.twilio.requests import TwilioRequests
from carrier_sim.twilio.stream import TwilioStream
from carrier_sim.web import Failure, classify

_FAILURES: Final = {
    Failure.CONNECT: "31902",
    Failure.CONNECT_TIMEOUT: "31901",
    Failure.DNS: "31904",
    Failure.TLS: "31910",
    Failure.CERTIFICATE: "31910",
    Failure.CERTIFICATE_NAME: "31910",
    Failure.CERTIFICATE_EXPIRED: "31910",
    Failure.RESET: "31903",
}

Tell = Callable[[str, str, str, dict[str, str]], None]
"""Posts a callback: what it is about, method, URL, fields."""


class Converse(Protocol):
    """Runs an open socket with the person's line until it ends."""

    def __call__(
        self, socket: MediaSocket, port: SocketPort, *, both_ways: bool = True
    ) -> Awaitable[Closed]: ...


class Streams:
    """The streams of one call."""

    def __init__(
        self,
        call_sid: str,
        account_sid: str,
        *,
        config: SimConfig,
        report: CallReport,
        requests: TwilioRequests,
        converse: Converse,
        tell: Tell,
    ) -> None:
        self._call_sid, self._account_sid = call_sid, account_sid
        self._config = config
        self._report = report
        self._requests = requests
        self._converse = converse
        self._tell = tell

    async def run(self, stream: twiml.Stream, base: str, line: Line, *, bidirectional: bool) -> None:
        """Run one media stream until the server closes it; when cancelled, say stop and close."""
        stream_sid = new_sid("MZ")
        url = self._url(stream, base)
        if url is None:
            line.open()
            return
        limit_s = 5.0 * self._config.patience
        try:
            async with asyncio.timeout(limit_s):
                raw = await self._requests.connect_socket(url, self._signed_url(url))
        except aiohttp.WSServerHandshakeError as error:
            line.open()
            self._failed(stream, stream_sid, "31920", f"Handshake Error: the answer was {error.status}", url)
            return
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            timed_out = isinstance(error, TimeoutError)
            failure, why = (
                (Failure.CONNECT_TIMEOUT, f"no connection within {limit_s:g} s")
                if timed_out
                else classify(error)
            )
            line.open()
            self._failed(stream, stream_sid, _FAILURES.get(failure, "31900"), why, url)
            return
        protocol = TwilioStream(
            stream_sid,
            self._call_sid,
            self._account_sid,
            dict(stream.parameters),
            self._report,
            bidirectional,
        )
        port = SocketPort(protocol)
        socket = MediaSocket(raw, port.receive)
        port.attach(socket)
        self._event(stream, stream_sid, "stream-started")
        try:
            self._judge_close(await self._converse(socket, port, both_ways=bidirectional), stream_sid)
        finally:
            if socket.overflowed:
                self._report.violate(
                    "31930",
                    f"Media Buffer Overflow: the server did not read, {socket.overflowed} messages were lost",
                    severity="warning",
                    where=stream_sid,
                )
            self._event(stream, stream_sid, "stream-stopped")

    def _url(self, stream: twiml.Stream, base: str) -> str | None:
        """The absolute wss URL, or None when Twilio would not call it."""
        if not stream.url:
            self._report.violate("31923", "Malformed URL: <Stream> has no url", where=base)
            return None
        parts = urlsplit(stream.url)
        if not parts.scheme:
            # A relative URL is the document's, with the WebSocket scheme.
            own = urlsplit(urljoin(base, stream.url))
            parts = own._replace(scheme="wss" if own.scheme == "https" else "ws")
        if parts.scheme not in ("wss", "ws"):
            self._report.violate(
                "31922", f"URL Schema Not Supported: {parts.scheme}; wss is required", where=stream.url
            )
            return None
        if parts.scheme == "ws" and not self._config.allow_plain:
            self._report.violate("31922", "URL Schema Not Supported: ws; wss is required", where=stream.url)
            return None
        if not parts.hostname:
            self._report.violate("31923", f"Malformed URL: {stream.url!r} names no host", where=base)
            return None
        if parts.query:
            self._report.violate(
                "sim-stream-query",
                "the query string of a <Stream url> is not supported: Twilio drops it before connecting;"
                " use path segments or <Parameter>",
                where=stream.url,
            )
        return urlunsplit(parts._replace(query="", fragment=""))

    def _signed_url(self, url: str) -> str:
        match self._config.upgrade_signature:
            case "without-port":
                parts = urlsplit(url)
                return urlunsplit(parts._replace(netloc=parts.hostname or ""))
            case "trailing-slash":
                return url if url.endswith("/") else url + "/"
            case _:
                return url

    def _failed(self, stream: twiml.Stream, stream_sid: str, code: str, why: str, url: str) -> None:
        self._report.violate(code, f"Stream: {why}", where=url)
        self._event(stream, stream_sid, "stream-error", f"{code}: {why}")

    def _judge_close(self, closed: Closed, stream_sid: str) -> None:
        match closed.how:
            case "server-closed":
                self._report.violate(
                    "31921", f"Close Error: the server closed the stream (close code {closed.code}) before the call ended",
                    severity="warning", where=stream_sid,
                )  # fmt: skip
            case "server-vanished":
                self._report.violate(
                    "31924", f"Protocol Error: the connection broke {closed.why}", where=stream_sid
                )
            case "protocol-error":
                self._report.violate("31924", f"Protocol Error: {closed.why}", where=stream_sid)

    def _event(self, stream: twiml.Stream, stream_sid: str, event: str, error: str = "") -> None:
        if stream.status_callback is None:
            return
        fields = {
            "AccountSid": self._account_sid,
            "CallSid": self._call_sid,
            "StreamSid": stream_sid,
            "StreamName": stream.name or stream_sid,
            "StreamEvent": event,
            # ISO 8601 here, unlike in the callbacks of the call.
            "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        }
        if error:
            fields["StreamError"] = error
        self._tell(event, stream.status_callback_method, stream.status_callback, fields)
