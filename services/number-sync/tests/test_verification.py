"""What is said of credentials after they were tried, at the carrier simulator through the vendors' own SDKs."""

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from running_number_sync import KEYRING, OTHER_TWILIO, TWILIO, RunService, at
from sqlalchemy import update

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from carrier_sim.vonage.applications import new_private_key
from number_sync.configurations import Configurations
from number_sync.credentials import seal
from number_sync.database import Database
from number_sync.inquiries import Inquiries
from number_sync.rechecks import Rechecks
from number_sync.rotation import rotate
from number_sync.schema import configurations
from number_sync.verification import Verification, Verifier
from offhook.providers import registry
from offhook.providers.base import Rest, RestFactory
from offhook.records import ConfigurationRecord
from offhook.security.keyring import Keyring, new_key
from offhook.topics import CONFIGURATIONS

C = "/telephony-configurations"
OTHER_TOKEN = "canary9twilio9token9canary987654"
VONAGE = {
    "application_id": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    "api_key": "abcd1234",
    "api_secret": "canary-api-secret-1",
    "signature_secret": "canary-signature-secret-canary-1",
}

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def account(carrier: CarrierSim, name: str = "Acme Inc.", token: str = TWILIO["auth_token"]) -> Any:
    made = carrier.twilio.add_account(TWILIO["account_sid"], token)
    made.friendly_name = name
    return made


def body(**more: Any) -> dict[str, Any]:
    return {"name": "Main", "provider": "twilio", "credentials": TWILIO, **more}


# --- over the API ------------------------------------------------------------------------------------------------------


async def test_right_credentials_are_verified_when_they_are_saved(
    run_service: RunService, carrier: CarrierSim
) -> None:
    account(carrier)
    async with run_service(**at(carrier)) as service:
        made = (await service.api.post(C, json=body())).json()
        assert (made["verification"]["state"], made["verification"]["code"]) == ("verified", None)
        assert "Acme Inc." in made["verification"]["sentence"]
        assert made["verification"]["at"] is not None
        one = f"{C}/{made['configuration_id']}"
        assert (await service.api.get(one)).json() == made
        tested = (await service.api.post(f"{one}/test")).json()
        assert (tested["state"], tested["account_name"]) == ("verified", "Acme Inc.")


@on_sqlite
async def test_wrong_credentials_are_saved_and_told_with_the_remedy_until_they_are_right(
    run_service: RunService, carrier: CarrierSim
) -> None:
    account(carrier)
    async with run_service(**at(carrier)) as service:
        wrong = await service.api.post(C, json=body(credentials={**TWILIO, "auth_token": OTHER_TOKEN}))
        assert wrong.status_code == 201
        verification = wrong.json()["verification"]
        assert (verification["state"], verification["code"]) == ("refused", "credentials-refused")
        assert "Auth Token" in verification["sentence"]
        assert OTHER_TOKEN not in wrong.text
        one = f"{C}/{wrong.json()['configuration_id']}"
        # What has nothing to do with credentials asks the provider nothing.
        asked = len(carrier.rest_log.requests())
        renamed = (await service.api.patch(one, json={"name": "New"})).json()
        assert renamed["verification"] == verification
        assert len(carrier.rest_log.requests()) == asked
        [known] = (await service.newest(CONFIGURATIONS)).values()
        assert isinstance(known, ConfigurationRecord)
        assert known.verification == "refused"
        right = (await service.api.patch(one, json={"credentials": TWILIO})).json()
        assert right["verification"]["state"] == "verified"
        [known] = (await service.newest(CONFIGURATIONS)).values()
        assert isinstance(known, ConfigurationRecord)
        assert known.verification == "verified"


@on_sqlite
async def test_a_suspended_account_is_told_as_such(run_service: RunService, carrier: CarrierSim) -> None:
    account(carrier).status = "suspended"
    async with run_service(**at(carrier)) as service:
        made = (await service.api.post(C, json=body())).json()
        assert (made["verification"]["state"], made["verification"]["code"]) == (
            "refused",
            "account-suspended",
        )


@on_sqlite
async def test_a_private_key_of_another_vonage_application_is_told_as_such(
    run_service: RunService, carrier: CarrierSim
) -> None:
    key = new_private_key()
    carrier.vonage.add_application(
        VONAGE["application_id"],
        api_key=VONAGE["api_key"],
        api_secret=VONAGE["api_secret"],
        private_key=key,
        signature_secret=VONAGE["signature_secret"],
    )
    async with run_service(**at(carrier)) as service:
        wrong = {**VONAGE, "private_key": new_private_key()}
        made = await service.api.post(C, json={"name": "V", "provider": "vonage", "credentials": wrong})
        assert made.status_code == 201, made.text
        assert made.json()["verification"]["code"] == "key-not-the-applications"
        one = f"{C}/{made.json()['configuration_id']}"
        right = await service.api.patch(one, json={"credentials": {"private_key": key}})
        assert right.json()["verification"]["state"] == "verified"


@on_sqlite
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (RestFault(status=500), "provider-unavailable"),
        (RestFault(status=429, retry_after=7), "rate-limited"),
        (RestFault(do="html"), "answer-unreadable"),
        (RestFault(do="wrong-shape"), "answer-unreadable"),
        (RestFault(do="cut"), "no-answer"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.do,
)
async def test_a_provider_that_cannot_say_leaves_saved_credentials_not_verified(
    run_service: RunService, carrier: CarrierSim, fault: RestFault, code: str
) -> None:
    account(carrier)
    carrier.rest_faults = [fault]
    async with run_service(**at(carrier)) as service:
        made = await service.api.post(C, json=body())
        assert made.status_code == 201
        assert (made.json()["verification"]["state"], made.json()["verification"]["code"]) == (
            "not-verified",
            code,
        )


@on_sqlite
async def test_a_provider_that_cannot_be_reached_leaves_saved_credentials_not_verified(
    run_service: RunService,
) -> None:
    async with run_service() as service:
        made = await service.api.post(C, json=body())
        assert made.status_code == 201
        assert (made.json()["verification"]["state"], made.json()["verification"]["code"]) == (
            "not-verified",
            "no-answer",
        )


@on_sqlite
async def test_what_a_comparison_of_numbers_finds_out_is_checked_and_kept(
    run_service: RunService, carrier: CarrierSim
) -> None:
    owner = account(carrier)
    async with run_service(**at(carrier)) as service:
        made = (await service.api.post(C, json=body())).json()
        assert made["verification"]["state"] == "verified"
        one = f"{C}/{made['configuration_id']}"
        workflow = {"name": "Desk", "agent_url": "wss://agent.example.com/call"}
        workflow_id = (await service.api.post("/workflows", json=workflow)).json()["workflow_id"]
        owner.status = "suspended"
        number = {"number": "+14155551234", "workflow_id": workflow_id}
        number_id = (await service.api.post(f"{one}/phone-numbers", json=number)).json()["number_id"]
        async with asyncio.timeout(30):
            while (await service.api.get(one)).json()["verification"]["state"] != "refused":
                await asyncio.sleep(0.01)
        [known] = (await service.newest(CONFIGURATIONS)).values()
        assert isinstance(known, ConfigurationRecord)
        assert known.verification == "refused"
        owner.status = "active"
        await service.api.post(f"{one}/phone-numbers/{number_id}/check")
        async with asyncio.timeout(30):
            while (await service.api.get(one)).json()["verification"]["state"] != "verified":
                await asyncio.sleep(0.01)


@on_sqlite
async def test_numbers_are_not_let_go_for_an_account_whose_credentials_are_not_accepted(
    run_service: RunService, carrier: CarrierSim
) -> None:
    account(carrier)
    async with run_service(**at(carrier)) as service:
        one = f"{C}/{(await service.api.post(C, json=body())).json()['configuration_id']}"
        await service.api.post(f"{one}/phone-numbers", json={"number": "+14155551234"})
        before = (await service.api.get(one)).json()
        typo = {"credentials": {"account_sid": OTHER_TWILIO["account_sid"]}, "name": "New"}
        refused = await service.api.patch(one, json=typo)
        assert refused.status_code == 422
        assert "1 phone number is set up" in refused.json()["detail"]
        assert "Auth Token" in refused.json()["detail"]
        # Nor while nobody can say.
        carrier.rest_faults = [RestFault(status=503)]
        assert (await service.api.patch(one, json={"credentials": OTHER_TWILIO})).status_code == 422
        assert (await service.api.get(one)).json()["account"] == before["account"]
        assert (await service.api.get(one)).json()["updated_at"] == before["updated_at"]
        # Other credentials of the same account are saved all the same.
        token = await service.api.patch(one, json={"credentials": {"auth_token": OTHER_TOKEN}})
        assert token.json()["verification"]["state"] == "not-verified"
        carrier.rest_faults = []
        carrier.twilio.add_account(OTHER_TWILIO["account_sid"], OTHER_TWILIO["auth_token"])
        moved = await service.api.patch(one, json={"credentials": OTHER_TWILIO})
        assert moved.json()["account"] == OTHER_TWILIO["account_sid"]
        assert moved.json()["verification"]["state"] == "verified"


@on_sqlite
async def test_an_account_without_numbers_is_changed_whatever_the_provider_says(
    run_service: RunService,
) -> None:
    async with run_service() as service:
        one = f"{C}/{(await service.api.post(C, json=body())).json()['configuration_id']}"
        moved = await service.api.patch(one, json={"credentials": OTHER_TWILIO})
        assert moved.json()["account"] == OTHER_TWILIO["account_sid"]
        assert moved.json()["verification"]["state"] == "not-verified"


# --- one attempt after the other ---------------------------------------------------------------------------------------


class Held:
    """The providers' real REST clients. The first one is held up until `release` is set."""

    def __init__(self) -> None:
        self.held = threading.Event()
        self.release = threading.Event()
        self.crashing: str | None = None

    def __call__(self, provider: str) -> RestFactory:
        def make(credentials: Mapping[str, str], *arguments: Any, **options: Any) -> Rest:
            if not self.held.is_set():
                self.held.set()
                self.release.wait(20)
            if credentials["account_sid"] == self.crashing:
                raise KeyError("a bug")
            return registry.rest(provider)(credentials, *arguments, **options)

        return make


class Bench:
    """A configuration, and somebody who tries its credentials at the carrier."""

    def __init__(self, database: Database, carrier: CarrierSim, *, deadline_s: float = 8.0) -> None:
        self.database = database
        self.keyring = Keyring.parse(KEYRING)
        self.now = 1000.0
        self.rest_of = Held()
        self.configurations = Configurations(
            database, self.keyring, registry.PROVIDERS, clock=lambda: self.now
        )
        self.verifier = Verifier(
            database,
            self.keyring,
            registry.PROVIDERS,
            Inquiries(rest_of=self.rest_of, api_url=lambda provider: carrier.base_url),
            clock=lambda: self.now,
            deadline_s=deadline_s,
        )
        self.id = ""

    async def save(self) -> None:
        self.id = (await self.configurations.create("ada", **body())).id

    async def change(self, token: str) -> None:
        await self.configurations.update("ada", self.id, {"credentials": {"auth_token": token}})

    async def stored(self) -> Verification:
        return self.verifier.of(await self.configurations.get("ada", self.id))

    async def begin(self) -> "asyncio.Task[Verification]":
        """A test that is under way at the provider until `rest_of.release` is set."""
        test = asyncio.create_task(self.verifier.test("ada", self.id))
        await asyncio.to_thread(self.rest_of.held.wait, 20)
        return test


async def test_a_test_that_began_earlier_does_not_replace_the_answer_of_a_later_one(
    database: Database, carrier: CarrierSim
) -> None:
    owner = account(carrier)
    bench = Bench(database, carrier)
    await bench.save()
    early = await bench.begin()
    bench.now += 1
    assert (await bench.verifier.test("ada", bench.id)).state == "verified"
    owner.status = "suspended"
    bench.rest_of.release.set()
    assert (await early).state == "verified"
    assert (await bench.stored()).state == "verified"
    assert (await bench.stored()).at == 1_001_000


async def test_what_is_said_of_credentials_that_were_changed_meanwhile_is_dropped(
    database: Database, carrier: CarrierSim
) -> None:
    account(carrier)
    bench = Bench(database, carrier)
    await bench.save()
    of_the_old = await bench.begin()
    await bench.change(OTHER_TOKEN)
    bench.rest_of.release.set()
    assert (await of_the_old).state == "not-verified"
    assert (await bench.stored()) == Verification("not-verified")


async def test_a_rotation_of_the_key_ring_meanwhile_does_not_drop_the_answer(
    database: Database, carrier: CarrierSim
) -> None:
    account(carrier)
    bench = Bench(database, carrier)
    await bench.save()
    test = await bench.begin()
    newer = Keyring.parse(f"{new_key('k2')},{KEYRING}")
    assert (await rotate(database, newer)).sealed == 1
    bench.verifier._keyring = newer  # as every process has both keys before a rotation
    bench.rest_of.release.set()
    assert (await test).state == "verified"
    bench.configurations._keyring = newer
    assert (await bench.stored()).state == "verified"


@on_sqlite
async def test_a_provider_that_never_answers_is_not_waited_for(
    database: Database, carrier: CarrierSim
) -> None:
    account(carrier)
    carrier.rest_faults = [RestFault(do="silence")]
    bench = Bench(database, carrier, deadline_s=0.2)
    bench.rest_of.held.set()
    await bench.save()
    result = await bench.verifier.test("ada", bench.id)
    assert (result.state, result.code) == ("not-verified", "no-answer")
    assert await bench.stored() == result


async def test_changed_credentials_are_not_verified_until_they_were_tried(
    database: Database, carrier: CarrierSim
) -> None:
    account(carrier)
    bench = Bench(database, carrier)
    bench.rest_of.held.set()
    await bench.save()
    await bench.verifier.test("ada", bench.id)
    await bench.change(TWILIO["auth_token"])
    assert (await bench.stored()).state == "verified"
    await bench.change(OTHER_TOKEN)
    assert (await bench.stored()).state == "not-verified"


async def test_an_attempt_that_finds_nothing_out_replaces_no_answer(
    database: Database, carrier: CarrierSim
) -> None:
    owner = account(carrier)
    bench = Bench(database, carrier)
    bench.rest_of.held.set()
    await bench.save()
    for status, state in (("active", "verified"), ("suspended", "refused")):
        owner.status = status
        assert (await bench.verifier.test("ada", bench.id)).state == state
        known = await bench.stored()
        bench.now += 1
        carrier.rest_faults = [RestFault(status=503)]
        assert (await bench.verifier.test("ada", bench.id)).code == "provider-unavailable"
        assert await bench.stored() == known
        carrier.rest_faults = []


# --- again -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trouble", "after_s"), [("away", 180), ("suspended", 180), ("refused", 3600)])
async def test_what_is_not_verified_is_tried_again_in_its_time(
    database: Database, carrier: CarrierSim, trouble: str, after_s: int
) -> None:
    owner = account(carrier, token=OTHER_TOKEN if trouble == "refused" else TWILIO["auth_token"])
    if trouble == "away":
        carrier.rest_faults = [RestFault(status=503)]
    if trouble == "suspended":
        owner.status = "suspended"
    bench = Bench(database, carrier)
    bench.rest_of.held.set()
    rechecks = Rechecks(database, bench.verifier, interval_s=180, clock=lambda: bench.now)
    await bench.save()
    # Not while the first attempt may be under way.
    await rechecks.recheck()
    assert (await bench.stored()).at is None
    first = await bench.verifier.test("ada", bench.id)
    assert first.state != "verified"
    carrier.rest_faults = []
    owner.status = "active"
    owner.auth_token = TWILIO["auth_token"]
    bench.now += after_s - 1
    await rechecks.recheck()
    assert await bench.stored() == first
    bench.now += 1
    await rechecks.recheck()
    assert (await bench.stored()).state == "verified"
    asked = len(carrier.rest_log.requests())
    bench.now += 1_000_000
    await rechecks.recheck()
    assert len(carrier.rest_log.requests()) == asked


@on_sqlite
async def test_what_is_doubted_is_tried_at_once_and_one_that_cannot_be_tried_keeps_no_other_from_it(
    database: Database, carrier: CarrierSim
) -> None:
    owner = account(carrier)
    bench = Bench(database, carrier)
    bench.rest_of.held.set()
    await bench.save()
    good = bench.id
    await bench.verifier.test("ada", good)
    crashing = {**TWILIO, "account_sid": "AC" + "0c" * 16}
    await bench.configurations.create("bob", **body(credentials=crashing))
    bench.now += 180
    owner.status = "suspended"
    rechecks = Rechecks(database, bench.verifier, interval_s=180, clock=lambda: bench.now)
    bench.rest_of.crashing = crashing["account_sid"]
    rechecks.doubt(good)
    rechecks.doubt("gone")
    await rechecks.recheck()
    assert (await bench.stored()).code == "account-suspended"


@on_sqlite
async def test_credentials_that_are_refused_in_spite_of_a_doubt_are_left_alone_for_an_hour(
    database: Database, carrier: CarrierSim
) -> None:
    owner = account(carrier, token=OTHER_TOKEN)
    bench = Bench(database, carrier)
    bench.rest_of.held.set()
    await bench.save()
    assert (await bench.verifier.test("ada", bench.id)).state == "refused"
    rechecks = Rechecks(database, bench.verifier, interval_s=180, clock=lambda: bench.now)

    async def tries_when_doubted() -> int:
        asked = len(carrier.rest_log.requests())
        bench.now += 180
        rechecks.doubt(bench.id)
        await rechecks.recheck()
        return len(carrier.rest_log.requests()) - asked

    assert await tries_when_doubted() == 1
    assert await tries_when_doubted() == 0
    # Somebody has asked meanwhile: that refusal is another one.
    await bench.verifier.test("ada", bench.id)
    assert await tries_when_doubted() == 1
    bench.now += 3600
    owner.auth_token = TWILIO["auth_token"]
    assert await tries_when_doubted() == 1
    assert (await bench.stored()).state == "verified"


@on_sqlite
async def test_an_attempt_that_finds_nothing_out_is_repeated_in_its_time_only(
    database: Database, carrier: CarrierSim
) -> None:
    account(carrier, token=OTHER_TOKEN)
    bench = Bench(database, carrier)
    bench.rest_of.held.set()
    await bench.save()
    await bench.verifier.test("ada", bench.id)
    rechecks = Rechecks(database, bench.verifier, interval_s=180, clock=lambda: bench.now)
    carrier.rest_faults = [RestFault(status=503)]
    asked = len(carrier.rest_log.requests())
    bench.now += 3600
    for after_s, tries in ((0, 1), (45, 1), (90, 1), (45, 2)):
        bench.now += after_s
        await rechecks.recheck()
        assert len(carrier.rest_log.requests()) - asked == tries


@on_sqlite
async def test_a_doubt_outlives_a_database_that_is_away_and_goes_before_what_has_waited_long(
    database: Database, carrier: CarrierSim, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = account(carrier)
    bench = Bench(database, carrier)
    bench.rest_of.held.set()
    await bench.save()
    await bench.verifier.test("ada", bench.id)
    owner.status = "suspended"
    for index in range(12):
        await bench.configurations.create("bob", **body(name=f"C{index}", credentials=OTHER_TWILIO))
    bench.now += 180
    tried: list[str] = []
    test = bench.verifier.test

    async def noted(user_id: str, configuration_id: str) -> Verification:
        tried.append(configuration_id)
        return await test(user_id, configuration_id)

    monkeypatch.setattr(bench.verifier, "test", noted)
    rechecks = Rechecks(database, bench.verifier, interval_s=180, clock=lambda: bench.now)
    rechecks.doubt(bench.id)
    with monkeypatch.context() as away:

        def read() -> None:
            raise ConnectionRefusedError("the database restarts")

        away.setattr(database, "read", read)
        with pytest.raises(ConnectionRefusedError):
            await rechecks.recheck()
    await rechecks.recheck()
    assert (tried[0], len(tried)) == (bench.id, 10)
    await rechecks.recheck()
    assert len(set(tried)) == len(tried) == 13


@on_sqlite
async def test_stored_credentials_that_cannot_be_sent_are_refused_in_words(
    database: Database, carrier: CarrierSim
) -> None:
    bench = Bench(database, carrier)
    bench.rest_of.held.set()
    await bench.save()
    stored = seal(bench.keyring, {**TWILIO, "auth_token": "canary\u200btoken"}, context=bench.id)
    async with database.write() as connection:
        await connection.execute(update(configurations).values(sealed_credentials=stored))
    found = await bench.verifier.test("ada", bench.id)
    assert (found.state, found.code) == ("refused", "credentials-refused")
    assert "Enter them again" in str(found.sentence)
    assert await bench.stored() == found
