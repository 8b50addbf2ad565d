"""`<Dial>` as it is run: another phone is rung and connected, or the call enters a conference."""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from carrier_sim.line import Line
from carrier_sim.room import Room
from carrier_sim.twilio import twiml
from carrier_sim.twilio.plan import Plan, Source

if TYPE_CHECKING:
    from carrier_sim.twilio.call import TwilioCall


@dataclass(slots=True)
class Dialling:
    """One `<Dial>` of a call. `leg`: the call to the other phone, when there is one."""

    call: "TwilioCall"
    dial: twiml.Dial
    base: str
    leg: "TwilioCall | None" = None
    was_in_conference: bool = False

    async def run(self, line: Line) -> Source | None:
        """Returns where to go on: the `action`, or None for the next verb."""
        match self.dial.target:
            case twiml.Number() as number:
                await self._ring(number, line)
            case twiml.Conference() as conference:
                await self._confer(conference, line)
        if self.dial.action is None:
            return None
        return Source(urljoin(self.base, self.dial.action), self.dial.method, fields=self.fields)

    @property
    def fields(self) -> dict[str, str]:
        """What the action URL is told. https://www.twilio.com/docs/voice/twiml/dial#action"""
        leg = self.leg
        if leg is None:
            return {"DialCallStatus": "answered" if self.was_in_conference else "failed"}
        fields = {"DialCallSid": leg.sid, "DialCallStatus": leg.final_status}
        if leg.answered is not None:
            fields["DialCallDuration"] = str(leg.duration_s)
        return fields | {"DialBridged": "true" if leg.answered is not None else "false"}

    def _caller_id(self) -> str | None:
        """The number the other phone shows; None when Twilio would not let it be shown."""
        call, wanted = self.call, self.dial.caller_id
        if wanted is None:
            return call.from_number
        account = call.account
        if wanted in (call.from_number, call.to_number) or account.number(wanted) is not None:
            return wanted
        return wanted if wanted in account.verified_callers else None

    async def _ring(self, number: twiml.Number, line: Line) -> None:
        caller_id = self._caller_id()
        if caller_id is None:
            self.call.report.violate("13214", f"Dial: Invalid callerId value {self.dial.caller_id!r}")
            return
        plan = Plan(
            source=Source(),
            status_callback=number.status_callback,
            status_method=number.status_method,
            status_events=number.status_events,
            ring_timeout_s=self.dial.timeout_s,
            time_limit_s=self.dial.limit_s,
            send_digits=number.send_digits,
        )
        leg = self.leg = self.call.leg(caller_id, number.number, plan)
        room = Room()
        running = self.call.run_leg(leg, room)
        seat = None
        # The person is on the line while the other phone rings.
        line.open()
        try:
            if await leg.connected():
                seat = room.enter(line)
                await leg.until_over()
        finally:
            # Whoever leaves first: the two are no longer connected, and this phone rings no more.
            leg.end("carrier", "parent-ended")
            if seat is not None:
                room.leave(seat)
        await asyncio.wait({running}, timeout=1.0)

    async def _confer(self, conference: twiml.Conference, line: Line) -> None:
        rooms = self.call.account.rooms
        room = rooms.named(conference.name)
        self.call.report.rooms.append(conference.name)
        seat = room.enter(line, starts=conference.starts, muted=conference.muted)
        self.was_in_conference = True
        try:
            async with asyncio.timeout(self.dial.limit_s):
                await room.over.wait()
        except TimeoutError:
            return
        finally:
            rooms.leave(room, seat, ends=conference.ends)
