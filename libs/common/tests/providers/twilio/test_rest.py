"""Twilio's REST calls, made by the official SDK against a real HTTP server."""

import base64
import json
from urllib.parse import parse_qs

import pytest

from offhook.providers.base import Dial, RestError
from offhook.providers.twilio.rest import TwilioRest, call_parameters
from offhook.providers.twilio.rest_client import error_of
from offhook.providers.twilio.retries import RETRIES

ACCOUNT = "AC" + "0" * 32
CALL = "CA" + "1" * 32
CREDENTIALS = {"account_sid": ACCOUNT, "auth_token": "token"}
DIAL = Dial(
    from_number="+15550002222",
    to_number="+15550001111",
    answer_url="https://h.example/webhook/w/u/r",
    status_url="https://h.example/status/r",
    fallback_url="https://h.example/fallback",
    ring_timeout_s=30,
)


def test_dialling_asks_for_every_event_and_returns_the_call(rest_api, specifications):
    rest_api.answer(201, {"sid": CALL, "status": "queued", "account_sid": ACCOUNT})
    dialled = TwilioRest(CREDENTIALS, rest_api.url).dial(DIAL)
    assert (dialled.provider_call_id, dialled.provider_status) == (CALL, "queued")
    (sent,) = rest_api.sent
    assert (sent.method, sent.path) == ("POST", f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json")
    fields = parse_qs(sent.body.decode())
    assert fields == {
        "To": ["+15550001111"],
        "From": ["+15550002222"],
        "Url": [f"https://h.example/webhook/w/u/r#{RETRIES}"],
        "Method": ["POST"],
        "FallbackUrl": [f"https://h.example/fallback#{RETRIES}"],
        "FallbackMethod": ["POST"],
        "StatusCallback": [f"https://h.example/status/r#{RETRIES}"],
        "StatusCallbackMethod": ["POST"],
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
        "Timeout": ["30"],
    }
    document = json.loads((specifications / "twilio_api_v2010.json").read_text())
    operation = document["paths"]["/2010-04-01/Accounts/{AccountSid}/Calls.json"]["post"]
    schema = operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"]
    assert fields.keys() <= schema["properties"].keys()
    assert set(schema["required"]) <= fields.keys()


def test_the_auth_token_or_an_api_key_authenticates(rest_api):
    rest_api.answer(201, {"sid": CALL, "status": "queued"})
    for more, expected in [
        ({}, f"{ACCOUNT}:token"),
        ({"api_key_sid": "SK1", "api_key_secret": "secret"}, "SK1:secret"),
        ({"api_key_sid": "", "api_key_secret": ""}, f"{ACCOUNT}:token"),
    ]:
        TwilioRest(CREDENTIALS | more, rest_api.url).dial(DIAL)
        encoded = rest_api.sent[-1].headers["authorization"].removeprefix("Basic ")
        assert base64.b64decode(encoded).decode() == expected
        assert ACCOUNT in rest_api.sent[-1].path


def test_hanging_up_completes_the_call(rest_api):
    rest_api.answer(200, {"sid": CALL, "status": "completed"})
    TwilioRest(CREDENTIALS, rest_api.url).hang_up(CALL)
    (sent,) = rest_api.sent
    assert (sent.path, sent.body) == (
        f"/2010-04-01/Accounts/{ACCOUNT}/Calls/{CALL}.json",
        b"Status=completed",
    )


def refusal(action):
    with pytest.raises(RestError) as caught:
        action()
    return caught.value


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (401, 20003, "credentials"),
        (403, 20005, "credentials"),
        (400, 21211, "rejected"),
        (400, 21220, "gone"),
        (404, 20404, "gone"),
        (429, 20429, "busy"),
        (400, 10004, "busy"),
        (503, 20503, "unavailable"),
        (500, 20500, "unavailable"),
    ],
)
def test_errors_are_told_apart_by_their_code(rest_api, status, code, kind):
    body = {"code": code, "message": "words", "more_info": "https://www.twilio.com/docs", "status": status}
    rest_api.answer(status, body, Retry_After="3")
    error = refusal(lambda: TwilioRest(CREDENTIALS, rest_api.url).hang_up(CALL))
    assert (error.kind, error.code) == (kind, str(code))
    if kind in ("busy", "unavailable"):
        assert error.retry_after_s == 3.0
    assert "words" in str(error)


def test_dialling_through_an_account_that_is_not_there_is_a_rejection_not_an_ended_call(rest_api):
    rest_api.answer(404, {"code": 20404, "message": "not found", "status": 404})
    assert refusal(lambda: TwilioRest(CREDENTIALS, rest_api.url).dial(DIAL)).kind == "rejected"


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b'{"code":"x"}', b"[" * 100_000, {"code": [1]}]
)
def test_errors_of_any_shape_are_understood_by_their_status(rest_api, body):
    rest_api.answer(429, body)
    assert refusal(lambda: TwilioRest(CREDENTIALS, rest_api.url).dial(DIAL)).kind == "busy"
    assert error_of("dial", 418, {}, "").kind == "rejected"


@pytest.mark.parametrize("body", [b"", b"yes", b"[]", b"[" * 100_000, {}, {"sid": None}, {"sid": 5}])
def test_an_acceptance_that_cannot_be_read_is_an_unknown_outcome(rest_api, body):
    rest_api.answer(201, body)
    assert refusal(lambda: TwilioRest(CREDENTIALS, rest_api.url).dial(DIAL)).kind == "unknown-outcome"


def test_a_lost_answer_is_an_unknown_outcome_and_the_phone_does_not_ring_twice(rest_api):
    rest_api.behaviour = "drop"
    assert refusal(lambda: TwilioRest(CREDENTIALS, rest_api.url).dial(DIAL)).kind == "unknown-outcome"
    assert len(rest_api.sent) == 1
    rest_api.behaviour = "hang"
    quick = TwilioRest(CREDENTIALS, rest_api.url, timeout_s=0.3)
    assert refusal(lambda: quick.dial(DIAL)).kind == "unknown-outcome"
    assert rest_api.came(2) == 2


def test_the_ring_timeout_stays_within_twilios_limit():
    long = Dial("+1", "+2", "u", "s", "f", ring_timeout_s=10_000)
    assert call_parameters(long)["timeout"] == 600
