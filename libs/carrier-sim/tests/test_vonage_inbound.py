"""A person calls a Vonage number."""

import hashlib
import json
from typing import Any

import jwt
import pytest
import vonage_jwt
from aiohttp import web
from customer import Customer, vonage_agent

from carrier_sim import Caller, CarrierSim, HangUp, Press, Say, StayUntilHungUp, WaitForAgent

APPLICATION = "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
SECRET = "vonage-signature-secret-of-32-bytes-or-more"
TO, FROM = "+14155550101", "+14155550199"


@pytest.fixture
def vonage(sim: CarrierSim, customer: Customer, private_key: str) -> Customer:
    sim.vonage.add_application(
        APPLICATION, private_key=private_key, api_key="abcd1234", api_secret="secret", signature_secret=SECRET,
        answer_url=customer.url("/answer"), answer_method="POST", event_url=customer.url("/event"),
        fallback_answer_url=customer.url("/fallback"), fallback_method="POST",
    )  # fmt: skip
    sim.vonage.add_number(APPLICATION, TO)
    return customer


def connect(customer: Customer, rate: int = 16000, **more: Any) -> dict[str, Any]:
    endpoint = {
        "type": "websocket",
        "uri": customer.ws("/media"),
        "content-type": f"audio/l16;rate={rate}",
        "headers": {"token": "abc"},
    }
    return {"action": "connect", "endpoint": [endpoint | more.pop("endpoint", {})], **more}


def reply(*actions: Any) -> Any:
    return lambda _: web.json_response(list(actions))


@pytest.mark.parametrize("rate", [8000, 16000, 24000])
async def test_a_conversation_is_heard_timed_and_reported(
    sim: CarrierSim, vonage: Customer, rate: int
) -> None:
    vonage.answers["/answer"] = reply(connect(vonage, rate))
    vonage.talk = lambda socket, _: vonage_agent(vonage, socket, rate=rate)
    caller = Caller((WaitForAgent(), Say(1.0), WaitForAgent(), Press("4#"), HangUp()))
    report = await sim.vonage.call_in(FROM, TO, caller)
    assert report.violations == []
    assert [s.status for s in report.statuses] == ["started", "ringing", "answered", "completed"]
    assert [m.name for m in report.marks] == ["greeting", "answer"]
    assert report.dtmf == "4#"
    assert report.caller_audio_ms > 500
    assert report.agent_audio_ms > 1000
    assert len(report.response_ms) == 1
    first, *rest = vonage.messages
    assert first == {
        "event": "websocket:connected", "content-type": f"audio/l16;rate={rate}", "token": "abc",
    }  # fmt: skip
    assert {len(m) for m in rest if isinstance(m, bytes)} == {rate // 50 * 2}
    legs = {e.fields["uuid"] for e in vonage.at("/event")}
    assert len(legs) == 2
    statuses = [
        e.fields["status"] for e in vonage.at("/event") if e.fields["uuid"] == report.provider_call_id
    ]
    assert statuses == ["started", "ringing", "answered", "completed"]


async def test_webhooks_are_signed_as_the_official_library_verifies(
    sim: CarrierSim, vonage: Customer
) -> None:
    vonage.answers["/answer"] = reply({"action": "talk", "text": "Hello."})
    await sim.vonage.call_in(FROM, TO, Caller((StayUntilHungUp(),)))
    jtis = set()
    for request in vonage.received:
        token = request.headers["authorization"].removeprefix("Bearer ")
        assert vonage_jwt.verify_signature(token, SECRET)
        claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        assert claims["payload_hash"] == hashlib.sha256(request.body).hexdigest()
        assert (claims["iss"], claims["api_key"], claims["application_id"]) == (
            "Vonage",
            "abcd1234",
            APPLICATION,
        )
        jtis.add(claims["jti"])
    assert len(jtis) == len(vonage.received)


async def test_a_get_webhook_hashes_its_query(sim: CarrierSim, vonage: Customer) -> None:
    sim.vonage.set_webhooks(APPLICATION, answer_url=vonage.url("/answer"), answer_method="GET")
    vonage.answers["/answer"] = reply({"action": "talk", "text": "Hello."})
    await sim.vonage.call_in(FROM, TO, Caller((StayUntilHungUp(),)))
    (answer,) = vonage.at("/answer")
    assert answer.method == "GET"
    assert list(answer.fields) == ["from", "to", "uuid", "conversation_uuid"]
    claims = jwt.decode(answer.headers["authorization"][7:], SECRET, algorithms=["HS256"])
    compact = json.dumps(answer.fields, separators=(",", ":"))
    assert claims["payload_hash"] == hashlib.sha256(compact.encode()).hexdigest()


async def test_the_answer_to_disconnected_goes_on_with_the_call(sim: CarrierSim, vonage: Customer) -> None:
    vonage.answers["/answer"] = reply(
        connect(
            vonage,
            eventType="synchronous",
            eventUrl=[vonage.url("/ws-event")],
            endpoint={"authorization": {"type": "vonage"}},
        )
    )
    vonage.answers["/ws-event"] = lambda r: (
        web.json_response([{"action": "talk", "text": "Welcome back."}])
        if r.fields["status"] == "disconnected"
        else web.Response(status=204)
    )

    async def close_at_once(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.receive()

    vonage.talk = close_at_once
    report = await sim.vonage.call_in(FROM, TO, Caller((StayUntilHungUp(),)))
    assert report.violations == []
    assert report.said == ["Welcome back."]
    assert report.end_cause == "end-of-instructions"
    statuses = [e.fields["status"] for e in vonage.at("/ws-event")]
    assert statuses == ["started", "ringing", "answered", "disconnected"]
    assert vonage.at("/ws-event")[-1].fields["headers"] == {"token": "abc"}
    token = vonage.upgrades[0].headers["Authorization"].removeprefix("Bearer ")
    assert vonage_jwt.verify_signature(token, SECRET)


async def test_a_frame_of_the_wrong_size_is_a_violation_and_is_not_heard(
    sim: CarrierSim, vonage: Customer
) -> None:
    vonage.answers["/answer"] = reply(connect(vonage))

    async def short_frames(socket: web.WebSocketResponse, _: web.Request) -> None:
        await socket.receive()
        await socket.send_bytes(b"\x10\x27" * 80)
        await socket.send_str("hello")
        async for _message in socket:
            pass

    vonage.talk = short_frames
    report = await sim.vonage.call_in(FROM, TO, Caller((WaitForAgent(timeout_s=0.5), HangUp())))
    assert [v.code for v in report.violations] == ["vonage-frame-size", "vonage-websocket-message"]
    assert report.agent_audio_ms == 0
    assert report.unmet


async def test_there_is_no_hangup_action_and_the_fallback_is_asked(sim: CarrierSim, vonage: Customer) -> None:
    vonage.answers["/answer"] = reply({"action": "hangup"})
    vonage.answers["/fallback"] = reply({"action": "talk", "text": "One moment."})
    report = await sim.vonage.call_in(FROM, TO, Caller((StayUntilHungUp(),)))
    assert [v.code for v in report.violations] == ["vonage-ncco-syntax"]
    assert report.said == ["One moment."]
    errors = [e.fields for e in vonage.at("/event") if "status" not in e.fields]
    assert [e["reason"] for e in errors] == ["Syntax error in NCCO. Invalid value type or action."]
    assert vonage.at("/fallback")[0].fields["original_request"]["url"] == vonage.url("/answer")
