"""kill -9 while numbers are set at the carrier, at any point: no state is wrong, nothing that was there is forgotten."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from running_number_sync import PUBLIC_URL, TWILIO
from syncing import SID, Board

from carrier_sim import CarrierSim
from carrier_sim.rest_faults import RestFault
from number_sync.database import Database

HERE = Path(__file__).parent
ONE = "+14155551234"
BEFORE = "https://them.example/old"


@asynccontextmanager
async def process(database_url: str, carrier: CarrierSim) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "run_reconciler.py"),
        database_url,
        carrier.base_url,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert started.stdout is not None
        assert await started.stdout.readline() == b"ready\n"
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def until_synced(board: Board, *number_ids: str) -> None:
    async with asyncio.timeout(60):
        for number_id in number_ids:
            while (await board.state(number_id)).state != "synced":
                await asyncio.sleep(0.02)


def pushes(carrier: CarrierSim) -> int:
    """How many numbers the carrier was asked to change."""
    made = [each for each in carrier.rest_log.requests(SID) if each.method == "POST"]
    return len(made)


@pytest.mark.parametrize("done", [True, False], ids=["after it took effect", "before it took effect"])
async def test_killed_between_push_and_commit(
    database: Database, database_url: str, carrier: CarrierSim, done: bool
) -> None:
    held = carrier.twilio.add_account(SID, TWILIO["auth_token"]).add_number(ONE, voice_url=BEFORE)
    board = await Board(database).open()
    number = await board.add(await board.configure(), ONE)
    misdeed = (
        RestFault(do="slow", method="POST", delay_s=600) if done else RestFault(do="silence", method="POST")
    )
    carrier.rest_faults = [misdeed]
    async with process(database_url, carrier) as first, asyncio.timeout(60):
        # The intent is committed before the push, so it is there when the push has come.
        while not (await board.state(number)).ours:
            await asyncio.sleep(0.01)
        while done and held.voice_url == BEFORE:
            await asyncio.sleep(0.01)
        first.kill()
        await first.wait()
    left = await board.state(number)
    assert (left.state, left.before["VoiceUrl"]) == ("pending", BEFORE)
    carrier.rest_faults = []
    async with process(database_url, carrier):
        await until_synced(board, number)
    # What had taken effect is found so, and not set again. (The carrier counts a request when it is over.)
    assert pushes(carrier) in ([1] if done else [1, 2])
    row = await board.state(number)
    assert row.before == left.before
    assert held.voice_url.startswith(PUBLIC_URL)
    await board.change(row.configuration_id, number, active=False)
    async with process(database_url, carrier), asyncio.timeout(60):
        while (await board.state(number)).state != "detached":
            await asyncio.sleep(0.02)
    assert held.voice_url == BEFORE


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_killed_at_any_time_what_is_called_synced_is_so(
    database: Database, database_url: str, carrier: CarrierSim
) -> None:
    account = carrier.twilio.add_account(SID, TWILIO["auth_token"])
    board = await Board(database).open()
    main = await board.configure()
    numbers: dict[str, str] = {}
    for index in range(25):
        e164 = f"+1415555{6000 + index}"
        account.add_number(e164, voice_url=BEFORE)
        numbers[e164] = await board.add(main, e164)
    url = PUBLIC_URL
    for round_number in range(5):
        url = f"https://v{round_number}.example.com"
        await board.set_public_url(url)
        async with process(database_url, carrier) as started:
            await asyncio.sleep(0.08 * round_number)
            started.kill()
            await started.wait()
        for e164, number in numbers.items():
            row, held = await board.state(number), account.number(e164)
            assert held is not None
            if row.state == "synced" and row.wanted["VoiceUrl"].startswith(url):
                assert held.voice_url == row.wanted["VoiceUrl"]
            assert row.last_drift is None
    async with process(database_url, carrier):
        await until_synced(board, *numbers.values())
    for e164, number in numbers.items():
        held = account.number(e164)
        assert held is not None
        assert held.voice_url.startswith(url)
        assert (await board.state(number)).before["VoiceUrl"] == BEFORE
