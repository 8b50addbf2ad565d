"""What Twilio sends, understood; what it is answered, judged by the vendor's own builder."""

import contextlib
from datetime import UTC, datetime
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.voice_response import Connect, VoiceResponse

from offhook.events.calls import CallStatus
from offhook.providers.base import (
    ConnectPlan,
    HttpRequest,
    InstructionError,
    RequestError,
    SignatureError,
    SignatureFault,
)
from offhook.providers.twilio import signature
from offhook.providers.twilio.retries import RETRIES
from offhook.providers.twilio.webhooks import TwilioWebhooks

WEBHOOKS = TwilioWebhooks()
ACCOUNT = "AC00000000000000000000000000000000"
CALL = "CA00000000000000000000000000000001"
BASE = {"AccountSid": ACCOUNT, "CallSid": CALL, "From": "+15550002222", "To": "+15550001111"}
CREDENTIALS = {"account_sid": ACCOUNT, "auth_token": "12345"}


def post(fields, **headers):
    all_headers = {"content-type": "application/x-www-form-urlencoded", **headers}
    body = fields if isinstance(fields, bytes) else urlencode(fields, doseq=True).encode()
    return HttpRequest("POST", ("https://h.example",), "/x", "", all_headers, body)


def get(fields):
    return HttpRequest("GET", ("https://h.example",), "/x", urlencode(fields), {}, b"")


def status(**fields):
    return WEBHOOKS.parse_status(post(BASE | fields))


@pytest.mark.parametrize("make", [post, get])
def test_an_inbound_call_is_read_from_a_form_or_a_query(make):
    call = WEBHOOKS.parse_call(make(BASE | {"CallStatus": "ringing", "Direction": "inbound", "New": "field"}))
    assert (call.provider_call_id, call.account, call.direction) == (CALL, ACCOUNT, "inbound")
    assert (call.from_number, call.to_number) == ("+15550002222", "+15550001111")
    assert (call.status, call.provider_status, call.error) == (CallStatus.RINGING, "ringing", None)
    assert call.raw["New"] == "field"


@pytest.mark.parametrize(
    "caller", ["anonymous", "client:alice", "sip:bob@example.com", "Restricted", "+266696687"]
)
def test_callers_without_a_number_stay_as_they_came(caller):
    assert WEBHOOKS.parse_call(post(BASE | {"From": caller})).from_number == caller


def test_the_callers_call_token_is_not_kept():
    fields = {"CallToken": "a-secret", "CallStatus": "ringing"}
    assert "a-secret" not in WEBHOOKS.parse_call(post(BASE | fields)).raw.values()
    assert "a-secret" not in status(**fields).raw.values()


def test_a_withheld_caller_is_anonymous():
    assert WEBHOOKS.parse_call(post(BASE | {"From": ""})).from_number == "anonymous"


def test_a_fallback_request_tells_what_went_wrong():
    call = WEBHOOKS.parse_call(post(BASE | {"ErrorCode": "11200", "ErrorUrl": "https://h.example/x"}))
    assert (call.error, call.failed_url) == ("11200 https://h.example/x", "https://h.example/x")


@pytest.mark.parametrize("missing", ["CallSid", "AccountSid"])
def test_a_call_without_its_ids_is_refused_with_what_was_expected(missing):
    with pytest.raises(RequestError, match=missing):
        WEBHOOKS.parse_call(post({name: value for name, value in BASE.items() if name != missing}))


@pytest.mark.parametrize(
    ("word", "neutral"),
    [
        ("queued", CallStatus.INITIATED),
        ("initiated", CallStatus.INITIATED),
        ("ringing", CallStatus.RINGING),
        ("in-progress", CallStatus.ANSWERED),
        ("completed", CallStatus.COMPLETED),
        ("busy", CallStatus.BUSY),
        ("no-answer", CallStatus.NO_ANSWER),
        ("failed", CallStatus.FAILED),
        ("canceled", CallStatus.CANCELED),
        ("invented-tomorrow", None),
    ],
)
def test_statuses_become_neutral_and_unknown_ones_change_nothing(word, neutral):
    report = status(CallStatus=word)
    assert (report.status, report.provider_status, report.leg) == (neutral, word, "phone")
    assert not report.wants_instructions


def test_a_final_callback_is_read_whole():
    report = status(
        CallStatus="completed",
        SequenceNumber="3",
        Timestamp="Sun, 25 Mar 2018 09:53:19 +0000",
        Duration="1",
        CallDuration="49",
        SipResponseCode="200",
        AnsweredBy="machine_end_beep",
        Direction="outbound-api",
    )
    assert report.provider_time == datetime(2018, 3, 25, 9, 53, 19, tzinfo=UTC)
    assert (report.sequence, report.duration_s, report.sip_code) == (3, 49, 200)
    assert (report.answered_by, report.direction) == ("machine", "outbound")


def test_the_duration_in_minutes_is_never_taken_for_seconds():
    assert status(CallStatus="completed", Duration="1").duration_s is None


def test_a_redelivered_callback_has_the_same_identity_and_another_one_does_not():
    first = status(CallStatus="completed", SequenceNumber="3", Timestamp="a")
    assert first.identity == status(CallStatus="completed", SequenceNumber="3", Timestamp="a").identity
    assert first.identity != status(CallStatus="completed", SequenceNumber="2").identity
    assert first.identity != status(CallStatus="ringing", SequenceNumber="3").identity


def test_an_asynchronous_answering_machine_result_is_no_state_change():
    report = status(AnsweredBy="human", MachineDetectionDuration="4000")
    assert (report.status, report.provider_status, report.answered_by) == (None, "answered-by", "human")


@pytest.mark.parametrize(
    ("word", "neutral", "message_end"),
    [
        ("human", "human", None),
        ("machine_start", "machine", None),
        ("machine_end_beep", "machine", "beep"),
        ("machine_end_silence", "machine", "silence"),
        ("machine_end_other", "machine", "other"),
        ("fax", "fax", None),
        ("unknown", "unknown", None),
        ("invented_tomorrow", "unknown", None),
    ],
)
def test_who_answered_is_told_in_neutral_words_and_twilios_own_is_kept(word, neutral, message_end):
    report = status(AnsweredBy=word, MachineDetectionDuration="4000")
    assert (report.status, report.answered_by, report.raw["AnsweredBy"]) == (None, neutral, word)
    assert report.message_end == message_end


def test_a_word_nobody_knows_is_kept_bounded():
    assert status(CallStatus="x" * 500).provider_status == "x" * 64


@pytest.mark.parametrize(
    ("fields", "result"),
    [
        ({}, None),
        ({"CallStatus": "in-progress"}, None),
        ({"DialCallStatus": "completed", "DialBridged": "true"}, "completed"),
        ({"DialCallStatus": "completed"}, "completed"),
        ({"DialCallStatus": "completed", "DialBridged": "false"}, "failed"),
        ({"DialCallStatus": "answered"}, "completed"),
        ({"DialCallStatus": "busy", "DialBridged": "false"}, "busy"),
        ({"DialCallStatus": "busy", "DialSipResponseCode": "603"}, "declined"),
        ({"DialCallStatus": "no-answer"}, "no-answer"),
        ({"DialCallStatus": "failed"}, "failed"),
        ({"DialCallStatus": "canceled"}, "failed"),
        ({"DialCallStatus": "invented-tomorrow"}, "failed"),
    ],
)
def test_the_action_url_learns_what_became_of_a_transfer(fields, result):
    assert WEBHOOKS.parse_transfer(post(BASE | fields)) == result


def test_stream_callbacks_are_about_the_media_leg():
    report = status(
        StreamSid="MZ1", StreamEvent="stream-error", StreamError="31921", Timestamp="2026-01-01T12:00:00.5Z"
    )
    assert (report.leg, report.status, report.detail) == ("media", None, "31921")
    assert report.provider_time == datetime(2026, 1, 1, 12, 0, 0, 500000, tzinfo=UTC)


def test_a_callback_about_nothing_is_refused():
    with pytest.raises(RequestError, match="CallStatus"):
        status(Something="else")


def test_verifying_uses_the_credentials_and_names_the_url():
    body = urlencode(BASE).encode()
    signed = signature.sign(
        "https://h.example/x", [(n.encode(), v.encode()) for n, v in BASE.items()], "12345"
    )
    request = post(body, **{"x-twilio-signature": signed})
    assert WEBHOOKS.verify(request, CREDENTIALS, now=0).url == "https://h.example/x"
    rotated = CREDENTIALS | {"auth_token": "new", "auth_token_secondary": "12345"}
    assert WEBHOOKS.verify(request, rotated, now=0).replay_key is None
    with pytest.raises(SignatureError):
        WEBHOOKS.verify(request, CREDENTIALS | {"auth_token": "new"}, now=0)


def test_a_request_is_recognised_by_its_signature_or_its_fields():
    assert WEBHOOKS.recognises(post({}, **{"x-twilio-signature": "x"}))
    assert WEBHOOKS.recognises(post(BASE))
    assert WEBHOOKS.recognises(get(BASE))
    assert not WEBHOOKS.recognises(post({"uuid": "x"}))
    assert WEBHOOKS.claimed_account(post(BASE)) == ACCOUNT
    assert WEBHOOKS.claimed_account(post({})) is None


def test_refusals_are_403():
    assert {WEBHOOKS.unverified_answer(fault).status for fault in SignatureFault} == {403}


@given(
    st.sampled_from(["GET", "POST", "PUT", ""]),
    st.binary(max_size=300) | st.just(b"a=&" * 5000) | st.just(b"AccountSid=%FF&CallSid=%00"),
    st.text(max_size=100),
    st.sampled_from(["application/x-www-form-urlencoded", "application/json", "", "text/plain"]),
)
def test_hostile_requests_raise_nothing_but_request_errors(method, body, query, content_type):
    request = HttpRequest(method, (), "/x", query, {"content-type": content_type}, body)
    for parse in (WEBHOOKS.parse_call, WEBHOOKS.parse_status):
        with pytest.raises(RequestError):
            parse(request)
    with contextlib.suppress(RequestError):
        assert WEBHOOKS.parse_transfer(request) is None
    WEBHOOKS.recognises(request)
    WEBHOOKS.claimed_account(request)


# --- answers: the vendor's builder is the oracle ---------------------------------------------------------


def tree(document):
    def reduced(element):
        return (
            element.tag,
            sorted(element.attrib.items()),
            element.text or "",
            [reduced(child) for child in element],
        )

    return reduced(ElementTree.fromstring(document))


printable = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=40
)
urls = st.from_regex(r"https://[a-z]{1,8}\.example(/[a-z&'=\"<>]{0,8}){0,3}", fullmatch=True)


def plan(**changes):
    fields = {
        "media_url": "wss://h.example/ws/w/u/r",
        "token": "token-1",
        "continue_url": "https://h.example/webhook/w/u/r",
        "status_url": "https://h.example/status/r",
        "workflow_run_id": "r",
        "provider_call_id": CALL,
        **changes,
    }
    return ConnectPlan(**fields)


@given(printable, urls, urls)
def test_connecting_says_what_the_vendors_builder_says(token, continue_url, status_url):
    expected = VoiceResponse()
    connect = Connect()
    stream = connect.stream(
        url="wss://h.example/ws/w/u/r", status_callback=status_url, status_callback_method="POST"
    )
    stream.parameter(name="token", value=token)
    stream.parameter(name="workflow_run_id", value="r")
    expected.append(connect)
    expected.redirect(f"{continue_url}#{RETRIES}", method="POST")
    answer = WEBHOOKS.connect(plan(token=token, continue_url=continue_url, status_url=status_url))
    assert (answer.status, answer.content_type) == (200, "text/xml")
    assert tree(answer.body) == tree(str(expected))


def test_a_call_that_comes_back_from_a_transfer_says_so_to_the_bridge():
    back = WEBHOOKS.connect(plan(transfer="no-answer"))
    assert ("name", "transfer") in tree(back.body)[3][0][3][0][3][-1][1]
    assert ("value", "no-answer") in tree(back.body)[3][0][3][0][3][-1][1]


@given(printable)
def test_speaking_refusing_and_hanging_up_say_what_the_vendors_builder_says(text):
    spoken = VoiceResponse()
    spoken.say(text, language="de-DE")
    spoken.hangup()
    assert tree(WEBHOOKS.say_and_hang_up(text, "de-DE").body) == tree(str(spoken))
    for busy, reason in [(True, "busy"), (False, "rejected")]:
        refused = VoiceResponse()
        refused.reject(reason=reason)
        assert tree(WEBHOOKS.refuse(busy).body) == tree(str(refused))
    ended = VoiceResponse()
    ended.hangup()
    assert tree(WEBHOOKS.hang_up().body) == tree(str(ended))


@given(st.text(max_size=60), st.text(max_size=20))
def test_any_words_make_readable_xml(text, language):
    say = tree(WEBHOOKS.say_and_hang_up(text, language).body)[3][0]
    assert say[0] == "Say"


def test_long_words_are_cut_and_a_strange_language_is_left_out():
    say, _ = tree(WEBHOOKS.say_and_hang_up("x" * 5000, 'de"><Hangup/>').body)[3]
    assert (len(say[2]), say[1]) == (1000, [])


@pytest.mark.parametrize(
    "changes",
    [{"media_url": "wss://h.example/ws?a=b"}, {"media_url": "wss://h.example/ws#a"}, {"token": "x" * 495}],
)
def test_what_twilio_would_drop_is_refused_here(changes):
    with pytest.raises(InstructionError):
        WEBHOOKS.connect(plan(**changes))


def test_a_parameter_may_use_what_twilio_allows():
    assert WEBHOOKS.connect(plan(token="x" * 494)).status == 200


def test_a_callback_is_acknowledged_without_words():
    assert (WEBHOOKS.acknowledge().status, WEBHOOKS.acknowledge().body) == (204, b"")
