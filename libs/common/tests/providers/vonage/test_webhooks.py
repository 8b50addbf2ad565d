"""What Vonage sends, understood; what it is answered, judged by the vendor's own models."""

import contextlib
import hashlib
import json
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vonage_voice.models import Connect, Talk

from offhook.events.calls import CallStatus, Party
from offhook.providers.base import (
    ConnectPlan,
    HttpRequest,
    InstructionError,
    RequestError,
    SignatureError,
    SignatureFault,
)
from offhook.providers.vonage import ncco, signature
from offhook.providers.vonage.webhooks import VonageWebhooks

WEBHOOKS = VonageWebhooks()
UUID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
SOCKET = "bbbbbbbb-bbbb-cccc-dddd-0123456789ab"
CONVERSATION = "CON-aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
CREDENTIALS = {"application_id": "app-1", "api_key": "key-1", "signature_secret": "secret"}
EVENT = {
    "from": "15550002222",
    "to": "15550001111",
    "uuid": UUID,
    "conversation_uuid": CONVERSATION,
    "direction": "inbound",
    "timestamp": "2026-01-01T12:00:00.000Z",
}


def token(payload):
    return signature.make_token(
        "secret", api_key="key-1", application_id="app-1", issued_at=1000, jti="jti-1", payload=payload
    )


def post(fields, *, query="", method="POST"):
    body = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {token(body)}"}
    return HttpRequest(method, ("https://h.example",), "/x", query, headers, body)


def get(fields):
    query = urlencode(fields)
    payload = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    return HttpRequest(
        "GET", ("https://h.example",), "/x", query, {"authorization": f"Bearer {token(payload)}"}
    )


def event(**fields):
    return WEBHOOKS.parse_status(post(EVENT | fields))


@pytest.mark.parametrize("make", [post, get])
def test_an_inbound_call_is_read_from_a_body_or_a_query(make):
    request = make({name: value for name, value in EVENT.items() if name not in ("direction", "timestamp")})
    call = WEBHOOKS.parse_call(request)
    assert (call.provider_call_id, call.conversation_id, call.account) == (UUID, CONVERSATION, "app-1")
    assert (call.from_number, call.to_number) == ("+15550002222", "+15550001111")
    assert (call.status, call.direction) == (None, None)
    verified = WEBHOOKS.verify(request, CREDENTIALS, now=1000)
    assert (verified.replay_key, verified.issued_at) == ("jti-1", 1000.0)


@pytest.mark.parametrize("caller", ["anonymous", "unknown", "Restricted", "sip:bob@example.com", "12345"])
def test_callers_without_a_full_number_stay_as_they_came(caller):
    assert WEBHOOKS.parse_call(post(EVENT | {"from": caller})).from_number == caller


def test_a_withheld_caller_is_anonymous_and_a_number_may_be_a_number():
    assert WEBHOOKS.parse_call(post({"uuid": UUID, "to": 15550001111})).from_number == "anonymous"
    assert WEBHOOKS.parse_call(post({"uuid": UUID, "to": 15550001111})).to_number == "+15550001111"
    endpoint = {"type": "phone", "number": "15550001111"}
    assert WEBHOOKS.parse_call(post({"uuid": UUID, "to": endpoint})).to_number == "+15550001111"


def test_a_fallback_request_tells_what_went_wrong():
    original = {"url": "https://h.example/webhook/w/u/r", "type": "event"}
    call = WEBHOOKS.parse_call(post(EVENT | {"reason": "Connection closed.", "original_request": original}))
    assert (call.error, call.failed_url) == ("Connection closed.", "https://h.example/webhook/w/u/r")


@pytest.mark.parametrize(
    ("word", "detail", "neutral"),
    [
        ("started", "", CallStatus.INITIATED),
        ("ringing", "", CallStatus.RINGING),
        ("answered", "", CallStatus.ANSWERED),
        ("completed", "", CallStatus.COMPLETED),
        ("busy", "", CallStatus.BUSY),
        ("timeout", "", CallStatus.NO_ANSWER),
        ("unanswered", "timeout", CallStatus.NO_ANSWER),
        ("cancelled", "", CallStatus.CANCELED),
        ("rejected", "invalid_number", CallStatus.FAILED),
        ("rejected", "declined", CallStatus.BUSY),
        ("rejected", "", CallStatus.BUSY),
        ("rejected", "invented-tomorrow", CallStatus.FAILED),
        ("disconnected-tomorrow", "declined", None),
        ("failed", "carrier_timeout", CallStatus.FAILED),
        ("invented-tomorrow", "", None),
    ],
)
def test_statuses_become_neutral_and_unknown_ones_change_nothing(word, detail, neutral):
    report = event(status=word, detail=detail)
    assert (report.status, report.provider_status, report.detail) == (neutral, word, detail or None)
    assert (report.leg, report.wants_instructions, report.phone_call_id) == ("phone", False, UUID)


@pytest.mark.parametrize("number", [str, int])
def test_a_final_event_is_read_whole(number):
    report = event(
        status="completed",
        duration=number(12),
        sip_code=number(200),
        price="0.01",
        rate="0.02",
        disconnected_by="user",
    )
    assert report.provider_time == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert (report.duration_s, report.sip_code, report.price, report.price_unit) == (12, 200, "0.01", "EUR")
    assert report.ended_by is Party.CALLER


@pytest.mark.parametrize(
    ("by", "direction", "party"),
    [
        ("user", "inbound", Party.CALLER),
        ("user", "outbound", Party.CALLEE),
        ("platform", "inbound", Party.PLATFORM),
        ("user", "", None),
        ("", "inbound", None),
    ],
)
def test_who_ended_the_call_follows_from_the_direction(by, direction, party):
    assert event(status="completed", disconnected_by=by, direction=direction).ended_by is party
    assert event(status="answered", disconnected_by=by, direction=direction).ended_by is None


def test_empty_and_null_fields_are_none():
    report = event(status="answered", start_time=None, rate=None, price="", network=None, duration="")
    assert (report.price, report.price_unit, report.duration_s) == (None, None, None)


def test_answering_machine_events_name_the_leg_differently():
    fields = {"call_uuid": UUID, "status": "machine", "sub_state": "beep_start", "timestamp": "x"}
    report = WEBHOOKS.parse_status(post(fields))
    assert (report.provider_call_id, report.answered_by, report.status) == (UUID, "machine", None)
    assert report.detail == "beep_start"


@pytest.mark.parametrize(
    ("sub_state", "told"), [("", None), ("beep_start", "beep"), ("beep_timeout", "other")]
)
def test_the_end_of_a_machines_greeting_is_told_with_a_second_event(sub_state, told):
    assert event(status="machine", sub_state=sub_state).message_end == told
    assert event(status="human", sub_state=sub_state).message_end is None


@pytest.mark.parametrize("word", ["human", "machine"])
def test_who_answered_is_told_in_neutral_words_and_vonages_own_are_kept(word):
    report = event(status=word, sub_state="beep_timeout")
    assert (report.status, report.answered_by, report.provider_status) == (None, word, word)
    assert (report.raw["status"], report.raw["sub_state"]) == (word, "beep_timeout")


def test_a_word_nobody_knows_is_kept_bounded():
    assert event(status="x" * 500).provider_status == "x" * 64


@pytest.mark.parametrize(
    ("price", "read"),
    [
        ("0.01", "0.01"),
        (0.01, "0.01"),
        (1e-05, "0.00001"),
        (2, "2"),
        ("free", None),
        ("1e9", None),
        (True, None),
    ],
)
def test_a_price_is_text_or_a_number(price, read):
    report = event(status="completed", price=price)
    assert (report.price, report.price_unit) == (read, "EUR" if read else None)


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({"reason": "Syntax error in NCCO."}, None),
        ({"status": "disconnected"}, None),
        ({"status": "completed", "to": "wss://h.example/ws"}, None),
        ({"status": "started"}, "going on"),
        ({"status": "ringing"}, "going on"),
        ({"status": "answered"}, "going on"),
        ({"status": "machine"}, "going on"),
        ({"status": "invented-tomorrow"}, "going on"),
        ({"status": "completed"}, "completed"),
        ({"status": "busy"}, "busy"),
        ({"status": "timeout"}, "no-answer"),
        ({"status": "unanswered", "detail": "timeout"}, "no-answer"),
        ({"status": "rejected", "detail": "declined"}, "declined"),
        ({"status": "rejected", "detail": "restricted"}, "failed"),
        ({"status": "failed"}, "failed"),
        ({"status": "cancelled"}, "failed"),
    ],
)
def test_the_event_url_learns_what_becomes_of_a_transfer(fields, result):
    assert WEBHOOKS.parse_transfer(post(EVENT | fields)) == result


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"recording_url": "https://x", "recording_uuid": "y"}, "record"),
        ({"dtmf": {"digits": "1"}}, "input"),
        ({"speech": {}}, "input"),
        ({"conversation_uuid_from": "a", "conversation_uuid_to": "b"}, "transfer"),
        ({"reason": "Syntax error in NCCO."}, "error"),
    ],
)
def test_events_without_a_status_are_named_by_their_shape(fields, name):
    report = WEBHOOKS.parse_status(post({"conversation_uuid": CONVERSATION, **fields}))
    assert (report.provider_status, report.status, report.provider_call_id) == (name, None, "")


def test_the_socket_is_another_leg_and_its_end_is_not_the_calls_end():
    report = event(uuid=SOCKET, to="wss://h.example/ws", status="completed", disconnected_by="user")
    assert (report.leg, report.wants_instructions, report.ended_by) == ("media", False, None)
    assert report.provider_call_id == SOCKET


@pytest.mark.parametrize("word", ["disconnected", "failed", "unanswered", "timeout", "rejected", "busy"])
def test_a_socket_that_ended_or_never_began_asks_for_instructions(word):
    report = event(uuid=SOCKET, to="ws://h.example/ws", status=word)
    assert (report.leg, report.wants_instructions) == ("media", True)
    assert not event(status="failed").wants_instructions


def test_disconnected_is_always_the_socket_and_leads_back_to_the_callers_leg():
    headers = {"call_uuid": UUID, "token": "secret-token"}
    report = event(uuid=SOCKET, to="", status="disconnected", headers=headers)
    assert (report.leg, report.status, report.wants_instructions) == ("media", None, True)
    assert report.phone_call_id == UUID
    assert "secret-token" not in str(report)
    without_headers = WEBHOOKS.parse_status(
        post(EVENT | {"uuid": SOCKET, "status": "disconnected"}, query=f"call_uuid={UUID}")
    )
    assert without_headers.phone_call_id == UUID
    assert event(uuid=SOCKET, status="disconnected").phone_call_id is None


def test_a_redelivered_event_has_the_same_identity_and_another_one_does_not():
    first = event(status="ringing")
    assert first.identity == event(status="ringing").identity
    assert first.identity != event(status="answered").identity
    assert first.identity != event(status="ringing", timestamp="2026-01-01T12:00:01.000Z").identity
    error = {"conversation_uuid": CONVERSATION, "reason": "x"}
    assert WEBHOOKS.parse_status(post(error)).identity == WEBHOOKS.parse_status(post(error)).identity
    other = error | {"more": 1}
    assert WEBHOOKS.parse_status(post(error)).identity != WEBHOOKS.parse_status(post(other)).identity


@pytest.mark.parametrize(
    "fields", [{}, {"uuid": UUID}, {"uuid": "a/b", "status": "ringing"}, {"uuid": [], "status": "x"}]
)
def test_an_event_about_nothing_is_refused(fields):
    with pytest.raises(RequestError):
        WEBHOOKS.parse_status(post(fields))


def test_a_request_is_recognised_by_its_token_or_its_fields():
    assert WEBHOOKS.recognises(post(EVENT))
    assert WEBHOOKS.recognises(HttpRequest("POST", (), "/", "", {}, json.dumps(EVENT).encode()))
    assert WEBHOOKS.recognises(HttpRequest("GET", (), "/", urlencode(EVENT), {}))
    assert not WEBHOOKS.recognises(HttpRequest("POST", (), "/", "", {}, b"CallSid=1"))
    assert not WEBHOOKS.recognises(
        HttpRequest("GET", (), "/", "", {"authorization": "Bearer x", "x-twilio-signature": "y"})
    )
    assert WEBHOOKS.claimed_account(post(EVENT)) == "app-1"
    assert WEBHOOKS.claimed_account(HttpRequest("POST", (), "/", "", {}, b"")) is None


def test_a_missing_token_is_answered_so_that_vonage_tries_again():
    assert WEBHOOKS.unverified_answer(SignatureFault.MISSING).status == 503
    others = set(SignatureFault) - {SignatureFault.MISSING}
    assert {WEBHOOKS.unverified_answer(fault).status for fault in others} == {403}


def test_an_unproven_body_is_refused():
    request = post(EVENT)
    with pytest.raises(SignatureError):
        WEBHOOKS.verify(
            HttpRequest("POST", (), "/x", "", request.headers, request.body + b" "),
            CREDENTIALS | {"signature_secret": "other"},
            now=1000,
        )


hostile_bodies = st.one_of(
    st.binary(max_size=200),
    st.just(b"[" * 100_000),
    st.just(b'{"uuid":' * 50_000),
    st.just(b'{"uuid":NaN}'),
    st.just(b'{"uuid":1e999,"status":"x"}'),
    st.just(b'{"uuid":' + b"9" * 5000 + b',"status":"x"}'),
    st.just(b"{" + b",".join(b'"%d":1' % number for number in range(2000)) + b"}"),
    st.dictionaries(
        st.sampled_from(
            ["uuid", "status", "to", "from", "price", "headers", "timestamp", "duration", "reason"]
        ),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    ).map(lambda value: json.dumps(value).encode()),
)


@given(hostile_bodies, st.text(max_size=60), st.sampled_from(["GET", "POST", "PUT"]))
def test_hostile_requests_raise_nothing_but_request_errors(body, query, method):
    request = HttpRequest(method, (), "/x", query, {"authorization": "Bearer x"}, body)
    for parse in (WEBHOOKS.parse_call, WEBHOOKS.parse_status, WEBHOOKS.parse_transfer):
        with contextlib.suppress(RequestError):
            parse(request)
    WEBHOOKS.recognises(HttpRequest(method, (), "/x", query, {}, body))


# --- answers -----------------------------------------------------------------------------------------------


def plan(**changes):
    fields = {
        "media_url": "wss://h.example/ws/w/u/r",
        "token": "token-1",
        "continue_url": "https://h.example/webhook/w/u/r",
        "status_url": "https://h.example/status/r",
        "workflow_run_id": "r",
        "provider_call_id": UUID,
        **changes,
    }
    return ConnectPlan(**fields)


@pytest.mark.parametrize(
    ("wish", "rate"), [(8000, 8000), (16000, 16000), (24000, 24000), (11025, 16000), (48000, 24000)]
)
def test_connecting_says_what_the_vendors_models_say(wish, rate):
    answer = WEBHOOKS.connect(plan(sample_rate=wish))
    assert (answer.status, answer.content_type) == (200, "application/json")
    (action,) = json.loads(answer.body)
    endpoint = action["endpoint"][0]
    # The vendor's model insists on a caller number, which a WebSocket does not need.
    model = Connect(
        endpoint=[{**endpoint, "contentType": endpoint["content-type"]}],
        randomFromNumber=True,
        eventType=action["eventType"],
        eventUrl=action["eventUrl"],
        eventMethod=action["eventMethod"],
    )
    said = model.model_dump(by_alias=True, exclude_none=True, mode="json")
    del said["randomFromNumber"]
    assert action == said
    assert endpoint["content-type"] == f"audio/l16;rate={rate}"
    assert endpoint["headers"] == {"call_uuid": UUID, "workflow_run_id": "r", "token": "token-1"}
    assert endpoint["authorization"] == {"type": "vonage"}
    assert action["eventType"] == "synchronous"


def test_a_call_that_comes_back_from_a_transfer_says_so_to_the_bridge():
    (action,) = json.loads(WEBHOOKS.connect(plan(transfer="no-answer")).body)
    assert action["endpoint"][0]["headers"]["transfer"] == "no-answer"


def test_the_event_url_leads_back_to_the_callers_leg():
    (action,) = json.loads(WEBHOOKS.connect(plan(status_url="https://h.example/status/r?a=b")).body)
    assert parse_qs(urlsplit(action["eventUrl"][0]).query) == {"a": ["b"], "call_uuid": [UUID]}
    query = urlsplit(action["eventUrl"][0]).query
    report = WEBHOOKS.parse_status(post(EVENT | {"uuid": SOCKET, "status": "disconnected"}, query=query))
    assert report.phone_call_id == UUID


def test_headers_that_vonage_would_not_take_are_refused_here():
    with pytest.raises(InstructionError, match="512"):
        WEBHOOKS.connect(plan(token="x" * 450))
    assert WEBHOOKS.connect(plan(token="x" * 300, workflow_run_id="r" * 64)).status == 200
    with pytest.raises(InstructionError):
        ncco.connect_websocket("wss://h", 16000, {"event": "x"}, "https://h")
    with pytest.raises(InstructionError):
        ncco.connect_websocket("wss://h", 44100, {}, "https://h")


@given(st.text(max_size=60))
def test_speaking_says_what_the_vendors_model_says(text):
    (action,) = json.loads(WEBHOOKS.say_and_hang_up(text, "de-DE").body)
    said = text.encode("utf-8", "replace").decode()
    assert action == Talk(text=said, language="de-DE").model_dump(exclude_none=True, mode="json")


def test_long_words_are_cut_and_a_strange_language_is_left_out():
    (action,) = json.loads(WEBHOOKS.say_and_hang_up("x" * 5000, 'de"}').body)
    assert (len(action["text"]), "language" in action) == (1000, False)


def test_refusing_and_hanging_up_are_no_action_at_all():
    for answer in (WEBHOOKS.refuse(busy=True), WEBHOOKS.refuse(busy=False), WEBHOOKS.hang_up()):
        assert (answer.status, answer.content_type, json.loads(answer.body)) == (200, "application/json", [])
    assert WEBHOOKS.acknowledge().status == 204


def test_a_get_is_hashed_as_the_vendor_describes():
    request = get({"to": "15550001111", "uuid": UUID, "name": "Köln & more"})
    assert WEBHOOKS.verify(request, CREDENTIALS, now=1000)
    assert hashlib.sha256(signature.query_payload(request.query)).hexdigest()
