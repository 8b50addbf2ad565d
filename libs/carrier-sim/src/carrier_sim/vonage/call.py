"""One Vonage call: the phone's leg, the conversation, and the WebSocket legs that come and go."""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from carrier_sim.callee import Callee
from carrier_sim.caller import Caller
from carrier_sim.exchange import Exchange
from carrier_sim.faults import Faults
from carrier_sim.line import Line
from carrier_sim.live import LiveCall, SocketPort
from carrier_sim.media import MediaSocket
from carrier_sim.report import CallReport
from carrier_sim.vonage import ncco
from carrier_sim.vonage.applications import Application, Webhook
from carrier_sim.vonage.audio_socket import LINE_RATE, VonageSocket
from carrier_sim.vonage.requests import VonageRequests
from carrier_sim.web import classify

_MAX_DOCUMENTS = 100
_RATE_EUR = 0.012
_TERMINAL = {"completed", "busy", "timeout", "unanswered", "cancelled", "rejected", "failed"}


@dataclass(frozen=True, slots=True)
class Source:
    """Where instructions come from: a webhook, or an NCCO that is there already."""

    webhook: Webhook | None = None
    actions: Any = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What the call was set up with. `event` None: nobody is told."""

    source: Source
    fallback: Webhook | None
    event: Webhook | None
    ring_timeout_s: float = 60.0
    time_limit_s: float = 7200.0


@dataclass(slots=True)
class SocketLeg:
    """A WebSocket is a leg of its own, with its own uuid."""

    uuid: str
    connect: ncco.Connect
    began: datetime
    answered: datetime | None = None


class _EndOfCall(Exception):  # noqa: N818 - not an error
    """The call's instructions end the call here."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class VonageCall(LiveCall):
    """A call. `status` is what the REST API shows for the phone's leg; numbers are digits only."""

    def __init__(
        self,
        exchange: Exchange,
        application: Application,
        *,
        inbound: bool,
        from_number: str,
        to_number: str,
        plan: Plan,
        faults: Faults | None = None,
    ) -> None:
        self.uuid = str(uuid.uuid4())
        self.conversation_uuid = f"CON-{uuid.uuid4()}"
        self.application = application
        self.direction = "inbound" if inbound else "outbound"
        self.from_number = from_number
        self.to_number = to_number
        self.plan = plan
        self.status = "started"
        self.created = datetime.now(UTC)
        self.answered: datetime | None = None
        self.ended: datetime | None = None
        # Duration and price as the REST API shows them, once the call is over.
        self.bill: dict[str, Any] = {}
        report = CallReport(
            provider="vonage",
            direction="inbound" if inbound else "outbound",
            provider_call_id=self.uuid,
            from_number=from_number,
            to_number=to_number,
            started_at=self.created.isoformat(),
            sample_rate=LINE_RATE,
        )
        report.extra["conversation_uuid"] = self.conversation_uuid
        super().__init__(exchange, report, faults)
        self._requests = VonageRequests(exchange.web, application, report)
        self._transfers: asyncio.Queue[Source] = asyncio.Queue()
        self._leg: SocketLeg | None = None
        self._detail: str | None = None
        self._sip_code = "200"

    def transfer(self, source: Source) -> None:
        """Leave whatever runs and follow these instructions (REST transfer)."""
        self._transfers.put_nowait(source)

    # --- the call's life -----------------------------------------------------------------------------------------------

    async def run_inbound(self, caller: Caller) -> CallReport:
        """A person calls one of our customer's numbers."""
        self._caller = caller
        try:
            self._tell("started")
            self._tell("ringing")
            await self._follow(self.plan.source)
        finally:
            await self._finish()
        return self.report

    async def run_outbound(self, callee: Callee) -> CallReport:
        """Our customer asked for a call."""
        self._caller = callee.caller
        try:
            if await self._ring(callee):
                self._answer()
                await self._follow(self.plan.source)
        finally:
            await self._finish()
        return self.report

    async def _ring(self, callee: Callee) -> bool:
        self._tell("started")
        if await self._ends_within(0.05):
            return False
        if callee.outcome == "failed":
            self._sip_code, self._detail = "404", "cannot_route"
            self.end("carrier", "failed")
            return False
        self._tell("ringing")
        timeout = self.plan.ring_timeout_s
        if await self._ends_within(min(callee.answer_after_s, timeout)):
            return False
        if callee.outcome == "no-answer" or callee.answer_after_s > timeout:
            if await self._ends_within(timeout - callee.answer_after_s):
                return False
            self._sip_code = "480"
            self.end("carrier", "timeout")
        elif callee.outcome == "busy":
            self._sip_code = "486"
            self.end("callee", "busy")
        elif callee.outcome == "rejected":
            self._sip_code, self._detail = "603", "declined"
            self.end("callee", "rejected")
        elif callee.outcome == "canceled":
            self._sip_code = "487"
            self.end("carrier", "cancelled")
        return callee.outcome == "answer" and not self.is_over

    def _answer(self) -> Line:
        """The phone's leg is answered, if it is not yet."""
        if self._line is not None:
            return self._line
        self.answered = datetime.now(UTC)
        self._tell("answered", start_time=None, rate=None, network=None)
        return self._open_line(LINE_RATE, self.plan.time_limit_s)

    async def _follow(self, source: Source) -> None:
        """Run instructions until the call ends; a transfer by REST interrupts them."""
        while not self.is_over:
            instructions = asyncio.create_task(self._perform(source))
            transferred = asyncio.create_task(self._transfers.get())
            events: set[asyncio.Future[Any]] = {instructions, transferred, self._end}
            try:
                await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
                if instructions.done():
                    self.end("instructions", instructions.result())
                elif transferred.done():
                    source = transferred.result()
            finally:
                for task in (instructions, transferred):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    async def _perform(self, source: Source) -> str:
        """Run one NCCO and those that replace it. Returns why they end the call."""
        try:
            instructions = await self._fetch(source)
            for _ in range(_MAX_DOCUMENTS):
                following = await self._run(instructions)
                if following is None:
                    return "end-of-instructions"
                instructions = following
        except _EndOfCall as over:
            return over.cause
        self.report.violate("sim-endless", f"more than {_MAX_DOCUMENTS} NCCOs in one call")
        return "application-error"

    async def _fetch(self, source: Source) -> ncco.Ncco:
        if source.webhook is None:
            instructions = ncco.read_actions(source.actions)
            self._object(instructions, "REST")
            if not instructions.failed:
                return instructions
            self._tell_error(instructions.reason)
            return await self._fall_back(instructions.reason, None)
        copies = self._fortune.next_instructions()
        answer, delivered = await self._requests.ask(
            "instructions", source.webhook, self._call_fields(), copies
        )
        if delivered:
            self.report.instructions_ms.append(answer.ms)
            instructions = ncco.read(answer.body, answer.media_type)
            self._object(instructions, source.webhook.address)
            if not instructions.failed:
                return instructions
            reason = instructions.reason
            self._tell_error(reason)
        else:
            reason = "Connection closed." if answer.status is None else f"HTTP status {answer.status}."
        return await self._fall_back(reason, source.webhook)

    async def _fall_back(self, reason: str, failed: Webhook | None) -> ncco.Ncco:
        """The fallback answer URL, or the end of the call."""
        if self.plan.fallback is not None and failed is not None:
            fields = self._call_fields() | {
                "reason": reason,
                "original_request": {"url": failed.address, "type": "answer"},
            }
            answer, delivered = await self._requests.ask("fallback", self.plan.fallback, fields)
            if delivered:
                self.report.instructions_ms.append(answer.ms)
                instructions = ncco.read(answer.body, answer.media_type)
                self._object(instructions, self.plan.fallback.address)
                if not instructions.failed:
                    return instructions
                self._tell_error(instructions.reason)
        raise _EndOfCall("application-error")

    def _object(self, instructions: ncco.Ncco, where: str) -> None:
        for objection in instructions.objections:
            self.report.violate(objection.code, objection.message, severity=objection.severity, where=where)

    async def _run(self, instructions: ncco.Ncco) -> ncco.Ncco | None:
        """Run the actions. Returns an NCCO that replaces the rest, None at the end."""
        for action in instructions.actions:
            line = self._answer()
            match action:
                case ncco.Talk(text, loop):
                    # loop 0 repeats for ever; nobody listens that long.
                    for _ in range(loop or 10):
                        await line.announce(text)
                case ncco.Wait(seconds):
                    await asyncio.sleep(seconds)
                case ncco.Connect() as connect:
                    if (following := await self._connect(connect, line)) is not None:
                        return following
        return None

    # --- the WebSocket leg -----------------------------------------------------------------------------------------------

    async def _connect(self, connect: ncco.Connect, line: Line) -> ncco.Ncco | None:
        """Run one WebSocket leg to its end. Returns the NCCO its last event was answered with."""
        leg = SocketLeg(str(uuid.uuid4()), connect, datetime.now(UTC))
        if not self._may_dial(connect.uri):
            line.open()
            return await self._ask_leg(leg, "failed", {"detail": "cannot_route"}, connect.synchronous)
        self._tell_leg(leg, "started")
        self._tell_leg(leg, "ringing")
        authorization = connect.custom_authorization
        if connect.vonage_authorization:
            authorization = self._requests.socket_token()
        try:
            async with asyncio.timeout(5.0):
                raw = await self._requests.connect_socket(connect.uri, authorization)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            line.open()
            if isinstance(error, aiohttp.WSServerHandshakeError):
                why = f"the answer to the upgrade was {error.status}"
            elif isinstance(error, TimeoutError):
                why = "no connection within 5 s"
            else:
                failure, words = classify(error)
                why = f"{failure}: {words}"
            self.report.violate("vonage-websocket-failed", why, where=connect.uri)
            status, detail = ("unanswered", "timeout") if "timeout" in why else ("failed", "cannot_route")
            return await self._ask_leg(leg, status, {"detail": detail}, connect.synchronous)
        leg.answered = datetime.now(UTC)
        self._leg = leg
        self._tell_leg(leg, "answered", start_time=None, rate=None, network=None)
        protocol = VonageSocket(
            connect.content_type, connect.sample_rate, connect.headers, self.report, connect.uri
        )
        port = SocketPort(protocol)
        socket = MediaSocket(raw, port.receive)
        port.attach(socket)
        try:
            async with asyncio.timeout(connect.limit_s):
                closed = await self._converse(socket, port)
        except TimeoutError:
            self._leg = None
            self._tell_leg(leg, "completed", **self._bill(leg.answered))
            return None
        if closed.how in ("server-vanished", "protocol-error"):
            self.report.violate(
                "vonage-websocket-failed", f"the socket broke: {closed.why}", where=connect.uri
            )
        self._leg = None
        # Headers come back; whoever gets this event may answer with a new NCCO.
        return await self._ask_leg(leg, "disconnected", {"headers": dict(connect.headers)}, True)

    def _may_dial(self, uri: str) -> bool:
        parts = urlsplit(uri)
        if parts.scheme not in ("wss", "ws") or not parts.hostname:
            self.report.violate("vonage-websocket-failed", f"{uri!r} is not a WebSocket URI", where=uri)
            return False
        if parts.scheme == "ws" and not self._exchange.config.allow_plain:
            self.report.violate("sim-tls-required", "ws is not encrypted: use wss", where=uri)
            return False
        return True

    async def _ask_leg(
        self, leg: SocketLeg, status: str, extra: dict[str, Any], may_answer: bool
    ) -> ncco.Ncco | None:
        """Tell a leg's end; an NCCO in the answer goes on with the call, where one may be given."""
        webhook = self._leg_webhook(leg)
        if webhook is None:
            return None
        await self._courier.catch_up()
        answer, delivered = await self._requests.ask("event", webhook, self._leg_fields(leg, status) | extra)
        if not may_answer or not delivered or answer.status == 204 or not answer.body.strip():
            return None
        if answer.media_type != "application/json" or not answer.body.lstrip().startswith(b"["):
            # Not an NCCO: an ordinary acknowledgement.
            return None
        instructions = ncco.read(answer.body, answer.media_type)
        self._object(instructions, webhook.address)
        if instructions.failed:
            self._tell_error(instructions.reason)
            return None
        self.report.instructions_ms.append(answer.ms)
        return instructions

    def _leg_webhook(self, leg: SocketLeg) -> Webhook | None:
        if leg.connect.event_url is None:
            return self.plan.event
        return Webhook(leg.connect.event_url, leg.connect.event_method, 1.0, 10.0)

    def _leg_fields(self, leg: SocketLeg, status: str) -> dict[str, Any]:
        return {
            "from": self.from_number if self.direction == "inbound" else self.to_number,
            "to": leg.connect.uri,
            "uuid": leg.uuid,
            "conversation_uuid": self.conversation_uuid,
            "status": status,
            "direction": "outbound",
            "timestamp": timestamp(datetime.now(UTC)),
        }

    def _tell_leg(self, leg: SocketLeg, status: str, **extra: Any) -> None:
        if (webhook := self._leg_webhook(leg)) is not None:
            self._post(f"{status} (websocket)", webhook, self._leg_fields(leg, status) | extra)

    # --- events ------------------------------------------------------------------------------------------------------------

    def _call_fields(self) -> dict[str, Any]:
        return {
            "from": self.from_number,
            "to": self.to_number,
            "uuid": self.uuid,
            "conversation_uuid": self.conversation_uuid,
        }

    def _tell(self, status: str, **extra: Any) -> None:
        """The phone's leg reached a status."""
        self.status = status
        self.report.reached(status)
        if self.plan.event is None:
            return
        fields = self._call_fields() | {
            "status": status,
            "direction": self.direction,
            "timestamp": timestamp(datetime.now(UTC)),
        }
        self._post(status, self.plan.event, fields | extra)

    def _tell_error(self, reason: str) -> None:
        if self.plan.event is not None:
            fields = {
                "reason": reason,
                "conversation_uuid": self.conversation_uuid,
                "timestamp": timestamp(datetime.now(UTC)),
            }
            self._post("error", self.plan.event, fields)

    def _post(self, name: str, webhook: Webhook, fields: dict[str, Any]) -> None:
        async def deliver() -> None:
            await self._requests.ask("event", webhook, fields)

        self._courier.post(name, deliver)

    def _bill(self, answered: datetime | None) -> dict[str, Any]:
        """Duration and price of a leg that ends now. Price and rate are in the event, unlike at Twilio."""
        now = datetime.now(UTC)
        seconds = max(0, round((now - answered).total_seconds())) if answered else 0
        return {
            "start_time": timestamp(answered) if answered else None,
            "end_time": timestamp(now),
            "duration": str(seconds),
            "rate": f"{_RATE_EUR:.5f}",
            "price": f"{_RATE_EUR * seconds / 60:.8f}",
            "network": "US-FIXED",
        }

    async def _finish(self) -> None:
        by, cause = await self._close_line()
        self.ended = datetime.now(UTC)
        if self._leg is not None:
            self._tell_leg(self._leg, "completed", **self._bill(self._leg.answered))
        self.bill = self._bill(self.answered)
        ending = {"disconnected_by": "user" if by in ("caller", "callee") else "platform"}
        if self._line is not None or (self.direction == "inbound" and cause == "end-of-instructions"):
            self._tell("completed", **self.bill, **ending, sip_code=self._sip_code)
        elif cause in _TERMINAL:
            extra = {"detail": self._detail} if self._detail else {}
            self._tell(cause, **extra, sip_code=self._sip_code)
        elif by in ("rest", "caller") or cause == "simulation-stopped":
            self._tell("cancelled", sip_code="487")
        else:
            self._tell("failed", detail="internal_error", sip_code="500")
        try:
            await self._deliver_the_rest()
        finally:
            await self._requests.close()


def timestamp(when: datetime) -> str:
    """ISO 8601, UTC, milliseconds: `2026-01-01T12:00:00.000Z`."""
    return when.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
