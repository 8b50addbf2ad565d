"""The whole way through the vendors' SDKs: the reconciler against the simulated carriers, on their good and bad days."""

import asyncio
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from running_number_sync import PUBLIC_URL, TWILIO
from syncing import HASTY, PATIENT, SID, VONAGE_APP, Board, running, vonage

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from number_sync.database import Database
from number_sync.sync.reconciler import Reconciler
from number_sync.sync.requests import RequestSettings
from offhook.providers import registry

ONE, TWO = "+14155551234", "+14155551235"

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def board(database: Database) -> Board:
    return await Board(database).open()


def reconciler(
    board: Board, carrier: CarrierSim, *, rate_per_s: float = 1000, requests: RequestSettings = PATIENT
) -> Reconciler:
    return board.reconciler(
        HASTY, rest_of=registry.rest, url=carrier.base_url, rate_per_s=rate_per_s, requests=requests
    )


async def test_a_twilio_number_is_set_up_repaired_and_set_back(board: Board, carrier: CarrierSim) -> None:
    account = carrier.twilio.add_account(SID, TWILIO["auth_token"])
    held = account.add_number(ONE, voice_url="https://them.example/old", voice_method="GET")
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle(reconciler(board, carrier))
    assert (await board.state(number)).state == "synced"
    assert held.voice_url.startswith(f"{PUBLIC_URL}/api/v1/telephony/inbound/run#")
    assert held.status_callback.startswith(f"{PUBLIC_URL}/api/v1/telephony/status-callback/inbound")
    held.change(voice_url="https://them.example/new")
    await board.check()
    await board.settle(reconciler(board, carrier))
    row = await board.state(number)
    assert (row.state, row.last_drift["repaired"]) == ("synced", True)
    assert held.voice_url.startswith(PUBLIC_URL)
    await board.numbers.delete("ada", main, number)
    await board.settle(reconciler(board, carrier))
    assert (held.voice_url, held.voice_method) == ("https://them.example/old", "GET")
    assert (held.voice_fallback_url, held.status_callback) == ("", "")


async def test_a_vonage_number_and_its_application_are_set_up_and_set_back(
    board: Board, carrier: CarrierSim
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    credentials = vonage(pem)
    application = carrier.vonage.add_application(
        VONAGE_APP,
        api_key=credentials["api_key"],
        api_secret=credentials["api_secret"],
        private_key=pem,
        signature_secret=credentials["signature_secret"],
    )
    held = carrier.vonage.add_number(None, ONE, api_key=credentials["api_key"])
    main = await board.configure(provider="vonage", credentials=credentials)
    before = dict(application.resource)
    number = await board.add(main, ONE)
    await board.settle(reconciler(board, carrier))
    row = await board.state(number)
    assert (row.state, row.sentence) == ("synced", None)
    assert held.app_id == VONAGE_APP
    assert application.voice["webhooks"]["answer_url"]["address"].startswith(PUBLIC_URL)
    assert application.resource["name"] == before["name"]
    await board.configurations.delete("ada", main, numbers_are="detach")
    await board.settle(reconciler(board, carrier))
    assert [row.state for row in await board.detachments()] == ["done"]
    assert not held.app_id
    answer = application.voice.get("webhooks", {}).get("answer_url", {}).get("address", "")
    assert not answer.startswith(PUBLIC_URL)


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        (RestFault(status=401), "failed", "credentials-refused"),
        (RestFault(status=404, method="POST"), "failed", "number-not-owned"),
        (RestFault(status=429, retry_after=1), "failed", "rate-limited"),
        (RestFault(status=500), "failed", "provider-unavailable"),
        (RestFault(do="html"), "failed", "answer-unreadable"),
        (RestFault(do="wrong-shape"), "failed", "answer-unreadable"),
        (RestFault(do="silence"), "failed", "no-answer"),
        (RestFault(do="cut"), "failed", "no-answer"),
    ],
    ids=lambda value: (value.status or value.do) if isinstance(value, RestFault) else "",
)
async def test_every_bad_day_has_its_state_and_sentence_and_is_over_afterwards(
    board: Board, carrier: CarrierSim, fault: RestFault, state: str, reason: str
) -> None:
    carrier.twilio.add_account(SID, TWILIO["auth_token"]).add_number(ONE)
    carrier.rest_faults = [fault]
    number = await board.add(await board.configure(), ONE)
    # Only who is silent is not waited for: a slow machine is no provider that does not answer.
    hasty = RequestSettings(concurrency=4, timeout_s=0.3, deadline_s=5)
    requests = hasty if fault.do == "silence" else PATIENT
    async with running(reconciler(board, carrier, requests=requests)):
        async with asyncio.timeout(60):
            while (await board.state(number)).state != state:
                await asyncio.sleep(0.02)
        row = await board.state(number)
        assert (row.state, row.reason) == (state, reason)
        assert row.sentence
        assert row.remedy
    carrier.rest_faults = []
    async with running(reconciler(board, carrier)) as working, asyncio.timeout(60):
        await working.check_now(number)
        while (await board.state(number)).state != "synced":
            await asyncio.sleep(0.02)


async def test_many_numbers_of_a_limited_account_converge_without_a_storm(
    board: Board, carrier: CarrierSim
) -> None:
    account = carrier.twilio.add_account(SID, TWILIO["auth_token"])
    carrier.limit_requests(SID, 25)
    main = await board.configure()
    for index in range(60):
        account.add_number(f"+1415555{7000 + index}")
        await board.add(main, f"+1415555{7000 + index}")
    async with running(reconciler(board, carrier, rate_per_s=20)), asyncio.timeout(60):
        while set(await board.states()) != {"synced"}:
            await asyncio.sleep(0.05)
    assert carrier.rest_log.refused(SID) <= 2
    assert all(number.voice_url.startswith(PUBLIC_URL) for number in account.numbers.values())


async def test_a_pace_above_the_accounts_limit_finds_its_way(board: Board, carrier: CarrierSim) -> None:
    account = carrier.twilio.add_account(SID, TWILIO["auth_token"])
    carrier.limit_requests(SID, 10)
    main = await board.configure()
    for index in range(30):
        account.add_number(f"+1415555{8000 + index}")
        await board.add(main, f"+1415555{8000 + index}")
    settings = replace(HASTY, retry_s=0.2)
    one_by_one = RequestSettings(concurrency=1, timeout_s=5, deadline_s=5)
    working = board.reconciler(
        settings, rest_of=registry.rest, url=carrier.base_url, rate_per_s=50, requests=one_by_one
    )
    async with running(working), asyncio.timeout(60):
        while set(await board.states()) != {"synced"}:
            await asyncio.sleep(0.05)
    assert carrier.rest_log.refused(SID) <= 8
