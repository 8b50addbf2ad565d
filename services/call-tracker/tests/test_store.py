"""The store, on SQLite and on PostgreSQL alike."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from events_of_calls import NOON, AnyEvent, Call
from sqlalchemy import Connection, func, select, text

from call_tracker.joining import gather
from call_tracker.lifecycle import project
from call_tracker.store import (
    CallFilter,
    Database,
    Idempotency,
    Outbox,
    Position,
    Request,
    Store,
    StoredEvent,
    StoreUnavailable,
    objection,
)
from call_tracker.store import store as store_of_calls
from call_tracker.store.tables import CALL_EVENTS, CALL_NUMBERS, CALLS, METADATA, OUTBOX
from offhook.bus.errors import BusUnavailable
from offhook.events import (
    CallStatus,
    Event,
    EventData,
    HangUp,
    HangupRequested,
    Originate,
    Party,
    WebhookAudited,
    new_event,
)
from offhook.records import CallState
from offhook.topics import CALL_COMMANDS, CALL_STATES, Topic
from offhook.topics import CALL_EVENTS as CALL_EVENTS_TOPIC

S = CallStatus


class Broker:
    """What was published, in order; `away` makes it refuse, `forgetful` makes it take and then fail."""

    def __init__(self) -> None:
        self.published: list[tuple[Topic, AnyEvent]] = []
        self.away = False
        self.forgetful = False
        self.tombstones: list[tuple[Topic, str]] = []

    async def publish_many(self, topic: Topic, events: Sequence[Event[EventData]]) -> None:
        if self.away:
            raise BusUnavailable("away")
        self.published.extend((topic, event) for event in events)
        if self.forgetful:
            raise BusUnavailable("the answer was lost")

    async def put(self, topic: Topic, key: str, event: AnyEvent | None) -> None:
        assert event is None
        self.tombstones.append((topic, key))

    def states(self, run: str = "run-1") -> list[CallState]:
        return [
            event.data
            for topic, event in self.published
            if topic is CALL_STATES and isinstance(event.data, CallState) and event.subject == run
        ]


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


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
def store(database: Database, clock: Clock) -> Store:
    return Store(database, clock)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def outbox(database: Database, broker: Broker) -> Outbox:
    return Outbox(database, broker)


async def count(store: Store, table: object) -> int:
    async with store.database.read() as connection:
        return (await connection.execute(select(func.count()).select_from(table))).scalar_one()  # type: ignore[arg-type]


async def log_of(store: Store, run: str) -> list[StoredEvent]:
    return [event async for event in store.events(run, page=2)]


def ask(call: Call) -> tuple[AnyEvent, list[tuple[Topic, AnyEvent]]]:
    requested = call.requested()
    originate = Originate(
        workflow_run_id=call.run, workflow_id="workflow-1", user_id=call.user, configuration_id="conf-1",
        provider="twilio", from_number="+14155550100", to_number="+14155550199",
    )  # fmt: skip
    command = new_event(originate, source="/test", time=NOON, subject=call.run)
    return requested, [(CALL_EVENTS_TOPIC, requested), (CALL_COMMANDS, command)]


async def test_the_migrations_make_exactly_the_tables_of_the_code(database: Database) -> None:
    def differences(connection: Connection) -> list[object]:
        context = MigrationContext.configure(connection, opts={"target_metadata": METADATA})
        return list(compare_metadata(context, METADATA))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_starters_at_the_same_time_migrate_once_and_all_start(database_url: str) -> None:
    starters = [Database(database_url) for _ in range(4)]
    await asyncio.gather(*(starter.migrate() for starter in starters))
    for starter in starters:
        await starter.check()
        await starter.close()


async def test_a_batch_is_stored_once_however_often_it_comes(store: Store) -> None:
    events = Call().twilio_outbound()
    first = await store.apply([*events, *events])
    again = await store.apply(events)
    assert (first.new, again.new) == (len(events), 0)
    assert await count(store, CALL_EVENTS) == len(events)
    assert await count(store, CALLS) == 1
    assert await store.find("user-1", "run-1") == project("run-1", gather(events))


async def test_any_order_in_any_batches_ends_in_the_same_record(store: Store) -> None:
    chance = random.Random(7)
    want = {}
    everything: list[AnyEvent] = []
    for number in range(20):
        call = Call(run=f"run-{number}", call_id=f"CA{number}")
        events = call.twilio_outbound()
        want[call.run] = project(call.run, gather(events))
        everything += events + chance.sample(events, 4)
    chance.shuffle(everything)
    while everything:
        size = chance.randint(1, 40)
        await store.apply(everything[:size])
        del everything[:size]
    found, _ = await store.calls("user-1", CallFilter(), limit=50)
    assert {record.workflow_run_id: record for record in found} == want


async def test_concurrent_batches_for_the_same_calls_lose_no_update(store: Store, database_url: str) -> None:
    other = Store(Database(database_url), store._clock)
    calls = [Call(run=f"run-{number}", call_id=f"CA{number}") for number in range(5)]
    events = [event for call in calls for event in call.twilio_outbound()]
    random.Random(3).shuffle(events)
    parts = [events[start::8] for start in range(8)]
    await asyncio.gather(*((store, other)[number % 2].apply(part) for number, part in enumerate(parts)))
    await other.database.close()
    for call in calls:
        own = [event for event in events if event.subject == call.run]
        assert await store.find("user-1", call.run) == project(call.run, gather(own))


async def test_events_that_came_before_the_beginning_are_kept_and_the_record_is_completed_later(
    store: Store,
) -> None:
    call = Call()
    await store.apply([call.status("completed", 9, sequence=3)])
    assert await store.find("user-1", "run-1") is None
    await store.apply([call.requested()])
    record = await store.find("user-1", "run-1")
    assert record is not None
    assert (record.status, record.user_id) == (S.COMPLETED, "user-1")
    assert [event.type for event in await log_of(store, "run-1")] == [
        "offhook.call.status.v1", "offhook.call.requested.v1",
    ]  # fmt: skip


async def test_events_are_kept_as_they_were_told(store: Store) -> None:
    told = Call().status("weird\x00word", 1.25, raw={"Größe": "\x00"}, detail="x" * 5000)
    await store.apply([told])
    (kept,) = await log_of(store, "run-1")
    assert (kept.id, kept.type, kept.source, kept.time) == (told.id, told.type, told.source, told.time)
    assert type(told.data).model_validate_json(bytes(kept.data)) == told.data


async def test_only_what_changed_the_record_is_published(
    store: Store, outbox: Outbox, broker: Broker
) -> None:
    call = Call()
    await store.apply([call.requested()])
    await store.apply([call.dtmf()])
    await store.apply([call.status("ringing", 1, sequence=1)])
    await outbox.drain()
    assert [state.status for state in broker.states()] == [S.INITIATED, S.RINGING]


async def test_a_change_goes_out_once_when_kafka_takes_it(
    store: Store, outbox: Outbox, broker: Broker
) -> None:
    await store.apply(Call().twilio_outbound())
    assert await outbox.drain() == 1
    assert await outbox.drain() == 0
    assert [state.status for state in broker.states()] == [S.COMPLETED]


async def test_a_change_that_kafka_refused_stays_and_goes_out_later_in_order(
    store: Store, outbox: Outbox, broker: Broker
) -> None:
    broker.away = True
    for event in Call().twilio_outbound():
        await store.apply([event])
        with pytest.raises(BusUnavailable):
            await outbox.drain()
    broker.away = False
    await outbox.drain()
    ranks = [len(state.statuses) for state in broker.states()]
    assert ranks == sorted(ranks)
    assert broker.states()[-1].status is S.COMPLETED
    assert await count(store, OUTBOX) == 0


async def test_a_change_whose_acknowledgement_was_lost_is_published_again_under_the_same_id(
    store: Store, outbox: Outbox, broker: Broker
) -> None:
    await store.apply(Call().twilio_outbound())
    broker.forgetful = True
    with pytest.raises(BusUnavailable):
        await outbox.drain()
    broker.forgetful = False
    await outbox.drain()
    (first, second) = [event for _, event in broker.published]
    assert first == second


async def test_what_others_tell_of_a_call_pushes_none_of_its_own_events_off_its_story(store: Store) -> None:
    call, intruder = Call(), Call(account="AC666", call_id="CA666")
    flood = [intruder.status("ringing", 2, sequence=number) for number in range(7)]
    own = [call.received(), call.media_started(3), call.media_stopped(9), call.status("completed", 9.5)]
    await store.apply([own[0], *flood, *own[1:]])
    whole = await store.story("user-1", "run-1", 4)
    assert whole is not None
    assert ([event.id for event in whole.events], whole.cut) == ([event.id for event in own], False)
    part = await store.story("user-1", "run-1", 3)
    assert part is not None
    assert ([event.id for event in part.events], part.cut) == ([event.id for event in own[:3]], True)


async def test_a_flood_of_what_others_tell_is_not_read_without_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, intruder = Call(), Call(account="AC666", call_id="CA666")
    flood = [intruder.status("ringing", 2, sequence=number) for number in range(10)]
    await store.apply([call.received(), *flood, call.media_started(3)])
    monkeypatch.setattr(store_of_calls, "STORY_PAGES", 2)
    part = await store.story("user-1", "run-1", 4)
    assert part is not None
    assert (len(part.events), part.cut) == (1, True)
    monkeypatch.setattr(store_of_calls, "STORY_PAGES", 3)
    whole = await store.story("user-1", "run-1", 4)
    assert whole is not None
    assert (len(whole.events), whole.cut) == (2, False)


async def test_only_one_process_publishes_at_a_time(
    store: Store, database_url: str, outbox: Outbox, broker: Broker
) -> None:
    await store.apply(Call().twilio_outbound())
    elsewhere = Database(database_url)
    async with elsewhere.publishing_lock() as held:
        assert await held()
        assert await outbox.drain() == 0
    await elsewhere.close()
    assert await outbox.drain() == 1


@pytest.mark.real
async def test_a_process_that_has_lost_the_lock_publishes_and_deletes_nothing_more(
    postgres_url: str, clock: Clock, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(postgres_url)
    await database.migrate()
    outbox = Outbox(database, broker)
    await Store(database, clock).apply(Call().twilio_outbound())
    publish = broker.publish_many
    cut = text(
        "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )

    async def slowly(topic: Topic, events: Sequence[Event[EventData]]) -> None:
        await publish(topic, events)
        async with database.read() as connection:
            assert (await connection.execute(cut)).scalars().all() == [True]

    monkeypatch.setattr(broker, "publish_many", slowly)
    with pytest.raises(StoreUnavailable):
        await outbox.drain()
    assert await outbox.pending() == 1
    await database.close()


async def test_the_outbox_publishes_by_itself_when_woken_and_waits_for_kafka(
    store: Store, outbox: Outbox, broker: Broker
) -> None:
    broker.away = True
    running = asyncio.create_task(outbox.run())
    await store.apply([Call().requested()])
    outbox.wake()
    async with asyncio.timeout(10):
        while outbox.problem is None:
            await asyncio.sleep(0.01)
        broker.away = False
        while outbox.problem is not None or not broker.states():
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})


@pytest.mark.parametrize("turns", range(6))
async def test_the_outbox_ends_when_cancelled_even_just_as_it_is_woken(outbox: Outbox, turns: int) -> None:
    running = asyncio.create_task(outbox.run())
    await asyncio.sleep(0.2)
    outbox.wake()
    for _ in range(turns):
        await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(10):
        await asyncio.wait({running})
    assert running.cancelled()


async def test_a_requested_call_is_told_before_it_is_ordered(
    store: Store, outbox: Outbox, broker: Broker
) -> None:
    requested, tellings = ask(Call())
    await store.request_call(requested, tellings, "{}")
    await outbox.drain()
    assert [topic for topic, _ in broker.published] == [CALL_EVENTS_TOPIC, CALL_STATES, CALL_COMMANDS]
    # What was published comes back through the consumer: it is known.
    assert (await store.apply([requested])).new == 0


async def test_a_repeated_request_is_the_same_call_and_another_request_under_its_key_is_told_apart(
    store: Store,
) -> None:
    requested, tellings = ask(Call())
    first = await store.request_call(requested, tellings, "first", Idempotency("user-1", "k", "hash-1"))
    other, more = ask(Call(run="run-2"))
    again = await store.request_call(other, more, "second", Idempotency("user-1", "k", "hash-1"))
    misuse = await store.request_call(other, more, "second", Idempotency("user-1", "k", "hash-2"))
    somebody = await store.request_call(other, more, "second", Idempotency("user-2", "k", "hash-2"))
    assert (first.response, first.repeated) == ("first", False)
    assert (again.response, again.repeated, again.same_request) == ("first", True, True)
    assert (misuse.repeated, misuse.same_request) == (True, False)
    assert (somebody.response, somebody.repeated) == ("second", False)
    assert await count(store, CALLS) == 2


async def test_concurrent_requests_with_one_key_begin_one_call(store: Store, database_url: str) -> None:
    other = Store(Database(database_url), store._clock)

    async def request(number: int) -> str:
        requested, tellings = ask(Call(run=f"run-{number}", call_id=f"CA{number}"))
        where = (store, other)[number % 2]
        return (
            await where.request_call(
                requested, tellings, f"answer-{number}", Idempotency("user-1", "k", "hash")
            )
        ).response

    answers = await asyncio.gather(*(request(number) for number in range(10)))
    await other.database.close()
    assert len(set(answers)) == 1
    assert await count(store, CALLS) == 1


async def test_answers_are_forgotten_only_when_they_are_old(store: Store, clock: Clock) -> None:
    requested, tellings = ask(Call())
    await store.request_call(requested, tellings, "first", Idempotency("user-1", "k", "hash"))
    clock.now += timedelta(hours=24)
    assert await store.forget_answers(timedelta(hours=48)) == 0
    clock.now += timedelta(hours=25)
    assert await store.forget_answers(timedelta(hours=48)) == 1


async def test_what_is_asked_of_a_call_becomes_true_together_and_only_for_its_user(
    store: Store, outbox: Outbox, broker: Broker
) -> None:
    call = Call()
    await store.apply([call.received()])

    def make(record: CallState, _: object) -> Request:
        if record.status is CallStatus.COMPLETED:
            raise ZeroDivisionError
        command = HangUp(
            workflow_run_id="run-1", configuration_id=record.configuration_id or "", provider="twilio",
            provider_call_id=record.provider_call_id, requested_by=Party.OPERATOR,
        )  # fmt: skip
        ordered = new_event(command, source="/test", time=NOON, subject="run-1")
        return Request([call.hangup_requested(Party.OPERATOR, 5)], [(CALL_COMMANDS, ordered)])

    assert await store.request("user-2", "run-1", make) is None
    asked = await store.request("user-1", "run-1", make)
    assert asked is not None
    await store.apply([call.status("completed", 9)])
    with pytest.raises(ZeroDivisionError):
        await store.request("user-1", "run-1", make)
    ended = await store.find("user-1", "run-1")
    assert ended is not None
    assert ended.end_reason == "operator-hung-up"
    await outbox.drain()
    assert [type(event.data) for topic, event in broker.published if topic is CALL_COMMANDS] == [HangUp]
    assert [type(event.data) for topic, event in broker.published if topic is CALL_EVENTS_TOPIC] == [
        HangupRequested
    ]


async def test_old_ended_calls_are_forgotten_with_all_that_is_told_of_them_and_live_ones_never(
    store: Store, outbox: Outbox, broker: Broker, clock: Clock
) -> None:
    old, live, young = (Call(run=f"run-{n}", call_id=f"CA{n}") for n in range(3))
    await store.apply([*old.twilio_outbound(), live.received(), live.media_started()])
    await store.apply([young.received(at=3600), young.status("completed", 3700)])
    clock.now = NOON + timedelta(days=400, seconds=60)
    assert await store.forget_calls(timedelta(days=400), limit=10) == 1
    assert await store.forget_calls(timedelta(days=400), limit=10) == 0
    assert await store.find("user-1", "run-0") is None
    assert await log_of(store, "run-0") == []
    assert [call.workflow_run_id for call in (await store.calls("user-1", CallFilter(), limit=9))[0]] == [
        "run-2",
        "run-1",
    ]
    assert len(await log_of(store, "run-2")) == 2
    await outbox.drain()
    assert broker.tombstones == [(CALL_STATES, "run-0")]
    assert await count(store, CALL_NUMBERS) == 2
    clock.now += timedelta(days=1)
    assert await store.forget_calls(timedelta(days=400), limit=10) == 1
    assert await count(store, CALL_NUMBERS) == 2
    await store.apply([live.status("completed", 9)])
    assert await store.forget_calls(timedelta(days=400), limit=10) == 1
    assert await count(store, CALL_NUMBERS) == 0


async def test_a_recording_that_is_deleted_after_its_call_was_forgotten_begins_no_call(
    store: Store, clock: Clock
) -> None:
    call = Call()
    await store.apply([*call.twilio_outbound(), call.recording_stored()])
    clock.now = NOON + timedelta(days=11)
    assert await store.forget_calls(timedelta(days=10), limit=10) == 1
    await store.apply([call.recording_deleted(30 * 86_400)])
    assert await store.active_calls() == 0
    assert await count(store, CALLS) == 0


async def test_calls_are_listed_newest_first_page_by_page_and_only_the_users_own(store: Store) -> None:
    events = [
        Call(run=f"run-{number:02}", call_id=f"CA{number}").requested(at=number // 2) for number in range(11)
    ]
    foreign = Call(run="foreign", user="user-2", call_id="CA99")
    await store.apply([*events, foreign.requested()])
    seen: list[str] = []
    after: Position | None = None
    while True:
        page, after = await store.calls("user-1", CallFilter(), limit=4, after=after)
        seen += [record.workflow_run_id for record in page]
        if after is None:
            break
    assert seen == [f"run-{number:02}" for number in (10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)]
    assert await store.find("user-1", "foreign") is None


async def test_calls_are_filtered(store: Store) -> None:
    live, ended = Call(run="live", call_id="CA1"), Call(run="ended", call_id="CA2")
    inbound = Call(run="inbound", provider="vonage", account="app-1", call_id="leg-1")
    await store.apply([live.requested(), *ended.twilio_outbound(), inbound.received()])

    async def found(**wanted: object) -> set[str]:
        page, _ = await store.calls("user-1", CallFilter(**wanted), limit=10)  # type: ignore[arg-type]
        return {record.workflow_run_id for record in page}

    assert await found(active=True) == {"live", "inbound"}
    assert await found(active=False) == {"ended"}
    assert await found(status="completed") == {"ended"}
    assert await found(direction="inbound") == {"inbound"}
    assert await found(provider="twilio") == {"live", "ended"}
    assert await found(workflow_id="workflow-1", active=True, direction="outbound") == {"live"}
    assert await found(workflow_id="nobody's") == set()
    assert await store.active_calls() == 2


async def test_a_database_that_does_not_answer_is_unavailable(tmp_path: object) -> None:
    nowhere = Database("postgresql+asyncpg://nobody:secret@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable) as caught:
        await nowhere.check()
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreUnavailable):
        await Store(nowhere, lambda: datetime.now(UTC)).apply([Call().requested()])
    await nowhere.close()


def test_events_that_no_database_could_keep_are_objected_to() -> None:
    call = Call()
    audit = WebhookAudited(
        provider="twilio", account=None, workflow_run_id=None, provider_call_id=None, method="GET", path="/",
        kind="unknown", verified=False, reason=None, status_code=403, elapsed_ms=1.0,
    )  # fmt: skip
    assert objection(call.requested()) is None
    assert "not an event of a call" in (
        objection(new_event(audit, source="/test", time=NOON, subject="")) or ""
    )
    assert "ce_id" in (objection(call.event(call.requested().data, event_id="a\x00b")) or "")
    assert "ce_id" in (objection(call.event(call.requested().data, event_id="x" * 201)) or "")
