"""How a Vonage number and its application are to be set up, and what keeps them from being so."""

from dataclasses import replace

import pytest

from offhook.providers.base import Line, LineUrls, RestError
from offhook.providers.vonage.lines import VonageLines

LINES = VonageLines()
OURS = LineUrls("https://v.example.com/in", "https://v.example.com/fallback", "https://v.example.com/status")
LINE = Line("+15550001111", "15550001111", "15550001111", True, {"app_id": "app-1"}, "US")


def test_a_number_is_linked_to_the_application_and_the_application_asks_here_by_post_and_signs():
    wanted = LINES.wanted({"application_id": "app-1"}, OURS)
    assert wanted.line == {"app_id": "app-1"}
    assert wanted.shared == {
        "answer_url": OURS.inbound,
        "answer_method": "POST",
        "fallback_answer_url": OURS.fallback,
        "fallback_answer_method": "POST",
        "event_url": OURS.status,
        "event_method": "POST",
        "signed_callbacks": "true",
    }


@pytest.mark.parametrize(
    ("setting", "wanted", "found", "same"),
    [
        ("app_id", "AAAA-1", "aaaa-1", True),
        ("app_id", "app-1", "", False),
        ("answer_url", "https://v.example.com/in", "https://v.example.com/in", True),
        ("answer_url", "https://v.example.com/in", "https://v.example.com/IN", False),
        # What is not set: GET, except for events.
        ("answer_method", "POST", "", False),
        ("answer_method", "GET", "", True),
        ("fallback_answer_method", "", "get", True),
        ("event_method", "POST", "", True),
        ("event_method", "POST", "GET", False),
        # Older applications do not sign unless they are told to.
        ("signed_callbacks", "true", "", False),
        ("signed_callbacks", "true", "true", True),
        ("signed_callbacks", "true", "false", False),
    ],
)
def test_settings_are_the_same_where_vonage_does_the_same(setting, wanted, found, same):
    assert LINES.same(setting, wanted, found) is same


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("answer_method", "answer_url"),
        ("fallback_answer_method", "fallback_answer_url"),
        ("event_method", "event_url"),
        ("event_url", None),
        ("app_id", None),
    ],
)
def test_each_method_belongs_to_its_url(setting, url):
    assert LINES.url_of(setting) == url


@pytest.mark.parametrize(
    ("settings", "voice", "code"),
    [
        ({"app_id": "app-1"}, True, None),
        ({"voiceCallbackType": "app", "voiceCallbackValue": "app-2"}, True, None),
        ({"voiceCallbackType": "sip", "voiceCallbackValue": "sip:a@b"}, True, "forwarded"),
        ({"voiceCallbackType": "tel", "voiceCallbackValue": "15550002222"}, True, "forwarded"),
        ({"app_id": "app-1"}, False, "no-voice"),
    ],
)
def test_what_overrules_the_application_is_an_obstacle_with_a_remedy(settings, voice, code):
    found = LINES.obstacle(replace(LINE, settings=settings, voice=voice))
    assert (found.code if found else None) == code
    assert found is None or found.remedy


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("unauthorized", "credentials-refused"),
        ("private-key", "credentials-refused"),
        ("api-secret-missing", "api-secret-missing"),
        ("application-not-found", "application-not-found"),
        ("key-not-the-applications", "key-not-the-applications"),
    ],
)
def test_wrong_credentials_are_told_apart(code, expected):
    told = LINES.explain(RestError("credentials", code, "words"))
    assert (told.code, bool(told.remedy)) == (expected, True)
