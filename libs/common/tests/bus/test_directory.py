"""Directories of compacted topics, on both backends. See `conftest`."""

import asyncio
from datetime import UTC, datetime
from typing import Any

from offhook.bus import Bus
from offhook.events import Event, new_event
from offhook.records import NumberRecord, PublicUrlRecord
from offhook.topics import Topic

from .conftest import Backend, MemoryBackend, eventually


def number(number_id: str, e164: str, workflow_id: str | None = None) -> Event[Any]:
    record = NumberRecord(
        number_id=number_id, configuration_id="c", user_id="u", e164=e164, workflow_id=workflow_id
    )
    return new_event(record, source="/test", time=datetime.now(UTC), subject=number_id)


async def put(bus: Bus, topic: Topic, key: str, event: Event[Any] | None) -> None:
    await bus.put(topic, key, event)


async def test_a_directory_has_the_newest_record_of_every_key_when_the_bus_has_started(
    backend: Backend,
) -> None:
    topic = await backend.topic("compact")
    async with backend.bus() as bus:
        await bus.start()
        for turn in range(3):
            for index in range(20):
                await put(bus, topic, f"n{index}", number(f"n{index}", f"+1415555{turn}{index:03}"))
        await put(bus, topic, "n7", None)
    async with backend.bus() as bus:
        directory = bus.directory(topic, NumberRecord)
        directory.add_index("e164", lambda record: record.e164)
        assert not directory.ready
        await bus.start()
        assert directory.ready
        assert bus.health().ready
        assert {record.number_id for record in directory.values()} == {f"n{i}" for i in range(20) if i != 7}
        assert directory.get("n7") is None
        assert "n7" not in directory
        found = directory.get("n3")
        assert found is not None
        assert found.e164 == "+14155552003"
        assert directory.by("e164", "+14155552003") == (found,)
        assert directory.by("e164", "+14155551003") == ()


async def test_an_empty_topic_makes_an_empty_directory_that_is_ready(backend: Backend) -> None:
    topic = await backend.topic("compact")
    async with backend.bus() as bus:
        directory = bus.directory(topic, NumberRecord)
        await bus.start()
        assert directory.ready
        assert len(directory) == 0


async def test_a_directory_follows_changes_and_tombstones_and_tells_of_them(backend: Backend) -> None:
    topic = await backend.topic("compact")
    told: list[tuple[str, str | None, str | None]] = []
    async with backend.bus() as bus:
        directory = bus.directory(topic, NumberRecord)
        directory.add_index("workflow", lambda record: record.workflow_id)
        directory.on_change(lambda key, old, new: told.append((key, old and old.e164, new and new.e164)))
        await bus.start()
        await put(bus, topic, "n1", number("n1", "+14155550001", "w1"))
        await put(bus, topic, "n2", number("n2", "+14155550002", "w1"))
        await eventually(lambda: len(directory) == 2)
        assert {record.number_id for record in directory.by("workflow", "w1")} == {"n1", "n2"}
        await put(bus, topic, "n1", number("n1", "+14155550009", "w2"))
        await eventually(lambda: directory.by("workflow", "w2"))
        assert [record.number_id for record in directory.by("workflow", "w1")] == ["n2"]
        await put(bus, topic, "n1", number("n1", "+14155550009", "w2"))
        await put(bus, topic, "n1", None)
        await eventually(lambda: len(directory) == 1)
        assert directory.by("workflow", "w2") == ()
    assert [change for change in told if change[0] == "n1"] == [
        ("n1", None, "+14155550001"), ("n1", "+14155550001", "+14155550009"), ("n1", "+14155550009", None),
    ]  # fmt: skip


async def test_each_key_is_told_once_when_the_directory_becomes_ready(backend: Backend) -> None:
    topic = await backend.topic("compact")
    told: list[tuple[str, Any, str]] = []
    async with backend.bus() as bus:
        await bus.start()
        await put(bus, topic, "n1", number("n1", "+14155550001"))
        await put(bus, topic, "n1", number("n1", "+14155550002"))
    async with backend.bus() as bus:
        bus.directory(topic, NumberRecord).on_change(
            lambda key, old, new: told.append((key, old, new.e164 if new else ""))
        )
        await bus.start()
    assert told == [("n1", None, "+14155550002")]


async def test_records_of_another_model_are_not_in_a_directory(backend: Backend) -> None:
    topic = await backend.topic("compact")
    async with backend.bus() as bus:
        urls, numbers = bus.directory(topic, PublicUrlRecord), bus.directory(topic, NumberRecord)
        await bus.start()
        url = PublicUrlRecord(url="https://voice.example.com")
        event = new_event(url, source="/test", time=datetime.now(UTC), subject=PublicUrlRecord.KEY)
        await put(bus, topic, PublicUrlRecord.KEY, event)
        await put(bus, topic, "n1", number("n1", "+14155550001"))
        await eventually(lambda: len(urls) and len(numbers))
        assert urls.get(PublicUrlRecord.KEY) == url
        assert [record.number_id for record in numbers.values()] == ["n1"]
        assert bus.directory(topic, NumberRecord) is numbers


async def test_what_cannot_be_read_leaves_the_record_before_it_and_is_a_problem(backend: Backend) -> None:
    topic = await backend.topic("compact")
    async with backend.bus() as bus:
        directory = bus.directory(topic, NumberRecord)
        await bus.start()
        await put(bus, topic, "n1", number("n1", "+14155550001"))
        await backend.append(topic, b"n1", b"garbage", [("ce_id", b"1")])
        await eventually(lambda: bus.health().problems)
        assert "newest record of n1 cannot be read: headers missing" in bus.health().problems[0]
        assert directory.get("n1") is not None
        assert bus.health().ready
        await put(bus, topic, "n1", number("n1", "+14155550002"))
        await eventually(lambda: not bus.health().problems)


async def test_a_record_whose_header_has_no_value_does_not_keep_a_service_from_starting(
    backend: Backend,
) -> None:
    topic = await backend.topic("compact")
    nothing: Any = None
    await backend.append(topic, b"n1", b"{}", [("ce_id", nothing)])
    async with backend.bus() as bus:
        directory = bus.directory(topic, NumberRecord)
        async with asyncio.timeout(100):
            await bus.start()
        assert directory.ready
        assert "newest record of n1 cannot be read: headers missing" in bus.health().problems[0]


async def test_a_topic_that_was_made_anew_is_read_anew() -> None:
    backend = MemoryBackend()
    topic = await backend.topic("compact")
    told: list[str] = []
    async with backend.bus() as bus:
        directory = bus.directory(topic, NumberRecord)
        await bus.start()
        for index in range(5):
            await put(bus, topic, f"n{index}", number(f"n{index}", "+14155550001"))
        await eventually(lambda: len(directory) == 5)
        directory.on_change(
            lambda key, old, new: told.append(f"{key} {'gone' if new is None else 'changed'}")
        )
        backend.cluster.recreate(topic.name)
        await put(bus, topic, "n1", number("n1", "+14155550001"))
        await put(bus, topic, "n2", number("n2", "+14155550002"))
        await eventually(lambda: len(directory) == 2)
    assert sorted(told) == ["n0 gone", "n2 changed", "n3 gone", "n4 gone"]
