"""The store rebuilt from the event log is the store that was."""

import random
import uuid
from pathlib import Path
from typing import Any

import pytest
from events_of_calls import AnyEvent, Call
from sqlalchemy import select
from typer.testing import CliRunner

from call_tracker.app import utc_now
from call_tracker.commands import rebuild
from call_tracker.rebuild import Progress, RebuildError, events_of_kafka, rebuild_from
from call_tracker.store import Database, Store
from call_tracker.store.tables import CALL_EVENTS, CALL_NUMBERS, CALLS, OUTBOX
from offhook.bus import Bus
from offhook.settings import ServiceSettings
from offhook.topics import CALL_EVENTS as TOPIC
from offhook_dev.kafka import KafkaServer

# How often a row was written, and when the provider is asked next: of the process, not of the call.
NO_FACTS = {"revision", "look_at_us", "looks", "look_reason"}


def mixed(calls: int, prefix: str = "run") -> list[AnyEvent]:
    """Events of many calls of all kinds: late, twice, in disorder, of strangers, and some lost."""
    chance = random.Random(4)
    told: list[tuple[float, AnyEvent]] = []
    for number in range(calls):
        provider = chance.choice(["twilio", "vonage"])
        call = Call(
            f"{prefix}-{number}", provider=provider, account=f"account-{number % 3}", call_id=f"call-{number}",
            user=f"user-{number % 5}",
        )  # fmt: skip
        kinds = [call.twilio_outbound, call.vonage_inbound]
        events = chance.choice(kinds)()
        extra = [
            call.status("busy", 4.0, said_at=4), call.status("going-strange", 5.0), call.hangup_requested(),
            call.seen("completed", 60.0, answered=3.0, ended=9.0), call.lost(), call.transfer_requested(),
            call.transfer_ended(), call.recording_stored(), call.dial_failed(), call.agent_lost(),
            Call(call.run, provider=provider, account="foreign", call_id="other").status("failed", 2.0),
        ]  # fmt: skip
        events = [one for one in events if chance.random() > 0.15] + chance.sample(extra, 2)
        events += chance.sample(events, len(events) // 3)
        told += [(number / 10 + chance.random() * 3, one) for one in events]
    return [one for _, one in sorted(told, key=lambda pair: pair[0])]


async def rows(database: Database, table: Any, leave_out: set[str] = frozenset()) -> list[dict[str, Any]]:  # type: ignore[assignment]
    columns = [column for column in table.columns if column.name not in leave_out]
    async with database.read() as connection:
        found = await connection.execute(select(*columns).order_by(*table.primary_key.columns))
        return [dict(row) for row in found.mappings()]


async def stored(url: str, events: list[AnyEvent]) -> Database:
    database = Database(url)
    await database.migrate()
    store = Store(database, utc_now)
    for start in range(0, len(events), 37):
        await store.apply(events[start : start + 37])
    return database


async def assert_same(first: Database, second: Database) -> None:
    assert await rows(first, CALLS, NO_FACTS) == await rows(second, CALLS, NO_FACTS)
    assert await rows(first, CALL_NUMBERS) == await rows(second, CALL_NUMBERS)


async def test_every_row_is_the_same_as_before_and_nothing_is_published(
    database_url: str, tmp_path: Path
) -> None:
    old = await stored(database_url, mixed(60))
    new = Database(into := f"sqlite+aiosqlite:///{tmp_path / 'new.db'}")
    seen: list[int] = []
    try:
        done = await rebuild_from(
            database_url, into, clock=utc_now, tell=lambda progress: seen.append(progress.events)
        )
        await assert_same(old, new)
        assert await rows(old, CALL_EVENTS, {"seq"}) == await rows(new, CALL_EVENTS, {"seq"})
        assert await rows(new, OUTBOX) == []
        assert (done.calls, done.events, done.skipped) == (60, done.total, 0)
        assert seen[-1] == done.total
    finally:
        await old.close()
        await new.close()


async def test_a_target_that_holds_anything_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    events = Call().twilio_outbound()
    old = await stored(source := f"sqlite+aiosqlite:///{tmp_path / 'old.db'}", events)
    full = await stored(into := f"sqlite+aiosqlite:///{tmp_path / 'full.db'}", events[:3])
    before = await rows(full, CALLS)
    foreign = Database(elsewhere := f"sqlite+aiosqlite:///{tmp_path / 'foreign.db'}")
    async with foreign.write() as connection:
        await connection.exec_driver_sql("CREATE TABLE customers (id INTEGER)")
    try:
        for target in (into, elsewhere, source):
            with pytest.raises(RebuildError, match="not empty"):
                await rebuild_from(source, target, clock=utc_now)
        assert await rows(full, CALLS) == before
    finally:
        for database in (old, full, foreign):
            await database.close()


@pytest.mark.real
async def test_the_topic_alone_is_enough(kafka: KafkaServer, tmp_path: Path) -> None:
    events = mixed(20, prefix=uuid.uuid4().hex[:8])
    settings = ServiceSettings.model_construct(
        kafka_bootstrap=kafka.bootstrap, replication_factor=1, partitions=4, SECRETS=frozenset()
    )
    bus = Bus(settings, service="test")
    await bus.start()
    try:
        await bus.publish_many(TOPIC, events)
    finally:
        await bus.stop()
    old = await stored(f"sqlite+aiosqlite:///{tmp_path / 'old.db'}", events)
    new = Database(into := f"sqlite+aiosqlite:///{tmp_path / 'new.db'}")
    try:
        await rebuild_from(f"kafka://{kafka.bootstrap}", into, clock=utc_now)
        wanted = await rows(old, CALLS, NO_FACTS)
        runs = {row["workflow_run_id"] for row in wanted}
        found = [row for row in await rows(new, CALLS, NO_FACTS) if row["workflow_run_id"] in runs]
        assert found == wanted
        with pytest.raises(RebuildError, match="cannot be used"):
            async for _ in events_of_kafka("127.0.0.1:1", Progress()):
                pass
    finally:
        await old.close()
        await new.close()


def test_the_command_says_what_it_did_or_why_not(tmp_path: Path) -> None:
    runner, empty = CliRunner(), f"sqlite+aiosqlite:///{tmp_path / 'new.db'}"
    wrong = runner.invoke(rebuild, ["--from", "mysql://user:secret@host/db", "--into", empty])
    assert (wrong.exit_code, "secret" in wrong.output) == (2, False)
    nothing = runner.invoke(
        rebuild, ["--from", f"sqlite+aiosqlite:///{tmp_path / 'none.db'}", "--into", empty]
    )
    assert nothing.exit_code == 1
    assert "event log cannot be read" in nothing.output
