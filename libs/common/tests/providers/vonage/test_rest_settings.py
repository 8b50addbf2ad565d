"""A Vonage application and the account's numbers over REST: against the simulated carrier, every request judged by
Vonage's own descriptions; and against a server that answers what no Vonage would."""

import asyncio
import copy
import json
from dataclasses import replace
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from carrier_sim import RestFault
from offhook.providers.base import Line, LineUrls, RestError
from offhook.providers.vonage.lines import VonageLines
from offhook.providers.vonage.rest import VonageRest

APPLICATION = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
URLS = LineUrls(
    "https://v.example.com/api/v1/telephony/inbound/run",
    "https://v.example.com/api/v1/telephony/inbound/fallback",
    "https://v.example.com/api/v1/telephony/status-callback/line",
)
LOST = "unknown-outcome"
LINE = Line("+15550001111", "15550001111", "", True, {"app_id": ""}, "US")
# More than we know of: nothing of it may get lost.
RESOURCE = {
    "name": "The customer's own",
    "capabilities": {
        "voice": {
            "webhooks": {
                "answer_url": {
                    "address": "https://c.example.com/answer",
                    "http_method": "GET",
                    "connection_timeout": 500,
                    "socket_timeout": 3000,
                },
                "event_url": {"address": "https://c.example.com/event", "socket_timeout": 9000},
            },
            "signed_callbacks": False,
            "region": "eu-west",
            "conversations_ttl": 48,
            "leg_persistence_time": 7,
        },
        "messages": {
            "webhooks": {"inbound_url": {"address": "https://c.example.com/sms", "http_method": "POST"}}
        },
        "vbc": {},
    },
    "privacy": {"improve_ai": True},
}


@pytest.fixture
def credentials(private_key):
    return {
        "application_id": APPLICATION,
        "private_key": private_key,
        "api_key": "abcd1234",
        "api_secret": "api-secret",
        "signature_secret": "signature-secret",
    }


@pytest.fixture
def wanted(credentials):
    return VonageLines().wanted(credentials, URLS)


@pytest.fixture
def application(sim, published, private_key):
    added = sim.vonage.add_application(
        APPLICATION, api_key="abcd1234", api_secret="api-secret", private_key=private_key
    )
    added.resource = copy.deepcopy(RESOURCE)
    return added


@pytest.fixture(scope="module")
def other_key():
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def refusal(action):
    with pytest.raises(RestError) as caught:
        action()
    return caught.value


def told(error):
    return VonageLines().explain(error).code


async def in_thread(sim, credentials, action, **options):
    return await asyncio.to_thread(lambda: action(VonageRest(credentials, sim.base_url, **options)))


async def refused(sim, credentials, action):
    with pytest.raises(RestError) as caught:
        await in_thread(sim, credentials, action)
    return caught.value


async def test_credentials_that_open_the_application_name_it(sim, application, credentials, published):
    facts = await in_thread(sim, credentials, lambda rest: rest.check())
    assert (facts.name, facts.account) == ("The customer's own", APPLICATION)
    # The account's secret and the application's key are both tried.
    assert published.judged == ["GET /v2/applications/{id}", "GET /v1/calls"]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"api_secret": "wrong"}, "credentials-refused"),
        ({"api_key": "wrong"}, "credentials-refused"),
        ({"application_id": OTHER}, "application-not-found"),
        ({"api_secret": ""}, "api-secret-missing"),
    ],
)
async def test_wrong_credentials_are_told_apart(sim, application, credentials, changes, code):
    error = await refused(sim, credentials | changes, lambda rest: rest.check())
    assert (error.kind, told(error)) == ("credentials", code)


async def test_the_private_key_of_another_application_is_found_out(sim, application, credentials, other_key):
    error = await refused(sim, credentials | {"private_key": other_key}, lambda rest: rest.check())
    assert (error.kind, told(error)) == ("credentials", "key-not-the-applications")


def test_where_the_application_hides_its_key_a_refused_token_finds_it_out(rest_api, credentials, other_key):
    seen = []

    def pace():
        # The application is shown; what the private key has signed is refused.
        seen.append(len(rest_api.sent))
        if len(seen) == 1:
            rest_api.answer(200, {"id": APPLICATION, "name": "x"})
        else:
            rest_api.answer(401, b"")

    rest = VonageRest(credentials | {"private_key": other_key}, rest_api.url, pace=pace)
    assert told(refusal(rest.check)) == "key-not-the-applications"


async def test_what_the_application_is_set_to_is_read(sim, application, credentials):
    assert await in_thread(sim, credentials, lambda rest: rest.shared()) == {
        "answer_url": "https://c.example.com/answer",
        "answer_method": "GET",
        "fallback_answer_url": "",
        "fallback_answer_method": "",
        "event_url": "https://c.example.com/event",
        "event_method": "",
        "signed_callbacks": "false",
    }


async def test_the_application_is_set_up_as_wanted_and_nothing_else_of_it_is_touched(
    sim, application, credentials, wanted, published
):
    public_key = application.public_key
    before = await in_thread(sim, credentials, lambda rest: rest.shared())
    found = await in_thread(sim, credentials, lambda rest: rest.set_shared(wanted.shared))
    assert found == wanted.shared
    expected = copy.deepcopy(RESOURCE)
    voice = expected["capabilities"]["voice"]
    voice["signed_callbacks"] = True
    voice["webhooks"]["answer_url"] |= {"address": URLS.inbound, "http_method": "POST"}
    voice["webhooks"]["event_url"] |= {"address": URLS.status, "http_method": "POST"}
    voice["webhooks"]["fallback_answer_url"] = {"address": URLS.fallback, "http_method": "POST"}
    assert application.resource == expected
    assert application.public_key == public_key
    assert published.judged[-1] == "PUT /v2/applications/{id}"
    assert await in_thread(sim, credentials, lambda rest: rest.set_shared(before)) == before
    assert application.resource == RESOURCE


async def test_an_application_that_is_as_wanted_is_not_written(
    sim, application, credentials, wanted, published
):
    await in_thread(sim, credentials, lambda rest: rest.set_shared(wanted.shared))
    published.judged.clear()
    assert await in_thread(sim, credentials, lambda rest: rest.set_shared(wanted.shared)) == wanted.shared
    assert published.judged == ["GET /v2/applications/{id}"]


async def test_all_numbers_are_read_page_by_page_and_an_account_may_have_none(
    sim, application, credentials, published
):
    assert await in_thread(sim, credentials, lambda rest: rest.lines()) == []
    for index in range(234):
        sim.vonage.add_number(application, f"1555{index:07}")
    published.judged.clear()
    lines = await in_thread(sim, credentials, lambda rest: rest.lines())
    assert len({line.e164 for line in lines}) == len(lines) == 234
    assert published.judged == ["GET /account/numbers"] * 3


async def test_a_number_is_told_as_vonage_holds_it(sim, application, credentials):
    number = sim.vonage.add_number(application, "447700900000", country="GB")
    number.fields["moHttpUrl"] = "https://c.example.com/sms"
    (line,) = await in_thread(sim, credentials, lambda rest: rest.lines())
    assert (line.e164, line.reference, line.country, line.voice) == (
        "+447700900000", "447700900000", "GB", True,
    )  # fmt: skip
    assert line.settings["app_id"] == APPLICATION
    assert line.settings["moHttpUrl"] == "https://c.example.com/sms"


@pytest.mark.parametrize("several", [2, 7])
async def test_some_numbers_are_asked_for_by_name_and_foreign_ones_are_left_out(
    sim, application, credentials, published, several
):
    names = [f"+1555000{index:04}" for index in range(several)]
    for e164 in [*names, "+15550009999", names[0] + "0"]:
        sim.vonage.add_number(application, e164)
    lines = await in_thread(sim, credentials, lambda rest: rest.lines([*names, "+15559999999"]))
    assert sorted(line.e164 for line in lines) == names
    assert len(published.judged) == (3 if several == 2 else 1)


async def test_a_number_is_linked_and_keeps_its_other_settings(
    sim, application, credentials, wanted, published
):
    number = sim.vonage.add_number(None, "15550001111", api_key="abcd1234")
    number.fields["moHttpUrl"] = "https://c.example.com/sms"
    (line,) = await in_thread(sim, credentials, lambda rest: rest.lines())
    assert line.settings["app_id"] == ""
    linked = await in_thread(sim, credentials, lambda rest: rest.set_line(line, wanted.line))
    assert (linked.settings["app_id"], number.app_id) == (APPLICATION, APPLICATION)
    assert number.fields == {"moHttpUrl": "https://c.example.com/sms"}
    assert published.judged[-2:] == ["POST /number/update", "GET /account/numbers"]
    unlinked = await in_thread(sim, credentials, lambda rest: rest.set_line(linked, {"app_id": ""}))
    assert (unlinked.settings["app_id"], number.app_id) == ("", None)
    assert number.fields == {"moHttpUrl": "https://c.example.com/sms"}


async def test_the_old_way_to_be_linked_is_understood_and_does_not_overrule_the_new(
    sim, application, credentials, wanted, private_key
):
    other = sim.vonage.add_application(
        OTHER, api_key="abcd1234", api_secret="api-secret", private_key=private_key
    )
    number = sim.vonage.add_number(other, "15550001111")
    (line,) = await in_thread(sim, credentials, lambda rest: rest.lines())
    assert (line.settings["voiceCallbackType"], line.settings["app_id"]) == ("app", OTHER)
    assert VonageLines().obstacle(line) is None
    await in_thread(sim, credentials, lambda rest: rest.set_line(line, wanted.line))
    assert number.app_id == APPLICATION


async def test_a_forwarded_number_stays_forwarded(sim, application, credentials, wanted):
    number = sim.vonage.add_number(application, "15550001111")
    number.fields |= {"voiceCallbackType": "tel", "voiceCallbackValue": "15550002222"}
    (line,) = await in_thread(sim, credentials, lambda rest: rest.lines())
    assert VonageLines().obstacle(line).code == "forwarded"
    kept = await in_thread(sim, credentials, lambda rest: rest.set_line(line, wanted.line))
    assert kept.settings["voiceCallbackValue"] == "15550002222"


async def test_a_number_that_is_not_the_accounts_any_more_is_told(sim, application, credentials, wanted):
    error = await refused(sim, credentials, lambda rest: rest.set_line(LINE, wanted.line))
    assert (error.kind, told(error)) == ("gone", "number-not-owned")


async def test_a_setting_vonage_refuses_is_told_in_vonages_words(sim, application, credentials):
    sim.vonage.add_number(application, "15550001111")
    error = await refused(sim, credentials, lambda rest: rest.set_line(LINE, {"app_id": OTHER}))
    assert (error.kind, told(error), "app_id" in str(error)) == ("rejected", "rejected", True)
    error = await refused(sim, credentials, lambda rest: rest.set_shared({"answer_url": "not a url"}))
    assert (error.kind, "answer_url" in str(error)) == ("rejected", True)


def test_what_is_no_setting_of_a_number_is_not_sent(rest_api, credentials):
    with pytest.raises(ValueError, match="msisdn"):
        VonageRest(credentials, rest_api.url).set_line(LINE, {"msisdn": "1"})
    assert rest_api.sent == []


def test_a_form_is_sent_as_a_form_and_a_document_as_json(rest_api, credentials, wanted):
    rest = VonageRest(credentials, rest_api.url)
    rest_api.answer(200, {"error-code": "200", "id": APPLICATION})
    # The answer to the look at the number afterwards cannot be read.
    refusal(lambda: rest.set_line(LINE, wanted.line))
    rest.set_shared(wanted.shared)
    refusal(lambda: rest.set_line(LINE, wanted.line))
    kinds = [sent.headers.get("content-type") for sent in rest_api.sent if sent.method != "GET"]
    form = "application/x-www-form-urlencoded"
    assert kinds == [form, "application/json", form]
    assert parse_qs(rest_api.sent[0].body.decode()) == {
        "country": ["US"],
        "msisdn": ["15550001111"],
        "app_id": [APPLICATION],
    }
    assert "api-secret" not in "".join(urlsplit(sent.path).query for sent in rest_api.sent)


def test_without_the_api_secret_nothing_is_asked(rest_api, credentials, wanted):
    rest = VonageRest(credentials | {"api_secret": ""}, rest_api.url)
    for action in (
        rest.check,
        rest.lines,
        rest.shared,
        lambda: rest.set_line(LINE, wanted.line),
        lambda: rest.set_shared(wanted.shared),
    ):
        assert told(refusal(action)) == "api-secret-missing"
    assert rest_api.sent == []


GARBAGE = [b"", b"<html>login</html>", b"[]", b"null", b"[" * 100_000, b"\xff\xfe", b'{"a": 1}', b'"x"', 5]
ACTIONS = {
    "check": lambda rest: rest.check(),
    "lines": lambda rest: rest.lines(),
    "one line": lambda rest: rest.lines(["+15550001111"]),
    "shared": lambda rest: rest.shared(),
    "set_line": lambda rest: rest.set_line(LINE, {"app_id": APPLICATION}),
    "set_shared": lambda rest: rest.set_shared({"answer_url": "https://v.example.com/in"}),
}


@pytest.mark.parametrize("body", GARBAGE)
@pytest.mark.parametrize("action", ACTIONS)
def test_garbage_is_never_taken_for_an_answer(rest_api, credentials, action, body):
    rest_api.answer(200, body)
    error = refusal(lambda: ACTIONS[action](VonageRest(credentials, rest_api.url)))
    # `set_shared` reads first.
    assert error.kind == ("unknown-outcome" if action == "set_line" else "unavailable")
    assert told(error) == "answer-unreadable"


@pytest.mark.parametrize(
    "page",
    [
        {"numbers": []},
        {"count": 1, "numbers": [None]},
        {"count": 1, "numbers": [{"msisdn": "15550001111"}]},
        {"count": 1, "numbers": {}},
        {"count": "1", "numbers": []},
        {"count": 300, "numbers": []},
        {"count": 5, "numbers": []},
        {"count": 3},
        {"count": 2, "numbers": [{"msisdn": "15550001111", "country": "US"}]},
    ],
)
def test_a_page_with_something_else_in_it_is_not_half_believed(rest_api, credentials, page):
    rest_api.answer(200, page)
    assert told(refusal(VonageRest(credentials, rest_api.url).lines)) == "answer-unreadable"


def paged(rest_api, credentials, *pages):
    """A listing whose pages are answered one after the other."""
    left = list(pages)
    return VonageRest(credentials, rest_api.url, pace=lambda: rest_api.answer(200, left.pop(0)))


def listed(*indices):
    return [{"msisdn": f"1555000{index:04}", "country": "US"} for index in indices]


def test_a_list_of_several_pages_is_believed_when_all_that_is_counted_was_seen(rest_api, credentials):
    whole = paged(
        rest_api,
        credentials,
        {"count": 102, "numbers": listed(*range(100))},
        {"count": 102, "numbers": [*listed(100), {"msisdn": "12345", "country": "US"}]},
    )
    assert len(whole.lines()) == 101  # a short code is counted too


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ({"count": 150, "numbers": listed(100)}, "one number"),
        ({"count": 150, "numbers": listed(*range(50, 100))}, "numbers of the page before"),
        ({"count": 149, "numbers": listed(*range(101, 150))}, "one was released while the list was read"),
    ],
)
def test_half_a_list_of_several_pages_is_not_believed(rest_api, credentials, second, why):
    first = {"count": 150, "numbers": listed(*range(100))}
    assert told(refusal(paged(rest_api, credentials, first, second).lines)) == "answer-unreadable"


def test_a_number_that_is_found_is_believed_and_only_a_whole_list_says_that_it_is_not_there(
    rest_api, credentials
):
    rest_api.answer(200, {"count": 2, "numbers": listed(1)})
    rest = VonageRest(credentials, rest_api.url)
    assert [line.e164 for line in rest.lines(["+15550000001"])] == ["+15550000001"]
    assert told(refusal(lambda: rest.lines(["+15550000002"]))) == "answer-unreadable"


def test_the_answer_of_another_application_is_not_believed(rest_api, credentials):
    rest_api.answer(200, {"id": OTHER, "name": "x"})
    assert told(refusal(VonageRest(credentials, rest_api.url).shared)) == "answer-unreadable"


@pytest.mark.parametrize("behaviour", ["hang", "drop"])
@pytest.mark.parametrize("action", ACTIONS)
def test_silence_is_told_and_nothing_is_sent_twice(rest_api, credentials, action, behaviour):
    rest_api.behaviour = behaviour
    error = refusal(lambda: ACTIONS[action](VonageRest(credentials, rest_api.url, timeout_s=0.3)))
    assert error.kind == ("unknown-outcome" if action == "set_line" else "unavailable")
    assert told(error) == "no-answer"
    assert rest_api.came(1) == 1


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, {"title": "Invalid credentials supplied"}, "credentials-refused"),
        (401, {"error-code": "401", "error-code-label": "authentication failed"}, "credentials-refused"),
        (401, b"", "credentials-refused"),
        (403, b"<html>blocked</html>", "answer-unreadable"),
        (404, b"<html>not found</html>", "answer-unreadable"),
        (302, b"", "answer-unreadable"),
        (429, {"title": "Rate limit"}, "rate-limited"),
        (500, {"title": "Internal Server Error"}, "provider-unavailable"),
        (502, b"<html>", "provider-unavailable"),
        (503, b"", "provider-unavailable"),
    ],
)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_status_leads_to_its_code(rest_api, credentials, action, status, body, code):
    rest_api.answer(status, body, Retry_After="7")
    error = refusal(lambda: ACTIONS[action](VonageRest(credentials, rest_api.url)))
    assert told(error) == code
    if code in ("rate-limited", "provider-unavailable"):
        assert error.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("inside", "kind", "code"),
    [
        ("401", "credentials", "credentials-refused"),
        ("429", "busy", "rate-limited"),
        ("", "unknown-outcome", "answer-unreadable"),
    ],
)
def test_a_refusal_inside_a_success_is_a_refusal(rest_api, credentials, inside, kind, code):
    rest_api.answer(200, {"error-code": inside, "error-code-label": "words"})
    error = refusal(lambda: ACTIONS["set_line"](VonageRest(credentials, rest_api.url)))
    assert (error.kind, told(error)) == (kind, code)


def test_the_pace_is_asked_before_every_request_that_leaves(rest_api, credentials):
    asked = []
    rest = VonageRest(credentials, rest_api.url, pace=lambda: asked.append(len(rest_api.sent)))
    rest_api.answer(200, {"id": APPLICATION, "error-code": "200"})
    rest.check()
    rest.set_shared({"answer_url": "https://v.example.com/in"})
    refusal(lambda: rest.set_line(LINE, {"app_id": APPLICATION}))
    assert asked == list(range(len(rest_api.sent)))
    assert len(asked) == 6


def test_no_refusal_quotes_a_secret(rest_api, credentials):
    secret = credentials | {"api_secret": "canary-1", "signature_secret": "canary-2"}
    key = secret["private_key"].splitlines()[1]
    rest_api.answer(401, {"title": "no"})
    for action in ACTIONS.values():
        error = refusal(lambda action=action: action(VonageRest(secret, rest_api.url)))
        words = f"{error!r} {error} {VonageLines().explain(error)}"
        assert "canary" not in words
        assert key not in words


def test_the_whole_application_goes_back(rest_api, credentials, wanted):
    whole = {
        "id": APPLICATION,
        **copy.deepcopy(RESOURCE),
        "keys": {"public_key": "PEM"},
        "_links": {},
        "new": [1],
    }
    rest_api.answer(200, whole)
    VonageRest(credentials, rest_api.url).set_shared({"signed_callbacks": "true"})
    body = json.loads(rest_api.sent[1].body)
    whole["capabilities"]["voice"]["signed_callbacks"] = True
    assert body == {name: value for name, value in whole.items() if name not in ("id", "_links")}


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
async def test_a_bad_day_of_vonage_is_told_and_the_next_look_finds_what_came_of_it(
    sim, application, credentials, wanted, fault, kind, code
):
    number = sim.vonage.add_number(None, "15550001111", api_key="abcd1234")
    (line,) = await in_thread(sim, credentials, lambda rest: rest.lines())
    # The application is read, then written.
    sim.rest_faults = [
        replace(fault, path="/number/update", times=1),
        replace(fault, path="/v2/applications/*", method="PUT", times=1),
        replace(fault, path="/account/numbers", times=1),
    ]
    found = []
    for action in (
        lambda rest: rest.lines(),
        lambda rest: rest.set_line(line, wanted.line),
        lambda rest: rest.set_shared(wanted.shared),
    ):
        with pytest.raises(RestError) as caught:
            await in_thread(sim, credentials, action, timeout_s=patience(fault))
        found.append((caught.value.kind, told(caught.value)))
    assert found == [("unavailable" if kind == LOST else kind, code), (kind, code), (kind, code)]
    assert (number.app_id == APPLICATION) == fault.works
    after = await in_thread(sim, credentials, lambda rest: rest.shared())
    assert (after == wanted.shared) == fault.works


async def test_a_number_without_voice_is_told(sim, application, credentials):
    sim.vonage.add_number(application, "15550001111").voice = False
    (line,) = await in_thread(sim, credentials, lambda rest: rest.lines())
    assert VonageLines().obstacle(line).code == "no-voice"
