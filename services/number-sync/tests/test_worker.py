"""Dialling and hanging up: through the official SDKs, at a real HTTP server, on both databases."""

import asyncio
import base64
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from counting_provider import (
    LOST,
    Answer,
    CountingProvider,
    counting_provider,
    twilio_call,
    twilio_error,
)
from dialling import HASTY, Desk, make_worker, only_failure, until, working
from running_number_sync import KEYRING, OTHER_TWILIO, PUBLIC_URL, TWILIO
from sqlalchemy import update

from number_sync.database import Database
from number_sync.orders import dials, ledger
from number_sync.schema import configurations
from offhook.bus.errors import PoisonError
from offhook.events import (
    CallOriginated,
    CallStatus,
    CommandFailed,
    InstructionsServed,
    StatusReported,
    new_event,
)
from offhook.providers.twilio.retries import with_retries

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def provider() -> Iterator[CountingProvider]:
    with counting_provider() as running:
        yield running


@pytest.fixture
async def desk(database: Database) -> Desk:
    return await Desk(database).open()


async def test_a_call_is_dialled_with_our_urls_and_told(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    order = desk.originate("run1", ring_timeout_s=25)
    async with working(worker):
        await worker.record_commands([order])
        await desk.closed("run1")
    [asked] = provider.dials
    assert asked["To"] == "+442079460000"
    assert asked["From"] == "+14155551234"
    assert asked["Url"] == with_retries(f"{PUBLIC_URL}/api/v1/telephony/webhook/w1/ada/run1")
    assert asked["StatusCallback"] == with_retries(f"{PUBLIC_URL}/api/v1/telephony/status-callback/run1")
    assert asked["FallbackUrl"] == with_retries(f"{PUBLIC_URL}/api/v1/telephony/inbound/fallback")
    assert asked["Timeout"] == "25"
    assert await desk.told("run1") == [
        CallOriginated(
            workflow_run_id="run1",
            provider="twilio",
            account=TWILIO["account_sid"],
            configuration_id=desk.configuration_id,
            provider_call_id=f"CA{1:032x}",
        )
    ]


async def test_an_order_that_comes_again_dials_once(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    workers = [make_worker(database, provider.url) for _ in range(3)]
    order, other_order = desk.originate("run1"), desk.originate("run1")
    async with working(*workers):
        await asyncio.gather(*(worker.record_commands([order, other_order]) for worker in workers))
        await workers[0].record_commands([order])
        await desk.closed("run1")
        await workers[0].record_commands([order])
        await desk.closed("run1")
    assert len(provider.dials) == 1
    assert len(await desk.told("run1")) == 1


async def test_several_processes_share_the_work_and_dial_each_call_once(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    workers = [make_worker(database, provider.url) for _ in range(3)]
    runs = [f"run{index}" for index in range(20)]
    async with working(*workers):
        await workers[0].record_commands([desk.originate(run) for run in runs])
        await desk.closed(*runs)
    assert sorted(dial["Url"] for dial in provider.dials) == sorted(
        with_retries(f"{PUBLIC_URL}/api/v1/telephony/webhook/w1/ada/{run}") for run in runs
    )


@pytest.mark.parametrize(
    "refusal",
    [
        twilio_error(429, 20429, "Too many requests", Retry_After="1"),
        twilio_error(503, 20503, "Unavailable"),
    ],
)
@on_sqlite
async def test_what_the_provider_has_surely_not_accepted_is_tried_again(
    database: Database, desk: Desk, provider: CountingProvider, refusal: Answer
) -> None:
    provider.to_dial = [refusal, refusal]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    assert len(provider.dials) == 3
    [originated] = await desk.told("run1")
    assert isinstance(originated, CallOriginated)


@on_sqlite
async def test_a_proxy_that_lost_the_provider_is_not_asked_to_dial_again(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [Answer(503, headers={"Server": "envoy"})]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    assert len(provider.dials) == 1
    assert only_failure(await desk.told("run1")).code == "outcome-unknown"


@on_sqlite
async def test_trying_again_has_an_end(database: Database, desk: Desk, provider: CountingProvider) -> None:
    provider.to_dial = [twilio_error(503, 20503, "Unavailable")] * 100
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    assert 1 < len(provider.dials) < 10
    assert only_failure(await desk.told("run1")).code == "unavailable"


async def test_a_provider_that_cannot_be_reached_fails_the_command_in_the_end(
    database: Database, desk: Desk
) -> None:
    worker = make_worker(database, "http://127.0.0.1:9")
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    assert only_failure(await desk.told("run1")).code == "unavailable"


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (twilio_error(400, 21211, f"Invalid 'To': {TWILIO['auth_token']}"), "rejected"),
        (twilio_error(401, 20003, "Authenticate"), "credentials"),
        (twilio_error(403, 20005, "Account not active"), "credentials"),
    ],
)
@on_sqlite
async def test_a_refusal_is_final_and_told_without_secrets(
    database: Database, desk: Desk, provider: CountingProvider, refusal: Answer, code: str
) -> None:
    provider.to_dial = [refusal]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    assert len(provider.dials) == 1
    failure = only_failure(await desk.told("run1"))
    assert (failure.command, failure.code, failure.final) == ("originate", code, True)
    assert str(refusal.body["code"]) in failure.message
    assert TWILIO["auth_token"] not in failure.message


@pytest.mark.parametrize("answer", [LOST, Answer(500), Answer(502), Answer(201, {"unexpected": True})])
async def test_a_dial_whose_answer_was_lost_is_not_repeated(
    database: Database, desk: Desk, provider: CountingProvider, answer: Answer
) -> None:
    provider.to_dial = [answer]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
    assert len(provider.dials) == 1
    assert only_failure(await desk.told("run1")).code == "outcome-unknown"


async def test_a_call_that_shows_life_was_accepted(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [LOST, LOST]
    worker = make_worker(database, provider.url, replace(HASTY, outcome_grace_s=60))
    async with working(worker):
        await worker.record_commands([desk.originate("run1"), desk.originate("run2")])
        await until(lambda: _count(provider, 2))
        status = StatusReported(
            workflow_run_id="run1",
            provider="twilio",
            account=TWILIO["account_sid"],
            provider_call_id="CAlife",
            status=CallStatus.RINGING,
            provider_status="ringing",
        )
        served = InstructionsServed(
            workflow_run_id="run2",
            provider="twilio",
            account=TWILIO["account_sid"],
            provider_call_id="CAother",
            kind="connect",
            elapsed_ms=1,
        )
        events = [
            new_event(data, source="/webhook-gateway", time=datetime.now(UTC), subject=data.workflow_run_id)
            for data in (status, status, served)
        ]
        await worker.observe_life(events)
        await worker.observe_life(events)
        await desk.closed("run1", "run2")
    for run, call_id in (("run1", "CAlife"), ("run2", "CAother")):
        [originated] = await desk.told(run)
        assert isinstance(originated, CallOriginated)
        assert (originated.provider_call_id, originated.account) == (call_id, TWILIO["account_sid"])
    assert len(provider.dials) == 2


async def _count(provider: CountingProvider, dials: int) -> bool:
    return len(provider.dials) >= dials


@on_sqlite
async def test_life_shown_after_the_call_was_given_up_is_still_told(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    provider.to_dial = [LOST]
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
        served = InstructionsServed(
            workflow_run_id="run1",
            provider="twilio",
            account=TWILIO["account_sid"],
            provider_call_id="CAlate",
            kind="connect",
            elapsed_ms=1,
        )
        event = new_event(served, source="/webhook-gateway", time=datetime.now(UTC), subject="run1")
        await worker.observe_life([event])
    assert [type(one) for one in await desk.told("run1")] == [CommandFailed, CallOriginated]


@pytest.mark.parametrize(
    "changes",
    [
        {"account": OTHER_TWILIO["account_sid"]},
        {"provider": "vonage"},
        {"conversation_id": "CON\0"},
        {"conversation_id": "C" * 200},
    ],
)
async def test_what_another_account_or_nobody_can_have_sent_is_no_sign_of_life(
    database: Database, desk: Desk, provider: CountingProvider, changes: dict[str, str]
) -> None:
    provider.to_dial = [LOST]
    worker = make_worker(database, provider.url, replace(HASTY, outcome_grace_s=60))
    life = StatusReported(
        workflow_run_id="run1",
        provider="twilio",
        account=TWILIO["account_sid"],
        provider_call_id="CAlife",
        status=CallStatus.RINGING,
        provider_status="ringing",
    )
    events = [
        new_event(data, source="/webhook-gateway", time=datetime.now(UTC), subject="run1")
        for data in (life.model_copy(update=changes | {"provider_call_id": "CAforeign"}), life)
    ]
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await until(lambda: _count(provider, 1))
        await worker.observe_life(events[:1])
        assert await desk.told("run1") == []
        await worker.observe_life(events)
        await desk.closed("run1")
    [originated] = await desk.told("run1")
    assert isinstance(originated, CallOriginated)
    assert originated.provider_call_id == "CAlife"


async def test_life_of_calls_that_were_not_dialled_here_is_nothing_new(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    media_leg = StatusReported(
        workflow_run_id="run1",
        provider="vonage",
        account="a",
        provider_call_id="x",
        leg="media",
        status=None,
        provider_status="ringing",
    )
    await worker.record_commands([desk.originate("run1")])
    for run in ("run1", "run2"):
        data = media_leg.model_copy(update={"workflow_run_id": run})
        await worker.observe_life([new_event(data, source="/x", time=datetime.now(UTC), subject=run)])
    served = InstructionsServed(
        workflow_run_id="run2",
        provider="twilio",
        account=TWILIO["account_sid"],
        provider_call_id="CA",
        kind="connect",
        elapsed_ms=1,
    )
    await worker.observe_life([new_event(served, source="/x", time=datetime.now(UTC), subject="run2")])
    assert await desk.told("run1") == await desk.told("run2") == []


async def test_an_answer_after_the_deadline_is_still_the_truth(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    release = threading.Event()
    provider.to_dial = [replace(twilio_call(7), before=lambda: release.wait(20))]
    worker = make_worker(
        database, provider.url, replace(HASTY, timeout_s=20, deadline_s=0.2, outcome_grace_s=60)
    )
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await until(lambda: _count(provider, 1))
        await asyncio.sleep(0.5)
        assert await desk.told("run1") == []
        release.set()
        await desk.closed("run1")
    [originated] = await desk.told("run1")
    assert isinstance(originated, CallOriginated)
    assert originated.provider_call_id == f"CA{7:032x}"


async def test_a_provider_that_does_not_answer_delays_its_own_calls_only(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    release = threading.Event()
    other = await Desk(database).open("Other", OTHER_TWILIO)
    worker = make_worker(database, provider.url, replace(HASTY, timeout_s=30, deadline_s=30))
    slow = [f"slow{index}" for index in range(8)]
    provider.to_dial = [
        replace(twilio_call(100 + index), before=lambda: release.wait(30)) for index in range(2)
    ]
    async with working(worker):
        await worker.record_commands([desk.originate(run) for run in slow])
        await until(lambda: _count(provider, 2))
        quick = [f"quick{index}" for index in range(8)]
        await worker.record_commands([other.originate(run) for run in quick])
        await other.closed(*quick)
        assert len(provider.dials) == 2 + len(quick)
        release.set()
        await desk.closed(*slow)


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("paused", "configuration-paused"),
        ("deleted", "no-configuration"),
        ("foreign", "no-configuration"),
        ("other provider", "no-configuration"),
        ("no public url", "no-public-url"),
        ("lost key", "credentials-unreadable"),
        ("too old", "expired"),
    ],
)
@on_sqlite
async def test_what_cannot_be_dialled_is_told_and_the_provider_not_asked(
    database: Database, provider: CountingProvider, reason: str, code: str
) -> None:
    desk = await Desk(database).open(public_url=None if reason == "no public url" else PUBLIC_URL)
    keyring = "other:" + base64.b64encode(bytes(32)).decode() if reason == "lost key" else KEYRING
    worker = make_worker(database, provider.url, keyring=keyring)
    more: dict[str, Any] = {}
    if reason == "paused":
        async with database.write() as connection:
            await connection.execute(update(configurations).values(paused=True))
    elif reason == "deleted":
        more["configuration_id"] = "gone"
    elif reason == "foreign":
        more["user_id"] = "bob"
    elif reason == "other provider":
        more["provider"] = "vonage"
    time = datetime.now(UTC) - timedelta(minutes=5) if reason == "too old" else None
    async with working(worker):
        await worker.record_commands([desk.originate("run1", time=time, **more)])
        await desk.closed("run1")
    assert provider.dials == []
    assert only_failure(await desk.told("run1")).code == code


# --- processes that die ----------------------------------------------------------------------------------------------------


async def test_a_claim_without_an_outcome_is_never_dialled_again(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    worker = make_worker(database, provider.url)
    await worker.record_commands([desk.originate("run1")])
    async with database.write() as connection:
        [command] = await ledger.lease(connection, owner="dead", now=2**50, until=0, limit=1)
        assert await dials.claim(connection, command, token="t", account="AC", now=0)
    async with working(worker):
        await desk.closed("run1")
    assert provider.dials == []
    assert only_failure(await desk.told("run1")).code == "outcome-unknown"


async def test_only_one_of_many_can_claim_a_dial(database: Database, desk: Desk) -> None:
    worker = make_worker(database, "http://127.0.0.1:9")
    await worker.record_commands([desk.originate("run1")])
    async with database.write() as connection:
        [command] = await ledger.lease(connection, owner="x", now=2**50, until=0, limit=1)

    async def try_to_claim(token: str) -> bool:
        async with database.write() as connection:
            return await dials.claim(connection, command, token=token, account="AC", now=1)

    claims = await asyncio.gather(*(try_to_claim(f"t{index}") for index in range(10)))
    assert claims.count(True) == 1
    async with database.write() as connection:
        assert not await dials.unclaim(connection, "run1", token="somebody else's")


async def test_commands_of_a_run_are_leased_in_their_order(database: Database, desk: Desk) -> None:
    worker = make_worker(database, "http://127.0.0.1:9")
    await worker.record_commands([desk.originate("run1"), desk.hang_up("run1"), desk.originate("run2")])
    now = 2**50
    async with database.write() as connection:
        first = await ledger.lease(connection, owner="x", now=now, until=now + 1000, limit=10)
        assert [(command.kind, command.run_id) for command in first] == [
            ("originate", "run1"),
            ("originate", "run2"),
        ]
        assert await ledger.lease(connection, owner="y", now=now, until=now + 1000, limit=10) == []
        await ledger.finish(connection, first[0], state=ledger.DONE, result="dialled", now=now)
        [second] = await ledger.lease(connection, owner="y", now=now, until=now + 1000, limit=10)
        assert second.kind == "hangup"
    later = now + 2000
    async with database.write() as connection:
        again = await ledger.lease(connection, owner="z", now=later, until=later, limit=10)
    assert {command.run_id for command in again} == {"run1", "run2"}


async def test_a_drained_worker_leaves_its_commands_to_others_at_once(
    database: Database, desk: Desk, provider: CountingProvider
) -> None:
    first = make_worker(database, provider.url, replace(HASTY, lease_s=3600))
    async with working(first):
        await first.record_commands([desk.originate("run1")])
        await desk.closed("run1")
        await first.drain()
        await first.record_commands([desk.originate("run2")])
        await asyncio.sleep(0.2)
        assert len(provider.dials) == 1
    second = make_worker(database, provider.url)
    async with working(second):
        await desk.closed("run2")
    assert len(provider.dials) == 2


async def test_what_cannot_be_stored_is_poison(database: Database, desk: Desk) -> None:
    worker = make_worker(database, "http://127.0.0.1:9")
    for event in (desk.originate("run1", configuration_id="\0"), desk.originate("run1", provider="x" * 99)):
        with pytest.raises(PoisonError):
            await worker.record_commands([event])


async def test_old_commands_are_forgotten(database: Database, desk: Desk, provider: CountingProvider) -> None:
    worker = make_worker(database, provider.url)
    async with working(worker):
        await worker.record_commands([desk.originate("run1")])
        await desk.closed("run1")
        await worker.record_commands([desk.originate("run2", time=datetime.now(UTC))])
        await desk.closed("run2")
    async with database.write() as connection:
        await ledger.forget(connection, before=0)
        assert await dials.dial_of(connection, "run1") is not None
        await ledger.forget(connection, before=2**50)
        assert await dials.dial_of(connection, "run1") is None
