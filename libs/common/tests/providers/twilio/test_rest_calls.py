"""Looking at calls and steering them, at the simulated Twilio; every request judged by Twilio's own description."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from carrier_sim import Callee, Caller, StayUntilHungUp
from offhook.events.calls import CallStatus
from offhook.providers.base import Dial, RestError
from offhook.providers.twilio import TWILIO
from offhook.providers.twilio.rest import TwilioRest
from offhook.providers.twilio.rest_client import TwilioApi

ACCOUNT = "AC" + "0" * 32
CREDENTIALS = {"account_sid": ACCOUNT, "auth_token": "token"}
OURS, THEIRS, CLERK = "+14155550100", "+14155550123", "+14155550177"
NEVER = "CA" + "f" * 32
NOWHERE = "https://127.0.0.1:9/"
PATIENT = Caller((StayUntilHungUp(20),))
ALWAYS = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.fixture
def account(sim, published):
    account = sim.twilio.add_account(ACCOUNT, "token")
    account.add_number(OURS)
    return account


async def ask(sim, action):
    return await asyncio.to_thread(lambda: action(TwilioRest(CREDENTIALS, sim.base_url)))


async def refused(sim, action):
    with pytest.raises(RestError) as caught:
        await ask(sim, action)
    return caught.value


async def place(sim, callee, document='<Response><Pause length="20"/></Response>'):
    sim.callees[THEIRS] = callee
    client = TwilioApi(CREDENTIALS, sim.base_url, 10, None).client("dial")
    call = await asyncio.to_thread(lambda: client.calls.create(to=THEIRS, from_=OURS, twiml=document))
    return call.sid


async def until_answered(sim, call_sid):
    async with asyncio.timeout(30):
        while (seen := await ask(sim, lambda rest: rest.look_at(call_sid))).status is not CallStatus.ANSWERED:
            await asyncio.sleep(0.02)
    return seen


async def test_a_call_is_seen_while_it_lives_and_when_it_is_over(sim, account, published):
    call_sid = await place(sim, Callee(0.1, caller=PATIENT))
    seen = await until_answered(sim, call_sid)
    assert (seen.from_number, seen.to_number, seen.direction) == (OURS, THEIRS, "outbound")
    assert (seen.began_at is not None, seen.ended_at, seen.duration_s) == (True, None, None)
    await ask(sim, lambda rest: rest.hang_up(call_sid))
    await sim.next_report(call_sid)
    over = await ask(sim, lambda rest: rest.look_at(call_sid))
    assert (over.status, over.provider_status) == (CallStatus.COMPLETED, "completed")
    assert over.began_at <= over.answered_at <= over.ended_at
    assert "GET /2010-04-01/Accounts/{AccountSid}/Calls/{Sid}.json" in published.judged


@pytest.mark.parametrize("outcome", ["busy", "no-answer", "failed"])
async def test_a_call_nobody_took_says_how_it_came_out(sim, account, outcome):
    call = Dial(OURS, THEIRS, NOWHERE, NOWHERE, NOWHERE, ring_timeout_s=1)
    sim.callees[THEIRS] = Callee(0.1, outcome)
    dialled = await ask(sim, lambda rest: rest.dial(call))
    await sim.next_report(dialled.provider_call_id)
    seen = await ask(sim, lambda rest: rest.look_at(dialled.provider_call_id))
    assert (seen.status, seen.answered_at) == (CallStatus(outcome), None)


async def test_a_call_that_twilio_does_not_know_is_none(sim, account):
    assert await ask(sim, lambda rest: rest.look_at(NEVER)) is None


async def test_a_placed_call_is_found_by_its_numbers_and_time_alone(sim, account, published):
    first = await place(sim, Callee(0.1, "busy"))
    await sim.next_report(first)
    second = await place(sim, Callee(5))
    found = await ask(sim, lambda rest: rest.find(OURS, THEIRS, *ALWAYS))
    assert {seen.provider_call_id for seen in found} == {first, second}
    now = datetime.now(UTC)
    assert not await ask(sim, lambda rest: rest.find(OURS, CLERK, *ALWAYS))
    assert not await ask(sim, lambda rest: rest.find(THEIRS, OURS, *ALWAYS))
    early = await ask(sim, lambda rest: rest.find(OURS, THEIRS, ALWAYS[0], now - timedelta(minutes=1)))
    assert not early
    assert "GET /2010-04-01/Accounts/{AccountSid}/Calls.json" in published.judged


async def test_a_transferred_call_is_connected_and_the_other_partys_leg_is_not_taken_for_a_placed_call(
    sim, account
):
    sim.callees[CLERK] = Callee(0.1, caller=PATIENT)
    call_sid = await place(sim, Callee(0.1, caller=PATIENT))
    await until_answered(sim, call_sid)
    document = TWILIO.documents.cold(CLERK, OURS, 20, NOWHERE)
    await ask(sim, lambda rest: rest.transfer(call_sid, document))
    async with asyncio.timeout(30):
        while not (legs := [call for call in sim.twilio.every_call() if call.parent]):
            await asyncio.sleep(0.02)
    leg = await ask(sim, lambda rest: rest.look_at(legs[0].sid))
    assert (leg.to_number, leg.parent_call_id) == (CLERK, call_sid)
    assert not await ask(sim, lambda rest: rest.find(OURS, CLERK, *ALWAYS))


async def test_a_call_that_still_rings_cannot_be_transferred_yet_and_one_that_is_over_never(sim, account):
    document = TWILIO.documents.hold("room")
    ringing = await place(sim, Callee(20))
    error = await refused(sim, lambda rest: rest.transfer(ringing, document))
    assert (error.kind, error.code) == ("too-early", "21220")
    assert error.retry_after_s is not None
    await ask(sim, lambda rest: rest.hang_up(ringing))
    await sim.next_report(ringing)
    for call_sid in (ringing, NEVER):
        assert (await refused(sim, lambda rest, sid=call_sid: rest.transfer(sid, document))).kind == "gone"
        assert (await refused(sim, lambda rest, sid=call_sid: rest.hang_up(sid))).kind == "gone"


async def test_keys_are_pressed_in_the_audio_not_here(sim, account):
    assert TWILIO.dtmf_out == "in-band"
    assert (await refused(sim, lambda rest: rest.send_digits(NEVER, "1"))).kind == "unsupported"


@pytest.mark.parametrize(("mode", "word"), [("detect", "Enable"), ("detect-message-end", "DetectMessageEnd")])
def test_who_answers_is_found_out_beside_the_call(rest_api, published, mode, word):
    rest_api.answer(201, {"sid": NEVER, "status": "queued"})
    call = Dial(OURS, THEIRS, NOWHERE, NOWHERE, NOWHERE, 30, 90, mode, "https://h.example/amd")
    TwilioRest(CREDENTIALS, rest_api.url).dial(call)
    sent = rest_api.sent[0].body.decode()
    assert f"MachineDetection={word}" in sent
    assert "AsyncAmd=true" in sent
    assert "AsyncAmdStatusCallback=https%3A%2F%2Fh.example%2Famd" in sent
    assert "TimeLimit=90" in sent


CALL = {"sid": NEVER, "status": "ringing", "direction": "outbound-api", "from": OURS, "to": THEIRS}
FOLLOWING = f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json?Page=1&PageToken=PA"


def find(rest_api, after=ALWAYS[0]):
    return TwilioRest(CREDENTIALS, rest_api.url).find(OURS, THEIRS, after, ALWAYS[1])


def test_a_list_without_an_end_is_refused_not_cut(rest_api):
    rest_api.answer(200, {"calls": [CALL], "next_page_uri": FOLLOWING})
    with pytest.raises(RestError) as caught:
        find(rest_api)
    assert (caught.value.kind, caught.value.code, len(rest_api.sent)) == ("unavailable", "too-many-calls", 20)


def test_pages_about_earlier_times_are_not_read(rest_api):
    days = [f"{day}, {number:02} Jan 2026 12:00:00 +0000" for day, number in [("Tue", 6), ("Mon", 5)]]
    calls = [CALL | {"sid": f"CA{day}", "date_created": day} for day in days]
    rest_api.answer(200, {"calls": calls, "next_page_uri": FOLLOWING})
    found = find(rest_api, after=datetime(2026, 1, 6, tzinfo=UTC))
    assert ([seen.began_at.day for seen in found], len(rest_api.sent)) == ([6], 1)


@pytest.mark.parametrize(
    "page",
    [
        {"calls": "none"},
        {"calls": [5]},
        {"calls": [{}]},
        {},
        b"",
        b"[" * 100_000,
        {"calls": [], "next_page_uri": "https://elsewhere.example/?steal"},
    ],
)
def test_a_list_that_cannot_be_read_is_not_an_empty_list(rest_api, page):
    rest_api.answer(200, page)
    with pytest.raises(RestError) as caught:
        find(rest_api)
    assert caught.value.kind == "unavailable"
    assert len(rest_api.sent) == 1


@pytest.mark.parametrize("answer", [{}, {"sid": "CA-another"}, b"<html>", b""])
def test_an_answer_about_another_call_is_no_answer(rest_api, answer):
    rest_api.answer(200, answer)
    with pytest.raises(RestError) as caught:
        TwilioRest(CREDENTIALS, rest_api.url).look_at(NEVER)
    assert caught.value.kind == "unavailable"


def test_a_lost_answer_to_a_transfer_may_have_rung_a_phone(rest_api):
    rest_api.behaviour = "drop"
    with pytest.raises(RestError) as caught:
        TwilioRest(CREDENTIALS, rest_api.url).transfer(NEVER, TWILIO.documents.join("room"))
    assert caught.value.kind == "unknown-outcome"
    assert len(rest_api.sent) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, "credentials"), (404, "gone"), (429, "busy"), (400, "rejected"), (500, "unknown-outcome")],
)
def test_a_transfer_that_is_refused_has_not_happened_and_one_that_failed_may_have(rest_api, status, kind):
    rest_api.answer(status, {"message": "words"})
    with pytest.raises(RestError) as caught:
        TwilioRest(CREDENTIALS, rest_api.url).transfer(NEVER, TWILIO.documents.join("room"))
    assert caught.value.kind == kind
