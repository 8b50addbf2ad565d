"""A Twilio account and its numbers over REST: against the simulated carrier, every request judged by Twilio's own
description; and against a server that answers what no Twilio would."""

import asyncio
import base64
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest

from carrier_sim import RestFault
from offhook.providers.base import Line, LineUrls, RestError
from offhook.providers.twilio.lines import TwilioLines
from offhook.providers.twilio.rest import TwilioRest

ACCOUNT = "AC00000000000000000000000000000001"
KEY = "SK00000000000000000000000000000001"
PN = "PN00000000000000000000000000000001"
CREDENTIALS = {"account_sid": ACCOUNT, "auth_token": "token"}
WITH_KEY = CREDENTIALS | {"api_key_sid": KEY, "api_key_secret": "key-secret"}
URLS = LineUrls(
    "https://v.example.com/api/v1/telephony/inbound/run",
    "https://v.example.com/api/v1/telephony/inbound/fallback",
    "https://v.example.com/api/v1/telephony/status-callback/line",
)
WANTED = TwilioLines().wanted(CREDENTIALS, URLS).line
LOST = "unknown-outcome"
LINE = Line("+15550001111", PN, "Desk", True, {})
NUMBER = {
    "sid": PN,
    "phone_number": "+15550001111",
    "friendly_name": "Desk",
    "voice_url": "https://c.example/x",
}


@pytest.fixture
def account(sim, published):
    account = sim.twilio.add_account(ACCOUNT, "token")
    account.api_keys[KEY] = "key-secret"
    return account


def refusal(action):
    with pytest.raises(RestError) as caught:
        action()
    return caught.value


def told(error):
    return TwilioLines().explain(error).code


async def in_thread(sim, action, credentials=CREDENTIALS, **options):
    return await asyncio.to_thread(lambda: action(TwilioRest(credentials, sim.base_url, **options)))


async def refused(sim, action, credentials=CREDENTIALS):
    with pytest.raises(RestError) as caught:
        await in_thread(sim, action, credentials)
    return caught.value


@pytest.mark.parametrize("credentials", [CREDENTIALS, WITH_KEY])
async def test_credentials_that_open_the_account_name_it(sim, account, published, credentials):
    facts = await in_thread(sim, lambda rest: rest.check(), credentials)
    assert (facts.name, facts.account) == (account.friendly_name, ACCOUNT)
    assert "GET /2010-04-01/Accounts/{Sid}.json" in published.judged


@pytest.mark.parametrize(
    ("changes", "code", "which"),
    [
        ({"auth_token": "wrong"}, "auth-token", "Auth Token"),
        ({"account_sid": "AC" + "f" * 32}, "auth-token", "Auth Token"),
        ({"api_key_secret": "wrong"}, "api-key", "API key"),
        ({"api_key_sid": "SK" + "f" * 32}, "api-key", "API key"),
        # The token proves what Twilio sends: a right API key does not make up for it.
        ({"auth_token": "wrong", "api_key_secret": "key-secret"}, "auth-token", "Auth Token"),
    ],
)
async def test_wrong_credentials_are_told_apart(sim, account, changes, code, which):
    error = await refused(sim, lambda rest: rest.check(), WITH_KEY | changes)
    assert (error.kind, error.code, told(error)) == ("credentials", code, "credentials-refused")
    assert which in TwilioLines().explain(error).sentence


@pytest.mark.parametrize("status", ["suspended", "closed"])
def test_an_account_that_is_not_active_is_told_from_wrong_credentials(rest_api, status):
    rest_api.answer(200, {"sid": ACCOUNT, "status": status, "friendly_name": "Acme"})
    error = refusal(TwilioRest(CREDENTIALS, rest_api.url).check)
    assert (error.kind, told(error), status in str(error)) == ("credentials", "account-suspended", True)
    rest_api.answer(403, {"code": 20005, "message": "Account not active", "status": 403})
    assert told(refusal(TwilioRest(CREDENTIALS, rest_api.url).check)) == "account-suspended"


async def test_all_numbers_are_read_page_by_page(sim, account, published):
    for index in range(2345):
        account.add_number(f"+1555{index:07}", voice_url="https://c.example.com/x")
    lines = await in_thread(sim, lambda rest: rest.lines(), WITH_KEY)
    assert len({line.e164 for line in lines}) == len(lines) == 2345
    assert published.judged.count("GET /2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers.json") == 3


async def test_a_number_is_told_as_twilio_holds_it(sim, account):
    account.add_number(
        "+15550001111", friendly_name="Desk", trunk_sid="TK1", voice_url="https://c.example.com/x"
    )
    (line,) = await in_thread(sim, lambda rest: rest.lines())
    assert (line.e164, line.name, line.voice) == ("+15550001111", "Desk", True)
    assert line.reference.startswith("PN")
    assert line.settings == {
        "VoiceUrl": "https://c.example.com/x",
        "VoiceMethod": "POST",
        "VoiceFallbackUrl": "",
        "VoiceFallbackMethod": "POST",
        "StatusCallback": "",
        "StatusCallbackMethod": "POST",
        "VoiceApplicationSid": "",
        "TrunkSid": "TK1",
        "VoiceReceiveMode": "voice",
    }
    assert TwilioLines().obstacle(line).code == "governed-by-trunk"


@pytest.mark.parametrize("several", [2, 7])
async def test_some_numbers_are_asked_for_by_name_and_foreign_ones_are_left_out(
    sim, account, published, several
):
    names = [f"+1555000{index:04}" for index in range(several)]
    for e164 in [*names, "+15550009999"]:
        account.add_number(e164)
    # The filter matches within a number.
    account.add_number(names[0] + "0")
    wanted = [*names, "+15559999999"]
    lines = await in_thread(sim, lambda rest: rest.lines(wanted))
    assert sorted(line.e164 for line in lines) == names
    assert len(published.judged) == (3 if several == 2 else 1)
    assert await in_thread(sim, lambda rest: rest.lines([])) == []


async def test_a_number_is_set_up_as_wanted_and_nothing_else_of_it_is_touched(sim, account, published):
    number = account.add_number("+15550001111", friendly_name="Desk", voice_url="https://c.example.com/x")
    (line,) = await in_thread(sim, lambda rest: rest.lines())
    changed = await in_thread(sim, lambda rest: rest.set_line(line, WANTED))
    assert {name: changed.settings[name] for name in WANTED} == WANTED
    assert number.voice_url == WANTED["VoiceUrl"]
    assert number.friendly_name == "Desk"
    assert published.judged[-1] == "POST /2010-04-01/Accounts/{AccountSid}/IncomingPhoneNumbers/{Sid}.json"
    restored = await in_thread(sim, lambda rest: rest.set_line(changed, {"VoiceUrl": "", "VoiceMethod": ""}))
    assert number.voice_url == ""
    assert number.voice_fallback_url == WANTED["VoiceFallbackUrl"]
    assert TwilioLines().same("VoiceMethod", "", restored.settings["VoiceMethod"])


async def test_a_number_that_is_not_the_accounts_any_more_is_told(sim, account):
    error = await refused(sim, lambda rest: rest.set_line(LINE, WANTED))
    assert (error.kind, told(error)) == ("gone", "number-not-owned")


def test_only_what_is_given_is_sent(rest_api):
    rest_api.answer(200, NUMBER)
    TwilioRest(CREDENTIALS, rest_api.url).set_line(LINE, {"VoiceUrl": "https://v.example.com/in#rc=2"})
    (sent,) = rest_api.sent
    assert parse_qs(sent.body.decode(), keep_blank_values=True) == {
        "VoiceUrl": ["https://v.example.com/in#rc=2"]
    }
    with pytest.raises(ValueError, match="FriendlyName"):
        TwilioRest(CREDENTIALS, rest_api.url).set_line(LINE, {"FriendlyName": "ours"})
    assert len(rest_api.sent) == 1


def test_numbers_are_read_with_the_api_key_and_the_account_with_the_auth_token(rest_api):
    rest_api.answer(
        200, {"sid": ACCOUNT, "status": "active", "incoming_phone_numbers": [], "next_page_uri": None}
    )
    TwilioRest(WITH_KEY, rest_api.url).check()
    users = [
        base64.b64decode(sent.headers["authorization"].removeprefix("Basic ")).decode().partition(":")[0]
        for sent in rest_api.sent
    ]
    assert users == [ACCOUNT, KEY]


@pytest.mark.parametrize(
    "following",
    [
        "https://elsewhere.example/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json?Page=1",
        "//elsewhere.example/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json?Page=1",
        "/2010-04-01/Accounts/ACother/IncomingPhoneNumbers.json?Page=1",
        "@elsewhere.example/x",
        ["x"],
    ],
)
def test_the_credentials_never_follow_a_page_to_another_place(rest_api, following):
    uri = following.format(account=ACCOUNT) if isinstance(following, str) else following
    rest_api.answer(200, {"incoming_phone_numbers": [NUMBER], "next_page_uri": uri})
    assert told(refusal(TwilioRest(CREDENTIALS, rest_api.url).lines)) == "answer-unreadable"
    assert len(rest_api.sent) == 1


def test_pages_without_an_end_are_given_up(rest_api):
    path = f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json"
    rest_api.answer(200, {"incoming_phone_numbers": [NUMBER], "next_page_uri": f"{path}?Page=1&PageToken=x"})
    assert told(refusal(TwilioRest(CREDENTIALS, rest_api.url).lines)) == "answer-unreadable"
    assert parse_qs(urlsplit(rest_api.sent[-1].path).query) == {"Page": ["1"], "PageToken": ["x"]}
    assert len(rest_api.sent) == 100


GARBAGE = [
    b"",
    b"<html>login</html>",
    b"[]",
    b"null",
    b"[" * 100_000,
    b"\xff\xfe",
    b'{"a": 1}',
    b'"x"',
    b"{}",
]
ACTIONS = {
    "check": lambda rest: rest.check(),
    "lines": lambda rest: rest.lines(),
    "one line": lambda rest: rest.lines(["+15550001111"]),
    "set_line": lambda rest: rest.set_line(LINE, WANTED),
}


@pytest.mark.parametrize("body", GARBAGE)
@pytest.mark.parametrize("action", ACTIONS)
def test_garbage_is_never_taken_for_an_answer(rest_api, action, body):
    rest_api.answer(200, body)
    error = refusal(lambda: ACTIONS[action](TwilioRest(CREDENTIALS, rest_api.url)))
    assert error.kind == ("unknown-outcome" if action == "set_line" else "unavailable")
    assert told(error) == "answer-unreadable"


@pytest.mark.parametrize(
    "item", [None, {}, [], {"sid": PN}, {"phone_number": "+1"}, {"sid": 1, "phone_number": "+1"}]
)
def test_a_page_with_something_else_in_it_is_not_half_believed(rest_api, item):
    rest_api.answer(200, {"incoming_phone_numbers": [NUMBER, item], "next_page_uri": None})
    assert told(refusal(TwilioRest(CREDENTIALS, rest_api.url).lines)) == "answer-unreadable"


def test_a_short_code_is_no_line_and_odd_fields_do_not_hurt(rest_api):
    odd = {"sid": "PN2", "phone_number": "+15550002222", "voice_url": 5, "capabilities": {"Voice": False}}
    rest_api.answer(200, {"incoming_phone_numbers": [{"sid": "SC1", "phone_number": "12345"}, odd]})
    (line,) = TwilioRest(CREDENTIALS, rest_api.url).lines()
    assert (line.e164, line.voice, line.settings["VoiceUrl"]) == ("+15550002222", False, "")


@pytest.mark.parametrize("behaviour", ["hang", "drop"])
@pytest.mark.parametrize("action", ACTIONS)
def test_silence_is_told_and_nothing_is_sent_twice(rest_api, action, behaviour):
    rest_api.behaviour = behaviour
    error = refusal(lambda: ACTIONS[action](TwilioRest(CREDENTIALS, rest_api.url, timeout_s=0.3)))
    assert error.kind == ("unknown-outcome" if action == "set_line" else "unavailable")
    assert told(error) == "no-answer"
    assert rest_api.came(1) == 1


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, {"code": 20003, "message": "Authenticate"}, "credentials-refused"),
        (401, b"", "credentials-refused"),
        (403, b"<html>blocked</html>", "answer-unreadable"),
        (404, b"<html>not found</html>", "answer-unreadable"),
        (302, b"", "answer-unreadable"),
        (429, {"code": 20429, "message": "Too Many Requests"}, "rate-limited"),
        (429, b"<html>", "rate-limited"),
        (500, {"code": 20500, "message": "Internal Server Error"}, "provider-unavailable"),
        (502, b"<html>", "provider-unavailable"),
        (503, b"", "provider-unavailable"),
    ],
)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_status_leads_to_its_code(rest_api, action, status, body, code):
    rest_api.answer(status, body, Retry_After="7")
    error = refusal(lambda: ACTIONS[action](TwilioRest(CREDENTIALS, rest_api.url)))
    assert told(error) == code
    if code in ("rate-limited", "provider-unavailable"):
        assert error.retry_after_s == 7.0


def test_a_missing_account_is_not_taken_for_a_missing_number(rest_api):
    rest_api.answer(404, {"code": 20404, "message": "The requested resource was not found"})
    rest = TwilioRest(CREDENTIALS, rest_api.url)
    assert told(refusal(rest.lines)) == told(refusal(rest.check)) == "credentials-refused"
    assert told(refusal(lambda: rest.set_line(LINE, WANTED))) == "number-not-owned"


def test_a_setting_twilio_refuses_is_told_in_twilios_words(rest_api):
    rest_api.answer(400, {"code": 21402, "message": "VoiceUrl is not a valid URL", "status": 400})
    error = refusal(lambda: TwilioRest(CREDENTIALS, rest_api.url).set_line(LINE, WANTED))
    told_as = TwilioLines().explain(error)
    assert (told_as.code, "VoiceUrl is not a valid URL" in told_as.sentence) == ("rejected", True)


def test_the_pace_is_asked_before_every_request_that_leaves(rest_api):
    asked = []
    rest = TwilioRest(CREDENTIALS, rest_api.url, pace=lambda: asked.append(len(rest_api.sent)))
    path = f"/2010-04-01/Accounts/{ACCOUNT}/IncomingPhoneNumbers.json"
    rest_api.answer(200, {"incoming_phone_numbers": [NUMBER], "next_page_uri": f"{path}?Page=1"} | NUMBER)
    refusal(rest.lines)
    rest.set_line(LINE, WANTED)
    assert asked == list(range(101))


def test_a_pace_that_refuses_keeps_the_request_here(rest_api):
    def refuse():
        raise RestError("busy", "429", "the account is asked more slowly")

    assert refusal(TwilioRest(CREDENTIALS, rest_api.url, pace=refuse).lines).kind == "busy"
    assert rest_api.sent == []


def test_nothing_of_the_account_is_shared_between_its_numbers(rest_api):
    rest = TwilioRest(CREDENTIALS, rest_api.url)
    assert rest.shared() == rest.set_shared({}) == {}
    assert rest_api.sent == []


def test_no_refusal_quotes_a_secret(rest_api):
    rest_api.answer(401, {"code": 20003, "message": "Authenticate"})
    credentials = WITH_KEY | {"auth_token": "canary-1", "api_key_secret": "canary-2"}
    for action in ACTIONS.values():
        error = refusal(lambda action=action: action(TwilioRest(credentials, rest_api.url)))
        assert "canary" not in f"{error!r} {error} {TwilioLines().explain(error)}"


BAD_DAYS = [
    (RestFault(do="status", status=429, retry_after=3), "busy", "rate-limited"),
    (RestFault(do="status", status=500), "unavailable", "provider-unavailable"),
    (RestFault(do="status", status=503, retry_after=3), "unavailable", "provider-unavailable"),
    (RestFault(do="html"), LOST, "answer-unreadable"),
    (RestFault(do="html", status=502), "unavailable", "provider-unavailable"),
    (RestFault(do="truncated"), LOST, "answer-unreadable"),
    (RestFault(do="wrong-shape"), LOST, "answer-unreadable"),
    (RestFault(do="huge"), LOST, "no-answer"),
    (RestFault(do="silence", work=True), LOST, "no-answer"),
    (RestFault(do="cut", work=True), LOST, "no-answer"),
]


def patience(fault):
    return 5 if fault.do == "silence" else 60


@pytest.mark.parametrize(("fault", "kind", "code"), BAD_DAYS, ids=lambda value: getattr(value, "do", value))
async def test_a_bad_day_of_twilio_is_told_and_the_next_look_finds_what_came_of_it(
    sim, account, fault, kind, code
):
    account.add_number("+15550001111")
    (line,) = await in_thread(sim, lambda rest: rest.lines())
    sim.rest_faults = [replace(fault, times=2)]
    with pytest.raises(RestError) as read:
        await in_thread(sim, lambda rest: rest.lines(), timeout_s=patience(fault))
    with pytest.raises(RestError) as written:
        await in_thread(sim, lambda rest: rest.set_line(line, WANTED), timeout_s=patience(fault))
    assert [told(caught.value) for caught in (read, written)] == [code, code]
    assert read.value.kind == ("unavailable" if kind == LOST else kind)
    assert written.value.kind == kind
    assert written.value.retry_after_s == (3.0 if fault.retry_after else None)
    (after,) = await in_thread(sim, lambda rest: rest.lines())
    changed = {name: after.settings[name] for name in WANTED} == WANTED
    assert changed == fault.works


@pytest.mark.parametrize("status", ["suspended", "closed"])
async def test_nothing_is_done_in_an_account_that_is_not_active(sim, account, status):
    account.add_number("+15550001111")
    (line,) = await in_thread(sim, lambda rest: rest.lines())
    account.status = status
    for action in (
        lambda rest: rest.check(),
        lambda rest: rest.lines(),
        lambda rest: rest.set_line(line, WANTED),
    ):
        assert told(await refused(sim, action)) == "account-suspended"


async def test_a_number_without_voice_is_told(sim, account):
    account.add_number("+15550001111", voice=False)
    (line,) = await in_thread(sim, lambda rest: rest.lines())
    assert TwilioLines().obstacle(line).code == "no-voice"
