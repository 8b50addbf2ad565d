"""The outbox: what is stored is published, in order, once it is true; what is not stored is not."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from number_sync import outbox
from number_sync.database import Database
from number_sync.outbox import Relay
from offhook.bus.errors import BusUnavailable
from offhook.bus.testing import memory_bus
from offhook.events import Event, EventData, new_event
from offhook.records import PublicUrlRecord
from offhook.topics import CALL_EVENTS, SETTINGS, Topic


def url_event(url: str) -> Event[EventData]:
    return new_event(PublicUrlRecord(url=url), source="/test", time=datetime.now(UTC), subject="public-url")


async def put(database: Database, key: str, url: str | None) -> None:
    async with database.write() as connection:
        await outbox.append(connection, SETTINGS, key, None if url is None else url_event(url))


class BrokenPublisher:
    """A publisher whose Kafka goes away after `good` records."""

    def __init__(self, good: int) -> None:
        self.good = good
        self.sent: list[str] = []

    async def publish(self, topic: Topic, event: Event[EventData], *, key: str | None = None) -> None:
        await self.put(topic, key or event.subject, event)

    async def put(self, topic: Topic, key: str, event: Event[EventData] | None) -> None:
        if len(self.sent) >= self.good:
            raise BusUnavailable("Kafka is away")
        assert event is None or isinstance(event.data, PublicUrlRecord)
        self.sent.append(event.data.url if event else "gone")


def relay(database: Database, publisher: Any, owner: str = "me", now: float = 1000.0) -> Relay:
    return Relay(database, publisher, owner=owner, clock=lambda: now)


async def test_what_was_rolled_back_is_not_published(database: Database) -> None:
    async def fail_after_appending() -> None:
        async with database.write() as connection:
            await outbox.append(connection, SETTINGS, "k", url_event("http://a"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await fail_after_appending()
    publisher = BrokenPublisher(10)
    assert await relay(database, publisher).flush_once() == 0
    assert publisher.sent == []


async def test_changes_of_a_key_arrive_in_their_order_and_tombstones_delete(database: Database) -> None:
    async with memory_bus() as bus:
        for url in ("http://a", "http://b", None, "http://c"):
            await put(database, "k", url)
        await put(database, "gone", "http://x")
        await put(database, "gone", None)
        assert await relay(database, bus).flush_once() == 6
        records = [(record.key, record.value is None) for record in bus.records(SETTINGS)]
        assert [dead for key, dead in records if key == b"k"] == [False, False, True, False]
        assert [dead for key, dead in records if key == b"gone"] == [False, True]
        assert [event.data.url for event in bus.log(SETTINGS) if event.subject == "public-url"][-1]
        async with database.read() as connection:
            assert await outbox.backlog(connection) == 0


async def test_an_event_keeps_its_identity_on_the_way(database: Database) -> None:
    event = url_event("http://a")
    async with database.write() as connection:
        await outbox.append(connection, SETTINGS, "k", event)
    async with memory_bus() as bus:
        await relay(database, bus).flush_once()
        assert bus.log(SETTINGS) == [event]


async def test_while_kafka_is_away_changes_wait_and_nothing_is_overtaken(database: Database) -> None:
    for url in ("http://a", "http://b", "http://c"):
        await put(database, "k", url)
    publisher = BrokenPublisher(1)
    mine = relay(database, publisher)
    with pytest.raises(BusUnavailable):
        await mine.flush_once()
    assert publisher.sent == ["http://a"]
    publisher.good = 10
    assert await mine.flush_once() == 2
    assert publisher.sent == ["http://a", "http://b", "http://c"]


async def test_one_relay_at_a_time_and_the_next_after_its_lease(database: Database) -> None:
    await put(database, "k", "http://a")
    first, second = BrokenPublisher(0), BrokenPublisher(10)
    with pytest.raises(BusUnavailable):
        await relay(database, first, "first", 1000).flush_once()
    assert await relay(database, second, "second", 1001).flush_once() == 0
    assert await relay(database, second, "second", 1100).flush_once() == 1


async def test_a_relay_that_waits_for_another_one_does_not_write(database: Database) -> None:
    await put(database, "k", "http://a")
    with pytest.raises(BusUnavailable):
        await relay(database, BrokenPublisher(0), "first", 1000).flush_once()
    writes: list[None] = []
    database.after_commit(lambda: writes.append(None))
    assert await relay(database, BrokenPublisher(10), "second", 1001).flush_once() == 0
    assert writes == []


async def test_a_relay_that_ends_in_order_leaves_its_lease(database: Database) -> None:
    await put(database, "k", "http://a")
    ending = relay(database, BrokenPublisher(0), "first", 1000)
    with pytest.raises(BusUnavailable):
        await ending.flush_once()
    await ending.release()
    assert await relay(database, BrokenPublisher(10), "second", 1001).flush_once() == 1


async def test_a_running_relay_waits_for_kafka_and_goes_on(database: Database) -> None:
    publisher = BrokenPublisher(0)
    running = relay(database, publisher)
    database.after_commit(running.wake)
    task = asyncio.create_task(running.run())
    try:
        await put(database, "k", "http://a")
        async with asyncio.timeout(20):
            while running.problem is None:
                await asyncio.sleep(0.01)
            publisher.good = 10
            while not publisher.sent:
                await asyncio.sleep(0.01)
            await running.drain()
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_only_compacted_topics_have_tombstones(database: Database) -> None:
    async with database.write() as connection:
        with pytest.raises(ValueError, match="not compacted"):
            await outbox.append(connection, CALL_EVENTS, "k", None)


async def test_a_process_that_ends_does_not_wait_for_what_is_stored_after_that(database: Database) -> None:
    publisher = BrokenPublisher(1)
    mine = relay(database, publisher)
    await mine.drain()
    await put(database, "early", "http://a")
    draining = asyncio.create_task(mine.drain())
    await asyncio.sleep(0.2)
    assert not draining.done()
    await put(database, "late", "http://b")
    with pytest.raises(BusUnavailable):
        await mine.flush_once()
    async with asyncio.timeout(10):
        await draining
    async with database.read() as connection:
        assert await outbox.backlog(connection) == 1
