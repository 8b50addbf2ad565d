"""The bus's contract, on both backends. See `conftest`."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from offhook.bus import Bus, BusError, DeadLetter, EventTooLarge, PoisonError, consumption
from offhook.events import DtmfReceived, Event, HangUp, encode, new_event
from offhook.telemetry import metrics
from offhook.telemetry.exposition import exposition
from offhook.telemetry.tracing import call_traceparent
from offhook.topics import DEAD_LETTERS, Topic

from .conftest import Backend, eventually, first_seen, key_pressed, numbers

RUNS = [f"run{number}" for number in range(12)]


class Effects:
    """A handler that remembers what it was given."""

    def __init__(self) -> None:
        self.events: list[Event[Any]] = []

    async def __call__(self, events: Sequence[Event[Any]]) -> None:
        self.events.extend(events)

    def of(self, run: str) -> list[int]:
        return numbers(self.events, run)


async def dead_letters_of(backend: Backend, topic: Topic) -> list[tuple[Any, DeadLetter]]:
    letters = [(record, DeadLetter.read(record.headers)) for record in await backend.records(DEAD_LETTERS)]
    return [(record, letter) for record, letter in letters if letter.topic == topic.name]


async def test_events_of_one_key_are_handled_in_the_order_in_which_they_were_published(
    backend: Backend,
) -> None:
    topic, effects = await backend.topic(), Effects()
    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=effects, batch_size=37)
        await bus.start()
        await bus.publish_many(topic, [key_pressed(run, number) for number in range(25) for run in RUNS])
        await asyncio.gather(
            *(bus.publish(topic, key_pressed(run, n)) for n in range(25, 50) for run in RUNS)
        )
        await eventually(lambda: len(effects.events) >= 50 * len(RUNS))
    for run in RUNS:
        assert effects.of(run) == list(range(50))


async def test_an_event_is_in_the_log_when_publish_returns(backend: Backend) -> None:
    topic = await backend.topic()
    async with backend.bus() as bus:
        await bus.start()
        event = key_pressed("run", 1)
        await bus.publish(topic, event)
        (record,) = await backend.records(topic)
    value, headers = encode(event)
    assert (record.key, record.value) == (b"run", value)
    assert headers.items() <= {name: text.decode() for name, text in record.headers}.items()


async def test_a_record_carries_the_events_trace_or_that_of_its_call(backend: Backend) -> None:
    topic = await backend.topic()
    mine = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with backend.bus() as bus:
        await bus.start()
        plain = key_pressed("run", 1)
        await bus.publish(topic, plain)
        await bus.publish(
            topic, new_event(plain.data, source="/test", time=plain.time, subject="run", traceparent=mine)
        )
        records = await backend.records(topic)
    assert [dict(record.headers)["traceparent"].decode() for record in records] == [
        call_traceparent("run"),
        mine,
    ]


async def test_nothing_is_committed_before_the_handler_has_returned(backend: Backend) -> None:
    topic, entered, release = await backend.topic(), asyncio.Event(), asyncio.Event()

    async def slow(events: Sequence[Event[Any]]) -> None:
        entered.set()
        await release.wait()

    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=slow)
        await bus.start()
        await bus.publish_many(topic, [key_pressed("run", number) for number in range(5)])
        await entered.wait()
        assert await backend.committed("g", topic) == 0
        release.set()

        async def all_committed() -> bool:
            return await backend.committed("g", topic) == 5

        await eventually(all_committed)


async def test_a_handler_that_never_comes_back_is_lag_and_a_problem(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumption, "_SLOW_S", 0.2)
    topic, entered = await backend.topic(), asyncio.Event()

    async def hangs(events: Sequence[Event[Any]]) -> None:
        entered.set()
        await asyncio.sleep(3600)

    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=hangs)
        await bus.start()
        await bus.publish_many(topic, [key_pressed("run", number) for number in range(5)])
        await entered.wait()
        await eventually(lambda: bus.health().problems)
        assert f"consumer g of {topic.name}: the handler has not come back" in bus.health().problems[0]
        lag = f'offhook_bus_lag{{group="g",topic="{topic.name}"}}'
        await eventually(lambda: f"{lag} 5.0" in exposition("call-tracker")[0].decode())
        await bus.stop(grace_s=0)


async def test_a_batch_whose_consumer_dies_in_the_middle_is_delivered_again(backend: Backend) -> None:
    topic, effects, in_the_middle = await backend.topic(), Effects(), asyncio.Event()

    async def dies(events: Sequence[Event[Any]]) -> None:
        await effects(events[: len(events) // 2])
        in_the_middle.set()
        await asyncio.sleep(3600)

    async with backend.bus() as bus:
        await bus.start()
        await bus.publish_many(topic, [key_pressed(run, number) for number in range(10) for run in RUNS])
    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=dies)
        await bus.start()
        await in_the_middle.wait()
        await bus.stop(grace_s=0)
    assert await backend.committed("g", topic) == 0
    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=effects)
        await bus.start()
        await eventually(lambda: all(set(effects.of(run)) == set(range(10)) for run in RUNS))
    for run in RUNS:
        assert first_seen(effects.of(run)) == list(range(10))


async def test_a_consumer_that_comes_back_does_not_see_what_was_committed(backend: Backend) -> None:
    topic, first, second = await backend.topic(), Effects(), Effects()
    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=first)
        await bus.start()
        await bus.publish_many(topic, [key_pressed("run", number) for number in range(5)])
        await eventually(lambda: len(first.events) == 5)
        await bus.stop()
    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=second)
        await bus.start()
        await bus.publish(topic, key_pressed("run", 5))
        await eventually(lambda: second.events)
    assert second.of("run") == [5]


async def test_a_failing_handler_gets_the_same_batch_again_and_nothing_is_skipped(backend: Backend) -> None:
    topic, effects, failures, mended = await backend.topic(), Effects(), [], asyncio.Event()

    async def fails_at_first(events: Sequence[Event[Any]]) -> None:
        if not mended.is_set():
            failures.append(numbers(events, "run"))
            raise ConnectionError("the store is away")
        await effects(events)

    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=fails_at_first, first_retry_s=0.05, batch_size=5)
        await bus.start()
        await bus.publish_many(topic, [key_pressed("run", number) for number in range(20)])
        await eventually(lambda: len(failures) >= 3)
        assert bus.health().ready
        assert any("the store is away" in problem for problem in bus.health().problems)
        assert await backend.committed("g", topic) == 0
        mended.set()
        await eventually(lambda: len(effects.events) >= 20)
        await eventually(lambda: bus.health().problems == [])
    assert effects.of("run") == list(range(20))


async def test_a_handler_that_somebody_else_cancels_gets_its_batch_again(backend: Backend) -> None:
    topic, effects, calls = await backend.topic(), Effects(), []

    async def cancelled_at_first(events: Sequence[Event[Any]]) -> None:
        calls.append(len(events))
        if len(calls) == 1:
            inner = asyncio.create_task(asyncio.sleep(3600))
            inner.cancel()
            await inner
        await effects(events)

    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=cancelled_at_first, first_retry_s=0.05)
        await bus.start()
        await bus.publish_many(topic, [key_pressed("run", number) for number in range(5)])
        await eventually(lambda: len(calls) > 1)
        await bus.publish(topic, key_pressed("run", 5))
        await eventually(lambda: len(effects.events) >= 6)
    assert effects.of("run") == list(range(6))


async def test_an_undecodable_record_goes_to_the_dead_letters_as_it_was(backend: Backend) -> None:
    topic, effects = await backend.topic(), Effects()
    good = key_pressed("run", 1)
    _, headers = encode(good)
    garbled = [(name, text.encode()) for name, text in headers.items()]
    strange = [("ce_id", b"\xff\xfe"), ("x", b"1"), ("x", b"2"), ("y", None)]
    async with backend.bus(service="reader") as bus:
        await bus.start()
        await backend.append(topic, b"run", b"{not json", garbled)
        await backend.append(topic, b"run", b"anything", strange)
        await backend.append(topic, b"run", None, garbled)
        await bus.publish(topic, good)
    async with backend.bus(service="reader") as bus:
        bus.consume(topic, group="g", handler=effects)
        await bus.start()
        await eventually(lambda: effects.events)

        async def all_committed() -> bool:
            return await backend.committed("g", topic) == 4

        await eventually(all_committed)
    assert effects.of("run") == [1]
    letters = await dead_letters_of(backend, topic)
    assert [(record.key, record.value, letter.offset) for record, letter in letters] == [
        (b"run", b"{not json", 0), (b"run", b"anything", 1), (b"run", None, 2),
    ]  # fmt: skip
    assert [list(record.headers)[: len(strange)] for record, letter in letters][1] == strange
    assert all((letter.group, letter.service) == ("g", "reader") for _, letter in letters)
    assert "Invalid JSON" in letters[0][1].reason
    assert "not UTF-8" in letters[1][1].reason


async def test_an_event_that_a_handler_calls_poison_is_buried_and_the_rest_is_handled(
    backend: Backend,
) -> None:
    topic, effects = await backend.topic(), Effects()

    async def picky(events: Sequence[Event[Any]]) -> None:
        for event in events:
            if event.data.at_ms in (3, 7):
                raise PoisonError(event, "no such thing")
        await effects(events)

    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=picky)
        await bus.start()
        await bus.publish_many(topic, [key_pressed("run", number) for number in range(10)])
        await eventually(lambda: len(effects.events) >= 8)
        await eventually(lambda: backend.committed("g", topic))
        assert bus.health().problems == []
    assert effects.of("run") == [0, 1, 2, 4, 5, 6, 8, 9]
    letters = await dead_letters_of(backend, topic)
    assert [letter.offset for _, letter in letters] == [3, 7]
    assert {letter.reason for _, letter in letters} == {"no such thing"}


async def test_the_fuse_stops_a_consumer_that_finds_only_poison_and_health_says_why(backend: Backend) -> None:
    topic, effects = await backend.topic(), Effects()
    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=effects, fuse_limit=6, batch_size=4)
        await bus.start()
        assert bus.health().ready
        for _ in range(20):
            await backend.append(topic, b"run", b"garbage", [("ce_id", b"1")])
        await eventually(lambda: not bus.health().ready)
        (problem,) = bus.health().problems
        assert "6 records in a row were poison" in problem
        assert "headers missing" in problem
        # What it had to read is others' now, whatever was measured while it was a member.
        metrics.BUS_LAG.labels(topic.name, "g").set(14)
        lag = f'offhook_bus_lag{{group="g",topic="{topic.name}"}}'

        def forgotten() -> bool:
            return bus.lag(topic) == 0 and f"{lag} 0.0" in exposition("call-tracker")[0].decode()

        await eventually(forgotten)
    handled = await backend.committed("g", topic)
    assert handled < 6
    assert len(await dead_letters_of(backend, topic)) == handled
    # After the repair, here a higher limit, nothing has been lost.
    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=effects, fuse_limit=1000)
        await bus.start()
        await bus.publish(topic, key_pressed("run", 1))

        async def all_committed() -> bool:
            return await backend.committed("g", topic) == 21

        await eventually(all_committed)
    assert effects.of("run") == [1]
    assert len(await dead_letters_of(backend, topic)) == 20


async def test_poison_among_good_records_does_not_blow_the_fuse(backend: Backend) -> None:
    topic, effects = await backend.topic(), Effects()
    async with backend.bus() as bus:
        bus.consume(topic, group="g", handler=effects, fuse_limit=2)
        await bus.start()
        for number in range(6):
            await backend.append(topic, b"run", b"garbage", [("ce_id", b"1")])
            await bus.publish(topic, key_pressed("run", number))
        await eventually(lambda: len(effects.events) == 6)
        assert bus.health().ready
    assert effects.of("run") == list(range(6))


async def test_when_a_member_joins_and_leaves_nothing_is_lost_or_reordered(backend: Backend) -> None:
    topic = await backend.topic()
    effects: dict[str, list[int]] = defaultdict(list)
    at_work: set[str] = set()
    overlaps: list[str] = []

    async def handle(events: Sequence[Event[Any]]) -> None:
        runs = {event.subject for event in events}
        overlaps.extend(runs & at_work)
        at_work.update(runs)
        try:
            await asyncio.sleep(0.01)
            for event in events:
                effects[event.subject].append(event.data.at_ms)
        finally:
            at_work.difference_update(runs)

    async with backend.bus() as writer, backend.bus() as one, backend.bus() as two:
        await writer.start()
        one.consume(topic, group="g", handler=handle, batch_size=10)
        two.consume(topic, group="g", handler=handle, batch_size=10)
        await one.start()
        for number in range(60):
            await writer.publish_many(topic, [key_pressed(run, number) for run in RUNS])
            if number == 20:
                await two.start()
            if number == 40:
                await one.stop()
            await asyncio.sleep(0.02)
        await eventually(lambda: all(len(set(effects[run])) == 60 for run in RUNS))
    assert overlaps == []
    for run in RUNS:
        assert first_seen(effects[run]) == list(range(60))


async def test_a_batch_in_hand_is_finished_and_committed_before_its_partitions_go_to_another(
    backend: Backend,
) -> None:
    topic, entered, release = await backend.topic(), asyncio.Event(), asyncio.Event()
    first, second = Effects(), Effects()

    async def slow(events: Sequence[Event[Any]]) -> None:
        entered.set()
        await release.wait()
        await first(events)

    async with backend.bus() as one, backend.bus() as two:
        one.consume(topic, group="g", handler=slow)
        two.consume(topic, group="g", handler=second)
        await one.start()
        await one.publish_many(topic, [key_pressed(run, 0) for run in RUNS])
        await entered.wait()
        joining = asyncio.create_task(two.start())
        await asyncio.sleep(0.5)
        release.set()
        await joining
        await one.publish_many(topic, [key_pressed(run, 1) for run in RUNS])
        await eventually(lambda: len(first.events) + len(second.events) >= 2 * len(RUNS))
    seen = [*first.events, *second.events]
    assert sorted((event.subject, event.data.at_ms) for event in seen) == sorted(
        (run, number) for run in RUNS for number in (0, 1)
    )


async def test_a_handler_that_hangs_is_cancelled_when_its_partitions_go_to_another(backend: Backend) -> None:
    topic, entered, cancelled, effects = await backend.topic(), asyncio.Event(), asyncio.Event(), Effects()

    async def hangs(events: Sequence[Event[Any]]) -> None:
        entered.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cancelled.set()

    async def reads(events: Sequence[Event[Any]]) -> None:
        assert cancelled.is_set()
        await effects(events)

    async with backend.bus() as one, backend.bus() as two:
        one.consume(topic, group="g", handler=hangs, revoke_grace_s=0.1)
        two.consume(topic, group="g", handler=reads)
        await one.start()
        await one.publish_many(topic, [key_pressed(run, 0) for run in RUNS])
        await entered.wait()
        await two.start()
        await one.stop(grace_s=0)
        await eventually(lambda: {event.subject for event in effects.events} == set(RUNS))


async def test_an_event_over_the_size_of_a_record_is_refused_and_the_next_one_is_taken(
    backend: Backend,
) -> None:
    topic = await backend.topic()
    async with backend.bus() as bus:
        await bus.start()
        event = key_pressed("run", 1)
        vast = HangUp(
            workflow_run_id="run", configuration_id="c", provider="twilio", provider_call_id=None,
            requested_by="operator", reason="x" * 1_100_000,
        )  # fmt: skip
        with pytest.raises(EventTooLarge, match="1000000 bytes"):
            await bus.publish(topic, new_event(vast, source="/test", time=event.time, subject="run"))
        await bus.publish(topic, event)
        assert len(await backend.records(topic)) == 1


async def test_consumers_and_directories_are_declared_before_the_start(backend: Backend) -> None:
    topic, compacted = await backend.topic(), await backend.topic("compact")
    async with backend.bus() as bus:
        await bus.start()
        with pytest.raises(BusError, match="before the bus starts"):
            bus.consume(topic, group="g", handler=Effects())
        with pytest.raises(BusError, match="before the bus starts"):
            bus.directory(compacted, DtmfReceived)
        with pytest.raises(BusError, match="not a compacted topic"):
            bus.directory(topic, DtmfReceived)


async def test_a_bus_that_was_not_started_is_not_ready(backend: Backend) -> None:
    async with backend.bus() as bus:
        assert isinstance(bus, Bus)
        assert not bus.health().ready
        await bus.start()
        assert bus.health().ready
        await bus.stop()
        assert not bus.health().ready
