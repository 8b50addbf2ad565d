"""The bus and a real Kafka that is frozen, killed and started again, and processes that are killed."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from offhook.bus import Bus, BusUnavailable, EventTooLarge, Outlet, PlainBusSettings
from offhook.bus.bus import OutgoingRecord
from offhook.events import DtmfReceived, Event, decode
from offhook.topics import ALL_TOPICS, CALL_EVENTS, CALL_STATES
from offhook_dev.kafka import KafkaServer

from .conftest import (
    create_topics,
    eventually,
    first_seen,
    key_pressed,
    new_topic,
    numbers,
    read_all,
)

pytestmark = pytest.mark.real

KafkaFactory = Callable[[], KafkaServer]


@asynccontextmanager
async def bus_on(kafka: KafkaServer, **options: Any) -> AsyncIterator[Bus]:
    bus = Bus(PlainBusSettings(kafka.bootstrap), service="test", **options)
    try:
        yield bus
    finally:
        await bus.stop(grace_s=0)


async def events_of(kafka: KafkaServer, run: str) -> list[int]:
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
        records = await read_all(consumer, CALL_EVENTS.name)
    return numbers([decode(record.value, record.headers) for record in records], run)


async def run_process(script: str, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).parent / script), *arguments, stdout=asyncio.subprocess.PIPE
    )


async def test_a_consumer_killed_in_the_middle_of_a_batch_loses_and_skips_nothing(kafka: KafkaServer) -> None:
    runs = [f"killed{index}" for index in range(8)]
    topic = new_topic("delete")
    await create_topics(kafka.bootstrap, topic)
    effects: list[tuple[str, int]] = []
    async with bus_on(kafka) as bus:
        await bus.start()
        await bus.publish_many(topic, [key_pressed(run, n) for n in range(50) for run in runs])
    first = await run_process("killed_consumer.py", kafka.bootstrap, topic.name, "g", "90")
    assert first.stdout is not None
    while len(effects) < 90:
        subject, number = json.loads(await first.stdout.readline())
        effects.append((subject, number))
    first.send_signal(signal.SIGKILL)
    await first.wait()
    async with bus_on(kafka) as bus:

        async def store(events: Sequence[Event[Any]]) -> None:
            effects.extend((event.subject, event.data.at_ms) for event in events)

        bus.consume(topic, group="g", handler=store, session_timeout_s=3)
        await bus.start()
        await eventually(lambda: {*effects} >= {(run, number) for run in runs for number in range(50)})
    for run in runs:
        assert first_seen([number for subject, number in effects if subject == run]) == list(range(50))


async def test_what_a_killed_publisher_had_acknowledged_is_not_lost(
    kafka_factory: KafkaFactory, tmp_path: Path
) -> None:
    kafka = kafka_factory()
    publisher = await run_process("killed_publisher.py", kafka.bootstrap, str(tmp_path))
    assert publisher.stdout is not None
    assert (await publisher.stdout.readline()).strip() == b"started"
    acknowledged: list[bytes] = []

    async def read_until(count: int) -> None:
        assert publisher.stdout is not None
        while len(acknowledged) < count:
            acknowledged.append((await publisher.stdout.readline()).strip())

    await read_until(50)
    kafka.pause()
    await read_until(500)
    publisher.send_signal(signal.SIGKILL)
    rest, _ = await publisher.communicate()
    acknowledged.extend(rest.split(b"\n")[:-1])
    assert b"spool" in acknowledged
    with sorted(tmp_path.glob("*.spool"))[-1].open("ab") as newest:
        newest.write(b"\x50\x00\x00\x00torn")
    kafka.resume()
    async with bus_on(kafka) as bus:
        await bus.start()
        outlet = Outlet(bus, tmp_path)
        await outlet.start()
        await eventually(lambda: outlet.spooled == 0)
        await outlet.stop()
    found = first_seen(await events_of(kafka, "run"))
    assert found[: len(acknowledged)] == list(range(len(acknowledged)))


@pytest.mark.parametrize("how", ["frozen", "killed"])
async def test_an_outage_of_kafka_loses_and_reorders_nothing(
    kafka_factory: KafkaFactory, tmp_path: Path, how: str
) -> None:
    kafka = kafka_factory()
    runs = [f"run{index}" for index in range(6)]
    handled: list[Event[Any]] = []

    async def store(events: Sequence[Event[Any]]) -> None:
        handled.extend(events)

    async with bus_on(kafka) as bus:
        bus.consume(CALL_EVENTS, group="g", handler=store, session_timeout_s=6)
        directory = bus.directory(CALL_STATES, DtmfReceived)
        await bus.start()
        outlet = Outlet(bus, tmp_path, ack_timeout_s=0.5)
        await outlet.start()
        destinations: set[str] = set()
        stop = asyncio.Event()
        emitted = dict.fromkeys(runs, 0)

        async def call(run: str) -> None:
            while not stop.is_set():
                destinations.add(await outlet.emit(CALL_EVENTS, key_pressed(run, emitted[run])))
                emitted[run] += 1
                await asyncio.sleep(0.005)

        calls = [asyncio.create_task(call(run)) for run in runs]
        await eventually(lambda: len(handled) > 50)
        if how == "frozen":
            kafka.pause()
        else:
            kafka.kill()
        await eventually(lambda: outlet.spooled > 100)
        assert bus.health().ready
        if how == "frozen":
            kafka.resume()
        else:
            await kafka.start()
        destinations.clear()
        await eventually(lambda: "kafka" in destinations, timeout_s=300)
        stop.set()
        await asyncio.gather(*calls)
        await eventually(
            lambda: all({*numbers(handled, run)} == {*range(emitted[run])} for run in runs), timeout_s=300
        )
        await bus.put(CALL_STATES, "k", key_pressed("k", 7))
        await eventually(lambda: directory.get("k"), timeout_s=300)
        await outlet.stop()
    for run in runs:
        assert first_seen(numbers(handled, run)) == list(range(emitted[run]))


async def test_health_says_that_kafka_is_away_and_that_it_is_back(kafka_factory: KafkaFactory) -> None:
    kafka = kafka_factory()
    async with bus_on(kafka) as bus:
        await bus.start()
        kafka.kill()
        await eventually(lambda: any("does not answer" in problem for problem in bus.health().problems))
        assert bus.health().ready
        await kafka.start()
        await eventually(lambda: bus.health().problems == [])


async def test_stopping_while_kafka_is_away_does_not_wait_for_it(kafka_factory: KafkaFactory) -> None:
    kafka = kafka_factory()
    async with bus_on(kafka) as bus:
        bus.consume(CALL_EVENTS, group="g", handler=lambda events: asyncio.sleep(0))
        bus.directory(CALL_STATES, DtmfReceived)
        await bus.start()
        kafka.pause()
        publishing = asyncio.create_task(bus.publish(CALL_EVENTS, key_pressed("run", 0)))
        await asyncio.sleep(0.2)
        async with asyncio.timeout(30):
            await bus.stop()
        publishing.cancel()
        await asyncio.wait({publishing})


async def test_a_bus_whose_kafka_does_not_exist_says_so() -> None:
    bus = Bus(PlainBusSettings("127.0.0.1:1"), service="test", connect_timeout_s=1)
    with pytest.raises(BusUnavailable, match=r"127\.0\.0\.1:1 cannot be used: .*; waited 1 s"):
        await bus.start()


async def test_a_bus_that_starts_before_kafka_waits_for_it(kafka_factory: KafkaFactory) -> None:
    kafka = kafka_factory()
    await kafka.stop()
    async with bus_on(kafka, connect_timeout_s=300) as bus:
        starting = asyncio.create_task(bus.start())
        await asyncio.sleep(0.5)
        await kafka.start()
        await starting
        assert bus.health().ready


async def test_a_bus_that_loses_kafka_before_it_has_seen_the_topics_says_so_and_goes_on(
    kafka_factory: KafkaFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = kafka_factory()
    async with bus_on(kafka, connect_timeout_s=300) as bus:
        connect = bus._broker.connect

        async def connect_and_lose() -> Any:
            monkeypatch.undo()
            connection = await connect()
            kafka.kill()
            return connection

        monkeypatch.setattr(bus._broker, "connect", connect_and_lose)
        starting = asyncio.create_task(bus.start())
        await eventually(lambda: any("cannot be used" in problem for problem in bus.health().problems))
        assert not starting.done()
        await kafka.start()
        await starting
        assert bus.health().problems == []


async def test_a_bus_waits_for_as_many_brokers_as_its_topics_need(kafka_factory: KafkaFactory) -> None:
    kafka = kafka_factory()
    bus = Bus(PlainBusSettings(kafka.bootstrap, replication_factor=3), service="test", connect_timeout_s=300)
    starting = asyncio.create_task(bus.start())
    await eventually(lambda: any("replication factor" in problem for problem in bus.health().problems))
    assert not starting.done()
    await create_topics(kafka.bootstrap, *ALL_TOPICS)
    await starting
    assert bus.health().problems == []
    await bus.stop(grace_s=0)


async def test_a_record_that_only_the_broker_refuses_does_not_stop_the_next_ones(
    kafka: KafkaServer,
) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic("test.small", 1, 1, topic_configs={"max.message.bytes": "2000"})])
    await admin.close()
    async with bus_on(kafka) as bus:
        await bus.start()
        small = OutgoingRecord("test.small", b"k", b"1", {})
        await bus.deliver(small)
        with pytest.raises(EventTooLarge):
            await bus.deliver(OutgoingRecord("test.small", b"k", b"x" * 5000, {}))
        for _ in range(3):
            await bus.deliver(small)
    async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
        assert len(await read_all(consumer, "test.small")) == 4


async def test_a_directory_catches_up_with_a_topic_that_was_compacted(kafka: KafkaServer) -> None:
    topic = new_topic("compact")
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    await admin.create_topics([
        NewTopic(topic.name, 1, 1, topic_configs={
            "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001",
            "delete.retention.ms": "0", "max.compaction.lag.ms": "100",
        })
    ])  # fmt: skip
    await admin.close()
    async with bus_on(kafka) as bus:
        await bus.start()
        for turn in range(4):
            await bus.publish_many(topic, [key_pressed(f"k{n}", turn) for n in range(10)])
            await asyncio.sleep(0.2)
        await bus.put(topic, "k3", None)

        async def compacted() -> bool:
            async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap) as consumer:
                return len(await read_all(consumer, topic.name)) < 30

        await bus.put(topic, "k4", None)
        await eventually(compacted, timeout_s=300)
    async with bus_on(kafka) as bus:
        directory = bus.directory(topic, DtmfReceived)
        await bus.start()
        assert directory.ready
        assert {record.workflow_run_id for record in directory.values()} == {
            f"k{n}" for n in range(10) if n not in (3, 4)
        }
        assert {record.at_ms for record in directory.values()} == {3}
