"""A live call is connected with another phone, or with others in a conversation, as Vonage's NCCO does it."""

import asyncio
from typing import Any

import pytest
from aiohttp import web
from customer import Customer, until, until_silent, vonage_agent
from published_specs import PublishedSpecs
from test_vonage_rest import APPLICATION, OURS, THEIRS, client_of, create
from vonage import Vonage
from vonage_http_client.errors import HttpRequestError, NotFoundError

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

CLERK = "14155550177"
TALKER = Caller((WaitForAgent(quiet_s=0.2), Say(0.6), Wait(0.3), HangUp()))
GOODBYE = [{"action": "talk", "text": "Goodbye."}]


def phone(customer: Customer, **more: Any) -> dict[str, Any]:
    return {
        "action": "connect", "from": OURS, "endpoint": [{"type": "phone", "number": CLERK}],
        "eventType": "synchronous", "eventUrl": [customer.url("/leg")],
    } | more  # fmt: skip


@pytest.fixture
def vonage(sim: CarrierSim, customer: Customer, specs: PublishedSpecs, private_key: str) -> Vonage:
    sim.vonage.add_application(
        APPLICATION, private_key=private_key, api_key="abcd1234", api_secret="vonage-api-secret",
        signature_secret="s" * 32, answer_url=customer.url("/answer"), event_url=customer.url("/event"),
    )  # fmt: skip
    sim.vonage.add_number(APPLICATION, OURS)
    customer.talk = lambda socket, _: vonage_agent(customer, socket)
    return client_of(sim, specs, private_key)


def legs(sim: CarrierSim, report: CallReport) -> list[CallReport]:
    return [other for other in sim.reports if other.provider_call_id in report.legs]


def websocket(customer: Customer) -> list[dict[str, Any]]:
    endpoint = {"type": "websocket", "uri": customer.ws("/media"), "content-type": "audio/l16;rate=16000"}
    return [{"action": "connect", "endpoint": [endpoint]}]


async def test_two_phones_hear_each_other_and_the_rest_of_the_ncco_follows(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    sim.callees[CLERK] = Callee(0.2, caller=TALKER)
    customer.answers["/answer"] = lambda _: web.json_response([phone(customer), *GOODBYE])
    caller = Caller((Wait(0.6), Say(0.8), WaitForAgent(quiet_s=0.2), StayUntilHungUp(10)))
    report = await sim.vonage.call_in(THEIRS, OURS, caller)
    (leg,) = legs(sim, report)
    assert (report.violations, report.unmet, leg.unmet) == ([], [], [])
    assert report.party_audio_ms == pytest.approx(leg.caller_audio_ms, abs=100)
    assert leg.party_audio_ms == pytest.approx(report.caller_audio_ms, abs=100)
    assert report.said == ["Goodbye."]
    told = customer.at("/leg")
    assert [event.fields["status"] for event in told] == ["started", "ringing", "answered", "completed"]
    assert {event.fields["uuid"] for event in told} == {leg.provider_call_id}
    assert {event.fields["conversation_uuid"] for event in told} == {report.extra["conversation_uuid"]}
    shown = await asyncio.to_thread(vonage.voice.get_call, leg.provider_call_id)
    assert (shown.status, shown.to.number) == ("completed", CLERK)


@pytest.mark.parametrize(
    ("callee", "status"),
    [
        (Callee(0.1, "busy"), "busy"),
        (Callee(0.1, "rejected"), "rejected"),
        (Callee(0.1, "failed"), "failed"),
        (Callee(0.1, "no-answer"), "timeout"),
    ],
    ids=lambda value: value.outcome if isinstance(value, Callee) else value,
)
async def test_who_does_not_pick_up_is_told_and_the_answer_goes_on_with_the_call(
    sim: CarrierSim, vonage: Vonage, customer: Customer, callee: Callee, status: str
) -> None:
    sim.callees[CLERK] = callee
    customer.answers["/answer"] = lambda _: web.json_response([phone(customer, timeout=1)])
    customer.answers["/leg"] = lambda event: (
        web.json_response(GOODBYE) if event.fields["status"] == status else web.Response(status=204)
    )
    report = await sim.vonage.call_in(THEIRS, OURS, Caller((StayUntilHungUp(10),)))
    assert customer.at("/leg")[-1].fields["status"] == status
    assert (report.said, report.status, report.violations) == (["Goodbye."], "completed", [])


async def test_a_live_call_is_transferred_to_a_phone_by_rest(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    sim.callees[CLERK] = Callee(0.1, caller=TALKER)
    customer.answers["/answer"] = lambda _: web.json_response(websocket(customer))
    sim.callees[THEIRS] = Callee(caller=Caller((WaitForAgent(), Say(0.5), StayUntilHungUp(20))))
    call = await create(vonage, customer)
    await until(lambda: bool(customer.messages))
    customer.answers["/moved"] = lambda _: web.json_response([phone(customer)])
    await asyncio.to_thread(vonage.voice.transfer_call_answer_url, call.uuid, customer.url("/moved"))
    report = await sim.next_report(call.uuid)
    assert (report.streams, report.violations, len(report.legs)) == (1, [], 1)
    (moved,) = [e.fields for e in customer.at("/event") if e.fields["status"] == "transfer"]
    assert moved["conversation_uuid_from"] == report.extra["conversation_uuid"]
    sockets = [e.fields for e in customer.at("/event") if e.fields["to"].startswith("wss:")]
    assert [event["status"] for event in sockets] == ["started", "ringing", "answered", "completed"]


async def test_a_conversation_begins_with_who_starts_it_and_ends_with_who_ends_it(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    hold = {"action": "conversation", "name": "room-1", "startOnEnter": False}
    customer.answers["/answer"] = lambda _: web.json_response([hold, *GOODBYE])
    waiting = sim.vonage.place(THEIRS, OURS)
    waiter = asyncio.create_task(
        waiting.run_inbound(
            Caller((Wait(0.5), Say(0.5), WaitForAgent(quiet_s=0.2, timeout_s=60), StayUntilHungUp(60)))
        )
    )
    await until(lambda: waiting.report.rooms == ["room-1"])
    await until_silent(waiting.report)  # what is said before the conversation begins is not heard
    join = {"action": "conversation", "name": "room-1", "endOnExit": True}
    customer.answers["/answer"] = lambda _: web.json_response([join])
    host = await sim.vonage.call_in(CLERK, OURS, Caller((Wait(0.2), Say(0.8), Wait(0.3), HangUp())))
    report = await waiter
    assert host.party_audio_ms == 0
    assert report.party_audio_ms == pytest.approx(host.caller_audio_ms, abs=100)
    assert (report.said, report.unmet, report.violations) == (["Goodbye."], [], [])
    moved = [
        e.fields["conversation_uuid_to"] for e in customer.at("/event") if e.fields["status"] == "transfer"
    ]
    assert len(moved) == 2
    assert len(set(moved)) == 1


async def test_keys_are_pressed_by_rest_by_the_ncco_and_by_people(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    sim.callees[CLERK] = Callee(0.1, caller=Caller((Wait(2.5), HangUp())))
    sim.callees[THEIRS] = Callee(0.3, caller=Caller((Wait(1.6), Press("90"), StayUntilHungUp(10))))
    endpoint = {"type": "phone", "number": CLERK, "dtmfAnswer": "12#"}
    customer.answers["/answer"] = lambda _: web.json_response([phone(customer, endpoint=[endpoint])])
    call = await create(vonage, customer)
    await until(lambda: sim.vonage.calls[call.uuid].answered is not None)
    sent = await asyncio.to_thread(vonage.voice.play_dtmf_into_call, call.uuid, "56")
    assert sent.message == "DTMF sent"
    report = await sim.next_report(call.uuid)
    assert report.digits_heard == "56"
    assert legs(sim, report)[0].digits_heard == "12#90"
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(vonage.voice.play_dtmf_into_call, call.uuid, "5")


async def test_no_keys_are_pressed_before_somebody_answers(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    sim.callees[THEIRS] = Callee(3600.0)
    call = await create(vonage, customer)
    with pytest.raises(HttpRequestError):
        await asyncio.to_thread(vonage.voice.play_dtmf_into_call, call.uuid, "5")


@pytest.mark.parametrize(
    ("callee", "settings", "expected"),
    [
        (Callee(), {"machine_detection": "continue"}, ["human"]),
        (Callee.machine(), {"machine_detection": "continue"}, ["machine"]),
        (Callee.machine(), {"machine_detection": "hangup"}, ["machine"]),
        (
            Callee.machine(),
            {"advanced_machine_detection": {"mode": "detect_beep"}},
            ["machine", "beep_start"],
        ),
        (Callee.fax(), {"advanced_machine_detection": {"mode": "detect"}}, ["machine"]),
    ],
    ids=lambda value: value.answered_by if isinstance(value, Callee) else None,
)
async def test_who_answered_is_told_to_the_event_url(
    sim: CarrierSim,
    vonage: Vonage,
    customer: Customer,
    callee: Callee,
    settings: dict[str, Any],
    expected: list[str],
) -> None:
    sim.callees[THEIRS] = callee
    customer.answers["/answer"] = lambda _: web.json_response([{"action": "wait", "timeout": 2.5}])
    call = await create(vonage, customer, **settings)
    report = await sim.next_report(call.uuid)
    told = [e.fields for e in customer.at("/event") if e.fields["status"] in ("human", "machine")]
    assert [event.get("sub_state", event["status"]) for event in told] == expected
    name = "uuid" if "advanced_machine_detection" in settings else "call_uuid"
    assert {event[name] for event in told} == {call.uuid}
    hung_up = settings.get("machine_detection") == "hangup"
    assert report.end_cause == ("machine-detected" if hung_up else "end-of-instructions")


@pytest.mark.parametrize(
    "action",
    [
        {"action": "connect", "endpoint": [{"type": "phone", "number": "+14155550177"}]},
        {"action": "connect", "endpoint": [{"type": "phone"}]},
        {"action": "connect", "endpoint": [{"type": "phone", "number": CLERK, "dtmfAnswer": "abc"}]},
        {"action": "connect", "from": "+1415", "endpoint": [{"type": "phone", "number": CLERK}]},
        {"action": "conversation"},
        {"action": "conversation", "name": "a", "startOnEnter": "false"},
    ],
    ids=str,
)
async def test_what_is_not_as_documented_is_a_syntax_error(
    sim: CarrierSim, vonage: Vonage, customer: Customer, action: dict[str, Any]
) -> None:
    customer.answers["/answer"] = lambda _: web.json_response([action])
    report = await sim.vonage.call_in(THEIRS, OURS, Caller((StayUntilHungUp(5),)))
    assert [v.code for v in report.violations] == ["vonage-ncco-syntax"]
