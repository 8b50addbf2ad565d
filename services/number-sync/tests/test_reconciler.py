"""The loop: what providers hold of the numbers becomes what is wanted, whoever is in the way. On both databases."""

import asyncio
import threading
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from running_number_sync import OTHER_TWILIO, PUBLIC_URL, TWILIO
from scripted_accounts import Accounts
from sqlalchemy import Row, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection
from syncing import HASTY, SID, Board, running

from number_sync.database import Database
from number_sync.numbers import Listed
from number_sync.schema import configurations, number_states
from number_sync.sync import store
from number_sync.sync.reconciler import SyncSettings
from number_sync.sync.requests import RequestSettings
from number_sync.sync.state import NEVER
from offhook.providers.base import RestError

ONE, TWO, THREE = "+14155551234", "+14155551235", "+14155551236"
INBOUND = f"{PUBLIC_URL}/api/v1/telephony/inbound/run"

OTHERS = {**TWILIO, "auth_token": "canary9other9token9canary98765432"}

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
async def board(database: Database) -> Board:
    return await Board(database).open()


def voice_url(board: Board, number: str, sid: str = SID) -> str:
    return board.accounts[sid].lines[number].settings["VoiceUrl"]


async def test_a_new_number_is_set_up_and_seen_to_be(board: Board) -> None:
    board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old")
    main = await board.configure()
    number = await board.add(main, ONE)
    assert (await board.state(number)).state == "pending"
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.reason, row.differs, row.attempts) == ("synced", None, [], 0)
    assert voice_url(board, ONE).startswith(INBOUND + "#")
    assert row.reference == "PN14155551234"
    assert row.before["VoiceUrl"] == "https://them.example/old"
    assert row.due_at > board.clock() * 1000
    assert {"VoiceUrl", "StatusCallback"} <= set(row.compared)


async def test_a_label_or_a_caller_id_asks_the_provider_for_nothing(board: Board) -> None:
    board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    asked = len(board.accounts[SID].asked)
    await board.change(main, number, label="Reception", default_caller_id=True)
    await board.configurations.update("ada", main, {"name": "Other", "paused": True})
    await board.settle()
    assert len(board.accounts[SID].asked) == asked


@pytest.mark.parametrize("repair", [True, False])
async def test_drift_is_shown_and_repaired_or_only_shown(board: Board, repair: bool) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure(repair_drift=repair)
    number = await board.add(main, ONE)
    await board.settle()
    account.set(ONE, VoiceUrl="https://them.example/new")
    seen: list[str] = []

    def look(operation: str) -> None:
        if operation == "set-line":
            seen.append(account.lines[ONE].settings["VoiceUrl"])

    account.before = look
    await board.check()
    await board.settle()
    row = await board.state(number)
    assert row.last_drift["differs"][0]["found"] == "https://them.example/new"
    assert row.last_drift["repaired"] is repair
    assert row.state == ("synced" if repair else "drifted")
    assert voice_url(board, ONE).startswith(INBOUND) is repair
    assert seen == (["https://them.example/new"] if repair else [])
    await board.configurations.update("ada", main, {"repair_drift": True})
    await board.settle()
    assert (await board.state(number)).state == "synced"


async def test_drift_is_committed_before_it_is_repaired(board: Board) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    account.set(ONE, VoiceUrl="https://them.example/new")
    account.faults = [None, RestError("unavailable", "500", "oops")]
    await board.check()
    async with running(board.reconciler(SyncSettings(retry_s=3600, rounds=1))):
        while (await board.state(number)).attempts == 0:
            await asyncio.sleep(0.01)
    row = await board.state(number)
    assert (row.state, row.last_drift["repaired"]) == ("drifted", False)


async def test_a_number_nobody_answers_is_set_back_and_not_looked_at_again(board: Board) -> None:
    account = board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old", VoiceMethod="GET")
    held = dict(account.lines[ONE].settings)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    await board.change(main, number, workflow_id=None)
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.reason, row.due_at) == ("detached", "no-workflow", NEVER)
    assert dict(account.lines[ONE].settings) == held
    await board.change(main, number, workflow_id=board.workflow_id)
    await board.settle()
    assert (await board.state(number)).state == "synced"
    await board.change(main, number, active=False)
    await board.settle()
    assert (await board.state(number)).reason == "inactive"
    assert dict(account.lines[ONE].settings) == held


@pytest.mark.parametrize("way", ["switched off", "deleted"])
async def test_a_number_that_was_left_with_our_address_and_comes_back_is_let_go_all_the_same(
    board: Board, way: str
) -> None:
    board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    await board.numbers.delete("ada", main, number, at_provider="leave")
    await board.settle()
    assert voice_url(board, ONE).startswith(INBOUND)
    number = await board.add(main, ONE)
    await board.settle()
    assert (await board.state(number)).state == "synced"
    assert len(board.accounts[SID].pushes()) == 1
    if way == "deleted":
        await board.numbers.delete("ada", main, number)
    else:
        await board.change(main, number, active=False)
    await board.settle()
    assert voice_url(board, ONE) == ""


async def test_what_somebody_else_has_set_stays_when_a_number_is_let_go(board: Board) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure(repair_drift=False)
    number = await board.add(main, ONE)
    await board.settle()
    account.set(ONE, VoiceUrl="https://them.example/new")
    await board.change(main, number, active=False)
    await board.settle()
    assert voice_url(board, ONE) == "https://them.example/new"
    assert account.lines[ONE].settings["StatusCallback"] == ""


@pytest.mark.parametrize("repair", [True, False])
async def test_a_number_switched_on_while_it_is_set_back_is_set_again_and_has_not_drifted(
    board: Board, repair: bool
) -> None:
    account = board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old")
    main = await board.configure(repair_drift=repair)
    number = await board.add(main, ONE)
    await board.settle()
    await board.change(main, number, active=False)
    board.once(account, "set-line", lambda: board.change(main, number, active=True))
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.last_drift) == ("synced", None)
    assert voice_url(board, ONE).startswith(INBOUND)
    assert row.before["VoiceUrl"] == "https://them.example/old"


async def test_another_public_url_sets_every_number_again(board: Board) -> None:
    board.accounts[SID].own(ONE, TWO, THREE)
    main = await board.configure(repair_drift=False)
    numbers = [await board.add(main, each) for each in (ONE, TWO, THREE)]
    await board.settle()
    await board.set_public_url("https://other.example.com")
    await board.settle()
    for each in (ONE, TWO, THREE):
        assert voice_url(board, each).startswith("https://other.example.com/")
    for number in numbers:
        row = await board.state(number)
        assert (row.state, row.last_drift) == ("synced", None)
    await board.set_public_url(None)
    await board.settle()
    for number in numbers:
        row = await board.state(number)
        assert (row.state, row.reason) == ("failed", "no-public-url")


async def test_a_lost_public_url_takes_no_phone_down(board: Board) -> None:
    board.accounts[SID].own(ONE)
    number = await board.add(await board.configure(), ONE)
    await board.settle()
    held = voice_url(board, ONE)
    assert held.startswith(PUBLIC_URL)
    await board.set_public_url(None)
    await board.settle()
    assert (await board.state(number)).reason == "no-public-url"
    assert voice_url(board, ONE) == held
    await board.set_public_url(PUBLIC_URL)
    await board.settle()
    assert (await board.state(number)).state == "synced"
    assert voice_url(board, ONE) == held


async def test_without_a_public_url_no_provider_is_asked(database: Database) -> None:
    board = await Board(database).open(None)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.reason) == ("failed", "no-public-url")
    assert board.accounts[SID].asked == []
    await board.set_public_url(PUBLIC_URL)
    board.accounts[SID].own(ONE)
    await board.settle()
    assert (await board.state(number)).state == "synced"


async def test_many_numbers_cost_one_look(board: Board) -> None:
    e164s = [f"+1415555{index:04d}" for index in range(1000, 1060)]
    account = board.accounts[SID].own(*e164s)
    main = await board.configure()
    for each in e164s:
        await board.add(main, each)
    await board.settle()
    assert set(await board.states()) == {"synced"}
    assert len(account.pushes()) == 60
    account.asked.clear()
    await board.check()
    await board.settle()
    assert account.asked == [("lines", None)]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"VoiceApplicationSid": "AP1"}, "governed-by-application"),
        ({"TrunkSid": "TK1"}, "governed-by-trunk"),
    ],
)
@on_sqlite
async def test_what_overrules_us_is_told_and_nothing_is_set(
    board: Board, settings: dict[str, str], reason: str
) -> None:
    account = board.accounts[SID].own(ONE, **settings)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.reason) == ("failed", reason)
    assert row.sentence
    assert row.remedy
    assert account.pushes() == []


@on_sqlite
async def test_a_number_of_another_account_has_failed_and_holds_up_nobody(board: Board) -> None:
    board.accounts[SID].own(TWO)
    main = await board.configure()
    lost, found = await board.add(main, ONE), await board.add(main, TWO)
    await board.settle()
    assert (await board.state(lost)).reason == "number-not-owned"
    assert (await board.state(found)).state == "synced"


REFUSALS = [
    (RestError("credentials", "20003", "Authenticate"), "credentials-refused"),
    (RestError("rejected", "21402", "VoiceUrl is not valid"), "rejected"),
]
PASSING = [
    (RestError("unavailable", "503", "down for a moment"), "provider-unavailable"),
    (RestError("unknown-outcome", "unreadable", "garbage"), "answer-unreadable"),
    (RestError("unknown-outcome", "ReadTimeout", "lost"), "no-answer"),
    (RestError("busy", "20429", "too many requests", 0.01), "rate-limited"),
]


@pytest.mark.parametrize(("fault", "reason"), REFUSALS)
@on_sqlite
async def test_a_clear_refusal_is_told_at_once(board: Board, fault: RestError, reason: str) -> None:
    account = board.accounts[SID].own(ONE)
    account.always = fault
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.reason) == ("failed", reason)
    assert len(account.asked) == 1
    account.always = None
    await board.check(number)
    await board.settle()
    assert (await board.state(number)).state == "synced"


@pytest.mark.parametrize(("fault", "reason"), PASSING)
@on_sqlite
async def test_passing_trouble_is_borne_twice_then_told_and_then_over(
    board: Board, fault: RestError, reason: str
) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    account.always = fault
    told: list[tuple[str, str | None, int]] = []
    for _ in range(3):
        await board.check(number)
        await board.settle(board.reconciler(replace(HASTY, retry_s=3600)))
        row = await board.state(number)
        told.append((row.state, row.reason, row.attempts))
    assert told == [("synced", reason, 1), ("synced", reason, 2), ("failed", reason, 3)]
    account.always = None
    await board.check(number)
    await board.settle()
    assert (await board.state(number)).state == "synced"


@on_sqlite
async def test_the_accounts_secrets_are_in_no_sentence(board: Board) -> None:
    secret = TWILIO["auth_token"]
    board.accounts[SID].always = RestError("rejected", "1", f"no {secret} here")
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    assert secret not in repr(await board.state(number))


@on_sqlite
async def test_a_provider_that_accepts_and_does_nothing_is_not_asked_in_a_loop(board: Board) -> None:
    account = board.accounts[SID].own(ONE)
    account.deaf = True
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.reason, len(account.pushes())) == ("failed", "rejected", 1)
    assert row.due_at > board.clock() * 1000


async def test_a_change_during_a_push_is_not_lost(board: Board) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    loop = asyncio.get_running_loop()

    def change(operation: str) -> None:
        if operation == "set-line":
            account.before = lambda operation: None
            asyncio.run_coroutine_threadsafe(board.change(main, number, active=False), loop).result(10)

    account.before = change
    await board.settle()
    assert (await board.state(number)).state == "detached"
    assert voice_url(board, ONE) == ""


async def test_a_number_deleted_during_a_push_is_let_go(board: Board) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    loop = asyncio.get_running_loop()

    def remove(operation: str) -> None:
        if operation == "set-line":
            account.before = lambda operation: None
            asyncio.run_coroutine_threadsafe(board.numbers.delete("ada", main, number), loop).result(10)

    account.before = remove
    await board.settle()
    assert voice_url(board, ONE) == ""
    [row] = await board.detachments()
    assert (row.state, row.sealed_credentials) == ("done", None)


async def test_one_bad_configuration_holds_up_nobody(board: Board) -> None:
    """One hangs, one refuses, one has lost its key, one crashes: the good one is set up."""
    sids = ["AC" + f"{index:02x}" * 16 for index in range(5)]
    ids = []
    for index, sid in enumerate(sids):
        ids.append(await board.configure(f"c{index}", {**TWILIO, "account_sid": sid}))
    numbers = [f"+1415555200{index}" for index in range(5)]
    for sid, number in zip(sids, numbers, strict=True):
        board.accounts[sid].own(number)
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    board.accounts[sids[0]].before = lambda operation: asyncio.run_coroutine_threadsafe(
        release.wait(), loop
    ).result(30)
    board.accounts[sids[1]].always = RestError("credentials", "20003", "no")
    board.accounts[sids[2]].always = KeyError("a bug")
    async with board.database.write() as connection:
        await connection.execute(
            update(configurations).where(configurations.c.id == ids[3]).values(sealed_credentials="v1.lost.x")
        )
    rows = [await board.add(one, number) for one, number in zip(ids, numbers, strict=True)]
    async with running(board.reconciler(requests=RequestSettings(concurrency=4, deadline_s=0.3))):
        async with asyncio.timeout(30):
            while [(await board.state(row)).reason for row in rows] != [
                "no-answer",
                "credentials-refused",
                "internal-error",
                "key-lost",
                None,
            ]:
                await asyncio.sleep(0.01)
            while (await board.state(rows[4])).state != "synced":
                await asyncio.sleep(0.01)
        release.set()


@on_sqlite
async def test_credentials_are_doubted_when_the_provider_says_something_else_than_what_is_kept(
    board: Board,
) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    await board.add(main, ONE)

    async def doubts(verification: str, fault: RestError | None) -> bool:
        async with board.database.write() as connection:
            await connection.execute(update(configurations).values(verification=verification))
        account.faults = [fault]
        board.doubted.clear()
        await board.check()
        await board.settle()
        return board.doubted == [main]

    refusal = RestError("credentials", "20003", "Authenticate")
    outage = RestError("unavailable", "503", "away")
    assert await doubts("not-verified", None)
    assert await doubts("refused", None)
    assert await doubts("verified", refusal)
    assert not await doubts("verified", None)
    assert not await doubts("verified", outage)
    assert not await doubts("refused", refusal)


@on_sqlite
async def test_a_round_that_crashes_is_told_and_takes_no_turn_from_others_of_the_account(
    board: Board,
) -> None:
    """Anybody can name an account: what crashes the rounds of one user must not hold off another's."""
    account = board.accounts[SID].own(ONE)
    asked: list[str] = []

    def rest_of(provider: str) -> Any:
        make = board.accounts.rest_of(provider)

        def crashing(credentials: Mapping[str, str], *more: Any) -> Any:
            asked.append("bob" if credentials == OTHERS else "ada")
            if credentials == OTHERS:
                raise KeyError("a bug")
            return make(credentials, *more)

        return crashing

    theirs = await board.configure(user="bob", credentials=OTHERS)
    bobs = await board.add_as("bob", theirs, TWO)
    main = await board.configure()
    hasty = SyncSettings(interval_s=3600, retry_s=3600, rounds=4)
    async with running(board.reconciler(hasty, rest_of=rest_of)) as reconciler, asyncio.timeout(30):
        while (await board.state(bobs)).reason is None:
            await asyncio.sleep(0.01)
        number = await board.add(main, ONE)
        reconciler.wake()
        while (await board.state(number)).state != "synced":
            await asyncio.sleep(0.01)
    row = await board.state(bobs)
    assert (row.state, row.reason, row.attempts) == ("pending", "internal-error", 1)
    assert row.due_at > board.clock() * 1000
    assert asked == ["bob", "ada"]
    assert account.pushes(ONE)


@on_sqlite
@pytest.mark.parametrize("what", ["set", "let go"])
async def test_a_database_that_refuses_connections_is_not_told_as_the_providers_trouble(
    board: Board, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    if what == "let go":
        await board.settle()
        await board.numbers.delete("ada", main, number)
    connect = board.database.write
    refused = asyncio.Event()

    def write() -> AbstractAsyncContextManager[AsyncConnection]:
        if refused.is_set():
            return connect()
        refused.set()
        raise ConnectionRefusedError("the database restarts")

    async def away() -> None:
        monkeypatch.setattr(board.database, "write", write)

    board.once(account, "lines", away)
    async with running(board.reconciler()) as reconciler, asyncio.timeout(30):
        await refused.wait()
        while reconciler.busy:
            await asyncio.sleep(0.01)
        if what == "set":
            row = await board.state(number)
        else:
            [row] = await board.detachments()
    assert (row.attempts, row.sentence) == (0, None)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_an_import_waits_for_a_round_of_somebody_elses_configuration_and_holds_none_of_its_numbers(
    board: Board,
) -> None:
    """Else the two would wait for each other."""
    main = await board.configure()
    theirs = await board.configure(user="bob", credentials=OTHERS)
    one, two = await board.add_as("bob", theirs, ONE), await board.add_as("bob", theirs, TWO)
    listed = [Listed(ONE, "", "PN1"), Listed(TWO, "", "PN2")]
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    async with board.database.write() as connection, asyncio.timeout(30):
        assert await store.lock(connection, theirs, account=SID)
        await store.mark_due(connection, number_id=two, at=0)
        importing = asyncio.create_task(board.numbers.create_many("ada", main, listed))
        while True:
            async with board.database.read() as other:
                if (await other.execute(waiting)).scalar_one():
                    break
            await asyncio.sleep(0.01)
        free = select(number_states).where(number_states.c.number_id == one).with_for_update(nowait=True)
        assert (await connection.execute(free)).one()
    assert [added.e164 for added in await importing if isinstance(added, Row)] == [ONE, TWO]


async def test_several_processes_set_each_number_once(board: Board) -> None:
    e164s = [f"+1415555{index:04d}" for index in range(3000, 3012)]
    account = board.accounts[SID].own(*e164s)
    main = await board.configure()
    for each in e164s:
        await board.add(main, each)
    reconcilers = [board.reconciler(replace(HASTY, lease_s=60)) for _ in range(3)]
    async with running(*reconcilers), asyncio.timeout(60):
        while set(await board.states()) != {"synced"}:
            await asyncio.sleep(0.01)
    assert len(account.pushes()) == 12


async def test_the_lease_of_a_killed_process_runs_out(board: Board, database: Database) -> None:
    from number_sync.sync.leases import Lease, lease_name

    killed = Lease(database, lease_name("twilio", SID), "killed", lasts_s=0.5, clock=board.clock)
    assert await killed.take()
    board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    async with running(board.reconciler()):
        async with asyncio.timeout(30):
            while (await board.state(number)).state != "synced":
                await asyncio.sleep(0.01)
    assert not killed.holds


async def test_a_throttled_account_rests_as_a_whole_and_then_goes_on(board: Board) -> None:
    e164s = [f"+1415555{index:04d}" for index in range(4000, 4010)]
    account = board.accounts[SID].own(*e164s)
    account.faults = [None, None, None, RestError("busy", "20429", "slow down", 0.5)]
    main = await board.configure()
    for each in e164s:
        await board.add(main, each)
    async with running(board.reconciler()), asyncio.timeout(30):
        while set(await board.states()) != {"synced"}:
            await asyncio.sleep(0.01)
    # Nothing was asked while it rested: each number was set once, but the refused one.
    assert len(account.pushes()) == 11


async def test_who_is_throttled_on_an_account_he_only_names_does_not_make_it_rest_for_its_owner(
    board: Board,
) -> None:
    account = board.accounts[SID].own(ONE)
    account.faults = [RestError("busy", "20429", "too many", 3600.0)]
    claim = await board.configure(user="bob", credentials={**TWILIO, "auth_token": "not0the0token"})
    theirs = await board.add_as("bob", claim, TWO)
    async with running(board.reconciler()) as reconciler:
        await board.at_rest(reconciler)
        assert (await board.state(theirs)).reason == "rate-limited"
        main = await board.configure()
        number = await board.add(main, ONE)
        await board.at_rest(reconciler)
    assert (await board.state(number)).state == "synced"


async def test_credentials_of_another_account_set_the_old_one_back(board: Board) -> None:
    other = OTHER_TWILIO["account_sid"]
    board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old")
    elsewhere = board.accounts[other].own(ONE, VoiceUrl="https://them.example/other")
    elsewhere.lines[ONE] = replace(elsewhere.lines[ONE], reference="PN-of-the-other-account")
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    await board.configurations.update("ada", main, {"credentials": OTHER_TWILIO})
    await board.settle()
    assert voice_url(board, ONE) == "https://them.example/old"
    assert voice_url(board, ONE, other).startswith(INBOUND)
    assert (await board.state(number)).before["VoiceUrl"] == "https://them.example/other"


async def test_rounds_are_bounded_and_spread(database: Database) -> None:
    board = Board(database, Accounts())
    reconciler = board.reconciler(SyncSettings(interval_s=180))
    phases = {reconciler.schedule(f"c{index}").phase for index in range(50)}
    assert len(phases) == 50
    assert all(0 <= phase < 180_000 for phase in phases)


@on_sqlite
async def test_accounts_that_hang_leave_rounds_for_the_others(board: Board) -> None:
    """Four accounts hang, for two rounds at a time: once they are known to fail, one round is left for everybody else."""
    stuck = asyncio.Event()
    loop = asyncio.get_running_loop()
    for index in range(4):
        sid, number = "AC" + f"{index:02x}" * 16, f"+1415555200{index}"
        board.accounts[sid].own(number)
        board.accounts[sid].before = lambda operation: asyncio.run_coroutine_threadsafe(
            stuck.wait(), loop
        ).result(60)
        await board.add(await board.configure(f"c{index}", {**TWILIO, "account_sid": sid}), number)
    settings = SyncSettings(interval_s=3600, retry_s=0.01, rounds=2, lease_s=2)
    patient = RequestSettings(concurrency=64, deadline_s=0.2)
    async with running(board.reconciler(settings, requests=patient)), asyncio.timeout(60):
        while await board.states() != ["failed"] * 4:
            await asyncio.sleep(0.02)
        board.accounts[SID].own(ONE)
        number = await board.add(await board.configure(), ONE)
        while (await board.state(number)).state != "synced":
            await asyncio.sleep(0.02)
        stuck.set()


@on_sqlite
async def test_what_is_to_be_let_go_does_not_wait_until_nothing_is_left_to_compare(board: Board) -> None:
    """Six accounts, always due again, for two rounds at a time."""
    for index in range(6):
        sid, number = "AC" + f"{index:02x}" * 16, f"+1415555200{index}"
        board.accounts[sid].own(number)
        board.accounts[sid].before = lambda operation: time.sleep(0.05)
        await board.add(await board.configure(f"c{index}", {**TWILIO, "account_sid": sid}), number)
    board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    assert voice_url(board, ONE).startswith(INBOUND)
    always = SyncSettings(interval_s=0.001, retry_s=0.01, rounds=2, lease_s=2)
    async with running(board.reconciler(always)) as working:
        await board.check()
        await asyncio.sleep(0.5)
        await board.numbers.delete("ada", main, number)
        working.wake()
        async with asyncio.timeout(20):
            while voice_url(board, ONE) != "":
                await asyncio.sleep(0.02)


@on_sqlite
async def test_draining_finishes_the_number_that_is_being_set_and_leaves_the_rest_due(board: Board) -> None:
    e164s = [f"+1415555{index:04d}" for index in range(5000, 5020)]
    account = board.accounts[SID].own(*e164s)
    main = await board.configure()
    for each in e164s:
        await board.add(main, each)
    began, go_on = threading.Event(), threading.Event()

    def hold(operation: str) -> None:
        if operation == "set-line":
            began.set()
            go_on.wait(30)

    account.before = hold
    working = board.reconciler()
    async with running(working), asyncio.timeout(30):
        await asyncio.to_thread(began.wait, 30)
        draining = asyncio.create_task(working.drain())
        await asyncio.sleep(0)
        go_on.set()
        await draining
    assert len(account.pushes()) == 1
    assert sorted(await board.states()) == ["pending"] * 19 + ["synced"]
    # Nobody has to wait for the lease: the next process goes on at once.
    await board.settle()
    assert set(await board.states()) == {"synced"}
