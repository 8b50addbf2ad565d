"""A WebSocket connected by an NCCO: a leg of its own, with its own uuid and events."""

import asyncio
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp

from carrier_sim.line import Line
from carrier_sim.live import SocketPort
from carrier_sim.media import MediaSocket
from carrier_sim.vonage import ncco
from carrier_sim.vonage.applications import Webhook
from carrier_sim.vonage.audio_socket import VonageSocket
from carrier_sim.vonage.fields import timestamp
from carrier_sim.web import classify

if TYPE_CHECKING:
    from carrier_sim.vonage.call import VonageCall


@dataclass(slots=True)
class WebsocketLeg:
    """One connected WebSocket. `is_up` while its socket is open."""

    call: "VonageCall"
    connect: ncco.Connect
    uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    answered: datetime | None = None
    is_up: bool = False

    async def run(self, line: Line) -> ncco.Ncco | None:
        """Run the leg to its end. Returns the NCCO its last event was answered with."""
        connect, report = self.connect, self.call.report
        if not self._may_dial(connect.uri):
            line.open()
            return await self._ask("failed", {"detail": "cannot_route"}, connect.synchronous)
        self.tell("started")
        self.tell("ringing")
        authorization = connect.custom_authorization
        requests = self.call.requests
        if connect.vonage_authorization:
            authorization = requests.socket_token()
        limit_s = 5.0 * self.call.patience
        try:
            async with asyncio.timeout(limit_s):
                raw = await requests.connect_socket(connect.uri, authorization)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            line.open()
            if isinstance(error, aiohttp.WSServerHandshakeError):
                why = f"the answer to the upgrade was {error.status}"
            elif isinstance(error, TimeoutError):
                why = f"no connection within {limit_s:g} s"
            else:
                failure, words = classify(error)
                why = f"{failure}: {words}"
            report.violate("vonage-websocket-failed", why, where=connect.uri)
            status, detail = ("unanswered", "timeout") if "timeout" in why else ("failed", "cannot_route")
            return await self._ask(status, {"detail": detail}, connect.synchronous)
        self.answered, self.is_up = datetime.now(UTC), True
        self.tell("answered", start_time=None, rate=None, network=None)
        protocol = VonageSocket(
            connect.content_type, connect.sample_rate, connect.headers, report, connect.uri
        )
        port = SocketPort(protocol)
        socket = MediaSocket(raw, port.receive)
        port.attach(socket)
        try:
            async with asyncio.timeout(connect.limit_s):
                closed = await self.call.converse(socket, port)
        except TimeoutError:
            self.end()
            return None
        if closed.how in ("server-vanished", "protocol-error"):
            report.violate("vonage-websocket-failed", f"the socket broke: {closed.why}", where=connect.uri)
        self.is_up = False
        # Headers come back; whoever gets this event may answer with a new NCCO.
        return await self._ask("disconnected", {"headers": dict(connect.headers)}, True)

    def end(self) -> None:
        """The call left the socket: its leg is over, if it was up."""
        if self.is_up:
            self.is_up = False
            self.tell("completed", **self.call.bill_of(self.answered))

    def tell(self, status: str, **extra: Any) -> None:
        if (webhook := self._webhook()) is not None:
            self.call.post(f"{status} (websocket)", webhook, self._fields(status) | extra)

    def _may_dial(self, uri: str) -> bool:
        parts, report = urlsplit(uri), self.call.report
        if parts.scheme not in ("wss", "ws") or not parts.hostname:
            report.violate("vonage-websocket-failed", f"{uri!r} is not a WebSocket URI", where=uri)
            return False
        if parts.scheme == "ws" and not self.call.allows_plain:
            report.violate("sim-tls-required", "ws is not encrypted: use wss", where=uri)
            return False
        return True

    async def _ask(self, status: str, extra: dict[str, Any], may_answer: bool) -> ncco.Ncco | None:
        """Tell the leg's end; an NCCO in the answer goes on with the call, where one may be given."""
        webhook = self._webhook()
        if webhook is None:
            return None
        return await self.call.ask_event(webhook, self._fields(status) | extra, may_answer=may_answer)

    def _webhook(self) -> Webhook | None:
        return self.call.event_webhook(self.connect.event_url, self.connect.event_method)

    def _fields(self, status: str) -> dict[str, Any]:
        call = self.call
        return {
            "from": call.from_number if call.direction == "inbound" else call.to_number,
            "to": self.connect.uri,
            "uuid": self.uuid,
            "conversation_uuid": call.conversation_uuid,
            "status": status,
            "direction": "outbound",
            "timestamp": timestamp(datetime.now(UTC)),
        }
