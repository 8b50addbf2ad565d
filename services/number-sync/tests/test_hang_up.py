"""Ending calls: in their turn, until it is done, and not believed before the provider says so."""

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from counting_provider import (
    LOST,
    Answer,
    CountingProvider,
    counting_provider,
    twilio_call,
    twilio_error,
    vonage_call,
)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from dialling import HASTY, Desk, make_worker, only_failure, until, working
from running_number_sync import TWILIO

from number_sync import outbox
from number_sync.database import Database
from number_sync.orders import dials
from offhook.events import (
    CallObserved,
    CallOriginated,
    CallStatus,
    Event,
    HangUpNotice,
    StatusReported,
    decode,
    new_event,
)
from offhook.topics import CALL_NOTICES

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


@pytest.fixture
async def desk(database: Database) -> Desk:
    return await Desk(database).open()


async def _count(provider: CountingProvider, dials: int) -> bool:
    return len(provider.dials) >= dials


def going_on(call_id: str) -> Answer:
    return Answer(200, {"sid": call_id, "status": "in-progress", "direction": "outbound-api"})


async def test_a_call_is_ended_in_its_turn_with_the_id_from_the_ledger(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    asked = threading.Event()
    release = threading.Event()

    def hold() -> None:
        asked.set()
        release.wait(20)

    provider.to_dial = [replace(twilio_call(5), before=hold)]
    worker = make_worker(database, provider.url, replace(HASTY, timeout_s=20, deadline_s=20))
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await asyncio.to_thread(asked.wait, 20)
        await worker.record_commands([desk.hang_up("run1")])
        await asyncio.sleep(0.2)
        assert provider.hang_ups == []
        release.set()
        await desk.closed("run1")
    assert provider.hang_ups == [f"CA{5:032x}"]
    assert isinstance((await desk.told("run1"))[0], CallOriginated)


async def test_a_call_that_has_ended_is_hung_up_successfully(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_hang_up = [
        twilio_error(404, 20404, "not found"),
        twilio_error(400, 21220, "Call is not in-progress"),
    ]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.hang_up("run1", "CA1"), desk.hang_up("run2", "CA2")])
        await desk.closed("run1", "run2")
    assert sorted(provider.hang_ups) == ["CA1", "CA2"]
    assert await desk.told("run1") == await desk.told("run2") == []


@on_sqlite
async def test_ending_a_call_is_tried_again_whatever_became_of_the_answer(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_hang_up = [LOST, Answer(500), twilio_error(429, 20429, "slow down")]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.hang_up("run1", "CA1")])
        await desk.closed("run1")
    assert provider.hang_ups == ["CA1"] * 4
    async with database.read() as connection:
        told = [row for row in await outbox.pending(connection) if row.topic == CALL_NOTICES.name]
    # The bridge that has the call need not wait for this: it is told at the first refusal, and once.
    assert [decode(row.value.encode(), row.headers).data for row in told] == [
        HangUpNotice(workflow_run_id="run1", configuration_id=desk.configuration_id, reason="unknown-outcome")
    ]


@on_sqlite
async def test_a_hang_up_that_comes_too_early_is_tried_again_until_it_is_not(
    database: Database, provider: CountingProvider
) -> None:
    """Vonage refuses to end a call within about two seconds of its creation."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    credentials = {
        "application_id": "aaaaaaaa-bbbb-cccc-dddd-0123456789ab",
        "private_key": pem.decode(),
        "api_key": "abcd1234",
        "signature_secret": "s" * 32,
    }
    desk = await Desk(database, provider="vonage").open(credentials=credentials)
    provider.to_hang_up = [Answer(400, {"Error": "Bad Request"})] * 3
    call = vonage_call(1).body
    provider.held = [call]
    provider.to_look = [Answer(200, call)] * 3 + [Answer(200, call | {"status": "completed"})]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await until(lambda: _count(provider, 1))
        await worker.record_commands([desk.hang_up("run1")])
        await desk.closed("run1")
    [asked] = provider.dials
    assert asked["to"] == [{"type": "phone", "number": "442079460000"}]
    originated = (await desk.told("run1"))[0]
    assert isinstance(originated, CallOriginated)
    assert originated.conversation_id
    assert provider.hang_ups == [originated.provider_call_id] * 4


@on_sqlite
async def test_a_hang_up_that_cannot_succeed_is_told(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_hang_up = [twilio_error(401, 20003, "Authenticate")]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.hang_up("run1", "CA1"), desk.hang_up("run2")])
        await desk.closed("run1", "run2")
    refused, unknown = only_failure(await desk.told("run1")), only_failure(await desk.told("run2"))
    assert (refused.command, refused.code, refused.account) == (
        "hangup",
        "credentials",
        TWILIO["account_sid"],
    )
    assert (unknown.command, unknown.code) == ("hangup", "unknown-call")


@on_sqlite
async def test_a_call_ended_before_it_was_dialled_is_not_dialled(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [twilio_error(429, 20429, "later")] * 2
    worker = make_worker(database, provider.url, replace(HASTY, haste=0.05))
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await until(lambda: _count(provider, 1))
        await worker.record_commands([desk.hang_up("run1")])
        await desk.closed("run1")
    assert len(provider.dials) == 1
    assert provider.hang_ups == []
    assert only_failure(await desk.told("run1")).code == "canceled"


@on_sqlite
async def test_a_call_whose_end_was_told_is_not_looked_at(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url, replace(HASTY, haste=1))
    async with working(worker):
        await worker.record_commands([desk.hang_up("run1", "CA1")])
        await until(lambda: _asked_to_end(provider))
        ended = StatusReported(
            workflow_run_id="run1",
            provider="twilio",
            account=TWILIO["account_sid"],
            provider_call_id="CA1",
            status=CallStatus.COMPLETED,
            provider_status="completed",
        )
        for foreign in (
            {"provider_call_id": "CAforeign"},
            {"account": "AC" + "9" * 32},
            {"provider": "vonage"},
        ):
            await worker.observe_life([_event(ended.model_copy(update=foreign))])
            assert await desk.open_commands("run1"), foreign
        while await desk.open_commands("run1"):  # the hang-up itself may still be on its way into the ledger
            await worker.observe_life([_event(ended)])
    assert provider.looks == []
    assert await desk.told("run1") == []


@on_sqlite
async def test_a_hang_up_that_nobody_confirms_is_looked_at_and_the_end_told(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.hang_up("run1", "CA1")])
        await desk.closed("run1")
    status, observed = await desk.told("run1")
    assert isinstance(status, StatusReported)
    assert (status.provider_call_id, status.status, status.reconciled) == ("CA1", CallStatus.COMPLETED, True)
    assert isinstance(observed, CallObserved)
    assert (observed.found, observed.reason) == (True, "hang-up")
    assert provider.hang_ups == ["CA1"]


@on_sqlite
async def test_a_call_that_goes_on_is_hung_up_again_until_it_has_ended(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_look = [going_on("CA1"), twilio_error(429, 20429, "slow down"), going_on("CA1")]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.hang_up("run1", "CA1")])
        await desk.closed("run1")
    assert provider.hang_ups == ["CA1"] * 3
    assert [type(one) for one in await desk.told("run1")] == [StatusReported, CallObserved]


@on_sqlite
async def test_a_call_that_cannot_be_ended_is_told(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_look = [going_on("CA1")] * 20
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.hang_up("run1", "CA1")])
        await desk.closed("run1")
    failure = only_failure(await desk.told("run1"))
    assert (failure.command, failure.code) == ("hangup", "not-ended")


@on_sqlite
async def test_a_lost_call_that_was_to_be_ended_is_ended_when_it_shows_life_after_all(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [LOST]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await until(lambda: _count(provider, 1))
        await worker.record_commands([desk.hang_up("run1")])
        await desk.closed("run1")
        assert provider.hang_ups == []
        life = StatusReported(
            workflow_run_id="run1",
            provider="twilio",
            account=TWILIO["account_sid"],
            provider_call_id="CAlate",
            status=CallStatus.RINGING,
            provider_status="ringing",
        )
        await worker.observe_life([_event(life)])
        await desk.closed("run1")
    assert provider.hang_ups == ["CAlate"]


@on_sqlite
async def test_a_lost_call_that_shows_life_while_it_is_to_be_ended_is_ended(
    database: Database, desk: Desk, provider: CountingProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.to_dial = [LOST]
    worker = make_worker(database, provider.url)
    read = dials.dial_of
    life = StatusReported(
        workflow_run_id="run1",
        provider="twilio",
        account=TWILIO["account_sid"],
        provider_call_id="CAlate",
        status=CallStatus.RINGING,
        provider_status="ringing",
    )

    async def read_and_then(*arguments: Any) -> Any:
        """Between reading that nobody knows the call and saying so."""
        monkeypatch.setattr(dials, "dial_of", read)
        found = await read(*arguments)
        await worker.observe_life([_event(life)])
        return found

    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
        monkeypatch.setattr(dials, "dial_of", read_and_then)
        await worker.record_commands([desk.hang_up("run1")])
        await desk.closed("run1")
    assert provider.hang_ups == ["CAlate"]


async def _asked_to_end(provider: CountingProvider) -> bool:
    return bool(provider.hang_ups)


def _event(data: StatusReported) -> Event[StatusReported]:
    return new_event(data, source="/webhook-gateway", time=datetime.now(UTC), subject=data.workflow_run_id)
