"""Looking at a call: what the provider says is told as events, in one piece with the fact that it was asked."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from counting_provider import LOST, Answer, CountingProvider, counting_provider, twilio_call, twilio_error
from dialling import HASTY, Desk, make_worker, only_failure, until, working
from running_number_sync import TWILIO

from number_sync.database import Database
from offhook.events import CallObserved, CallOriginated, CallStatus, CommandFailed, StatusReported

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
NUMBERS = {"from_number": "+14155551234", "to_number": "+442079460000"}


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


@pytest.fixture
async def desk(database: Database) -> Desk:
    return await Desk(database).open()


def busy_call(number: int) -> dict[str, Any]:
    moment = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    return {
        **twilio_call(number).body,
        "from": NUMBERS["from_number"],
        "to": NUMBERS["to_number"],
        "status": "busy",
        "date_created": moment,
        "end_time": moment,
        "price": "-0.01",
        "price_unit": "USD",
    }


@on_sqlite
async def test_a_look_that_is_still_to_be_had_is_not_had_twice(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    call = busy_call(1)
    provider.held = [call]
    worker = make_worker(database, provider.url)
    looks = [
        desk.observe("run1", provider_call_id=call["sid"], requested_at=f"2026-11-22T10:0{n}:00Z")
        for n in range(3)
    ]
    await worker.record_commands(looks)
    await worker.record_commands([desk.observe("run1", provider_call_id=call["sid"], reason="operator")])
    assert await desk.open_commands("run1") == ["observe", "observe"]
    async with working(worker):
        await desk.closed("run1")
    observed = [told.reason for told in await desk.told("run1") if isinstance(told, CallObserved)]
    assert sorted(observed) == ["operator", "silence"]
    await worker.record_commands([desk.observe("run1", provider_call_id=call["sid"])])
    assert await desk.open_commands("run1") == ["observe"]


async def test_what_the_provider_says_is_told_with_the_fact_that_it_was_asked(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    call = busy_call(1)
    provider.held = [call]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.observe("run1", provider_call_id=call["sid"], reason="start")])
        await desk.closed("run1")
    status, observed = await desk.told("run1")
    assert isinstance(status, StatusReported)
    assert (status.status, status.reconciled, status.account) == (
        CallStatus.BUSY,
        True,
        TWILIO["account_sid"],
    )
    assert status.price is not None
    assert observed == CallObserved(
        workflow_run_id="run1",
        provider="twilio",
        account=TWILIO["account_sid"],
        provider_call_id=call["sid"],
        found=True,
        reason="start",
    )


@on_sqlite
async def test_the_same_answer_is_the_same_event_however_often_it_is_asked_for(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    call = busy_call(1)
    provider.held = [call]
    worker = make_worker(database, provider.url)
    async with working(worker):
        for _ in range(2):
            await worker.record_commands([desk.observe("run1", provider_call_id=call["sid"])])
            await desk.closed("run1")
    ids = [(type(event.data), event.id) for event in await desk.told_events("run1")]
    assert len(ids) == 4
    assert len({event_id for kind, event_id in ids if kind is StatusReported}) == 1
    assert len({event_id for kind, event_id in ids if kind is CallObserved}) == 2


@on_sqlite
async def test_a_call_that_the_provider_does_not_know_is_told_as_not_found(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_look = [twilio_error(404, 20404, "not found")]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands(
            [
                desk.observe("run1", provider_call_id="CA1"),
                desk.observe("run2", **NUMBERS, requested_at=datetime.now(UTC).isoformat()),
            ]
        )
        await desk.closed("run1", "run2")
    for run in ("run1", "run2"):
        [observed] = await desk.told(run)
        assert isinstance(observed, CallObserved)
        assert not observed.found


@on_sqlite
async def test_a_call_that_was_given_up_is_found_by_its_numbers_and_time(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [LOST]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
        provider.held = [busy_call(7)]  # providers' lists lag
        await worker.record_commands(
            [desk.observe("run1", **NUMBERS, requested_at=datetime.now(UTC).isoformat())]
        )
        await desk.closed("run1")
    told = await desk.told("run1")
    assert [type(one) for one in told] == [CommandFailed, CallOriginated, StatusReported, CallObserved]


@on_sqlite
async def test_looking_is_tried_again_and_its_failure_told_in_the_end(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_look = [twilio_error(429, 20429, "slow down", Retry_After="1"), Answer(503), LOST]
    worker = make_worker(database, provider.url, replace(HASTY, haste=100))
    async with working(worker):
        await worker.record_commands([desk.observe("run1", provider_call_id="CA1")])
        await desk.closed("run1")
        assert isinstance((await desk.told("run1"))[-1], CallObserved)
        provider.to_look = [Answer(503)] * 50
        await worker.record_commands([desk.observe("run2", provider_call_id="CA2"), desk.observe("run3")])
        await desk.closed("run2", "run3")
    failure = only_failure(await desk.told("run2"))
    assert (failure.command, failure.code) == ("observe", "unavailable")
    assert only_failure(await desk.told("run3")).code == "unknown-call"


@on_sqlite
async def test_looks_hold_up_neither_the_hang_up_of_their_call_nor_other_calls(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_look = [Answer(503)] * 500
    worker = make_worker(database, provider.url, replace(HASTY, haste=0.01))
    async with working(worker):
        await worker.record_commands(
            [desk.observe(f"run{index}", provider_call_id=f"CA{index}") for index in range(20)]
        )
        await worker.record_commands([desk.hang_up("run0", "CA0"), desk.originate("other")])
        await desk.closed("other")
        await until(lambda: _ended(provider))


async def _ended(provider: CountingProvider) -> bool:
    return provider.hang_ups == ["CA0"]
