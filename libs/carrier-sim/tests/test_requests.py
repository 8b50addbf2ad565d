"""Twilio's requests: what is signed and how often it is tried."""

import asyncio
import ssl

import pytest
import trustme
from aiohttp import web
from customer import Customer, Received, xml
from twilio.request_validator import RequestValidator

from carrier_sim import Caller, CarrierSim, HangUp, SimConfig, Wait
from carrier_sim.report import CallReport
from carrier_sim.twilio.accounts import Account
from carrier_sim.twilio.requests import overrides, requested_url, signature, signed_url

OURS, THEIRS = "+14155550100", "+14155550143"


@pytest.fixture
def account(sim: CarrierSim) -> Account:
    return sim.twilio.add_account("AC" + "4" * 32, "token")


async def call(sim: CarrierSim, account: Account, url: str, **urls: str) -> CallReport:
    account.add_number(OURS, voice_url=url, **urls)
    return await sim.twilio.call_in(THEIRS, OURS, Caller((Wait(0.1), HangUp())))


@pytest.mark.parametrize(
    ("configured", "wire", "signed"),
    [
        ("https://u:p@a.example:8443/x?y=1#rc=2", "https://a.example:8443/x?y=1", "https://a.example/x?y=1"),
        ("http://u:p@a.example:8080/x", "http://a.example:8080/x", "http://a.example:8080/x"),
        ("https://a.example/%7Ex?y=%2B1", "https://a.example/%7Ex?y=%2B1", "https://a.example/%7Ex?y=%2B1"),
    ],
)
def test_user_and_fragment_never_leave_and_the_port_is_signed_over_http_only(
    configured: str, wire: str, signed: str
) -> None:
    assert requested_url(configured) == wire
    assert signed_url(configured) == signed


def test_the_vendors_published_example_has_the_vendors_signature() -> None:
    # https://www.twilio.com/docs/usage/security
    fields = {
        "CallSid": "CA1234567890ABCDE", "Caller": "+14158675310", "Digits": "1234", "From": "+14158675310",
        "To": "+18005551212",
    }  # fmt: skip
    assert (
        signature("12345", "https://example.com/myapp.php?foo=1&bar=2", fields)
        == "L/OH5YylLD5NRKLltdqwSvS0BnU="
    )


def test_overrides_are_read_from_the_fragment() -> None:
    read = overrides("https://a.example/x#ct=2000&rt=3000&rc=2&rp=4xx,5xx,rt")
    assert (read.connect_ms, read.read_ms, read.retries) == (2000, 3000, 2)
    assert read.policy == {"4xx", "5xx", "rt"}
    assert read.invalid is None
    assert overrides("https://a.example/x#rc=9&rp=never").invalid is not None
    assert overrides("https://a.example/x#section") == overrides("https://a.example/x")


async def test_errors_are_not_retried_unless_the_url_says_so(
    sim: CarrierSim, customer: Customer, account: Account
) -> None:
    customer.answers["/voice"] = lambda _: web.Response(status=503)
    report = await call(sim, account, customer.url("/voice"))
    assert len(customer.received) == 1
    assert [(c.attempt, c.status_code) for c in report.callbacks] == [(1, 503)]
    assert report.said == ["We are sorry. An application error has occurred. Goodbye."]
    customer.received.clear()
    account.numbers.clear()
    await call(sim, account, customer.url("/voice#rc=2&rp=5xx"))
    assert len(customer.received) == 3
    assert len({r.headers["i-twilio-idempotency-token"] for r in customer.received}) == 1


async def test_a_slow_answer_is_a_failure_and_a_refused_connection_is_tried_twice(
    sim: CarrierSim, customer: Customer, account: Account
) -> None:
    async def slow(_: Received) -> web.Response:
        await asyncio.sleep(2)
        return xml("<Response/>")

    customer.answers["/voice"] = slow
    report = await call(sim, account, customer.url("/voice#rt=200"))
    assert [v.code for v in report.violations] == ["11200"]
    account.numbers.clear()
    report = await call(sim, account, "https://127.0.0.1:9/voice")
    assert [v.code for v in report.violations] == ["11205"]
    assert [c.attempt for c in report.callbacks] == [1, 2]


async def test_a_patient_carrier_waits_so_many_times_longer(account: Account) -> None:
    async def slow(_: Received) -> web.Response:
        await asyncio.sleep(0.5)
        return xml("<Response><Hangup/></Response>")

    async with CarrierSim(SimConfig(patience=300)) as patient, Customer(patient) as customer:
        customer.answers["/voice"] = slow
        other = patient.twilio.add_account(account.sid, "token")
        report = await call(patient, other, customer.url("/voice#rt=100&tt=100"))
    assert report.violations == []


async def test_a_certificate_nobody_vouches_for_is_refused(sim: CarrierSim, account: Account) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        report = await call(sim, account, f"https://127.0.0.1:{port}/voice")
    assert [v.code for v in report.violations] == ["11237"]


async def test_plain_http_is_refused_unless_it_is_allowed(sim: CarrierSim, account: Account) -> None:
    async with Customer(sim, tls=False) as plain:
        plain.answers["/voice"] = lambda _: xml("<Response><Hangup/></Response>")
        report = await call(sim, account, plain.url("/voice"))
        assert [v.code for v in report.violations] == ["sim-tls-required"]
        async with CarrierSim(SimConfig(allow_plain=True)) as lenient:
            other = lenient.twilio.add_account(account.sid, "token")
            report = await call(lenient, other, plain.url("/voice"))
            assert report.violations == []
        (request,) = plain.received
        assert RequestValidator("token").validate(
            request.url, request.fields, request.headers["x-twilio-signature"]
        )


async def test_a_public_name_can_be_served_from_this_machine() -> None:
    addresses: dict[str, str] = {}
    async with (
        CarrierSim(SimConfig(resolve=addresses)) as sim,
        Customer(sim, hosts=("voice.example.com",)) as customer,
    ):
        addresses["voice.example.com"] = f"127.0.0.1:{customer.port}"
        customer.answers["/voice"] = lambda _: xml("<Response><Hangup/></Response>")
        account = sim.twilio.add_account("AC" + "5" * 32, "token")
        report = await call(sim, account, "https://voice.example.com/voice")
        assert report.violations == []
        assert customer.received[0].headers["host"] == "voice.example.com"


async def test_a_request_with_credentials_is_repeated_after_401(
    sim: CarrierSim, customer: Customer, account: Account
) -> None:
    def guarded(request: Received) -> web.Response:
        if request.headers.get("authorization") != "Basic dTpw":
            return web.Response(status=401, headers={"WWW-Authenticate": "Basic"})
        return xml("<Response><Hangup/></Response>")

    customer.answers["/voice"] = guarded
    report = await call(sim, account, customer.url("/voice").replace("https://", "https://u:p@"))
    assert report.violations == []
    assert len(customer.at("/voice")) == 2


async def test_redirects_are_followed_but_not_for_ever(
    sim: CarrierSim, customer: Customer, account: Account
) -> None:
    customer.answers["/voice"] = lambda _: web.Response(status=307, headers={"Location": "/there"})
    customer.answers["/there"] = lambda _: xml("<Response><Hangup/></Response>")
    report = await call(sim, account, customer.url("/voice"))
    assert report.violations == []
    (there,) = customer.at("/there")
    assert RequestValidator("token").validate(there.url, there.fields, there.headers["x-twilio-signature"])
    customer.answers["/there"] = customer.answers["/voice"]
    account.numbers.clear()
    report = await call(sim, account, customer.url("/voice"))
    assert [v.code for v in report.violations] == ["11215"]
