"""One Vonage call: the phone's leg, the conversation, and the WebSocket legs that come and go."""

import asyncio
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Literal

from carrier_sim.callee import Callee
from carrier_sim.caller import Caller
from carrier_sim.exchange import Exchange
from carrier_sim.faults import Faults
from carrier_sim.line import Line
from carrier_sim.live import LiveCall, SocketPort
from carrier_sim.media import Closed, MediaSocket
from carrier_sim.report import CallReport
from carrier_sim.room import Room
from carrier_sim.vonage import detection, ncco, phone_leg
from carrier_sim.vonage.applications import Application, Webhook
from carrier_sim.vonage.audio_socket import LINE_RATE
from carrier_sim.vonage.fields import timestamp
from carrier_sim.vonage.plan import Plan, Source
from carrier_sim.vonage.requests import VonageRequests
from carrier_sim.vonage.websocket_leg import WebsocketLeg

_MAX_DOCUMENTS = 100
_RATE_EUR = 0.012
_TERMINAL = {"completed", "busy", "timeout", "unanswered", "cancelled", "rejected", "failed"}


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
        parent: "VonageCall | None" = None,
    ) -> None:
        self.uuid = str(uuid.uuid4())
        self.conversation_uuid: str = parent.conversation_uuid if parent else f"CON-{uuid.uuid4()}"
        self.parent = parent
        self.legs: list[VonageCall] = []
        # Of a leg within another call: its last event may be answered with an NCCO, `following`.
        self.asks_at_end = False
        self.following: ncco.Ncco | None = None
        self.end_is_told = asyncio.Event()
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
        if parent is not None:
            report.extra["parent_uuid"] = parent.uuid
        super().__init__(exchange, report, faults or application.faults)
        self.requests = VonageRequests(exchange.web, application, report)
        self._transfers: asyncio.Queue[Source] = asyncio.Queue()
        self._socket_leg: WebsocketLeg | None = None
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
                self._background(detection.detect(self, callee))
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
        line = self._open_line(LINE_RATE, self.plan.time_limit_s)
        line.press_into_ear(self.plan.send_digits)
        return line

    def press(self, digits: str) -> None:
        """Press keys into the ear of the person on the phone (REST)."""
        assert self._line is not None
        self._line.press_into_ear(digits)

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
                    self.moved(f"CON-{uuid.uuid4()}")
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
        answer, delivered = await self.requests.ask(
            "instructions", source.webhook, self.call_fields(), copies
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
            fields = self.call_fields() | {
                "reason": reason,
                "original_request": {"url": failed.address, "type": "answer"},
            }
            answer, delivered = await self.requests.ask("fallback", self.plan.fallback, fields)
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
                    if (following := await self._connect_socket(connect, line)) is not None:
                        return following
                case ncco.ConnectPhone() as connect_phone:
                    if (following := await phone_leg.connect(self, connect_phone, line)) is not None:
                        return following
                case ncco.Conversation() as conversation:
                    await phone_leg.confer(self, conversation, line)
                case ncco.Notify() as notify:
                    if (following := await self._notify(notify)) is not None:
                        return following
        return None

    async def _notify(self, notify: ncco.Notify) -> ncco.Ncco | None:
        fields = {
            "payload": dict(notify.payload),
            "conversation_uuid": self.conversation_uuid,
            "timestamp": timestamp(datetime.now(UTC)),
        }
        webhook = Webhook(notify.event_url, notify.event_method, 1.0, 10.0)
        return await self.ask_event(webhook, fields, may_answer=True)

    # --- legs ----------------------------------------------------------------------------------------------------------

    @property
    def allows_plain(self) -> bool:
        return self._exchange.config.allow_plain

    def application_has(self, number: str) -> bool:
        """Whether a number (digits) is linked to the call's application."""
        return self.application.has_number(number)

    async def converse(self, socket: MediaSocket, port: SocketPort) -> Closed:
        """Run an open audio socket with the person's line until it ends."""
        return await self._converse(socket, port)

    async def _connect_socket(self, connect: ncco.Connect, line: Line) -> ncco.Ncco | None:
        leg = self._socket_leg = WebsocketLeg(self, connect)
        try:
            return await leg.run(line)
        except asyncio.CancelledError:
            # Transferred away, or over: then the last events are told in order, see `_finish`.
            if not self.is_over:
                leg.end()
            raise

    def leg(self, from_number: str, to_number: str, plan: Plan, *, asks_at_end: bool) -> "VonageCall":
        """The call to another phone that shall be connected with this one."""
        callee = self._exchange.callees.find(to_number)
        leg = VonageCall(
            self._exchange, self.application, inbound=False, from_number=from_number, to_number=to_number,
            plan=plan, faults=callee.faults, parent=self,
        )  # fmt: skip
        leg.asks_at_end = asks_at_end
        self.legs.append(leg)
        self.report.legs.append(leg.uuid)
        return leg

    def run_leg(self, leg: "VonageCall", room: Room) -> None:
        """Ring the other phone; it enters `room` when it is answered."""
        self._exchange.spawn(leg.run_connected(self._exchange.callees.find(leg.to_number), room))

    async def run_connected(self, callee: Callee, room: Room) -> CallReport:
        """Another call connects this one."""
        self._caller = callee.caller
        try:
            if await self._ring(callee):
                seat = room.enter(self._answer())
                self._background(detection.detect(self, callee))
                await self.until_over()
                room.leave(seat)
        finally:
            await self._finish()
        return self.report

    def moved(self, conversation_uuid: str) -> None:
        """The phone's leg is in another conversation from now on."""
        before, self.conversation_uuid = self.conversation_uuid, conversation_uuid
        if self.plan.event is not None:
            fields = self.call_fields() | {
                "status": "transfer",
                "conversation_uuid_from": before,
                "conversation_uuid_to": conversation_uuid,
                "timestamp": timestamp(datetime.now(UTC)),
            }
            self.post("transfer", self.plan.event, fields)

    # --- events ------------------------------------------------------------------------------------------------------------

    def call_fields(self) -> dict[str, Any]:
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
        self.post(status, self.plan.event, self._status_fields(status) | extra)

    def _status_fields(self, status: str) -> dict[str, Any]:
        return self.call_fields() | {
            "status": status,
            "direction": self.direction,
            "timestamp": timestamp(datetime.now(UTC)),
        }

    def _tell_error(self, reason: str) -> None:
        if self.plan.event is not None:
            fields = {
                "reason": reason,
                "conversation_uuid": self.conversation_uuid,
                "timestamp": timestamp(datetime.now(UTC)),
            }
            self.post("error", self.plan.event, fields)

    def event_webhook(self, address: str | None, method: Literal["GET", "POST"]) -> Webhook | None:
        """Where a leg's events go: to an address of its own, or to the call's."""
        return self.plan.event if address is None else Webhook(address, method, 1.0, 10.0)

    async def ask_event(
        self, webhook: Webhook, fields: dict[str, Any], *, may_answer: bool
    ) -> ncco.Ncco | None:
        """Tell an event, after those before it. Returns the NCCO in the answer, where one may be given."""
        await self._courier.catch_up()
        answer, delivered = await self.requests.ask("event", webhook, fields)
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

    def post(self, name: str, webhook: Webhook, fields: dict[str, Any]) -> None:
        async def deliver() -> None:
            await self.requests.ask("event", webhook, fields)

        self._courier.post(name, deliver)

    def bill_of(self, answered: datetime | None) -> dict[str, Any]:
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
        if self._socket_leg is not None:
            self._socket_leg.end()
        self.bill = self.bill_of(self.answered)
        await self._tell_end(by, cause)
        self.end_is_told.set()
        try:
            await self._deliver_the_rest()
        finally:
            await self.requests.close()

    async def _tell_end(self, by: str, cause: str) -> None:
        if self._line is not None or (self.direction == "inbound" and cause == "end-of-instructions"):
            ending = {"disconnected_by": "user" if by in ("caller", "callee") else "platform"}
            self._tell("completed", **self.bill, **ending, sip_code=self._sip_code)
            return
        extra: dict[str, Any]
        if cause in _TERMINAL:
            status, extra = cause, {"detail": self._detail} if self._detail else {}
            extra |= {"sip_code": self._sip_code}
        elif by in ("rest", "caller") or cause in ("simulation-stopped", "parent-ended"):
            status, extra = "cancelled", {"sip_code": "487"}
        else:
            status, extra = "failed", {"detail": "internal_error", "sip_code": "500"}
        if self.asks_at_end and self.plan.event is not None and cause != "parent-ended":
            self.status = status
            self.report.reached(status)
            fields = self._status_fields(status) | extra
            self.following = await self.ask_event(self.plan.event, fields, may_answer=True)
        else:
            self._tell(status, **extra)
