"""One Twilio call from the first ring to the last callback."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urljoin

from carrier_sim.callee import Callee
from carrier_sim.caller import Caller
from carrier_sim.exchange import Exchange
from carrier_sim.faults import Faults
from carrier_sim.line import Line
from carrier_sim.live import LiveCall
from carrier_sim.report import CallReport
from carrier_sim.room import Room
from carrier_sim.twilio import twiml
from carrier_sim.twilio.accounts import Account, Number
from carrier_sim.twilio.dialling import Dialling
from carrier_sim.twilio.fields import base_fields, new_sid, rfc2822
from carrier_sim.twilio.plan import Detection, Plan, Source
from carrier_sim.twilio.requests import Purpose, TwilioRequests
from carrier_sim.twilio.stream import SAMPLE_RATE
from carrier_sim.twilio.streams import Streams

_INSTRUCTIONS = Purpose("instructions", instructions=True)
_FALLBACK = Purpose("fallback", instructions=True)
_STATUS = Purpose("status")
_STREAM_STATUS = Purpose("stream-status")

# Twilio's own words when an application fails.
_APPLICATION_ERROR = "We are sorry. An application error has occurred. Goodbye."
_MAX_DOCUMENTS = 100
# Real detection takes about 4 s; tests need not.
_DETECTION_S = 1.0
_BEEP_S = 0.5
# Which subscribed event tells a status (https://www.twilio.com/docs/voice/api/call-resource#statuscallbackevent).
_EVENT_OF = {"initiated": "initiated", "ringing": "ringing", "in-progress": "answered"}
_SIP_CODES = {"busy": "486", "no-answer": "487", "failed": "404"}


class _EndOfCall(Exception):  # noqa: N818 - not an error
    """The call's instructions end the call here."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class TwilioCall(LiveCall):
    """A call and its resource. `status` is the resource's; `initiated` exists only in callbacks."""

    def __init__(
        self,
        exchange: Exchange,
        account: Account,
        *,
        direction: str,
        from_number: str,
        to_number: str,
        plan: Plan,
        number: Number | None,
        faults: Faults | None = None,
        parent: "TwilioCall | None" = None,
    ) -> None:
        self.sid = new_sid("CA")
        self.account = account
        self.direction = direction
        self.from_number = from_number
        self.to_number = to_number
        self.number = number
        self.parent = parent
        self.legs: list[TwilioCall] = []
        self.status = "ringing" if direction == "inbound" else "queued"
        self.created = datetime.now(UTC)
        self.answered: datetime | None = None
        self.ended: datetime | None = None
        self.answered_by: str | None = None
        self.plan = plan
        # The price is not known when the call ends.
        self.price_after_s = exchange.config.price_after_s
        report = CallReport(
            provider="twilio",
            direction="inbound" if direction == "inbound" else "outbound",
            provider_call_id=self.sid,
            from_number=from_number,
            to_number=to_number,
            started_at=self.created.isoformat(),
            sample_rate=SAMPLE_RATE,
        )
        if parent is not None:
            report.extra["parent_call_sid"] = parent.sid
        super().__init__(exchange, report, faults or account.faults)
        self._requests = TwilioRequests(exchange.web, account.auth_token, report)
        self._streams = Streams(
            self.sid, account.sid, config=exchange.config, report=report, requests=self._requests,
            converse=self._converse, tell=self._tell_stream,
        )  # fmt: skip
        self._sequence = 0
        self._redirected: asyncio.Queue[Source] = asyncio.Queue()
        self._sip_code: str | None = None
        self._dialling: Dialling | None = None

    def redirect(self, source: Source) -> None:
        """Leave whatever runs and follow these instructions (REST update of a live call)."""
        self._redirected.put_nowait(source)

    def change(self, **settings: Any) -> None:
        """Change the plan of a live call (`status_callback`, `fallback_url`, …)."""
        self.plan = replace(self.plan, **settings)

    # --- the call's life -----------------------------------------------------------------------------------------------

    async def run_inbound(self, caller: Caller) -> CallReport:
        """A person calls one of our customer's numbers."""
        self._caller = caller
        self.report.reached("ringing")
        try:
            await self._follow(self.plan.source)
        finally:
            await self._finish()
        return self.report

    async def run_outbound(self, callee: Callee, queued_s: float = 0.0) -> CallReport:
        """Our customer asked for a call."""
        self._caller = callee.caller
        self.report.reached("queued")
        try:
            if await self._ring(callee, queued_s):
                self._answer()
                await self._detect(callee)
                await self._follow(self.plan.source)
        finally:
            await self._finish()
        return self.report

    # --- calls within the call -----------------------------------------------------------------------------------------

    def leg(self, from_number: str, to_number: str, plan: Plan) -> "TwilioCall":
        """The call to another phone that shall be connected with this one."""
        callee = self._exchange.callees.find(to_number)
        leg = TwilioCall(
            self._exchange, self.account, direction="outbound-dial", from_number=from_number,
            to_number=to_number, plan=plan, number=None, faults=callee.faults, parent=self,
        )  # fmt: skip
        self.legs.append(leg)
        self.report.legs.append(leg.sid)
        return leg

    def run_leg(self, leg: "TwilioCall", room: Room) -> "asyncio.Task[CallReport]":
        """Ring the other phone; it enters `room` when it is answered. The task ends with the leg's last callback."""
        return self._exchange.spawn(leg.run_dialled(self._exchange.callees.find(leg.to_number), room))

    async def run_dialled(self, callee: Callee, room: Room) -> CallReport:
        """Another call dialled this one."""
        self._caller = callee.caller
        self.report.reached("queued")
        try:
            if await self._ring(callee, 0.0):
                seat = room.enter(self._answer())
                await self.until_over()
                room.leave(seat)
        finally:
            await self._finish()
        return self.report

    # --- who answered --------------------------------------------------------------------------------------------------

    async def _detect(self, callee: Callee) -> None:
        detection = self.plan.detection
        if detection is None or self.plan.send_digits:
            return
        seconds = _DETECTION_S
        if detection.wait_for_end and callee.answered_by == "machine":
            seconds = max(seconds, callee.greeting_s + _BEEP_S)
        if not detection.asynchronous:
            # The request for instructions waits for the result.
            await self._ends_within(seconds)
            self.answered_by = detection.result(callee.answered_by)
            return
        self._background(self._detect_aside(detection, callee, seconds))

    async def _detect_aside(self, detection: Detection, callee: Callee, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.answered_by = detection.result(callee.answered_by)
        if detection.callback:
            fields = {
                "CallSid": self.sid,
                "AccountSid": self.account.sid,
                "AnsweredBy": self.answered_by,
                "MachineDetectionDuration": str(round(seconds * 1000)),
            }
            url, method = detection.callback, detection.callback_method
            self._courier.post("machine-detection", lambda: self._notify(_STATUS, method, url, fields))

    async def _ring(self, callee: Callee, queued_s: float) -> bool:
        """Queue, dial, ring. True: the callee picked up."""
        if await self._ends_within(queued_s + 0.05):
            # Canceled in the queue: nobody is told (https://www.twilio.com/docs/voice/api/call-resource).
            self.change(status_callback="")
            return False
        self._tell("initiated")
        if await self._ends_within(0.05):
            return False
        if callee.outcome == "failed":
            self._sip_code = "404"
            self.end("carrier", "failed")
            return False
        self.status = "ringing"
        self._tell("ringing")
        timeout = self.plan.ring_timeout_s
        if await self._ends_within(min(callee.answer_after_s, timeout)):
            return False
        outcome = callee.outcome
        if outcome == "no-answer" or callee.answer_after_s > timeout:
            if await self._ends_within(timeout - callee.answer_after_s):
                return False
            self.end("carrier", "no-answer")
        elif outcome in ("busy", "rejected"):
            self._sip_code = "486" if outcome == "busy" else "603"
            self.end("callee", "busy")
        elif outcome == "canceled":
            self.end("carrier", "canceled")
        return outcome == "answer" and not self._end.done()

    def _answer(self) -> Line:
        """The call is answered, if it is not yet."""
        if self._line is not None:
            return self._line
        self.status = "in-progress"
        self.answered = datetime.now(UTC)
        self._tell("in-progress")
        line = self._open_line(SAMPLE_RATE, self.plan.time_limit_s)
        line.press_into_ear(self.plan.send_digits)
        return line

    async def _follow(self, source: Source) -> None:
        """Run instructions until the call ends; a redirect by REST interrupts them."""
        while not self._end.done():
            instructions = asyncio.create_task(self._perform(source))
            redirected = asyncio.create_task(self._redirected.get())
            try:
                events: set[asyncio.Future[Any]] = {instructions, redirected, self._end}
                await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
                if instructions.done():
                    self.end("instructions", instructions.result())
                elif redirected.done():
                    source, self._dialling = redirected.result(), None
            finally:
                for task in (instructions, redirected):
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    async def _perform(self, source: Source) -> str:
        """Run one document and those it leads to. Returns why they end the call."""
        try:
            for _ in range(_MAX_DOCUMENTS):
                document, base, method = await self._fetch(source)
                following = await self._run(document, base, method)
                if following is None:
                    return "end-of-instructions"
                source = following
        except _EndOfCall as over:
            return over.cause
        self.report.violate("sim-endless", f"more than {_MAX_DOCUMENTS} documents in one call")
        return "application-error"

    async def _fetch(self, source: Source) -> tuple[twiml.Document, str, str]:
        if source.document is not None:
            return await self._accept(twiml.read_xml(source.document), source.base), source.base, "POST"
        fields = self._fields(self.status) | source.fields
        copies = self._fortune.next_instructions()
        answer, code, url = await self._requests.ask(_INSTRUCTIONS, source.method, source.url, fields, copies)
        document = twiml.Document(failed=True)
        if code is None:
            document = twiml.read(answer.body, answer.media_type)
            self._object(document, source.url)
            if document.failed:
                code = document.objections[0].code
        if not document.failed:
            return document, url, source.method
        if self.plan.fallback_url:
            fields |= {"ErrorCode": code or "", "ErrorUrl": source.url}
            answer, code, url = await self._requests.ask(
                _FALLBACK, self.plan.fallback_method, self.plan.fallback_url, fields
            )
            if code is None:
                document = twiml.read(answer.body, answer.media_type)
                return await self._accept(document, self.plan.fallback_url), url, self.plan.fallback_method
        await self._apologise()
        raise _EndOfCall("application-error")

    async def _accept(self, document: twiml.Document, where: str) -> twiml.Document:
        self._object(document, where)
        if document.failed:
            await self._apologise()
            raise _EndOfCall("application-error")
        return document

    def _object(self, document: twiml.Document, where: str) -> None:
        for objection in document.objections:
            self.report.violate(objection.code, objection.message, severity=objection.severity, where=where)

    async def _apologise(self) -> None:
        await self._answer().announce(_APPLICATION_ERROR)

    async def _run(self, document: twiml.Document, base: str, method: str) -> Source | None:
        """Run the verbs. Returns where to go on, None at the end of the document."""
        for verb in document.verbs:
            match verb:
                case twiml.Redirect(url, redirect_method):
                    return Source(urljoin(base, url) if url else base, redirect_method if url else method)
                case twiml.Reject(reason):
                    if self._line is None:
                        raise _EndOfCall("busy" if reason == "busy" else "no-answer")
                    raise _EndOfCall("end-of-instructions")
                case twiml.Hangup():
                    self._answer()
                    raise _EndOfCall("hangup")
                case twiml.Pause(seconds):
                    await asyncio.sleep(seconds)
                case twiml.Say(text, loop):
                    # loop="0" repeats for ever; nobody listens that long.
                    for _ in range(loop or 10):
                        await self._answer().announce(text)
                case twiml.Start(stream):
                    self._background(self._streams.run(stream, base, self._answer(), bidirectional=False))
                case twiml.Connect(stream, action, action_method):
                    await self._streams.run(stream, base, self._answer(), bidirectional=True)
                    if action is not None:
                        return Source(urljoin(base, action), action_method)
                case twiml.Dial() as dial:
                    self._dialling = Dialling(self, dial, base)
                    following = await self._dialling.run(self._answer())
                    self._dialling = None
                    if following is not None:
                        return following
        self._answer()
        return None

    # --- statuses -----------------------------------------------------------------------------------------------------------

    def _fields(self, status: str) -> dict[str, str]:
        fields = base_fields(
            call_sid=self.sid,
            account_sid=self.account.sid,
            from_number=self.from_number,
            to_number=self.to_number,
            status=status,
            direction=self.direction,
        )
        if self.direction == "inbound":
            fields["StirVerstat"] = "TN-Validation-Passed-A"
            fields["CallToken"] = '{"parentCallInfoToken":"' + self.sid[2:] + '","identityHeaderTokens":[]}'
        if self.parent is not None:
            fields["ParentCallSid"] = self.parent.sid
        if self.answered_by:
            fields["AnsweredBy"] = self.answered_by
        return fields

    def _tell(self, status: str) -> None:
        """The call reached a status; the customer is told if they subscribed to it."""
        event = _EVENT_OF.get(status, "completed")
        if not self.plan.status_callback or event not in self.plan.status_events:
            self.report.reached(status)
            return
        sequence, self._sequence = self._sequence, self._sequence + 1
        self.report.reached(status, sequence)
        fields = self._fields(status) | {
            "Timestamp": rfc2822(datetime.now(UTC)),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": str(sequence),
        }
        if event == "completed":
            seconds = self.duration_s
            fields |= {"CallDuration": str(seconds), "Duration": str(-(-seconds // 60))}
            code = self._sip_code or ("200" if status == "completed" else _SIP_CODES.get(status))
            if code:
                fields["SipResponseCode"] = code
        url, method = self.plan.status_callback, self.plan.status_method
        self._courier.post(status, lambda: self._notify(_STATUS, method, url, fields))

    def _tell_stream(self, event: str, method: str, url: str, fields: dict[str, str]) -> None:
        self._courier.post(event, lambda: self._notify(_STREAM_STATUS, method, url, fields))

    @property
    def duration_s(self) -> int:
        """Whole seconds since the call was answered, at least one; 0 if it never was."""
        if self.answered is None:
            return 0
        return max(1, round(((self.ended or datetime.now(UTC)) - self.answered).total_seconds()))

    async def _notify(self, purpose: Purpose, method: str, url: str, fields: dict[str, str]) -> None:
        answer, code, _ = await self._requests.ask(purpose, method, url, fields)
        if code is None and (objection := twiml.callback_objection(answer.body, answer.media_type)):
            self.report.violate(objection.code, objection.message, severity=objection.severity, where=url)

    @property
    def final_status(self) -> str:
        """The status the call's end leads to; the present one while it is not over."""
        if not self.is_over:
            return self.status
        by, cause = self._end.result()
        if self._line is not None:
            return "completed"
        if cause in ("busy", "no-answer", "failed", "canceled"):
            return cause
        if by == "rest":
            return "canceled"
        # The caller gave up, or the simulation ended, before anything was answered.
        return "no-answer" if self.direction == "inbound" else "canceled"

    async def _finish(self) -> None:
        await self._close_line()
        self.ended = datetime.now(UTC)
        self.status = self.final_status
        self._tell(self.status)
        try:
            await self._tell_dialling()
            await self._deliver_the_rest()
        finally:
            await self._requests.close()

    async def _tell_dialling(self) -> None:
        """The caller hung up within a `<Dial>`: its action URL is told how it came out, and the answer is not followed."""
        if (dialling := self._dialling) is not None and dialling.dial.action is not None:
            url = urljoin(dialling.base, dialling.dial.action)
            fields = self._fields(self.status) | dialling.fields
            await self._requests.ask(_INSTRUCTIONS, dialling.dial.method, url, fields)
