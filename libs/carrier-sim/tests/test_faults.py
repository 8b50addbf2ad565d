"""Bad days: callbacks that come twice, never, late or in disorder; media sockets that die."""

import asyncio

import pytest
from aiohttp import web
from customer import Customer, twilio_agent, vonage_agent, xml

from carrier_sim import BargeIn, Caller, CarrierSim, Faults, HangUp, StayUntilHungUp, Wait, WaitForAgent
from carrier_sim.faults import Fate, Fortune
from carrier_sim.twilio.accounts import Account
from carrier_sim.twilio.call import TwilioCall
from carrier_sim.twilio.plan import Plan, Source

OURS, THEIRS = "+14155550100", "+14155550143"
APPLICATION = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
TALK = [{"action": "talk", "text": "Hello."}]


@pytest.fixture
def account(sim: CarrierSim, customer: Customer) -> Account:
    account = sim.twilio.add_account("AC" + "6" * 32, "token")
    account.add_number(OURS, voice_url=customer.url("/voice"), status_callback=customer.url("/status"))
    customer.answers["/voice"] = lambda _: xml(
        f'<Response><Connect><Stream url="{customer.ws("/media")}"/></Connect>'
        "<Redirect>/again</Redirect></Response>"
    )
    customer.answers["/again"] = lambda _: xml("<Response><Say>You are back.</Say></Response>")
    customer.talk = lambda socket, _: twilio_agent(customer, socket)
    return account


@pytest.fixture
def vonage(sim: CarrierSim, customer: Customer, private_key: str) -> None:
    sim.vonage.add_application(
        APPLICATION, private_key=private_key, api_key="k", api_secret="s", signature_secret="s" * 32,
        answer_url=customer.url("/answer"), event_url=customer.url("/event"),
    )  # fmt: skip
    sim.vonage.add_number(APPLICATION, OURS)


def test_the_same_seed_gives_the_same_fates() -> None:
    faults = Faults(duplicate=0.3, drop=0.2, delay=0.5, reorder=0.3, seed=5)
    one, two, other = (Fortune(faults, ordinal) for ordinal in (1, 1, 2))
    fates = [one.next() for _ in range(50)]
    assert fates == [two.next() for _ in range(50)]
    assert fates != [other.next() for _ in range(50)]
    assert {fate.copies for fate in fates} == {0, 1, 2}
    assert Fortune(Faults(), 1).next() == Fate()


def test_a_probability_above_one_is_refused() -> None:
    with pytest.raises(ValueError, match="drop"):
        Faults(drop=1.5)


async def events(sim: CarrierSim, customer: Customer, faults: Faults) -> list[str]:
    customer.answers["/answer"] = lambda _: web.json_response(TALK)
    await sim.vonage.call_in(THEIRS, OURS, Caller((StayUntilHungUp(),)), faults=faults)
    return [e.fields["status"] for e in customer.at("/event")]


@pytest.mark.usefixtures("vonage")
async def test_callbacks_are_duplicated_dropped_and_delayed(sim: CarrierSim, customer: Customer) -> None:
    once = ["started", "ringing", "answered", "completed"]
    assert sorted(await events(sim, customer, Faults(duplicate=1))) == sorted(once * 2)
    customer.received.clear()
    assert await events(sim, customer, Faults(drop=1)) == []
    assert sim.reports[-1].faults == [f"dropped {status}" for status in once]
    assert sorted(await events(sim, customer, Faults(delay=1, delay_s=(0.1, 0.2)))) == sorted(once)


@pytest.mark.usefixtures("vonage")
async def test_a_held_callback_arrives_after_the_one_that_followed_it(
    sim: CarrierSim, customer: Customer
) -> None:
    # With this seed, `ringing` is the one that is held.
    arrived = await events(sim, customer, Faults(reorder=0.5, seed=3))
    assert arrived == ["started", "answered", "ringing", "completed"]


async def test_a_killed_media_socket_lets_the_instructions_go_on(
    sim: CarrierSim, customer: Customer, account: Account
) -> None:
    faults = Faults(kill_media_after_s=0.4)
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((StayUntilHungUp(),)), faults=faults)
    assert report.said == ["You are back."]
    assert report.faults == ["killed a media socket"]
    assert report.violations == []
    assert "stop" not in [m["event"] for m in customer.messages]


async def test_a_half_open_socket_stays_connected_and_silent(
    sim: CarrierSim, customer: Customer, account: Account
) -> None:
    closed = asyncio.Event()

    async def listen(socket: web.WebSocketResponse, _: web.Request) -> None:
        async for message in socket:
            customer.messages.append(message)
        closed.set()

    customer.talk = listen
    faults = Faults(half_open_media_after_s=0.3)
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((StayUntilHungUp(),)), faults=faults)
    assert report.faults == ["left a media socket half-open"]
    count = len(customer.messages)
    await asyncio.sleep(0.2)
    assert len(customer.messages) == count
    assert not closed.is_set()


@pytest.mark.usefixtures("vonage")
async def test_a_killed_vonage_socket_asks_for_new_instructions(sim: CarrierSim, customer: Customer) -> None:
    endpoint = {"type": "websocket", "uri": customer.ws("/media"), "content-type": "audio/l16;rate=16000"}
    action = {
        "action": "connect", "endpoint": [endpoint], "eventType": "synchronous", "eventUrl": [customer.url("/leg")],
    }  # fmt: skip
    customer.answers["/answer"] = lambda _: web.json_response([action])
    customer.answers["/leg"] = lambda e: (
        web.json_response(TALK) if e.fields["status"] == "disconnected" else web.Response(status=204)
    )
    customer.talk = lambda socket, _: vonage_agent(customer, socket)
    faults = Faults(kill_media_after_s=0.3)
    report = await sim.vonage.call_in(THEIRS, OURS, Caller((StayUntilHungUp(),)), faults=faults)
    assert report.said == ["Hello."]
    assert report.violations == []


async def test_instructions_asked_for_twice_carry_the_same_idempotency_token(
    sim: CarrierSim, customer: Customer, account: Account
) -> None:
    faults = Faults(duplicate_instructions=1)
    await sim.twilio.call_in(THEIRS, OURS, Caller((WaitForAgent(), HangUp())), faults=faults)
    first, second = customer.at("/voice")
    assert first.body == second.body
    assert first.headers["i-twilio-idempotency-token"] == second.headers["i-twilio-idempotency-token"]


async def test_an_interruption_is_timed(sim: CarrierSim, customer: Customer, account: Account) -> None:
    async def interruptible(socket: web.WebSocketResponse, _: web.Request) -> None:
        agent = asyncio.create_task(twilio_agent(customer, socket, seconds=8))
        while not any(m["event"] == "media" and m["media"]["chunk"] == "60" for m in customer.messages):
            await asyncio.sleep(0.01)
        sid = customer.messages[1]["streamSid"]
        await socket.send_json({"event": "clear", "streamSid": sid})
        await agent

    customer.talk = interruptible
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((BargeIn(after_s=0.5, seconds=1.0), HangUp())))
    (interruption,) = report.interruptions
    assert interruption.stopped_after_ms is not None
    assert report.clears == 1
    assert [m.outcome for m in report.marks] == ["cleared"]
    assert report.violations == []


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("ws://127.0.0.1:1/media", "31922"),
        ("https://127.0.0.1:1/media", "31922"),
        ("", "31923"),
        ("wss:///media", "31923"),
        ("wss://127.0.0.1:9/media", "31902"),
        ("{ws}/refused", "31920"),
        ("{ws}/media?token=abc", "sim-stream-query"),
    ],
)
async def test_each_way_a_stream_cannot_be_connected_has_its_code(
    sim: CarrierSim, customer: Customer, account: Account, url: str, code: str
) -> None:
    if "refused" in url:
        customer.talk = None
    url = url.replace("{ws}", customer.ws(""))
    customer.answers["/voice"] = lambda _: xml(
        f'<Response><Connect><Stream url="{url}" statusCallback="{customer.url("/stream")}"/></Connect></Response>'
    )
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((Wait(0.3), HangUp())))
    assert [v.code for v in report.violations] == [code]
    if code in ("31902", "31920"):
        (event,) = customer.at("/stream")
        assert event.fields["StreamEvent"] == "stream-error"
        assert event.fields["StreamError"].startswith(code)


async def test_the_simulation_ends_while_a_call_is_up(customer: Customer, sim: CarrierSim) -> None:
    async with CarrierSim() as other:
        account = other.twilio.add_account("AC" + "7" * 32, "token")
        plan = Plan(Source(document=b"<Response><Pause length='60'/></Response>"))
        call = TwilioCall(
            other._exchange, account, direction="inbound", from_number=THEIRS, to_number=OURS, plan=plan, number=None
        )  # fmt: skip
        other._exchange.spawn(call.run_inbound(Caller()))
        await asyncio.sleep(0.1)
    assert other.reports[0].end_cause == "simulation-stopped"


@pytest.mark.usefixtures("vonage")
async def test_an_accounts_faults_are_those_of_its_calls_unless_a_call_has_its_own(
    sim: CarrierSim, customer: Customer, account: Account
) -> None:
    customer.answers["/answer"] = lambda _: web.json_response(TALK)
    sim.vonage.applications[APPLICATION].faults = Faults(drop=1)
    report = await sim.vonage.call_in(THEIRS, OURS, Caller((StayUntilHungUp(),)))
    assert len(report.faults) == 4
    report = await sim.vonage.call_in(THEIRS, OURS, Caller((StayUntilHungUp(),)), faults=Faults())
    assert report.faults == []
    report = await sim.twilio.call_in(THEIRS, OURS, Caller((WaitForAgent(), HangUp())))
    assert report.faults == []
