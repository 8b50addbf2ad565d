"""Vonage's REST calls, made by the official SDK against a real HTTP server."""

import json
from urllib.parse import urlsplit

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from openapi_schema_validator import OAS30Validator

from offhook.providers.base import Dial, RestError
from offhook.providers.vonage.rest import VonageRest, call_parameters

UUID = "63f61863-4a51-4f6b-86e1-46edebcf9356"
CONVERSATION = "CON-f972836a-550f-45fa-956c-12a2ab5b7d22"
ACCEPTED = {"uuid": UUID, "status": "started", "direction": "outbound", "conversation_uuid": CONVERSATION}
DIAL = Dial(
    from_number="+15550002222",
    to_number="+15550001111",
    answer_url="https://h.example/webhook/w/u/r",
    status_url="https://h.example/status/r",
    fallback_url="https://h.example/fallback",
    ring_timeout_s=300,
)


@pytest.fixture(scope="module")
def key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def credentials(key):
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"application_id": "app-1", "private_key": pem.decode(), "api_key": "k", "signature_secret": "s"}


def refusal(action):
    with pytest.raises(RestError) as caught:
        action()
    return caught.value


def test_dialling_sends_digits_and_our_urls_and_returns_the_call(rest_api, credentials, key, specifications):
    rest_api.answer(201, ACCEPTED)
    dialled = VonageRest(credentials, rest_api.url).dial(DIAL)
    assert (dialled.provider_call_id, dialled.conversation_id) == (UUID, CONVERSATION)
    (sent,) = rest_api.sent
    assert (sent.method, sent.path) == ("POST", "/v1/calls")
    body = json.loads(sent.body)
    assert body == {
        "to": [{"type": "phone", "number": "15550001111"}],
        "from": {"type": "phone", "number": "15550002222"},
        "answer_url": ["https://h.example/webhook/w/u/r"],
        "answer_method": "POST",
        "event_url": ["https://h.example/status/r"],
        "event_method": "POST",
        "ringing_timer": 120,
    }
    token = sent.headers["authorization"].removeprefix("Bearer ")
    claims = jwt.decode(token, key.public_key(), algorithms=["RS256"])
    assert claims["application_id"] == "app-1"
    document = yaml.safe_load((specifications / "vonage" / "voice.yml").read_text())
    # The document's alternatives overlap: to it a phone is a SIP address as well. Ours is a phone.
    base = document["components"]["schemas"]["CreateCallRequestBase"]
    base["properties"]["to"]["items"] = {"$ref": "#/components/schemas/EndpointPhoneTo"}
    schema = {"$ref": "#/components/schemas/CreateCallRequestAnswerUrl", "components": document["components"]}
    OAS30Validator(schema).validate(body)


def test_hanging_up_names_the_leg(rest_api, credentials):
    rest_api.answer(204, b"")
    VonageRest(credentials, rest_api.url).hang_up(UUID)
    (sent,) = rest_api.sent
    assert (sent.method, urlsplit(sent.path).path) == ("PUT", f"/v1/calls/{UUID}")
    assert json.loads(sent.body) == {"action": "hangup"}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"Error": "Bad Request"}, "too-early"),
        (401, {"type": "https://developer.nexmo.com/api-errors#unauthorized", "title": "x"}, "credentials"),
        (403, {}, "credentials"),
        (404, {"title": "Not found"}, "gone"),
        (429, {"title": "Rate limit"}, "busy"),
        (500, b"<html>", "unavailable"),
        (503, b"", "unavailable"),
        (404, b"[]", "gone"),
    ],
)
def test_errors_are_told_apart_by_their_status(rest_api, credentials, status, body, kind):
    rest_api.answer(status, body, Retry_After="2")
    error = refusal(lambda: VonageRest(credentials, rest_api.url).hang_up(UUID))
    assert error.kind == kind
    if kind in ("too-early", "busy", "unavailable"):
        assert error.retry_after_s == 2.0


def test_dialling_with_bad_data_is_a_rejection(rest_api, credentials):
    rest_api.answer(400, {"title": "Bad Request", "detail": "to is invalid"})
    error = refusal(lambda: VonageRest(credentials, rest_api.url).dial(DIAL))
    assert (error.kind, "to is invalid" in str(error)) == ("rejected", True)


@pytest.mark.parametrize("body", [b"", b"yes", b"[]", b"[" * 100_000, {}, {"uuid": UUID}])
def test_an_acceptance_that_cannot_be_read_is_an_unknown_outcome(rest_api, credentials, body):
    rest_api.answer(201, body)
    assert refusal(lambda: VonageRest(credentials, rest_api.url).dial(DIAL)).kind == "unknown-outcome"


def test_a_lost_answer_is_an_unknown_outcome_and_the_phone_does_not_ring_twice(rest_api, credentials):
    # The SDK alone repeats a POST whose connection was lost, ten times.
    rest_api.behaviour = "drop"
    assert refusal(lambda: VonageRest(credentials, rest_api.url).dial(DIAL)).kind == "unknown-outcome"
    assert len(rest_api.sent) == 1
    rest_api.behaviour = "hang"
    quick = VonageRest(credentials, rest_api.url, timeout_s=0.3)
    assert refusal(lambda: quick.dial(DIAL)).kind == "unknown-outcome"
    assert rest_api.came(2) == 2


@pytest.mark.parametrize(
    "pem", ["nonsense", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "key.pem"]
)
def test_a_key_that_cannot_sign_is_a_credentials_error_that_does_not_quote_it(credentials, pem):
    error = refusal(lambda: VonageRest(credentials | {"private_key": pem}))
    assert (error.kind, pem in str(error)) == ("credentials", False)


def test_numbers_lose_their_plus():
    parameters = call_parameters(DIAL)
    assert (parameters["to"][0].number, parameters["from_"].number) == ("15550001111", "15550002222")
