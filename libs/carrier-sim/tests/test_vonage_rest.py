"""Vonage's official SDK against the simulator, unchanged but for the hosts; its published descriptions as the judge."""

import asyncio
from typing import Any

import jwt
import pytest
import requests
from aiohttp import web
from customer import Customer, until, vonage_agent
from published_specs import PublishedSpecs
from vonage import Auth, HttpClientOptions, Vonage
from vonage_application import ApplicationConfig
from vonage_http_client.errors import AuthenticationError, HttpRequestError, NotFoundError
from vonage_numbers import ListOwnedNumbersFilter, UpdateNumberParams
from vonage_voice import CreateCallRequest, Talk

from carrier_sim import Callee, Caller, CarrierSim, HangUp, Say, StayUntilHungUp, WaitForAgent

APPLICATION = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
OURS, THEIRS = "14155550101", "14155550144"
KEY, SECRET = "abcd1234", "NotARealSecret1"


def client_of(sim: CarrierSim, specs: PublishedSpecs, private_key: str, secret: str = SECRET) -> Vonage:
    auth = Auth(api_key=KEY, api_secret=secret, application_id=APPLICATION, private_key=private_key)
    host = sim.base_url.removeprefix("https://")
    client = Vonage(auth, HttpClientOptions(api_host=host, rest_host=host, timeout=30))
    session = client.http_client._session
    session.verify = str(sim.ca_pem)
    session.trust_env = False
    session.hooks["response"].append(specs.check)
    return client


def provision(sim: CarrierSim, customer: Customer, private_key: str) -> None:
    sim.vonage.add_application(
        APPLICATION, private_key=private_key, api_key=KEY, api_secret=SECRET, signature_secret="s" * 32,
        event_url=customer.url("/event"),
    )  # fmt: skip
    sim.vonage.add_number(APPLICATION, OURS)
    endpoint = {"type": "websocket", "uri": customer.ws("/media"), "content-type": "audio/l16;rate=16000"}
    customer.answers["/answer"] = lambda _: web.json_response([{"action": "connect", "endpoint": [endpoint]}])
    customer.talk = lambda socket, _: vonage_agent(customer, socket)


@pytest.fixture
def vonage(sim: CarrierSim, customer: Customer, specs: PublishedSpecs, private_key: str) -> Vonage:
    provision(sim, customer, private_key)
    return client_of(sim, specs, private_key)


async def create(client: Vonage, customer: Customer, **more: Any) -> Any:
    settings: dict[str, Any] = {
        "to": [{"type": "phone", "number": THEIRS}],
        "from_": {"type": "phone", "number": OURS},
        "answer_url": [customer.url("/answer")],
        "answer_method": "POST",
    }
    return await asyncio.to_thread(client.voice.create_call, CreateCallRequest(**(settings | more)))


async def test_an_outbound_call_rings_is_answered_and_billed(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    sim.callees[THEIRS] = Callee(caller=Caller((WaitForAgent(), Say(0.8), WaitForAgent(), HangUp())))
    call = await create(vonage, customer)
    assert (call.status, call.direction) == ("started", "outbound")
    report = await sim.next_report(call.uuid)
    assert report.violations == []
    assert [s.status for s in report.statuses] == ["started", "ringing", "answered", "completed"]
    info = await asyncio.to_thread(vonage.voice.get_call, call.uuid)
    assert (info.status, info.to.number) == ("completed", THEIRS)
    assert float(info.price or 0) > 0
    calls, _ = await asyncio.to_thread(vonage.voice.list_calls)
    assert [c.uuid for c in calls] == [call.uuid]
    final = [e.fields for e in customer.at("/event") if e.fields["uuid"] == call.uuid][-1]
    assert (final["disconnected_by"], final["sip_code"]) == ("user", "200")


@pytest.mark.parametrize(
    ("callee", "status", "detail"),
    [
        (Callee(outcome="busy"), "busy", None),
        (Callee(outcome="rejected"), "rejected", "declined"),
        (Callee(outcome="failed"), "failed", "cannot_route"),
        (Callee(outcome="canceled"), "cancelled", None),
        (Callee(outcome="no-answer", answer_after_s=0.1), "timeout", None),
    ],
    ids=lambda value: value.outcome if isinstance(value, Callee) else str(value),
)
async def test_every_outcome_has_its_final_event(
    sim: CarrierSim, vonage: Vonage, customer: Customer, callee: Callee, status: str, detail: str | None
) -> None:
    sim.callees[THEIRS] = callee
    call = await create(vonage, customer, ringing_timer=1)
    report = await sim.next_report(call.uuid)
    assert report.status == status
    final = customer.at("/event")[-1].fields
    assert (final["status"], final.get("detail")) == (status, detail)


async def test_a_hang_up_right_after_the_creation_is_refused(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    sim.callees[THEIRS] = Callee(caller=Caller((StayUntilHungUp(),)))
    sim.config.hangup_guard_s = 3600.0
    call = await create(vonage, customer)
    with pytest.raises(HttpRequestError) as error:
        await asyncio.to_thread(vonage.voice.hangup, call.uuid)
    assert error.value.response.status_code == 400
    await until(lambda: bool(customer.messages))
    sim.config.hangup_guard_s = 0.0
    await asyncio.to_thread(vonage.voice.hangup, call.uuid)
    report = await sim.next_report(call.uuid)
    assert report.ended_by == "rest"
    assert report.violations == []
    # A leg that is hung up by REST raises no `disconnected`.
    assert "disconnected" not in [e.fields["status"] for e in customer.at("/event")]
    with pytest.raises(NotFoundError):
        await asyncio.to_thread(vonage.voice.hangup, call.uuid)


async def test_a_live_call_is_transferred_to_another_ncco(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    sim.callees[THEIRS] = Callee(caller=Caller((StayUntilHungUp(),)))
    call = await create(vonage, customer)
    await until(lambda: bool(customer.messages))
    ncco = [Talk(text="You are being transferred.")]
    await asyncio.to_thread(vonage.voice.transfer_call_ncco, call.uuid, ncco)
    report = await sim.next_report(call.uuid)
    assert report.said == ["You are being transferred."]


async def test_an_application_is_replaced_as_a_whole(
    sim: CarrierSim, vonage: Vonage, customer: Customer
) -> None:
    application = await asyncio.to_thread(vonage.application.get_application, APPLICATION)
    assert application.capabilities.voice.webhooks.event_url.address == customer.url("/event")
    config = {
        "name": "Renamed",
        "capabilities": {
            "voice": {"webhooks": {"answer_url": {"address": customer.url("/answer"), "http_method": "POST"}}}
        },
    }
    await asyncio.to_thread(vonage.application.update_application, APPLICATION, ApplicationConfig(**config))
    application = await asyncio.to_thread(vonage.application.get_application, APPLICATION)
    assert application.name == "Renamed"
    assert application.capabilities.voice.webhooks.event_url is None
    report = await sim.vonage.call_in(THEIRS, OURS, Caller((WaitForAgent(), HangUp())))
    assert report.violations == []
    assert customer.at("/event") == []


async def test_a_bad_application_is_refused_with_the_names_of_the_fields(
    sim: CarrierSim, vonage: Vonage
) -> None:
    bad = {"capabilities": {"voice": {"webhooks": {"answer_url": {"address": "x", "http_method": "PUT"}}}}}
    answer = await asyncio.to_thread(
        requests.put,
        f"{sim.base_url}/v2/applications/{APPLICATION}", json=bad, auth=(KEY, SECRET), verify=str(sim.ca_pem),
    )  # fmt: skip
    assert answer.status_code == 400
    assert [p["name"] for p in answer.json()["invalid_parameters"]] == [
        "name",
        "capabilities.voice.webhooks.answer_url.address",
        "capabilities.voice.webhooks.answer_url.http_method",
    ]


async def test_numbers_are_listed_and_linked(sim: CarrierSim, vonage: Vonage) -> None:
    numbers, count, _ = await asyncio.to_thread(vonage.numbers.list_owned_numbers)
    assert (count, numbers[0].msisdn, numbers[0].app_id) == (1, OURS, APPLICATION)
    await asyncio.to_thread(vonage.numbers.update_number, UpdateNumberParams(country="US", msisdn=OURS))
    unlinked = ListOwnedNumbersFilter(has_application=False)
    numbers, _, _ = await asyncio.to_thread(vonage.numbers.list_owned_numbers, unlinked)
    assert numbers[0].app_id is None
    await asyncio.to_thread(
        vonage.numbers.update_number, UpdateNumberParams(country="US", msisdn=OURS, app_id=APPLICATION)
    )
    assert sim.vonage.numbers[OURS].app_id == APPLICATION


async def test_tokens_are_checked_against_the_applications_key(
    sim: CarrierSim, vonage: Vonage, specs: PublishedSpecs, private_key: str
) -> None:
    def status(token: str) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{sim.base_url}/v1/calls", headers=headers, verify=str(sim.ca_pem)).status_code

    now = 4_000_000_000
    good = {"application_id": APPLICATION, "iat": 1_700_000_000, "jti": "1", "exp": now}
    tokens = [
        "nonsense",
        jwt.encode(good, private_key, algorithm="RS256"),  # lives longer than a day
        jwt.encode(good | {"exp": 1_700_000_900}, private_key, algorithm="RS256"),  # over
        jwt.encode(good, "x" * 32, algorithm="HS256"),
        jwt.encode({k: v for k, v in good.items() if k != "jti"}, private_key, algorithm="RS256"),
    ]
    for token in tokens:
        assert await asyncio.to_thread(status, token) == 401
    wrong = client_of(sim, specs, private_key, "wrong")
    with pytest.raises(AuthenticationError):
        await asyncio.to_thread(wrong.application.get_application, APPLICATION)
