"""Signature verification of one webhook, ours beside the official SDK's."""

import hashlib
import itertools
import json
import urllib.parse

import jwt
from twilio.request_validator import RequestValidator
from vonage_jwt import verify_signature

from benchmarks.tables import Section, microseconds
from offhook.providers.base import HttpRequest
from offhook.providers.forms import parse_form
from offhook.providers.registry import PROVIDERS

ORIGIN = "https://voice.example.com"
PATH = "/api/v1/telephony/inbound/run"
TOKEN = "not-a-real-auth-token-0123456789"
ACCOUNT = "AC" + "0" * 32
SECRET = "not-a-real-signature-secret-0123456789"
APPLICATION = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
NOW = 1767268800.0


def twilio_request() -> tuple[HttpRequest, dict[str, str]]:
    """An inbound webhook with 24 parameters, and the parameters."""
    names = ("Called", "Caller", "From", "To")
    fields = {
        "AccountSid": ACCOUNT,
        "CallSid": "CA" + "0" * 31 + "1",
        "ApiVersion": "2010-04-01",
        "CallStatus": "ringing",
        "Direction": "inbound",
        "StirVerstat": "TN-Validation-Passed-A",
        **dict.fromkeys(names, "+15550001111"),
        **{f"{name}{part}": "" for name in names for part in ("City", "Country", "State")},
        "FromZip": "94105",
        "ToZip": "",
    }
    assert len(fields) == 24
    body = urllib.parse.urlencode(fields).encode()
    signature = RequestValidator(TOKEN).compute_signature(ORIGIN + PATH, fields)
    headers = {"x-twilio-signature": signature, "content-type": "application/x-www-form-urlencoded"}
    return HttpRequest("POST", (ORIGIN,), PATH, "", headers, body), fields


def vonage_request() -> tuple[HttpRequest, str]:
    body = json.dumps(
        {
            "from": "15550002222",
            "to": "15550001111",
            "uuid": APPLICATION,
            "conversation_uuid": f"CON-{APPLICATION}",
            "status": "ringing",
            "direction": "inbound",
            "timestamp": "2026-01-01T12:00:00.000Z",
        },
        separators=(",", ":"),
    ).encode()
    claims = {
        "iat": int(NOW),
        "jti": "7bd5d1f2-0000-4000-8000-000000000001",
        "iss": "Vonage",
        "payload_hash": hashlib.sha256(body).hexdigest(),
        "api_key": "abcd1234",
        "application_id": APPLICATION,
    }
    token = jwt.encode(claims, SECRET, "HS256")
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    return HttpRequest("POST", (ORIGIN,), PATH, "", headers, body), token


def run() -> Section:
    section = Section("Signature of one webhook", ("what", "ours, µs", "official SDK, µs", "ratio"))
    request, fields = twilio_request()
    twilio = PROVIDERS["twilio"].webhooks
    credentials = {"account_sid": ACCOUNT, "auth_token": TOKEN}
    ours = microseconds(lambda: twilio.verify(request, credentials, NOW))
    validator = RequestValidator(TOKEN)
    signature = request.headers["x-twilio-signature"]
    assert validator.validate(ORIGIN + PATH, fields, signature)
    theirs = microseconds(lambda: validator.validate(ORIGIN + PATH, fields, signature))
    _add(section, "twilio", "Twilio, 24 parameters", ours, theirs)
    # Never twice the same bytes, for the parser remembers the last few forms.
    bodies = (request.body + b"%d" % each for each in itertools.count())
    parsing = microseconds(lambda: parse_form(next(bodies)))

    request, token = vonage_request()
    vonage = PROVIDERS["vonage"].webhooks
    credentials = {
        "application_id": APPLICATION,
        "api_key": "abcd1234",
        "api_secret": "NotARealSecret1",
        "signature_secret": SECRET,
        "private_key": "",
    }
    ours = microseconds(lambda: vonage.verify(request, credentials, NOW))
    assert verify_signature(token, SECRET)
    theirs = microseconds(lambda: verify_signature(token, SECRET))
    _add(section, "vonage", "Vonage, JWT, age and payload hash", ours, theirs)
    section.notes = [
        "Ours: from the raw request to the verdict, its form already parsed to find the account; Twilio's validator is",
        f"given the parsed parameters, too. Parsing, once a request: {parsing:.1f} µs.",
        "Vonage's function checks neither age nor payload hash.",
    ]
    return section


def _add(section: Section, key: str, name: str, ours: float, theirs: float) -> None:
    section.rows.append((name, f"{ours:.1f}", f"{theirs:.1f}", f"{theirs / ours:.1f}×"))
    section.data[key] = {"ours_us": ours, "sdk_us": theirs}
