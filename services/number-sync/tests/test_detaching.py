"""Numbers that are deleted here are let go at the provider, in the background, and what they share with the last one."""

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from running_number_sync import OTHER_TWILIO, PUBLIC_URL, TWILIO
from scripted_accounts import Account
from sqlalchemy import update
from syncing import HASTY, SID, VONAGE_APP, Board, running, vonage

from number_sync.database import Database
from number_sync.schema import detachments
from number_sync.sync import store
from number_sync.sync.detaching import PATIENCE_MS
from number_sync.sync.reconciler import SyncSettings
from number_sync.sync.requests import RequestSettings
from number_sync.sync.state import Book
from offhook.providers.base import Line, RestError

ONE, TWO, THREE = "+14155551234", "+14155551235", "+14155551236"
THEIRS = {
    "answer_url": "https://them.example/answer",
    "answer_method": "GET",
    "fallback_answer_url": "",
    "fallback_answer_method": "",
    "event_url": "https://them.example/event",
    "event_method": "POST",
    "signed_callbacks": "false",
}

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture(scope="module")
def private_key() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@pytest.fixture
async def board(database: Database) -> Board:
    return await Board(database).open()


def application(board: Board, *e164s: str) -> Account:
    account = board.accounts[VONAGE_APP]
    account.shared = dict(THEIRS)
    for e164 in e164s:
        account.lines[e164] = Line(e164, e164[1:], "", True, {"app_id": ""})
    return account


def is_ours(account: Account) -> bool:
    return account.shared["answer_url"].startswith(PUBLIC_URL)


async def states(board: Board) -> list[str]:
    return [row.state for row in await board.detachments()]


async def test_a_number_is_pending_as_soon_as_something_else_is_wanted_of_it(board: Board) -> None:
    board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    other = await board.add_workflow("ada")
    await board.change(main, number, workflow_id=other)
    assert (await board.state(number)).state == "synced"  # nothing else is wanted at the provider
    await board.change(main, number, active=False)
    row = await board.state(number)
    assert (row.state, row.reason) == ("pending", None)
    await board.settle()
    assert (await board.state(number)).state == "detached"
    await board.change(main, number, workflow_id=None)
    assert (await board.state(number)).state == "detached"
    await board.change(main, number, active=True, workflow_id=board.workflow_id)
    assert (await board.state(number)).state == "pending"


async def test_a_deleted_number_is_set_back(board: Board) -> None:
    account = board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old")
    held = dict(account.lines[ONE].settings)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    await board.numbers.delete("ada", main, number)
    await board.settle()
    assert dict(account.lines[ONE].settings) == held
    assert await states(board) == ["done"]


async def test_a_number_can_be_deleted_and_the_provider_left_as_it_is(board: Board) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    await board.numbers.delete("ada", main, number, at_provider="leave")
    await board.settle()
    assert account.lines[ONE].settings["VoiceUrl"].startswith(PUBLIC_URL)
    assert await board.detachments() == []


async def test_a_number_that_was_never_set_is_only_deleted(board: Board) -> None:
    main = await board.configure()
    number = await board.add(main, ONE, workflow_id=None)
    await board.settle()
    await board.numbers.delete("ada", main, number)
    assert await board.detachments() == []
    assert board.accounts[SID].asked == []


async def test_a_deleted_configuration_lets_its_numbers_go_with_the_credentials_it_had(board: Board) -> None:
    account = board.accounts[SID].own(ONE, TWO, THREE)
    main = await board.configure()
    for each in (ONE, TWO):
        await board.add(main, each)
    await board.settle()
    await board.configurations.delete("ada", main, numbers_are="detach")
    await board.settle()
    assert {line.settings["VoiceUrl"] for line in account.lines.values()} == {""}
    assert await states(board) == ["done", "done"]


async def test_what_somebody_else_has_set_since_stays(board: Board) -> None:
    account = board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old", VoiceMethod="GET")
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    account.set(ONE, VoiceUrl="https://them.example/new")
    await board.numbers.delete("ada", main, number)
    await board.settle()
    assert account.lines[ONE].settings["VoiceUrl"] == "https://them.example/new"
    assert account.lines[ONE].settings["VoiceMethod"] == "POST"
    assert account.lines[ONE].settings["StatusCallback"] == ""


async def test_a_provider_that_does_not_answer_is_asked_for_a_day_then_left(board: Board) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    account.always = RestError("unavailable", "503", "down")
    await board.numbers.delete("ada", main, number)
    async with running(board.reconciler()), asyncio.timeout(30):
        while (await board.detachments())[0].attempts < 2:
            await asyncio.sleep(0.01)
    [row] = await board.detachments()
    assert (row.state, bool(row.sentence), bool(row.sealed_credentials)) == ("open", True, True)
    board.pass_time(PATIENCE_MS / 1000)
    await board.settle()
    [row] = await board.detachments()
    assert (row.state, row.sealed_credentials) == ("given-up", None)


@on_sqlite
async def test_without_the_key_of_its_credentials_a_number_is_given_up(board: Board) -> None:
    board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    await board.numbers.delete("ada", main, number)
    async with board.database.write() as connection:
        await connection.execute(update(detachments).values(sealed_credentials="v1.lost.x"))
    await board.settle()
    assert await states(board) == ["given-up"]


async def test_a_number_that_is_added_again_goes_on_with_what_was_there_before(board: Board) -> None:
    account = board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old")
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    pushes = len(account.pushes())
    await board.numbers.delete("ada", main, number)
    other = await board.configure("Other", {**TWILIO, "auth_token": "another0token0of0that0account012"})
    again = await board.add(other, ONE)
    assert await board.detachments() == []
    await board.settle()
    row = await board.state(again)
    assert row.state == "synced"
    assert row.before["VoiceUrl"] == "https://them.example/old"
    assert len(account.pushes()) == pushes


async def test_somebody_else_who_names_the_account_does_not_keep_a_number_from_being_set_back(
    board: Board,
) -> None:
    board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old")
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    await board.numbers.delete("ada", main, number)
    claim = await board.configure(user="bob", credentials={**TWILIO, "auth_token": "not0the0token"})
    theirs = await board.add_as("bob", claim, ONE)
    assert await states(board) == ["open"]
    assert (await board.state(theirs)).before is None
    async with running(board.reconciler()):
        async with asyncio.timeout(10):
            while await states(board) != ["done"]:
                await asyncio.sleep(0.01)


async def test_changed_credentials_are_tried_on_the_numbers_still_to_be_let_go(board: Board) -> None:
    account = board.accounts[SID].own(ONE, VoiceUrl="https://them.example/old")
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    account.always = RestError("credentials", "20003", "no")
    await board.numbers.delete("ada", main, number)
    await board.settle()
    [row] = await board.detachments()
    account.always = None
    new = {"auth_token": "another0token0of0that0account012"}
    await board.configurations.update("ada", main, {"credentials": new})
    [renewed] = await board.detachments()
    assert renewed.sealed_credentials != row.sealed_credentials
    await board.settle()
    assert await states(board) == ["done"]
    assert account.lines[ONE].settings["VoiceUrl"] == "https://them.example/old"


@on_sqlite
async def test_deletions_that_hang_leave_rounds_for_what_is_to_be_set(board: Board) -> None:
    """Eight accounts hang, for four rounds at a time."""
    stuck = threading.Event()
    hanging = {}
    for index in range(8):
        sid, number = "AC" + f"{index:02x}" * 16, f"+1415555200{index}"
        board.accounts[sid].own(number)
        main = await board.configure(f"c{index}", {**TWILIO, "account_sid": sid})
        hanging[sid] = (main, await board.add(main, number))
    await board.settle()
    for sid, each in hanging.items():
        board.accounts[sid].before = lambda operation: stuck.wait(60)
        await board.numbers.delete("ada", *each)
    board.accounts[SID].own(ONE, TWO, THREE)
    main = await board.configure()
    patient = RequestSettings(concurrency=64, timeout_s=60, deadline_s=60)
    async with running(board.reconciler(requests=patient)) as working:
        try:
            async with asyncio.timeout(50):
                for each in (ONE, TWO, THREE):
                    number = await board.add(main, each)
                    working.wake()
                    while (await board.state(number)).state != "synced":
                        await asyncio.sleep(0.01)
        finally:
            stuck.set()


@on_sqlite
async def test_deletions_at_an_account_that_rests_hold_up_nobody_elses(board: Board) -> None:
    other = OTHER_TWILIO["account_sid"]
    resting = []
    for index in range(6):
        number = f"+1415555200{index}"
        board.accounts[other].own(number)
        main = await board.configure(f"c{index}", OTHER_TWILIO, user="bob")
        resting.append((main, await board.add_as("bob", main, number)))
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    board.accounts[other].always = RestError("busy", "20429", "slow down", 3600.0)
    for each in resting:
        await board.numbers.delete("bob", *each)
    await board.numbers.delete("ada", main, number)
    settings = replace(HASTY, rounds=1)
    async with running(board.reconciler(settings)) as working, asyncio.timeout(60):
        while account.lines[ONE].settings["VoiceUrl"]:
            working.wake()
            await asyncio.sleep(0.02)


# --- an application that numbers share


async def test_an_application_is_set_with_its_first_number_and_back_with_its_last(
    board: Board, private_key: str
) -> None:
    account = application(board, ONE, TWO)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    one, two = await board.add(main, ONE), await board.add(main, TWO)
    await board.settle()
    assert is_ours(account)
    assert account.shared["signed_callbacks"] == "true"
    assert {line.settings["app_id"] for line in account.lines.values()} == {VONAGE_APP}
    row = await board.state(one)
    assert {"app_id", "answer_url", "signed_callbacks"} <= set(row.compared)
    await board.numbers.delete("ada", main, one)
    await board.settle()
    assert is_ours(account)
    await board.change(main, two, active=False)
    await board.settle()
    assert account.shared == THEIRS
    assert {line.settings["app_id"] for line in account.lines.values()} == {""}
    assert await board.shared() == []


async def test_two_configurations_of_one_application_do_not_fight(board: Board, private_key: str) -> None:
    account = application(board, ONE, TWO)
    first = await board.configure("first", provider="vonage", credentials=vonage(private_key))
    second = await board.configure("second", provider="vonage", credentials=vonage(private_key))
    one, two = await board.add(first, ONE), await board.add(second, TWO)
    await board.settle()
    shared_pushes = [what for what, _ in account.asked].count("set-shared")
    await board.check()
    await board.settle()
    assert (await board.state(one)).state == (await board.state(two)).state == "synced"
    assert [what for what, _ in account.asked].count("set-shared") == shared_pushes == 1
    await board.configurations.delete("ada", first, numbers_are="detach")
    await board.settle()
    assert is_ours(account)
    assert (await board.state(two)).state == "synced"
    assert account.lines[ONE].settings["app_id"] == ""
    await board.numbers.delete("ada", second, two)
    await board.settle()
    assert account.shared == THEIRS


@pytest.mark.parametrize("repair", [True, False])
async def test_an_application_that_somebody_changes_is_drift_of_its_numbers(
    board: Board, private_key: str, repair: bool
) -> None:
    account = application(board, ONE, TWO)
    main = await board.configure(provider="vonage", credentials=vonage(private_key), repair_drift=repair)
    numbers = [await board.add(main, each) for each in (ONE, TWO)]
    await board.settle()
    account.shared["answer_url"] = "https://them.example/new"
    await board.check()
    await board.settle()
    for number in numbers:
        row = await board.state(number)
        assert row.state == ("synced" if repair else "drifted")
        assert [each["setting"] for each in row.last_drift["differs"]] == ["answer_url"]
        assert row.last_drift["repaired"] is repair
    assert is_ours(account) is repair


@on_sqlite
async def test_an_application_that_cannot_be_read_is_told_by_its_numbers(
    board: Board, private_key: str
) -> None:
    account = application(board, ONE)
    account.faults = [None, RestError("credentials", "application-not-found", "no such application")]
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    number = await board.add(main, ONE)
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.reason) == ("failed", "application-not-found")


@on_sqlite
async def test_an_application_stays_set_when_its_numbers_are_left(board: Board, private_key: str) -> None:
    account = application(board, ONE)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    await board.add(main, ONE)
    await board.settle()
    await board.configurations.delete("ada", main, numbers_are="leave")
    await board.settle()
    assert is_ours(account)


async def test_somebody_else_who_names_the_application_does_not_keep_it_from_being_set_back(
    board: Board, private_key: str
) -> None:
    account = application(board, ONE)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    number = await board.add(main, ONE)
    await board.settle()
    claim = await board.configure(user="bob", provider="vonage", credentials=vonage(private_key))
    account.always = RestError("credentials", "401", "not his")
    await board.add_as("bob", claim, TWO)
    await board.settle()
    account.always = None
    await board.change(main, number, active=False)
    await board.settle()
    assert account.shared == THEIRS


async def test_an_application_that_another_user_has_numbers_at_too_stays_set(
    board: Board, private_key: str
) -> None:
    account = application(board, ONE, TWO)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    number = await board.add(main, ONE)
    too = await board.configure(user="bob", provider="vonage", credentials=vonage(private_key))
    await board.add_as("bob", too, TWO)
    await board.settle()
    await board.numbers.delete("ada", main, number)
    await board.settle()
    assert is_ours(account)


@pytest.mark.parametrize("way", ["deleted", "another application"])
async def test_what_is_known_of_an_application_is_not_told_to_somebody_else_who_only_names_it(
    board: Board, private_key: str, way: str
) -> None:
    application(board, ONE)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    await board.add(main, ONE)
    await board.settle()
    claim = await board.configure(user="bob", provider="vonage", credentials=vonage(private_key))
    number = await board.add_as("bob", claim, TWO)
    await board.numbers.delete("bob", claim, number)
    await board.add_as("bob", claim, TWO)
    if way == "deleted":
        await board.configurations.delete("ada", main, numbers_are="detach")
    else:
        await board.configurations.update("ada", main, {"credentials": vonage(private_key, OTHER_APP)})
    assert claim not in [row.configuration_id for row in await board.shared()]


async def test_another_user_who_has_the_application_too_goes_on_with_what_is_known_of_it(
    board: Board, private_key: str
) -> None:
    account = application(board, ONE, TWO)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    await board.add(main, ONE)
    await board.settle()
    too = await board.configure(user="bob", provider="vonage", credentials=vonage(private_key))
    number = await board.add_as("bob", too, TWO)
    await board.settle()
    await board.configurations.delete("ada", main, numbers_are="detach")
    await board.settle()
    assert is_ours(account)
    await board.numbers.delete("bob", too, number)
    await board.settle()
    assert account.shared == THEIRS


async def test_who_goes_on_with_an_application_forgets_nothing_of_it_when_another_user_goes(
    board: Board, private_key: str
) -> None:
    application(board, ONE)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    await board.add(main, ONE)
    await board.settle()
    claim = await board.configure(user="bob", provider="vonage", credentials=vonage(private_key))
    async with board.database.write() as connection:
        left = Book(
            before={"answer_url": THEIRS["answer_url"]}, ours={"answer_url": ("https://old.example",)}
        )
        await store.save_shared(connection, claim, left, account=VONAGE_APP)
    [before] = [row for row in await board.shared() if row.configuration_id == main]
    await board.configurations.delete("bob", claim)
    [after] = await board.shared()
    assert (after.configuration_id, after.before, after.compared_at) == (
        main,
        before.before,
        before.compared_at,
    )
    assert (after.wanted, after.pushed_at) == (before.wanted, before.pushed_at)
    assert set(before.ours["answer_url"]) < set(after.ours["answer_url"])


@pytest.mark.parametrize("what", ["number", "configuration"])
async def test_what_is_deleted_while_it_is_looked_at_leaves_the_application_as_it_was(
    board: Board, private_key: str, what: str
) -> None:
    account = application(board, ONE)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    number = await board.add(main, ONE)

    async def delete() -> None:
        if what == "number":
            await board.numbers.delete("ada", main, number)
        else:
            await board.configurations.delete("ada", main, numbers_are="detach")

    board.once(account, "shared", delete)
    await board.settle()
    assert account.shared == THEIRS
    assert account.lines[ONE].settings["app_id"] == ""


@pytest.mark.parametrize("repair", [True, False])
async def test_an_application_that_is_wanted_again_while_it_is_set_back_has_not_drifted(
    board: Board, private_key: str, repair: bool
) -> None:
    account = application(board, ONE)
    main = await board.configure(provider="vonage", credentials=vonage(private_key), repair_drift=repair)
    number = await board.add(main, ONE)
    await board.settle()
    await board.change(main, number, active=False)
    # As if the process had died between the provider's answer and its commit.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "forget_shared", _dies)
        async with running(board.reconciler()):
            async with asyncio.timeout(10):
                while is_ours(account):
                    await asyncio.sleep(0.01)
    await board.change(main, number, active=True)
    await board.settle()
    row = await board.state(number)
    assert (row.state, row.last_drift) == ("synced", None)
    assert is_ours(account)


async def _dies(*_: object) -> None:
    raise OSError("killed")


@on_sqlite
async def test_the_method_of_an_applications_own_address_stays_with_it(
    board: Board, private_key: str
) -> None:
    account = application(board, ONE)
    main = await board.configure(provider="vonage", credentials=vonage(private_key), repair_drift=False)
    number = await board.add(main, ONE)
    await board.settle()
    account.shared["answer_url"] = "https://them.example/new"
    await board.change(main, number, active=False)
    await board.settle()
    moved = {"answer_url": "https://them.example/new", "answer_method": "POST"}
    assert account.shared == THEIRS | moved


# --- a number that goes from one application of an account to another

OTHER_APP = "bbbbbbbb-cccc-dddd-eeee-0123456789ab"
THEIR_APP = "cccccccc-dddd-eeee-ffff-0123456789ab"
SLOW = [({}, {}), ({"lines": 0.4}, {}), ({"set-line": 0.4}, {}), ({}, {"lines": 0.4}), ({}, {"set-line": 0.4}),
        ({"set-line": 0.4}, {"lines": 0.2})]  # fmt: skip


def two_applications(board: Board) -> tuple[Account, Account]:
    """Of one account of Vonage: both see the same numbers."""
    one, other = application(board, ONE), board.accounts[OTHER_APP]
    other.shared = dict(THEIRS)
    other.lines = one.lines
    one.set(ONE, app_id=THEIR_APP)
    return one, other


def is_slow(account: Account, seconds: dict[str, float]) -> None:
    account.before = lambda operation: time.sleep(seconds.get(operation, 0))


@on_sqlite
@pytest.mark.parametrize("slow", SLOW)
@pytest.mark.parametrize("repair", [True, False])
async def test_a_number_moved_to_a_configuration_with_another_application_is_not_set_back_under_it(
    board: Board, private_key: str, repair: bool, slow: tuple[dict[str, float], dict[str, float]]
) -> None:
    one, other = two_applications(board)
    main = await board.configure(provider="vonage", credentials=vonage(private_key))
    number = await board.add(main, ONE)
    await board.settle()
    await board.numbers.delete("ada", main, number)
    new = vonage(private_key, OTHER_APP)
    second = await board.configure("Other", provider="vonage", credentials=new, repair_drift=repair)
    number = await board.add(second, ONE)
    is_slow(one, slow[0])
    is_slow(other, slow[1])
    await board.settle()
    assert (await board.state(number)).state == "synced"
    assert one.lines[ONE].settings["app_id"] == OTHER_APP
    assert one.shared == THEIRS
    await board.change(second, number, active=False)
    await board.settle()
    assert one.lines[ONE].settings["app_id"] == THEIR_APP
    assert other.shared == THEIRS


@on_sqlite
@pytest.mark.parametrize("slow", SLOW)
async def test_a_configuration_that_changes_its_application_keeps_its_numbers(
    board: Board, private_key: str, slow: tuple[dict[str, float], dict[str, float]]
) -> None:
    one, other = two_applications(board)
    main = await board.configure(provider="vonage", credentials=vonage(private_key), repair_drift=False)
    number = await board.add(main, ONE)
    await board.settle()
    await board.configurations.update("ada", main, {"credentials": vonage(private_key, OTHER_APP)})
    is_slow(one, slow[0])
    is_slow(other, slow[1])
    await board.settle()
    assert (await board.state(number)).state == "synced"
    assert one.lines[ONE].settings["app_id"] == OTHER_APP
    assert one.shared == THEIRS
    await board.change(main, number, active=False)
    await board.settle()
    assert one.lines[ONE].settings["app_id"] == THEIR_APP


@on_sqlite
async def test_letting_go_that_crashes_is_told_and_tried_again_later(board: Board) -> None:
    account = board.accounts[SID].own(ONE)
    main = await board.configure()
    number = await board.add(main, ONE)
    await board.settle()
    await board.numbers.delete("ada", main, number)
    account.faults = [KeyError("a bug")]
    await board.settle(board.reconciler(SyncSettings(interval_s=3600, retry_s=3600)))
    [row] = await board.detachments()
    assert (row.state, row.attempts) == ("open", 1)
    assert "unexpected" in row.sentence
    board.pass_time(3601)
    await board.settle()
    assert await states(board) == ["done"]
