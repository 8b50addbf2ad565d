"""How a Twilio number is to be set up, and what keeps it from being so."""

from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.providers.base import Line, LineUrls, RestError
from offhook.providers.twilio.lines import METHODS, URLS, TwilioLines
from offhook.providers.twilio.retries import RETRIES

LINES = TwilioLines()
OURS = LineUrls("https://v.example.com/in", "https://v.example.com/fallback", "https://v.example.com/status")
LINE = Line("+15550001111", "PN1", "Desk", True, {"VoiceApplicationSid": "", "TrunkSid": ""})

fragments = st.dictionaries(
    st.sampled_from(["ct", "rt", "rc", "rp", "tt"]),
    st.sampled_from(["1", "2000", "5xx,ct,rt", "4xx"]),
    max_size=4,
)


def written(fragment, separator="&"):
    return separator.join(f"{name}={value}" for name, value in fragment.items())


def test_a_number_asks_reports_and_falls_back_here_by_post():
    wanted = LINES.wanted({}, OURS)
    assert {name: value.partition("#")[0] for name, value in wanted.line.items()} == {
        "VoiceUrl": OURS.inbound,
        "VoiceMethod": "POST",
        "VoiceFallbackUrl": OURS.fallback,
        "VoiceFallbackMethod": "POST",
        "StatusCallback": OURS.status,
        "StatusCallbackMethod": "POST",
    }
    assert wanted.line.keys() == {*URLS, *METHODS}
    assert wanted.shared == {}


def test_each_method_belongs_to_its_url():
    methods = {setting: LINES.url_of(setting) for setting in LINES.wanted({}, OURS).line}
    assert {setting: url for setting, url in methods.items() if url} == {
        "VoiceMethod": "VoiceUrl",
        "VoiceFallbackMethod": "VoiceFallbackUrl",
        "StatusCallbackMethod": "StatusCallback",
    }


def test_twilio_tries_again_after_silence_and_server_errors_within_its_fifteen_seconds():
    for setting in URLS:
        fragment = urlsplit(LINES.wanted({}, OURS).line[setting]).fragment
        assert fragment == RETRIES
    (connect,), (read,), (retries,), (policy,) = (
        parse_qs(RETRIES)[name] for name in ("ct", "rt", "rc", "rp")
    )
    assert set(policy.split(",")) == {"5xx", "ct", "rt"}
    assert 1 <= int(retries) <= 5
    assert (int(connect) + int(read)) * (1 + int(retries)) <= 15_000


@given(fragments, st.randoms())
def test_the_order_of_a_fragment_says_nothing(fragment, random):
    items = list(fragment.items())
    random.shuffle(items)
    shuffled = {}
    for name, value in items:
        parts = value.split(",")
        random.shuffle(parts)
        shuffled[name] = ",".join(parts)
    one, other = (f"https://v.example.com/in#{written(f)}" for f in (fragment, shuffled))
    assert LINES.same("VoiceUrl", one, other)
    assert LINES.same("VoiceUrl", one, other.replace(",", "%2C"))


@given(fragments, fragments)
def test_another_fragment_is_another_setting(one, other):
    urls = [f"https://v.example.com/in#{written(fragment)}" for fragment in (one, other)]
    meant = [{name: frozenset(value.split(",")) for name, value in f.items()} for f in (one, other)]
    assert LINES.same("VoiceUrl", *urls) == (meant[0] == meant[1])


@pytest.mark.parametrize(
    ("setting", "wanted", "found", "same"),
    [
        ("VoiceUrl", "https://v.example.com/in", " https://v.example.com/in ", True),
        ("VoiceUrl", "https://v.example.com/in", "https://v.example.com/in/", False),
        # Twilio signs the URL letter by letter.
        ("VoiceUrl", "https://v.example.com/in", "https://V.example.com/in", False),
        ("VoiceUrl", "https://v.example.com/in", "https://v.example.com:443/in", False),
        ("VoiceUrl", "https://v.example.com/in#" + RETRIES, "https://v.example.com/in", False),
        ("VoiceUrl", "", "", True),
        ("VoiceUrl", "", "https://v.example.com/in", False),
        ("VoiceMethod", "POST", "", True),
        ("VoiceMethod", "POST", "post", True),
        ("VoiceMethod", "", "POST", True),
        ("VoiceMethod", "POST", "GET", False),
        ("TrunkSid", "TK1", "TK2", False),
    ],
)
def test_settings_are_the_same_where_twilio_does_the_same(setting, wanted, found, same):
    assert LINES.same(setting, wanted, found) is same


@pytest.mark.parametrize(
    ("changes", "voice", "code"),
    [
        ({}, True, None),
        ({"VoiceApplicationSid": "AP1"}, True, "governed-by-application"),
        ({"TrunkSid": "TK1"}, True, "governed-by-trunk"),
        ({"TrunkSid": "TK1", "VoiceApplicationSid": "AP1"}, True, "governed-by-trunk"),
        ({}, False, "no-voice"),
        ({"VoiceReceiveMode": "fax"}, False, "no-voice"),
        ({"VoiceReceiveMode": "voice"}, True, None),
    ],
)
def test_what_overrules_the_urls_is_an_obstacle_with_a_remedy(changes, voice, code):
    found = LINES.obstacle(replace(LINE, settings={**LINE.settings, **changes}, voice=voice))
    assert (found.code if found else None) == code
    if found:
        assert found.remedy
        assert all(sid in found.sentence for sid in changes.values() if sid == changes.get("TrunkSid"))


@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        ("credentials", "20003", "credentials-refused"),
        ("credentials", "auth-token", "credentials-refused"),
        ("credentials", "api-key", "credentials-refused"),
        ("credentials", "20005", "account-suspended"),
        ("credentials", "10001", "account-suspended"),
        ("credentials", "account-suspended", "account-suspended"),
        ("gone", "20404", "number-not-owned"),
        ("rejected", "21402", "rejected"),
        ("busy", "20429", "rate-limited"),
    ],
)
def test_a_refusal_of_twilio_is_told_with_a_remedy(kind, code, expected):
    told = LINES.explain(RestError(kind, code, "Twilio answered 400: words"))
    assert told.code == expected
    assert "Twilio answered 400: words." in told.sentence
    assert told.remedy.endswith(".")
