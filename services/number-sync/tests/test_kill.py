"""kill -9 while dialling, at any point: nobody is dialled twice, and no call is forgotten."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from counting_provider import LOST, CountingProvider, counting_provider, twilio_call
from dialling import Desk

from number_sync.database import Database
from number_sync.orders import ledger
from offhook.events import CallOriginated, CommandFailed

HERE = Path(__file__).parent


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


@asynccontextmanager
async def worker_process(
    database_url: str, provider: CountingProvider
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "run_worker.py"),
        database_url,
        provider.url,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def outcome_after_restart(
    desk: Desk, database_url: str, provider: CountingProvider, run: str
) -> object:
    """Start a fresh process, wait until the call is settled, and return the first thing that was told of it."""
    async with worker_process(database_url, provider):
        await desk.closed(run)
    return (await desk.told(run))[0]


def listed(call: dict[str, Any]) -> dict[str, Any]:
    """The call as the provider lists it: placed just now, between the numbers of `Desk.originate`."""
    now = datetime.now(UTC).strftime("%a, %d %b %Y %H:%M:%S +0000")
    return call | {"from": "+14155551234", "to": "+442079460000", "date_created": now}


async def order(database: Database, desk: Desk, run: str) -> None:
    async with database.write() as connection:
        assert await ledger.record(connection, [desk.originate(run)], now=0) == 1


@pytest.mark.parametrize("moment", ["while the provider works", "as the provider answers"])
async def test_killed_at_the_worst_moment_a_call_is_not_dialled_again(
    database: Database, database_url: str, provider: CountingProvider, moment: str
) -> None:
    desk = await Desk(database).open()
    async with worker_process(database_url, provider) as process:
        pid = process.pid

        def kill() -> None:
            os.kill(pid, signal.SIGKILL)

        # The request is there, so the process is between its claim and the provider's answer.
        provider.to_dial = [
            replace(LOST, before=kill)
            if moment == "while the provider works"
            else replace(twilio_call(1), after=kill)
        ]
        if moment == "as the provider answers":
            provider.held = [listed(twilio_call(1).body)]
        await order(database, desk, "run1")
        await process.wait()
    assert len(provider.dials) == 1
    told = await outcome_after_restart(desk, database_url, provider, "run1")
    assert len(provider.dials) == 1
    if moment == "while the provider works":
        assert isinstance(told, CommandFailed)
        assert told.code == "outcome-unknown"
    else:
        # Whether the answer was stored in time is the race; where it was not, the call is found at the provider.
        assert isinstance(told, CallOriginated)
        assert told.provider_call_id == twilio_call(1).body["sid"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_killed_at_any_time_every_call_is_dialled_at_most_once_and_told_once(
    database: Database, database_url: str, provider: CountingProvider
) -> None:
    desk = await Desk(database).open()
    runs: list[str] = []
    for round_number in range(5):
        new = [f"run{round_number}-{index}" for index in range(5)]
        runs += new
        for run in new:
            await order(database, desk, run)
        async with worker_process(database_url, provider) as process:
            await asyncio.sleep(0.03 * round_number)
            process.kill()
            await process.wait()
    async with worker_process(database_url, provider):
        await desk.closed(*runs)
    dialled = [dial["Url"].partition("#")[0].rpartition("/")[2] for dial in provider.dials]
    assert len(dialled) == len(set(dialled))
    outcomes = {run: await desk.told(run) for run in runs}
    for run in runs:
        [told] = outcomes[run]
        if run not in dialled:
            # Claimed, and killed before the provider was asked: nobody can know, so it was not dialled.
            assert isinstance(told, CommandFailed)
            assert told.code == "outcome-unknown"
    assert any(isinstance(told, CallOriginated) for [told] in outcomes.values())


async def test_killed_before_the_claim_a_call_is_not_forgotten(
    database: Database, database_url: str, provider: CountingProvider
) -> None:
    desk = await Desk(database).open()
    await order(database, desk, "run1")
    async with (
        database.write() as connection
    ):  # what a process leaves behind that was killed right after its lease
        assert await ledger.lease(connection, owner="killed", now=1, until=1_000, limit=1)
    told = await outcome_after_restart(desk, database_url, provider, "run1")
    assert isinstance(told, CallOriginated)
    assert len(provider.dials) == 1
