"""The judge of requests: what the vendors describe passes, anything else is named."""

import json
import os

import pytest

from offhook_dev.published_requests import FOLDER, PublishedRequests, UndescribedError

TWILIO = "https://api.twilio.com/2010-04-01/Accounts/AC" + "0" * 32
NUMBER = f"{TWILIO}/IncomingPhoneNumbers/PN{'0' * 32}.json"
FORM = "application/x-www-form-urlencoded"
APPLICATION = "https://api.nexmo.com/v2/applications/app-1"


@pytest.fixture(scope="module")
def judge():
    if not FOLDER.is_dir():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"no OpenAPI documents at {FOLDER}")
    return PublishedRequests()


@pytest.mark.parametrize(
    ("method", "url", "content_type", "body"),
    [
        ("GET", f"{TWILIO}.json", "", None),
        ("GET", f"{TWILIO}/IncomingPhoneNumbers.json?PageSize=1000&PhoneNumber=%2B1555", "", None),
        ("POST", NUMBER, FORM, "VoiceUrl=https%3A%2F%2Fv.example.com%2Fin%23rc%3D2&VoiceMethod=POST"),
        (
            "POST",
            f"{TWILIO}/Calls.json",
            FORM,
            "To=%2B1&From=%2B2&StatusCallbackEvent=a&StatusCallbackEvent=b",
        ),
        ("GET", "https://rest.nexmo.com/account/numbers?size=100&index=1", "application/json", None),
        ("POST", "https://rest.nexmo.com/number/update", FORM, b"country=US&msisdn=15550001111&app_id=x"),
        ("PUT", APPLICATION, "application/json", json.dumps({"name": "x", "capabilities": {}})),
        ("GET", "https://api.nexmo.com/v1/calls?page_size=1", "application/json", None),
    ],
)
def test_what_is_described_passes(judge, method, url, content_type, body):
    judge.judge(method, url, content_type, body)


@pytest.mark.parametrize(
    ("method", "url", "content_type", "body", "words"),
    [
        ("GET", f"{TWILIO}/Nothing/At/All.json", "", None, "in no published description"),
        ("DELETE", "https://api.nexmo.com/v1/calls", "", None, "in no published description"),
        ("GET", f"{TWILIO}/IncomingPhoneNumbers.json?PageSize=5000", "", None, "PageSize"),
        ("GET", f"{TWILIO}/IncomingPhoneNumbers.json?Colour=red", "", None, "Colour not described"),
        ("POST", NUMBER, FORM, "voice_url=x", "voice_url not described"),
        ("POST", NUMBER, FORM, "VoiceUrl=x&VoiceUrl=y", "more than once"),
        ("POST", NUMBER, "application/json", "{}", "application/json"),
        ("POST", f"{TWILIO}/Calls.json", FORM, "To=%2B1", "From missing"),
        ("POST", "https://rest.nexmo.com/number/update", FORM, "msisdn=1", "country missing"),
        ("POST", "https://rest.nexmo.com/number/update", FORM, "msisdn=1&country=USA", "country"),
        ("PUT", APPLICATION, "application/json", "{}", "'name' is a required property"),
        (
            "PUT",
            APPLICATION,
            "application/json",
            json.dumps(
                {"name": "x", "capabilities": {"voice": {"webhooks": {"event_url": {"http_method": "PUT"}}}}}
            ),
            "http_method",
        ),
    ],
)
def test_what_is_not_described_is_named(judge, method, url, content_type, body, words):
    with pytest.raises(UndescribedError, match=words):
        judge.judge(method, url, content_type, body)
