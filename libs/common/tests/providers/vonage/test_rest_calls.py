"""Looking at calls and steering them, at the simulated Vonage; every request judged by Vonage's own description."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest
from vonage_voice import CreateCallRequest

from carrier_sim import Callee, Caller, StayUntilHungUp
from offhook.events.calls import CallStatus
from offhook.providers.base import Dial, RestError
from offhook.providers.vonage import VONAGE
from offhook.providers.vonage.rest import VonageRest, call_parameters

APPLICATION = "aaaaaaaa-0000-4000-8000-000000000001"
OURS, THEIRS, CLERK = "+14155550100", "+14155550123", "+14155550177"
NEVER = "ffffffff-0000-4000-8000-000000000001"
NOWHERE = "https://127.0.0.1:9/"
PATIENT = Caller((StayUntilHungUp(600),))
ALWAYS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
WAIT = [{"action": "wait", "timeout": 600}]


@pytest.fixture(scope="module")
def credentials(private_key):
    return {
        "application_id": APPLICATION,
        "private_key": private_key,
        "api_key": "k",
        "signature_secret": "s",
    }


@pytest.fixture
def ask(sim, credentials, published):
    sim.vonage.add_application(
        APPLICATION, api_key="k", api_secret="s", private_key=credentials["private_key"]
    )

    async def ask(action):
        return await asyncio.to_thread(lambda: action(VonageRest(credentials, sim.base_url)))

    return ask


async def refused(ask, action):
    with pytest.raises(RestError) as caught:
        await ask(action)
    return caught.value


async def place(sim, ask, callee):
    sim.callees[THEIRS] = callee
    body = {
        "to": [{"type": "phone", "number": THEIRS[1:]}],
        "from": {"type": "phone", "number": OURS[1:]},
        "event_url": [NOWHERE],
        "ncco": WAIT,
    }
    made = await ask(lambda rest: rest._voice.http_client.post("api.nexmo.com", "/v1/calls", body))
    return made["uuid"]


async def until_answered(ask, uuid):
    async with asyncio.timeout(60):
        while (seen := await ask(lambda rest: rest.look_at(uuid))).status is not CallStatus.ANSWERED:
            await asyncio.sleep(0.02)
    return seen


async def test_a_call_is_seen_while_it_lives_and_when_it_is_over(sim, ask, published):
    sim.config.hangup_guard_s = 0
    uuid = await place(sim, ask, Callee(0.1, caller=PATIENT))
    seen = await until_answered(ask, uuid)
    assert (seen.from_number, seen.to_number, seen.direction) == (OURS, THEIRS, "outbound")
    assert (seen.conversation_id is not None, seen.ended_at, seen.duration_s) == (True, None, None)
    await ask(lambda rest: rest.hang_up(uuid))
    await sim.next_report(uuid)
    over = await ask(lambda rest: rest.look_at(uuid))
    assert (over.status, over.provider_status, over.price_unit) == (CallStatus.COMPLETED, "completed", "EUR")
    assert over.began_at <= over.answered_at <= over.ended_at
    assert "GET /v1/calls/{uuid}" in published.judged


@pytest.mark.parametrize(
    ("outcome", "status"),
    [("busy", "busy"), ("no-answer", "no-answer"), ("failed", "failed"), ("rejected", "busy")],
)
async def test_a_call_nobody_took_says_how_it_came_out(sim, ask, outcome, status):
    sim.callees[THEIRS] = Callee(0.1, outcome)
    call = Dial(OURS, THEIRS, NOWHERE, NOWHERE, NOWHERE, ring_timeout_s=1)
    dialled = await ask(lambda rest: rest.dial(call))
    await sim.next_report(dialled.provider_call_id)
    seen = await ask(lambda rest: rest.look_at(dialled.provider_call_id))
    assert (seen.status, seen.answered_at) == (CallStatus(status), None)


async def test_a_call_that_vonage_does_not_know_is_none(ask):
    assert await ask(lambda rest: rest.look_at(NEVER)) is None


async def test_a_placed_call_is_found_by_its_numbers_and_time_alone(sim, ask, published):
    first = await place(sim, ask, Callee(0.1, "busy"))
    await sim.next_report(first)
    second = await place(sim, ask, Callee(5))
    found = await ask(lambda rest: rest.find(OURS, THEIRS, *ALWAYS))
    assert {seen.provider_call_id for seen in found} == {first, second}
    now = datetime.now(UTC)
    assert not await ask(lambda rest: rest.find(OURS, CLERK, *ALWAYS))
    assert not await ask(lambda rest: rest.find(THEIRS, OURS, *ALWAYS))
    assert not await ask(lambda rest: rest.find(OURS, THEIRS, ALWAYS[0], now - timedelta(minutes=1)))
    assert "GET /v1/calls" in published.judged


async def test_an_answered_call_can_be_transferred_a_ringing_one_not_yet_and_one_that_is_over_never(sim, ask):
    sim.config.hangup_guard_s = 0
    document = VONAGE.documents.hold("room")
    ringing = await place(sim, ask, Callee(60))
    error = await refused(ask, lambda rest: rest.transfer(ringing, document))
    assert (error.kind, error.retry_after_s) == ("too-early", 2.0)
    answered = await place(sim, ask, Callee(0.1, caller=PATIENT))
    await until_answered(ask, answered)
    await ask(lambda rest: rest.transfer(answered, document))
    await ask(lambda rest: rest.hang_up(answered))
    await sim.next_report(answered)
    for uuid in (answered, NEVER):
        assert (await refused(ask, lambda rest, uuid=uuid: rest.transfer(uuid, document))).kind == "gone"
        assert (await refused(ask, lambda rest, uuid=uuid: rest.hang_up(uuid))).kind == "gone"


async def test_a_transferred_call_is_connected_and_the_other_partys_leg_is_not_taken_for_a_placed_call(
    sim, ask
):
    sim.callees[CLERK] = Callee(0.1, caller=PATIENT)
    uuid = await place(sim, ask, Callee(0.1, caller=PATIENT))
    await until_answered(ask, uuid)
    document = VONAGE.documents.cold(CLERK, OURS, 20, NOWHERE)
    await ask(lambda rest: rest.transfer(uuid, document))
    async with asyncio.timeout(60):
        while not (legs := [call for call in sim.vonage.every_call() if call.to_number == CLERK[1:]]):
            await asyncio.sleep(0.02)
    leg = await ask(lambda rest: rest.look_at(legs[0].uuid))
    assert (leg.to_number, leg.direction) == (CLERK, "outbound")
    assert not await ask(lambda rest: rest.find(OURS, CLERK, *ALWAYS))
    assert [seen.provider_call_id for seen in await ask(lambda rest: rest.find(OURS, THEIRS, *ALWAYS))] == [
        uuid
    ]


@pytest.mark.parametrize("mode", ["detect", "detect-message-end"])
async def test_vonage_takes_the_wish_to_know_who_answers(sim, ask, mode):
    call = Dial(OURS, THEIRS, NOWHERE, NOWHERE, NOWHERE, 1, 90, mode)
    sim.callees[THEIRS] = Callee(0.1, "busy")
    assert (await ask(lambda rest: rest.dial(call))).provider_status == "started"


async def test_a_call_that_has_just_been_placed_cannot_be_ended_yet(sim, ask):
    sim.config.hangup_guard_s = 600
    ringing = await place(sim, ask, Callee(60))
    assert (await refused(ask, lambda rest: rest.hang_up(ringing))).kind == "too-early"


def test_keys_are_pressed_as_vonage_writes_them(rest_api, credentials, published):
    assert VONAGE.dtmf_out == "rest"
    rest_api.answer(200, {"message": "DTMF sent", "uuid": NEVER})
    VonageRest(credentials, rest_api.url).send_digits(NEVER, "1w*#W0")
    (sent,) = rest_api.sent
    assert (sent.method, sent.path) == ("PUT", f"/v1/calls/{NEVER}/dtmf")
    assert json.loads(sent.body) == {"digits": "1p*#p0"}


@pytest.mark.parametrize("digits", ["", "A", "1 2", "١", "p"])
def test_keys_that_no_phone_of_vonage_has_are_not_sent(rest_api, credentials, digits):
    with pytest.raises(RestError) as caught:
        VonageRest(credentials, rest_api.url).send_digits(NEVER, digits)
    assert (caught.value.kind, rest_api.sent) == ("rejected", [])


@pytest.mark.parametrize(("mode", "word"), [("detect", "detect"), ("detect-message-end", "detect_beep")])
def test_who_answers_is_found_out_beside_the_call(mode, word):
    call = Dial(OURS, THEIRS, NOWHERE, NOWHERE, NOWHERE, 30, 90, mode)
    body = CreateCallRequest(**call_parameters(call)).model_dump(by_alias=True, exclude_none=True)
    assert body["advanced_machine_detection"] == {"behavior": "continue", "mode": word}
    assert body["length_timer"] == 90


CALL = {
    "uuid": NEVER, "conversation_uuid": "CON-1", "status": "ringing", "direction": "outbound",
    "from": {"type": "phone", "number": OURS[1:]}, "to": {"type": "phone", "number": THEIRS[1:]},
}  # fmt: skip


def find(rest_api, credentials):
    return VonageRest(credentials, rest_api.url).find(OURS, THEIRS, *ALWAYS)


def page(*calls, count=None, **links):
    return {
        "count": len(calls) if count is None else count,
        "_embedded": {"calls": list(calls)},
        "_links": links,
    }


def test_a_leg_that_an_inbound_call_had_dialled_is_not_taken_for_a_placed_call(rest_api, credentials):
    received = CALL | {"uuid": "other", "direction": "inbound", "to": {"type": "phone", "number": OURS[1:]}}
    rest_api.answer(200, page(CALL, received))
    assert find(rest_api, credentials) == []
    rest_api.answer(200, page(CALL, received | {"conversation_uuid": "CON-2"}))
    assert [seen.provider_call_id for seen in find(rest_api, credentials)] == [NEVER]


@pytest.mark.parametrize("links", [{}, {"next": {"href": "/calls?page_size=100&record_index=1"}}])
def test_a_list_without_an_end_is_refused_not_cut(rest_api, credentials, links):
    rest_api.answer(200, page(CALL, count=10_000, **links))
    with pytest.raises(RestError) as caught:
        find(rest_api, credentials)
    assert (caught.value.kind, caught.value.code, len(rest_api.sent)) == ("unavailable", "too-many-calls", 30)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"count": 1},
        {"count": 1, "_embedded": {"calls": [5]}},
        page({}),
        b"",
        b"[" * 100_000,
        {"_embedded": []},
    ],
)
def test_a_list_that_cannot_be_read_is_not_an_empty_list(rest_api, credentials, answer):
    rest_api.answer(200, answer)
    with pytest.raises(RestError) as caught:
        find(rest_api, credentials)
    assert (caught.value.kind, len(rest_api.sent)) == ("unavailable", 1)


@pytest.mark.parametrize("answer", [{}, {"uuid": "another"}, b"<html>", b""])
def test_an_answer_about_another_call_is_no_answer(rest_api, credentials, answer):
    rest_api.answer(200, answer)
    with pytest.raises(RestError) as caught:
        VonageRest(credentials, rest_api.url).look_at(NEVER)
    assert caught.value.kind == "unavailable"


def test_a_document_that_vonage_does_not_take_is_rejected_for_good(rest_api, credentials):
    rest_api.answer(400, {"title": "Bad Request"})
    with pytest.raises(RestError) as caught:
        VonageRest(credentials, rest_api.url).transfer(NEVER, VONAGE.documents.join("room"))
    assert caught.value.kind == "rejected"
