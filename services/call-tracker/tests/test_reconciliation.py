"""Silent calls are asked about: by one process, again and again, until they have ended. On both databases."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock

import pytest
from events_of_calls import NOON, Call
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.joining import gather
from call_tracker.lifecycle import project
from call_tracker.reconciliation import LeaseKeeper, Reconciliation, ask_about
from call_tracker.silence import GIVE_UP_S, SILENCE_S, Stage
from call_tracker.store import Database, Outbox, Store, StoreUnavailable, calls
from call_tracker.tracker import Tracker
from offhook.call_leases import LEASE_S, ORPHANED_S, CallLeases, Full, Granted, Scope
from offhook.events import CallObserved, CallStatus, Event, EventData, Observe
from offhook.shared_redis import SharedRedis
from offhook.telemetry import tracing
from offhook.topics import CALL_COMMANDS, CALL_EVENTS, Topic

AFTER_AUDIO_S = SILENCE_S[Stage.AFTER_AUDIO]


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now

    def go_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Broker:
    def __init__(self) -> None:
        self.published: list[tuple[Topic, EventData]] = []

    async def publish_many(self, topic: Topic, events: Sequence[Event[EventData]]) -> None:
        self.published += [(topic, event.data) for event in events]


class Service:
    """The parts that look, on one database; a second one is another process."""

    def __init__(self, database: Database, clock: Clock, redis: SharedRedis) -> None:
        self.clock, self.broker = clock, Broker()
        self.store = Store(database, clock)
        self.outbox = Outbox(database, self.broker)
        self.leases = CallLeases(redis)
        tracker = Tracker(self.store, self.outbox, tracing.configure("call-tracker"), self.leases)
        self.reconciliation = Reconciliation(self.store, self.outbox, tracker)

    async def questions(self) -> list[Observe]:
        """One round, and what it asked."""
        before = len(self.broker.published)
        await self.reconciliation.look()
        await self.outbox.drain()
        return [
            data
            for topic, data in self.broker.published[before:]
            if topic is CALL_COMMANDS and isinstance(data, Observe)
        ]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[SharedRedis]:
    shared = SharedRedis(redis_url, loss="calls are not counted", timeout_s=2.0)
    yield shared
    await shared.stop()


@pytest.fixture
def service(database: Database, clock: Clock, redis: SharedRedis) -> Service:
    return Service(database, clock, redis)


CALL = Call()
SILENT = [CALL.received(), CALL.media_started(3), CALL.media_stopped(9)]


async def test_a_call_is_asked_about_when_its_silence_has_lasted_too_long(
    service: Service, clock: Clock
) -> None:
    await service.store.apply(SILENT)
    clock.go_on(AFTER_AUDIO_S - 1)
    assert await service.questions() == []
    clock.go_on(1)
    (asked,) = await service.questions()
    assert (asked.provider_call_id, asked.configuration_id, asked.reason) == ("CA1", "conf-1", "silence")
    assert (asked.from_number, asked.to_number) == ("+14155550199", "+14155550100")
    assert asked.requested_at is not None
    assert await service.questions() == []
    clock.go_on(2 * AFTER_AUDIO_S)
    assert len(await service.questions()) == 1


async def test_the_answer_ends_the_call_and_nothing_is_asked_any_more(service: Service, clock: Clock) -> None:
    await service.store.apply(SILENT)
    clock.go_on(AFTER_AUDIO_S)
    assert len(await service.questions()) == 1
    answer = CALL.seen("completed", 70, answered=3, ended=9, duration_s=6, price="0.01", price_unit="USD")
    await service.store.apply([answer, CALL.lost(70, found=True)])
    record = await service.store.find("user-1", "run-1")
    assert record is not None
    assert (record.status, record.reconciled) == (CallStatus.COMPLETED, True)
    clock.go_on(10 * GIVE_UP_S)
    assert await service.questions() == []


async def test_whatever_is_heard_of_a_call_begins_its_silence_anew(service: Service, clock: Clock) -> None:
    await service.store.apply(SILENT)
    clock.go_on(AFTER_AUDIO_S - 1)
    await service.store.apply([CALL.transfer_requested(60)])
    clock.go_on(AFTER_AUDIO_S)
    assert await service.questions() == []


async def test_what_another_account_says_of_a_call_does_not_put_off_the_question(
    service: Service, clock: Clock
) -> None:
    intruder = Call(account="AC666", call_id="CA666")
    await service.store.apply(SILENT)
    clock.go_on(AFTER_AUDIO_S)
    assert len(await service.questions()) == 1
    for said in range(3):
        await service.store.apply([intruder.status("ringing", 60, sequence=1000 - said)])
        clock.go_on(AFTER_AUDIO_S - 1)
    assert len(await service.questions()) == 1


@pytest.mark.real
async def test_a_call_that_is_looked_up_while_another_account_speaks_of_it_is_not_looked_up_again(
    postgres_url: str, redis: SharedRedis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres_url)  # SQLite has one writer, so nobody looks meanwhile
    await database.migrate()
    service = Service(database, clock, redis)
    await service.store.apply(SILENT)
    clock.go_on(AFTER_AUDIO_S)
    read = calls._read
    asked: list[list[Observe]] = []

    async def read_while_somebody_looks(connection: AsyncConnection, runs: list[str]) -> dict[str, Any]:
        held = await read(connection, runs)
        asked.append(await service.questions())
        return held

    monkeypatch.setattr(calls, "_read", read_while_somebody_looks)
    await service.store.apply([Call(account="AC666", call_id="CA666").status("ringing", 60)])
    asked.append(await service.questions())
    await database.close()
    assert [len(questions) for questions in asked if questions] == [1]


async def test_processes_that_look_at_once_ask_once(
    database: Database, clock: Clock, redis: SharedRedis, service: Service
) -> None:
    other = Service(database, clock, redis)
    silent = [Call(run=f"run-{number}", call_id=f"CA{number}") for number in range(8)]
    for call in silent:
        await service.store.apply([call.received(), call.media_stopped(9)])
    clock.go_on(AFTER_AUDIO_S)
    await asyncio.gather(*(one.reconciliation.look() for one in (service, other, service, other)))
    await service.outbox.drain()
    asked = [data.workflow_run_id for _, data in service.broker.published if isinstance(data, Observe)]
    assert sorted(asked) == sorted(call.run for call in silent)


async def test_after_a_start_whatever_lives_is_asked_about_soon(service: Service, clock: Clock) -> None:
    ended = Call(run="run-2", call_id="CA2")
    await service.store.apply([CALL.received(), CALL.media_started(3)])
    await service.store.apply([ended.received(), ended.status("busy")])
    assert await service.store.look_at_all_that_lives() == 1
    assert await service.questions() == []
    clock.go_on(20)
    (asked,) = await service.questions()
    assert (asked.workflow_run_id, asked.reason) == ("run-1", "start")


async def test_a_call_nobody_can_say_anything_about_is_given_up_after_a_day_and_its_place_is_free(
    service: Service, clock: Clock
) -> None:
    only = Scope("user", "user-1", max_concurrent=1)
    await service.leases.acquire("run-1", [only], clock())
    await service.store.apply(SILENT)
    for _ in range(100):
        clock.go_on(1800)
        await service.questions()
    record = await service.store.find("user-1", "run-1")
    assert record is not None
    assert (record.status, record.end_reason) == (CallStatus.FAILED, "lost")
    told = [data for topic, data in service.broker.published if topic is CALL_EVENTS]
    assert [type(data) for data in told] == [CallObserved]
    assert await service.leases.held(only, NOON) == 0


async def test_a_call_whose_beginning_never_came_is_given_up_too(service: Service, clock: Clock) -> None:
    await service.store.apply([CALL.status("ringing")])
    for _ in range(100):
        clock.go_on(1800)
        assert await service.questions() == []
    assert await service.store.active_calls() == 0


async def test_leases_of_live_calls_are_kept_and_those_of_ended_ones_are_not(
    service: Service, clock: Clock, redis: SharedRedis
) -> None:
    both = [Scope("user", "user-1", max_concurrent=1), Scope("configuration", "conf-1")]
    keeper = LeaseKeeper(service.store, service.leases, clock, lambda: True)
    assert await service.leases.acquire("run-1", both, clock()) == Granted()
    await service.store.apply(SILENT)
    for _ in range(3):
        clock.go_on(LEASE_S / 2)
        assert await keeper.renew() == 1
    assert isinstance(await service.leases.acquire("run-2", both, clock()), Full)
    await service.store.apply([CALL.status("completed", 9)])
    assert await keeper.renew() == 0
    clock.go_on(LEASE_S + 1)
    assert await service.leases.acquire("run-2", both, clock()) == Granted()


async def test_a_call_that_was_never_admitted_takes_no_place(service: Service, clock: Clock) -> None:
    user = Scope("user", "user-1", max_concurrent=1)
    keeper = LeaseKeeper(service.store, service.leases, clock, lambda: True)
    await service.store.apply([CALL.received(workflow_id=None), CALL.status("ringing", 0.1)])
    assert await keeper.renew() == 0
    assert await service.leases.held(user, clock()) == 0


async def test_after_an_outage_a_lease_is_nobodys_only_when_there_was_time_to_read_whose_it_is(
    service: Service, clock: Clock, redis: SharedRedis
) -> None:
    user = Scope("user", "user-1")
    await service.leases.acquire("run-1", [user], clock())
    clock.go_on(ORPHANED_S + 1)
    keeper = LeaseKeeper(
        service.store, service.leases, clock, lambda: True
    )  # its call is still to be read from Kafka
    await keeper.renew()
    assert await service.leases.held(user, clock()) == 1
    await keeper.renew()
    assert await service.leases.held(user, clock()) == 0


async def test_leases_are_freed_only_while_the_store_knows_every_call(
    database: Database, service: Service, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = Scope("user", "user-1")
    await service.leases.acquire("run-1", [user], clock())
    clock.go_on(ORPHANED_S + 1)
    read_all = False
    keeper = LeaseKeeper(service.store, service.leases, clock, lambda: read_all)
    for _ in range(3):
        await keeper.renew()
    assert await service.leases.held(user, clock()) == 1  # its call may be among the events that wait
    read_all = True
    with monkeypatch.context() as away:
        away.setattr(service.store, "live_calls", AsyncMock(side_effect=StoreUnavailable("away")))
        with pytest.raises(StoreUnavailable):
            await keeper.renew()
    await keeper.renew()
    assert await service.leases.held(user, clock()) == 1
    await keeper.renew()
    assert await service.leases.held(user, clock()) == 0


def test_nobody_is_asked_about_a_call_that_is_nowhere() -> None:
    assert ask_about(project("run-1", gather([CALL.status("ringing")])), "silence") is None
