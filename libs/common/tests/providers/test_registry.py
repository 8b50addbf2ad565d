"""The registry knows every provider, and tells whose a request claims to be."""

import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from offhook.providers.base import HttpRequest, credential_fields
from offhook.providers.registry import PROVIDERS, recognise, rest

ACCOUNT = "AC" + "0" * 32
PEM = (
    rsa.generate_private_key(public_exponent=65537, key_size=2048)
    .private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    .decode()
    .strip()
)
TWILIO = {"account_sid": ACCOUNT, "auth_token": "token"}
VONAGE = {"application_id": "app-1", "private_key": PEM, "api_key": "key-1", "signature_secret": "secret"}


def test_each_provider_is_whole():
    for name, adapter in PROVIDERS.items():
        assert adapter.name == name
        assert adapter.media_server() is not adapter.media_server()
        assert callable(rest(name))
    with pytest.raises(KeyError):
        rest("nobody")


@pytest.mark.parametrize(
    ("headers", "body", "name"),
    [
        ({"x-twilio-signature": "x"}, b"", "twilio"),
        ({"x-twilio-signature": "x", "authorization": "Bearer x"}, b"", "twilio"),
        ({"authorization": "Bearer x"}, b"", "vonage"),
        ({"content-type": "application/json"}, json.dumps({"conversation_uuid": "x"}).encode(), "vonage"),
        ({"content-type": "application/x-www-form-urlencoded"}, b"AccountSid=x&CallSid=y", "twilio"),
        ({}, b"", None),
        ({"authorization": "Basic x"}, b"\xff\x00", None),
    ],
)
def test_a_request_is_given_to_the_provider_it_claims_to_come_from(headers, body, name):
    adapter = recognise(HttpRequest("POST", (), "/", "", headers, body))
    assert (adapter.name if adapter else None) == name


@pytest.mark.parametrize(("name", "credentials"), [("twilio", TWILIO), ("vonage", VONAGE)])
def test_credentials_are_text_know_their_account_and_hide_their_secrets(name, credentials):
    adapter = PROVIDERS[name]
    model = adapter.credentials_model.model_validate(credentials)
    dumped = model.model_dump()
    assert all(isinstance(value, str) for value in dumped.values())
    assert adapter.account_of(dumped) in (ACCOUNT, "app-1")
    for field in credential_fields(adapter.credentials_model):
        assert field.label
        if field.secret and dumped[field.name]:
            assert dumped[field.name] not in repr(model)


def test_the_form_of_credentials_says_what_is_secret_and_what_is_needed():
    fields = {field.name: field for field in credential_fields(PROVIDERS["vonage"].credentials_model)}
    assert {name for name, field in fields.items() if field.required} == {
        "application_id", "private_key", "api_key", "signature_secret",
    }  # fmt: skip
    assert {name for name, field in fields.items() if field.secret} == {
        "private_key", "api_secret", "signature_secret", "signature_secret_secondary",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("twilio", {"account_sid": "AC1"}),
        ("twilio", {"auth_token": " "}),
        ("twilio", {"api_key_sid": "SK1"}),
        ("twilio", {"shared_keys": "no-secret"}),
        ("twilio", {"unknown": "x"}),
        ("vonage", {"private_key": "/path/to/key.pem"}),
        ("vonage", {"signature_secret": ""}),
    ],
)
def test_credentials_that_cannot_work_are_refused_without_being_quoted(name, changed):
    base = TWILIO if name == "twilio" else VONAGE
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        PROVIDERS[name].credentials_model.model_validate(base | changed)
    assert "input_value" not in str(caught.value)


def test_a_private_key_pasted_with_escaped_line_breaks_is_mended():
    model = PROVIDERS["vonage"].credentials_model.model_validate(
        VONAGE | {"private_key": PEM.replace("\n", "\\n")}
    )
    assert model.model_dump()["private_key"] == PEM + "\n"
