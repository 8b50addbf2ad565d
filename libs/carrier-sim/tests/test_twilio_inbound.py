"""A person calls a Twilio number."""

import json

import pytest
from aiohttp import web
from customer import Customer, twilio_agent, until, xml
from twilio.request_validator import RequestValidator

from carrier_sim import Caller, CarrierSim, HangUp, Press, Say, StayUntilHungUp, WaitForAgent

SID = "AC" + "0" * 32
TOKEN = "twilio-auth-token"
TO, FROM = "+14155550100", "+14155550199"


@pytest.fixture
def twilio(sim: CarrierSim, customer: Customer) -> Customer:
    account = sim.twilio.add_account(SID, TOKEN)
    sim.twilio.add_number(
        account, TO, voice_url=customer.url("/voice"), status_callback=customer.url("/status"),
        voice_fallback_url=customer.url("/fallback"),
    )  # fmt: skip
    return customer


def stream_of(customer: Customer, rest: str = "<Hangup/>") -> str:
    return (
        f'<Response><Connect><Stream url="{customer.ws("/media")}">'
        f'<Parameter name="token" value="abc"/></Stream></Connect>{rest}</Response>'
    )


async def test_a_conversation_is_heard_timed_and_reported(sim: CarrierSim, twilio: Customer) -> None:
    twilio.answers["/voice"] = lambda _: xml(stream_of(twilio))
    twilio.talk = lambda socket, _: twilio_agent(twilio, socket)
    caller = Caller((WaitForAgent(), Say(1.0), WaitForAgent(), Press("4#"), HangUp()))
    report = await sim.twilio.call_in(FROM, TO, caller)
    assert report.violations == []
    assert [s.status for s in report.statuses] == ["ringing", "in-progress", "completed"]
    assert (report.ended_by, report.end_cause) == ("caller", "hung-up")
    assert [m.name for m in report.marks] == ["greeting", "answer"]
    assert report.dtmf == "4#"
    assert report.caller_audio_ms > 500
    assert report.agent_audio_ms > 1000
    assert len(report.response_ms) == 1
    assert len(report.instructions_ms) == 1
    assert report.heard_wav[:4] == b"RIFF"
    json.dumps(report.to_dict())
    # The carrier is done when it has sent its last word; the customer may still be reading it.
    await until(lambda: twilio.messages[-1]["event"] == "stop")
    events = [m["event"] for m in twilio.messages]
    assert events[:2] == ["connected", "start"]
    start = twilio.messages[1]["start"]
    assert start["customParameters"] == {"token": "abc"}
    assert start["callSid"] == report.provider_call_id
    sequence = [int(m["sequenceNumber"]) for m in twilio.messages[1:]]
    assert sequence == list(range(1, len(sequence) + 1))


async def test_webhook_and_callback_carry_signatures_the_official_validator_accepts(
    sim: CarrierSim, twilio: Customer
) -> None:
    twilio.answers["/voice"] = lambda _: xml("<Response><Hangup/></Response>")
    await sim.twilio.call_in(FROM, TO)
    validator = RequestValidator(TOKEN)
    voice, status = twilio.received
    for request in (voice, status):
        # The port is not part of what is signed over https.
        url = request.url.replace(f":{twilio.port}", "")
        assert validator.compute_signature(url, request.fields) == request.headers["x-twilio-signature"]
        assert validator.validate(request.url, request.fields, request.headers["x-twilio-signature"])
        assert request.headers["i-twilio-idempotency-token"]
    assert voice.fields["CallStatus"] == "ringing"
    assert voice.fields["ToCity"] == ""
    assert status.fields["CallStatus"] == "completed"
    assert status.fields["SequenceNumber"] == "0"
    assert (status.fields["CallDuration"], status.fields["Duration"]) == ("1", "1")


async def test_the_upgrade_is_signed_over_the_wss_url(sim: CarrierSim, twilio: Customer) -> None:
    twilio.answers["/voice"] = lambda _: xml(stream_of(twilio))
    twilio.talk = lambda socket, _: twilio_agent(twilio, socket)
    await sim.twilio.call_in(FROM, TO, Caller((WaitForAgent(), HangUp())))
    signature = twilio.upgrades[0].headers["X-Twilio-Signature"]
    assert signature == RequestValidator(TOKEN).compute_signature(twilio.ws("/media"), {})


async def test_when_the_server_closes_the_stream_the_next_verb_runs(
    sim: CarrierSim, twilio: Customer
) -> None:
    twilio.answers["/voice"] = lambda _: xml(stream_of(twilio, "<Say>Goodbye then.</Say>"))

    async def close_at_once(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.receive()

    twilio.talk = close_at_once
    report = await sim.twilio.call_in(FROM, TO, Caller((StayUntilHungUp(),)))
    assert report.said == ["Goodbye then."]
    assert (report.ended_by, report.end_cause) == ("instructions", "end-of-instructions")
    assert [(v.code, v.severity) for v in report.violations] == [("31921", "warning")]


async def test_reject_ends_the_call_unanswered(sim: CarrierSim, twilio: Customer) -> None:
    twilio.answers["/voice"] = lambda _: xml('<Response><Reject reason="busy"/></Response>')
    report = await sim.twilio.call_in(FROM, TO)
    assert [s.status for s in report.statuses] == ["ringing", "busy"]
    assert twilio.at("/status")[0].fields["CallDuration"] == "0"


async def test_a_failing_webhook_leads_to_the_fallback_with_the_error(
    sim: CarrierSim, twilio: Customer
) -> None:
    twilio.answers["/voice"] = lambda _: web.Response(status=500)
    twilio.answers["/fallback"] = lambda _: xml("<Response><Say>One moment.</Say></Response>")
    report = await sim.twilio.call_in(FROM, TO, Caller((StayUntilHungUp(),)))
    assert report.said == ["One moment."]
    assert [v.code for v in report.violations] == ["11200"]
    fallback = twilio.at("/fallback")[0].fields
    assert (fallback["ErrorCode"], fallback["ErrorUrl"]) == ("11200", twilio.url("/voice"))


async def test_a_started_stream_listens_while_the_instructions_go_on(
    sim: CarrierSim, twilio: Customer
) -> None:
    twilio.answers["/voice"] = lambda _: xml(
        f'<Response><Start><Stream url="{twilio.ws("/media")}" statusCallback="{twilio.url("/stream")}"/></Start>'
        "<Say>This call is being listened to.</Say></Response>"
    )

    async def listen(socket: web.WebSocketResponse, _: web.Request) -> None:
        async for message in socket:
            twilio.messages.append(json.loads(message.data))

    twilio.talk = listen
    report = await sim.twilio.call_in(FROM, TO, Caller((Say(0.5), Press("1"), StayUntilHungUp())))
    assert report.violations == []
    await until(lambda: twilio.messages[-1]["event"] == "stop")
    events = [m["event"] for m in twilio.messages]
    assert set(events) == {"connected", "start", "media", "stop"}
    assert [r.fields["StreamEvent"] for r in twilio.at("/stream")] == ["stream-started", "stream-stopped"]


async def test_the_action_of_connect_is_asked_when_the_stream_ends(sim: CarrierSim, twilio: Customer) -> None:
    twilio.answers["/voice"] = lambda _: xml(
        f'<Response><Connect action="/next"><Stream url="{twilio.ws("/media")}"/></Connect><Say>Never.</Say></Response>'
    )
    twilio.answers["/next"] = lambda _: xml("<Response><Say>Next.</Say></Response>")

    async def close_at_once(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.receive()

    twilio.talk = close_at_once
    report = await sim.twilio.call_in(FROM, TO, Caller((StayUntilHungUp(),)))
    assert report.said == ["Next."]
