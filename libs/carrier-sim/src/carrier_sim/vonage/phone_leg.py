"""`connect` to a phone and `conversation` as they are run: another phone is rung, or a named conversation entered."""

import asyncio
from typing import TYPE_CHECKING

from carrier_sim.line import Line
from carrier_sim.room import Room
from carrier_sim.vonage import ncco
from carrier_sim.vonage.plan import Plan, Source

if TYPE_CHECKING:
    from carrier_sim.vonage.call import VonageCall

# What the last event of a leg may take to be answered, seconds.
_LAST_EVENT_S = 12.0


async def connect(call: "VonageCall", wanted: ncco.ConnectPhone, line: Line) -> ncco.Ncco | None:
    """Ring another phone and connect it. Returns the NCCO that its end was answered with, where one may be given."""
    if wanted.from_number is not None and not call.application_has(wanted.from_number):
        message = f"connect: from {wanted.from_number!r} is not a number of the application"
        call.report.violate("vonage-caller-id", message, severity="warning")
    plan = Plan(
        Source(),
        None,
        call.event_webhook(wanted.event_url, wanted.event_method),
        wanted.timeout_s,
        wanted.limit_s,
        wanted.detection,
        wanted.dtmf_answer,
    )
    leg = call.leg(wanted.from_number or "unknown", wanted.number, plan, asks_at_end=wanted.synchronous)
    room = Room()
    call.run_leg(leg, room)
    seat = None
    # The person is on the line while the other phone rings.
    line.open()
    try:
        if await leg.connected():
            seat = room.enter(line)
            await leg.until_over()
    finally:
        leg.end("carrier", "parent-ended")
        if seat is not None:
            room.leave(seat)
    async with asyncio.timeout(_LAST_EVENT_S * call.patience):
        await leg.end_is_told.wait()
    return leg.following


async def confer(call: "VonageCall", wanted: ncco.Conversation, line: Line) -> None:
    """Be in a named conversation until somebody ends it, or the call is over."""
    rooms = call.application.rooms
    room = rooms.named(wanted.name)
    call.report.rooms.append(wanted.name)
    seat = room.enter(line, starts=wanted.starts, muted=wanted.muted)
    call.moved(f"CON-{room.id}")
    try:
        await room.over.wait()
    finally:
        rooms.leave(room, seat, ends=wanted.ends)
