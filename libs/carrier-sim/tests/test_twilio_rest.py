"""Twilio's official SDK against the simulator, unchanged but for the base URL; its published description as the judge."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from customer import Customer, twilio_agent, until, xml
from published_specs import PublishedSpecs
from twilio.base.exceptions import TwilioRestException
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from carrier_sim import Callee, Caller, CarrierSim, HangUp, Say, SimConfig, StayUntilHungUp, WaitForAgent

SID = "AC" + "1" * 32
TOKEN = "twilio-auth-token"
OURS, THEIRS = "+14155550100", "+14155550143"


def client_of(sim: CarrierSim, specs: PublishedSpecs, token: str = TOKEN) -> Client:
    http = TwilioHttpClient(pool_connections=True, timeout=30)
    http.session.verify = str(sim.ca_pem)
    http.session.trust_env = False
    http.session.hooks["response"].append(specs.check)
    client = Client(SID, token, http_client=http)
    client.api.base_url = sim.base_url
    return client


@pytest.fixture
def twilio(sim: CarrierSim, customer: Customer, specs: PublishedSpecs) -> Client:
    sim.twilio.add_number(sim.twilio.add_account(SID, TOKEN), OURS)
    customer.answers["/voice"] = lambda _: xml(
        f'<Response><Connect><Stream url="{customer.ws("/media")}"/></Connect></Response>'
    )
    customer.talk = lambda socket, _: twilio_agent(customer, socket)
    return client_of(sim, specs)


async def create(client: Client, customer: Customer, **more: Any) -> Any:
    settings = {"url": customer.url("/voice"), "status_callback": customer.url("/status")} | more
    return await asyncio.to_thread(client.calls.create, to=THEIRS, from_=OURS, **settings)


ALL = ["initiated", "ringing", "answered", "completed"]


async def test_an_outbound_call_rings_is_answered_and_tells_what_was_subscribed(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    sim.callees[THEIRS] = Callee(caller=Caller((WaitForAgent(), Say(0.8), WaitForAgent(), HangUp())))
    sim.config.price_after_s = 3600.0
    call = await create(twilio, customer, status_callback_event=ALL)
    assert call.status == "queued"
    report = await sim.next_report(call.sid)
    assert report.violations == []
    assert report.ended_by == "callee"
    told = [(r.fields["CallStatus"], r.fields["SequenceNumber"]) for r in customer.at("/status")]
    assert sorted(told, key=lambda t: t[1]) == [
        ("initiated", "0"), ("ringing", "1"), ("in-progress", "2"), ("completed", "3"),
    ]  # fmt: skip
    assert customer.at("/voice")[0].fields["CallStatus"] == "in-progress"
    fetched = await asyncio.to_thread(twilio.calls(call.sid).fetch)
    assert (fetched.status, fetched.direction) == ("completed", "outbound-api")
    # The price comes later, and to those who ask for it.
    assert (fetched.price, fetched.price_unit) == (None, "USD")
    sim.twilio.calls[call.sid].price_after_s = 0.0
    fetched = await asyncio.to_thread(twilio.calls(call.sid).fetch)
    assert fetched.price.startswith("-")


async def test_by_default_only_the_final_status_is_told(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    sim.callees[THEIRS] = Callee(outcome="busy")
    call = await create(twilio, customer)
    await sim.next_report(call.sid)
    (final,) = customer.at("/status")
    assert (final.fields["CallStatus"], final.fields["SequenceNumber"]) == ("busy", "0")
    assert final.fields["SipResponseCode"] == "486"


@pytest.mark.parametrize(
    ("callee", "status"),
    [
        (Callee(outcome="rejected"), "busy"),
        (Callee(outcome="failed"), "failed"),
        (Callee(outcome="canceled"), "canceled"),
        (Callee(outcome="no-answer", answer_after_s=0.1), "no-answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.outcome,
)
async def test_every_outcome_has_its_final_status(
    sim: CarrierSim, twilio: Client, customer: Customer, callee: Callee, status: str
) -> None:
    sim.callees[THEIRS] = callee
    call = await create(twilio, customer, timeout=1)
    report = await sim.next_report(call.sid)
    assert report.status == status
    assert [r.fields["CallStatus"] for r in customer.at("/status")] == [status]


async def test_a_live_call_is_ended_by_rest(sim: CarrierSim, twilio: Client, customer: Customer) -> None:
    sim.callees[THEIRS] = Callee(caller=Caller((StayUntilHungUp(),)))
    call = await create(twilio, customer)
    await until(lambda: bool(customer.messages))
    updated = await asyncio.to_thread(twilio.calls(call.sid).update, status="completed")
    assert updated.status == "completed"
    report = await sim.next_report(call.sid)
    assert (report.ended_by, report.violations) == ("rest", [])
    # The carrier is done when it has sent its last word; the customer may still be reading it.
    await until(lambda: customer.messages[-1]["event"] == "stop")
    with pytest.raises(TwilioRestException) as error:
        await asyncio.to_thread(twilio.calls(call.sid).update, status="completed")
    assert error.value.code == 21220


async def test_a_live_call_is_redirected_by_rest(sim: CarrierSim, twilio: Client, customer: Customer) -> None:
    sim.callees[THEIRS] = Callee(caller=Caller((StayUntilHungUp(),)))
    call = await create(twilio, customer)
    await until(lambda: bool(customer.messages))
    twiml = "<Response><Say>You are being transferred.</Say></Response>"
    await asyncio.to_thread(twilio.calls(call.sid).update, twiml=twiml)
    report = await sim.next_report(call.sid)
    assert report.said == ["You are being transferred."]
    assert report.violations == []


async def test_a_call_canceled_in_the_queue_tells_nobody(customer: Customer, specs: PublishedSpecs) -> None:
    async with CarrierSim(SimConfig(rate_limits=True)) as sim:
        sim.twilio.add_number(sim.twilio.add_account(SID, TOKEN), OURS)
        client = client_of(sim, specs)
        first = await create(client, customer, twiml="<Response><Hangup/></Response>", url=None)
        # One of them leaves the queue in a second: the last one does not soon.
        *_, last = [await create(client, customer, status_callback_event=ALL) for _ in range(4)]
        assert (await asyncio.to_thread(client.calls(last.sid).fetch)).status == "queued"
        await asyncio.to_thread(client.calls(last.sid).update, status="canceled")
        report = await sim.next_report(last.sid)
        assert report.status == "canceled"
        assert report.callbacks == []
        await sim.next_report(first.sid)


async def test_calls_are_found_by_number_and_time(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    sim.callees.default = Callee(outcome="busy", answer_after_s=0.05)
    sids = [(await create(twilio, customer)).sid for _ in range(3)]
    for sid in sids:
        await sim.next_report(sid)
    since = datetime.now(UTC) - timedelta(minutes=1)
    found = await asyncio.to_thread(twilio.calls.list, to=THEIRS, start_time_after=since, page_size=2)
    assert [call.sid for call in found] == sids[::-1]
    assert await asyncio.to_thread(twilio.calls.list, to="+14155559999") == []


async def test_numbers_are_listed_fetched_and_changed(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    (number,) = await asyncio.to_thread(twilio.incoming_phone_numbers.list, phone_number=OURS)
    assert number.voice_url == ""
    changed = await asyncio.to_thread(
        twilio.incoming_phone_numbers(number.sid).update,
        voice_url=customer.url("/voice"), voice_method="GET", status_callback=customer.url("/status"),
    )  # fmt: skip
    assert (changed.voice_url, changed.voice_method) == (customer.url("/voice"), "GET")
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((WaitForAgent(), HangUp())))
    assert report.violations == []
    assert customer.at("/voice")[0].method == "GET"
    assert customer.at("/status")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"to": ""}, 21201),
        ({"to": "12"}, 21211),
        ({"from_": "+14155559999"}, 21210),
        ({"from_": "abc"}, 21212),
        ({"url": "ftp://example.com"}, 21205),
        ({"url": "http://example.com/voice"}, 21205),
        ({"timeout": 601}, 21208),
        ({"method": "PUT"}, 21209),
        ({"send_digits": "abc"}, 21206),
    ],
    ids=str,
)
async def test_a_bad_request_for_a_call_gets_twilios_error_code(
    twilio: Client, customer: Customer, change: dict[str, Any], code: int
) -> None:
    settings = {"to": THEIRS, "from_": OURS, "url": customer.url("/voice")} | change
    with pytest.raises(TwilioRestException) as error:
        await asyncio.to_thread(twilio.calls.create, **settings)
    assert error.value.code == code
    assert error.value.status == 400


async def test_wrong_credentials_and_unknown_things_have_their_codes(
    sim: CarrierSim, twilio: Client, specs: PublishedSpecs
) -> None:
    with pytest.raises(TwilioRestException) as error:
        await asyncio.to_thread(client_of(sim, specs, "wrong").api.accounts(SID).fetch)
    assert (error.value.status, error.value.code) == (401, 20003)
    with pytest.raises(TwilioRestException) as error:
        await asyncio.to_thread(twilio.calls("CA" + "0" * 32).fetch)
    assert (error.value.status, error.value.code) == (404, 20404)
    assert (await asyncio.to_thread(twilio.api.accounts(SID).fetch)).status == "active"


async def test_machine_detection_is_part_of_the_request_for_instructions(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    sim.callees[THEIRS] = Callee(answered_by="machine", caller=Caller((WaitForAgent(), HangUp())))
    call = await create(twilio, customer, machine_detection="Enable")
    await sim.next_report(call.sid)
    assert customer.at("/voice")[0].fields["AnsweredBy"] == "machine_start"


@pytest.mark.parametrize(
    ("callee", "mode", "expected"),
    [
        (Callee(), "Enable", "human"),
        (Callee.machine(), "Enable", "machine_start"),
        (Callee.machine(greeting_s=1.0), "DetectMessageEnd", "machine_end_beep"),
        (Callee.fax(), "Enable", "fax"),
    ],
    ids=lambda value: value.answered_by if isinstance(value, Callee) else value,
)
async def test_machine_detection_aside_is_told_to_a_callback_of_its_own(
    sim: CarrierSim, twilio: Client, customer: Customer, callee: Callee, mode: str, expected: str
) -> None:
    sim.callees[THEIRS] = callee
    customer.answers["/voice"] = lambda _: xml("<Response><Pause length='2'/></Response>")
    call = await create(
        twilio, customer, machine_detection=mode, async_amd="true",
        async_amd_status_callback=customer.url("/amd"),
    )  # fmt: skip
    report = await sim.next_report(call.sid)
    assert report.violations == []
    assert "AnsweredBy" not in customer.at("/voice")[0].fields
    (told,) = customer.at("/amd")
    assert (told.fields["CallSid"], told.fields["AnsweredBy"]) == (call.sid, expected)
    assert (await asyncio.to_thread(twilio.calls(call.sid).fetch)).answered_by == expected


async def test_keys_to_send_are_heard_by_who_answers(
    sim: CarrierSim, twilio: Client, customer: Customer
) -> None:
    sim.callees[THEIRS] = Callee(caller=Caller((StayUntilHungUp(20),)))
    twiml = "<Response><Pause length='2'/></Response>"
    call = await create(twilio, customer, send_digits="1w#", url=None, twiml=twiml)
    assert (await sim.next_report(call.sid)).digits_heard == "1#"
