"""A live call is connected with another phone, or with others in a conference, as Twilio's <Dial> does it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from customer import Customer, twilio_agent, until, until_silent, xml
from published_specs import PublishedSpecs
from test_twilio_rest import OURS, SID, THEIRS, TOKEN, client_of
from twilio.rest import Client

from carrier_sim import (
    Callee,
    Caller,
    CallReport,
    CarrierSim,
    HangUp,
    Press,
    Say,
    StayUntilHungUp,
    Wait,
    WaitForAgent,
)

CLERK = "+14155550177"
TALKER = Caller((WaitForAgent(quiet_s=0.2), Say(0.6), Wait(0.3), HangUp()))


@pytest.fixture
def twilio(sim: CarrierSim, customer: Customer, specs: PublishedSpecs) -> Client:
    account = sim.twilio.add_account(SID, TOKEN)
    account.add_number(OURS, voice_url=customer.url("/voice"), status_callback=customer.url("/status"))
    customer.talk = lambda socket, _: twilio_agent(customer, socket)
    customer.answers["/after"] = lambda _: xml("<Response><Say>Goodbye.</Say></Response>")
    return client_of(sim, specs)


def dialling(customer: Customer, noun: str, **attributes: str) -> str:
    more = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f'<Response><Dial action="{customer.url("/after")}"{more}>{noun}</Dial></Response>'


def answer(customer: Customer, noun: str, **attributes: str) -> None:
    customer.answers["/voice"] = lambda _: xml(dialling(customer, noun, **attributes))


def legs(sim: CarrierSim, report: CallReport) -> list[CallReport]:
    return [other for other in sim.reports if other.provider_call_id in report.legs]


async def test_two_phones_hear_each_other_and_the_action_url_learns_how_it_came_out(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    sim.callees[CLERK] = Callee(0.2, caller=TALKER)
    answer(customer, f"<Number>{CLERK}</Number>", timeout="5")
    caller = Caller((Wait(0.6), Say(0.8), WaitForAgent(quiet_s=0.2), StayUntilHungUp(10)))
    report = await sim.twilio.call_in(THEIRS, OURS, caller)
    (leg,) = legs(sim, report)
    assert (report.violations, report.unmet, leg.unmet) == ([], [], [])
    assert report.party_audio_ms == pytest.approx(leg.caller_audio_ms, abs=100)
    assert leg.party_audio_ms == pytest.approx(report.caller_audio_ms, abs=100)
    assert report.agent_audio_ms == 0
    (told,) = customer.at("/after")
    assert told.fields["DialCallStatus"] == "completed"
    assert told.fields["DialCallSid"] == leg.provider_call_id
    assert told.fields["CallStatus"] == "in-progress"
    assert report.said == ["Goodbye."]
    child = await asyncio.to_thread(twilio.calls(leg.provider_call_id).fetch)
    assert (child.direction, child.parent_call_sid) == ("outbound-dial", report.provider_call_id)
    assert (child.status, child.to_formatted) == ("completed", "(415) 555-0177")
    found = await asyncio.to_thread(twilio.calls.list, parent_call_sid=report.provider_call_id)
    assert [call.sid for call in found] == [leg.provider_call_id]


@pytest.mark.parametrize(
    ("callee", "status"),
    [
        (Callee(0.1, "busy"), "busy"),
        (Callee(0.1, "rejected"), "busy"),
        (Callee(0.1, "failed"), "failed"),
        (Callee(0.1, "no-answer"), "no-answer"),
    ],
    ids=lambda value: value.outcome if isinstance(value, Callee) else value,
)
async def test_who_does_not_pick_up_is_told_to_the_action_url(
    sim: CarrierSim, twilio: Client, customer: Customer, callee: Callee, status: str
) -> None:
    sim.callees[CLERK] = callee
    answer(customer, CLERK, timeout="1")
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((StayUntilHungUp(10),)))
    (told,) = customer.at("/after")
    assert (told.fields["DialCallStatus"], told.fields["DialBridged"]) == (status, "false")
    assert "DialCallDuration" not in told.fields
    assert (report.said, report.status, report.violations) == (["Goodbye."], "completed", [])


async def test_a_caller_who_hangs_up_ends_the_other_call_and_the_action_url_still_learns_of_it(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    sim.callees[CLERK] = Callee(0.1, caller=Caller((StayUntilHungUp(20),)))
    answer(customer, f"<Number>{CLERK}</Number>")
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((Wait(0.8), HangUp())))
    await until(lambda: len(legs(sim, report)) == 1)
    (leg,) = legs(sim, report)
    assert (leg.ended_by, leg.status) == ("carrier", "completed")
    (told,) = customer.at("/after")
    assert (told.fields["CallStatus"], told.fields["DialCallStatus"]) == ("completed", "completed")


async def test_a_live_call_is_redirected_to_a_number_and_its_stream_closed(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    customer.answers["/voice"] = lambda _: xml(
        f'<Response><Connect><Stream url="{customer.ws("/media")}"/></Connect></Response>'
    )
    sim.callees[CLERK] = Callee(0.1, caller=TALKER)
    sim.callees[THEIRS] = Callee(caller=Caller((WaitForAgent(), Say(0.5), StayUntilHungUp(20))))
    call = await asyncio.to_thread(twilio.calls.create, to=THEIRS, from_=OURS, url=customer.url("/voice"))
    await until(lambda: bool(customer.messages))
    twiml = dialling(customer, f"<Number>{CLERK}</Number>")
    await asyncio.to_thread(twilio.calls(call.sid).update, twiml=twiml)
    report = await sim.next_report(call.sid)
    assert (report.streams, report.said, report.violations) == (1, ["Goodbye."], [])
    await until(lambda: customer.messages[-1]["event"] == "stop")
    assert legs(sim, report)[0].from_number == OURS


async def test_a_conference_begins_with_who_starts_it_and_ends_with_who_ends_it(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    def conference(**attributes: str) -> Callable[[Any], Any]:
        more = "".join(f' {name}="{value}"' for name, value in attributes.items())
        return lambda _: xml(dialling(customer, f"<Conference{more}>room-1</Conference>"))

    customer.answers["/voice"] = conference(startConferenceOnEnter="false")
    waiting = sim.twilio.place(THEIRS, OURS)
    waiter = asyncio.create_task(
        waiting.run_inbound(
            Caller((Wait(0.5), Say(0.5), WaitForAgent(quiet_s=0.2, timeout_s=60), StayUntilHungUp(60)))
        )
    )
    await until(lambda: waiting.report.rooms == ["room-1"])
    customer.answers["/voice"] = conference(endConferenceOnExit="true")
    await until_silent(waiting.report)  # what is said before the conference begins is not heard
    host = await sim.twilio.call_in(CLERK, OURS, Caller((Wait(0.2), Say(0.8), Wait(0.3), HangUp())))
    report = await waiter
    assert host.party_audio_ms == 0
    assert report.party_audio_ms == pytest.approx(host.caller_audio_ms, abs=100)
    assert (report.unmet, report.violations, host.violations) == ([], [], [])
    assert report.said == ["Goodbye."]
    assert {told.fields["DialCallStatus"] for told in customer.at("/after")} == {"answered"}


async def test_keys_are_heard_by_the_other_phone_however_they_are_sent(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    sim.callees[CLERK] = Callee(0.1, caller=Caller((Wait(2.5), HangUp())))
    answer(customer, f'<Number sendDigits="12#">{CLERK}</Number>')
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((Wait(1.4), Press("90"), StayUntilHungUp(10))))
    (leg,) = legs(sim, report)
    assert leg.digits_heard == "12#90"


@pytest.mark.parametrize(
    ("dial", "code"),
    [
        ("<Dial>nobody</Dial>", "13223"),
        (f'<Dial timeout="0">{CLERK}</Dial>', "13212"),
        (f'<Dial timeLimit="x">{CLERK}</Dial>', "13216"),
        (f'<Dial callerId="+14155559999">{CLERK}</Dial>', "13214"),
        (f'<Dial><Number sendDigits="abc">{CLERK}</Number></Dial>', "13222"),
        ("<Dial><Stream/></Dial>", "13215"),
        ("<Dial><Conference/></Dial>", "13237"),
        ("<Dial><Sip>sip:a@example.com</Sip></Dial>", "sim-unsupported"),
        (f'<Dial loud="true">{CLERK}</Dial>', "12200"),
    ],
    ids=lambda value: value if len(value) < 20 else "",
)
async def test_a_dial_is_read_as_strictly_as_twilio_reads_it(
    sim: CarrierSim, twilio: Client, customer: Customer, dial: str, code: str
) -> None:
    sim.callees[CLERK] = Callee(0.05, "busy")
    customer.answers["/voice"] = lambda _: xml(f"<Response>{dial}</Response>")
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((StayUntilHungUp(5),)))
    assert [v.code for v in report.violations] == [code]
