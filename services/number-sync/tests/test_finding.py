"""A call whose dial was left without an answer is looked for at the provider, never dialled again, never mixed up."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from counting_provider import LOST, Answer, CountingProvider, counting_provider, twilio_call, twilio_error
from dialling import HASTY, Desk, make_worker, only_failure, until, working
from running_number_sync import TWILIO

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from carrier_sim.vonage.applications import new_private_key
from number_sync.database import Database
from number_sync.orders.finding import choose
from offhook.events import CallOriginated, CallStatus, InstructionsServed, StatusReported, new_event
from offhook.providers.base import Seen

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
VONAGE = {
    "application_id": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
    "api_key": "abcd1234",
    "api_secret": "canary-api-secret-1",
    "signature_secret": "canary-signature-secret-canary-1",
}
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


@pytest.fixture
async def desk(database: Database) -> Desk:
    return await Desk(database).open()


def held(number: int, **more: Any) -> dict[str, Any]:
    """A call as the provider lists it, placed just now between the numbers of `Desk.originate`."""
    moment = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    between = {"from": "+14155551234", "to": "+442079460000", "status": "ringing", "date_created": moment}
    return twilio_call(number).body | between | more


def sid(number: int) -> str:
    return f"CA{number:032x}"


def seen(call_id: str, began_at: datetime | None) -> Seen:
    return Seen(call_id, None, "+1", "+2", "outbound", "ringing", CallStatus.RINGING, began_at)


# --- which one it is ---------------------------------------------------------------------------------------------------


def test_the_only_call_that_can_be_nobody_elses_is_the_one() -> None:
    found = choose([seen("CA1", NOW)], [], 25)
    assert found.call is not None
    assert found.call.provider_call_id == "CA1"


def test_of_two_calls_the_one_that_is_too_old_for_the_other_run_is_taken() -> None:
    calls = [seen("CA2", NOW + timedelta(minutes=1)), seen("CA1", NOW)]
    found = choose(calls, [NOW + timedelta(minutes=1)], 25)
    assert found.call is not None
    assert found.call.provider_call_id == "CA1"


@pytest.mark.parametrize(
    ("calls", "rivals"),
    [
        ([], []),
        ([seen("CA1", NOW), seen("CA2", NOW)], []),
        ([seen("CA1", NOW)], [NOW]),
        ([seen("CA1", NOW + timedelta(seconds=60))], [NOW]),  # it may have waited in the provider's queue
        ([seen("CA1", NOW - timedelta(seconds=5))], [NOW]),  # the provider's clock may be off
        ([seen("CA1", None)], [NOW - timedelta(hours=1)]),
    ],
)
def test_what_may_be_somebody_elses_is_not_taken(calls: list[Seen], rivals: list[datetime]) -> None:
    assert choose(calls, rivals, 25).call is None


# --- at the provider ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("do", ["cut", "truncated"])
@on_sqlite
async def test_a_call_whose_acceptance_was_lost_is_found_and_told_as_if_nothing_had_happened(
    database: Database, carrier: CarrierSim, do: Any
) -> None:
    carrier.twilio.add_account(TWILIO["account_sid"], TWILIO["auth_token"]).add_number("+14155551234")
    carrier.rest_faults = [RestFault(do=do, method="POST", path="*/Calls.json", work=True, times=1)]
    desk = await Desk(database).open()
    worker = make_worker(database, carrier.base_url, replace(HASTY, outcome_grace_s=60))
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    originated, status = await desk.told("run1")
    assert isinstance(originated, CallOriginated)
    assert isinstance(status, StatusReported)
    assert status.reconciled
    assert status.provider_call_id == originated.provider_call_id
    dialled = [one for one in carrier.rest_log.requests() if (one.method, one.path[-5:]) == ("POST", ".json")]
    assert len(dialled) == 1


@on_sqlite
async def test_two_runs_between_the_same_numbers_never_get_each_others_call(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [LOST, LOST]
    provider.held = [held(1), held(2)]
    worker = make_worker(database, provider.url, replace(HASTY, outcome_grace_s=60))
    async with working(worker):
        await worker.record_commands([desk.originate("run1"), desk.originate("run2")])
        await until(lambda: _looked(provider, 2))
        assert await desk.told("run1") == await desk.told("run2") == []
        # A webhook names run1's call; the other one is then run2's.
        life = InstructionsServed(
            workflow_run_id="run1",
            provider="twilio",
            account=TWILIO["account_sid"],
            provider_call_id=sid(2),
            kind="connect",
            elapsed_ms=1,
        )
        await worker.observe_life(
            [new_event(life, source="/webhook-gateway", time=datetime.now(UTC), subject="run1")]
        )
        await desk.closed("run1", "run2")
    [one], (other, _) = await desk.told("run1"), await desk.told("run2")
    assert isinstance(one, CallOriginated)
    assert isinstance(other, CallOriginated)
    assert (one.provider_call_id, other.provider_call_id) == (sid(2), sid(1))
    assert len(provider.dials) == 2


@on_sqlite
async def test_what_cannot_be_told_apart_is_given_up_and_not_dialled_again(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [LOST, LOST]
    provider.held = [held(1)]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1"), desk.originate("run2")])
        await desk.closed("run1", "run2")
    for run in ("run1", "run2"):
        failure = only_failure(await desk.told(run))
        assert failure.code == "outcome-unknown"
        assert "any may be another run's" in failure.message
    assert len(provider.dials) == 2


@on_sqlite
async def test_a_call_that_was_dialled_for_another_run_is_not_taken(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [twilio_call(1), LOST]
    provider.held = [held(1)]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
        await worker.record_commands([desk.originate("run2")])
        await desk.closed("run2")
    failure = only_failure(await desk.told("run2"))
    assert failure.code == "outcome-unknown"
    assert "the provider has no such call" in failure.message


@on_sqlite
async def test_a_call_that_is_dialled_while_the_provider_is_asked_is_not_taken(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    dialling, listed = threading.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def dial_another() -> None:
        await worker.record_commands([desk.originate("run2")])

    def meanwhile() -> None:
        """Between the question for run1's call and its answer run2 is dialled; its answer is still on its way."""
        asyncio.run_coroutine_threadsafe(dial_another(), loop).result(10)
        assert dialling.wait(10)

    late = replace(twilio_call(2), before=lambda: (dialling.set(), listed.wait(10)))
    provider.to_dial = [LOST, late]
    provider.to_look = [Answer(200, {"calls": [held(2)], "next_page_uri": None}, before=meanwhile)]
    provider.held = [held(2)]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await until(lambda: _looked(provider, 1))
        await desk.closed("run1")
        listed.set()
        await desk.closed("run2")
    assert only_failure(await desk.told("run1")).code == "outcome-unknown"
    [originated] = await desk.told("run2")
    assert isinstance(originated, CallOriginated)
    assert originated.provider_call_id == sid(2)


@on_sqlite
async def test_nothing_is_decided_before_the_provider_has_said_what_it_has(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [LOST]
    provider.to_look = [twilio_error(429, 20429, "slow down"), Answer(503), LOST] * 2
    provider.held = [held(1)]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    assert isinstance((await desk.told("run1"))[0], CallOriginated)
    assert len(provider.dials) == 1


@on_sqlite
async def test_a_call_of_vonage_is_found_by_the_time_and_the_numbers_of_its_leg(
    database: Database, carrier: CarrierSim
) -> None:
    key = new_private_key()
    carrier.vonage.add_application(**VONAGE, private_key=key)
    carrier.vonage.add_number(VONAGE["application_id"], "+14155551234")
    carrier.rest_faults = [RestFault(do="cut", method="POST", path="/v1/calls", work=True, times=1)]
    desk = await Desk(database, provider="vonage").open(credentials=VONAGE | {"private_key": key})
    worker = make_worker(database, carrier.base_url, replace(HASTY, outcome_grace_s=60))
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    originated, status = await desk.told("run1")
    assert isinstance(originated, CallOriginated)
    assert originated.conversation_id
    assert isinstance(status, StatusReported)
    assert (status.provider_call_id, status.reconciled) == (originated.provider_call_id, True)


async def _looked(provider: CountingProvider, looks: int) -> bool:
    return len(provider.looks) >= looks
