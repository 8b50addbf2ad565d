"""Listeners, on both backends. See `conftest`."""

from typing import Any

from offhook.events import Event

from .conftest import Backend, eventually, key_pressed, numbers


async def test_every_process_hears_everything_that_is_published_after_its_start_in_order(
    backend: Backend,
) -> None:
    topic = await backend.topic()
    heard: tuple[list[Event[Any]], list[Event[Any]]] = ([], [])
    async with backend.bus("one") as one, backend.bus("other") as other:
        one.listen(topic, heard[0].append)
        other.listen(topic, heard[1].append)
        await one.start()
        await one.publish(topic, key_pressed("early", 0))
        await eventually(lambda: heard[0])
        await other.start()
        for number in range(20):
            await one.publish(topic, key_pressed(f"run{number % 4}", number))
        await eventually(lambda: len(heard[0]) == 21 and len(heard[1]) == 20)
        for run in range(4):
            assert numbers(heard[1], f"run{run}") == list(range(run, 20, 4))
        assert numbers(heard[0], "early") == [0]
        assert numbers(heard[1], "early") == []
        assert one.health().ready


async def test_what_cannot_be_read_or_told_stops_nothing(backend: Backend) -> None:
    topic = await backend.topic()
    heard: list[int] = []

    def hear(event: Event[Any]) -> None:
        if event.data.at_ms == 1:
            raise ValueError("not this one")
        heard.append(event.data.at_ms)

    async with backend.bus() as bus:
        bus.listen(topic, hear)
        await bus.start()
        await bus.publish(topic, key_pressed("run", 0))
        await backend.append(topic, b"run", b"not an event")
        await backend.append(topic, b"run", None)
        await bus.publish(topic, key_pressed("run", 1))
        await bus.publish(topic, key_pressed("run", 2))
        await eventually(lambda: heard == [0, 2])
