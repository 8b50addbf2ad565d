"""The in-memory bus, as other packages' tests use it."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from offhook.bus.testing import MemoryCluster, memory_bus
from offhook.events import DtmfReceived, Event
from offhook.topics import CALL_EVENTS, CALL_STATES

from .conftest import eventually, key_pressed, numbers


async def test_what_is_published_before_the_start_is_there_at_the_start() -> None:
    async with memory_bus(service="x") as bus:
        await bus.put(CALL_STATES, "run", key_pressed("run", 7))
        directory = bus.directory(CALL_STATES, DtmfReceived)
        await bus.start()
        found = directory.get("run")
        assert found is not None
        assert found.at_ms == 7


async def test_settled_means_that_everything_was_handled() -> None:
    handled: list[Event[Any]] = []

    async def slow(events: Sequence[Event[Any]]) -> None:
        await asyncio.sleep(0.01)
        handled.extend(events)

    async with memory_bus(service="x") as bus:
        bus.consume(CALL_EVENTS, group="g", handler=slow, batch_size=3)
        await bus.start()
        await bus.publish_many(CALL_EVENTS, [key_pressed("run", number) for number in range(10)])
        await bus.settle()
        assert numbers(handled, "run") == list(range(10))
        assert numbers(bus.log(CALL_EVENTS), "run") == list(range(10))


async def test_a_bus_that_cannot_settle_says_why() -> None:
    async def fails(events: Sequence[Event[Any]]) -> None:
        raise ValueError("no store")

    async with memory_bus(service="x") as bus:
        bus.consume(CALL_EVENTS, group="g", handler=fails)
        await bus.start()
        await bus.publish(CALL_EVENTS, key_pressed("run", 0))
        await eventually(lambda: bus.health().problems)
        with pytest.raises(TimeoutError, match="no store"):
            await bus.settle(timeout_s=0.2)


async def test_buses_on_one_cluster_are_processes_on_one_kafka() -> None:
    cluster, handled = MemoryCluster(), []

    async def handle(events: Sequence[Event[Any]]) -> None:
        handled.extend(events)

    async with memory_bus("gateway", cluster) as gateway, memory_bus("tracker", cluster) as tracker:
        tracker.consume(CALL_EVENTS, group="g", handler=handle)
        await gateway.start()
        await tracker.start()
        await gateway.publish(CALL_EVENTS, key_pressed("run", 0))
        await tracker.settle()
    assert numbers(handled, "run") == [0]
