"""The outlet, before a Kafka in memory that can be away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from offhook.bus import EventTooLarge, Outlet, OutletError, OutletFull
from offhook.bus.testing import MemoryBus, MemoryCluster, memory_bus
from offhook.events import HangUp, new_event
from offhook.topics import CALL_EVENTS

from .conftest import eventually, first_seen, key_pressed, numbers


@asynccontextmanager
async def outlet_on(
    cluster: MemoryCluster, directory: Path, **options: Any
) -> AsyncIterator[tuple[MemoryBus, Outlet]]:
    async with memory_bus("gateway", cluster) as bus:
        await bus.start()
        outlet = Outlet(bus, directory, **({"ack_timeout_s": 0.1} | options))
        await outlet.start()
        try:
            yield bus, outlet
        finally:
            await outlet.stop()


def seen(bus: MemoryBus, run: str) -> list[int]:
    """What a reader that drops repeated ids sees of a run."""
    return first_seen(numbers(bus.log(CALL_EVENTS), run))


async def test_while_kafka_answers_events_go_there_and_nowhere_else(tmp_path: Path) -> None:
    async with outlet_on(MemoryCluster(), tmp_path) as (bus, outlet):
        for number in range(5):
            assert await outlet.emit(CALL_EVENTS, key_pressed("run", number)) == "kafka"
        assert numbers(bus.log(CALL_EVENTS), "run") == [0, 1, 2, 3, 4]
        assert outlet.spooled == 0
        assert list(tmp_path.glob("*.spool")) == []


async def test_while_kafka_is_away_events_go_to_the_spool_and_come_out_in_order_later(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (bus, outlet):
        assert await outlet.emit(CALL_EVENTS, key_pressed("run", 0)) == "kafka"
        cluster.away = True
        for number in range(1, 20):
            assert await outlet.emit(CALL_EVENTS, key_pressed("run", number)) == "spool"
        assert outlet.spooled == 19
        assert bus.health().ready
        assert any("19 events" in problem for problem in bus.health().problems)
        cluster.come_back()
        await eventually(lambda: outlet.spooled == 0)
        await eventually(lambda: bus.health().problems == [])
        assert seen(bus, "run") == list(range(20))
        await eventually(lambda: list(tmp_path.glob("*.spool")) == [])


async def test_order_per_key_holds_while_events_come_in_and_kafka_comes_and_goes(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    runs = [f"run{index}" for index in range(8)]
    # A small chunk, so that the spool is drained in many steps while events come in.
    async with outlet_on(cluster, tmp_path, chunk_events=3) as (bus, outlet):

        async def call(run: str) -> None:
            for number in range(150):
                await outlet.emit(CALL_EVENTS, key_pressed(run, number))

        async def outages() -> None:
            for _ in range(4):
                await asyncio.sleep(0.05)
                cluster.away = True
                await asyncio.sleep(0.25)
                cluster.come_back()

        await asyncio.gather(outages(), *(call(run) for run in runs))
        await eventually(lambda: outlet.spooled == 0)
        for run in runs:
            assert seen(bus, run) == list(range(150))


async def test_events_emitted_at_once_keep_their_order_when_kafka_goes_away_between_them(
    tmp_path: Path,
) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (bus, outlet):
        emissions = [asyncio.create_task(outlet.emit(CALL_EVENTS, key_pressed("run", n))) for n in range(50)]
        await asyncio.sleep(0)
        cluster.away = True
        emissions += [
            asyncio.create_task(outlet.emit(CALL_EVENTS, key_pressed("run", n))) for n in range(50, 100)
        ]
        destinations = await asyncio.gather(*emissions)
        assert "spool" in destinations
        cluster.come_back()
        await eventually(lambda: len(seen(bus, "run")) == 100)
        assert seen(bus, "run") == list(range(100))


async def test_no_event_overtakes_those_of_its_key_that_are_still_in_the_spool(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path, chunk_events=20) as (bus, outlet):
        emissions: list[asyncio.Task[str]] = []
        outage = range(100, 400)
        for number in range(800):
            if number == outage.start:
                cluster.away = True
            elif number == outage.stop:
                await eventually(lambda: outlet.spooled > 200)
                cluster.come_back()
            emissions.append(asyncio.create_task(outlet.emit(CALL_EVENTS, key_pressed("run", number))))
            await asyncio.sleep(0.0005)
        await asyncio.gather(*emissions)
        await eventually(lambda: outlet.spooled == 0)
        assert seen(bus, "run") == list(range(800))


async def test_events_emitted_at_once_are_spooled_in_their_order(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (_, outlet):
        cluster.away = True
        emissions = [outlet.emit(CALL_EVENTS, key_pressed("run", number)) for number in range(50)]
        assert await asyncio.gather(*emissions) == ["spool"] * 50
    # Another process, and what the first one's client held back is gone with it.
    async with outlet_on(MemoryCluster(), tmp_path) as (bus, outlet):
        await eventually(lambda: outlet.spooled == 0)
        assert numbers(bus.log(CALL_EVENTS), "run") == list(range(50))


async def test_after_an_outage_events_go_to_kafka_directly_again_also_under_load(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    destinations: list[str] = []
    async with outlet_on(cluster, tmp_path) as (_, outlet):
        stop = asyncio.Event()

        async def load() -> None:
            number = 0
            while not stop.is_set():
                destinations.append(await outlet.emit(CALL_EVENTS, key_pressed("run", number)))
                number += 1

        working = [asyncio.create_task(load()) for _ in range(10)]
        await eventually(lambda: "kafka" in destinations)
        cluster.away = True
        await eventually(lambda: "spool" in destinations)
        cluster.come_back()
        destinations.clear()
        await eventually(lambda: "kafka" in destinations)
        stop.set()
        await asyncio.gather(*working)


async def test_what_an_earlier_process_left_in_the_spool_is_sent_first(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (_, outlet):
        cluster.away = True
        for number in range(10):
            await outlet.emit(CALL_EVENTS, key_pressed("run", number))
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (bus, outlet):
        await asyncio.gather(*(outlet.emit(CALL_EVENTS, key_pressed("run", n)) for n in range(10, 30)))
        await eventually(lambda: len(seen(bus, "run")) == 30)
        assert seen(bus, "run") == list(range(30))
        await eventually(lambda: outlet.spooled == 0)


async def test_a_full_spool_refuses_events_and_keeps_what_it_has(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path, max_bytes=20_000) as (bus, outlet):
        cluster.away = True
        taken = 0

        async def fill() -> None:
            nonlocal taken
            while True:
                await outlet.emit(CALL_EVENTS, key_pressed("run", taken))
                taken += 1

        with pytest.raises(OutletFull, match="20000 bytes"):
            await fill()
        assert taken > 20
        cluster.come_back()
        await eventually(lambda: len(seen(bus, "run")) >= taken)
        await eventually(lambda: outlet.spooled == 0)
        assert await outlet.emit(CALL_EVENTS, key_pressed("run", taken + 1)) in ("kafka", "spool")


async def test_an_event_that_no_record_can_hold_is_refused_at_once(tmp_path: Path) -> None:
    event = key_pressed("run", 1)
    vast = HangUp(
        workflow_run_id="run", configuration_id="c", provider="twilio", provider_call_id=None,
        requested_by="operator", reason="x" * 1_100_000,
    )  # fmt: skip
    async with outlet_on(MemoryCluster(), tmp_path) as (_, outlet):
        with pytest.raises(EventTooLarge):
            await outlet.emit(CALL_EVENTS, new_event(vast, source="/test", time=event.time, subject="run"))
        assert await outlet.emit(CALL_EVENTS, event) == "kafka"


async def test_an_event_that_kafka_will_never_take_does_not_block_the_spool(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    event = key_pressed("run", 1)
    big = HangUp(
        workflow_run_id="run", configuration_id="c", provider="twilio", provider_call_id=None,
        requested_by="operator", reason="x" * 5_000,
    )  # fmt: skip
    async with outlet_on(cluster, tmp_path) as (bus, outlet):
        cluster.away = True
        await outlet.emit(CALL_EVENTS, key_pressed("run", 0))
        await outlet.emit(CALL_EVENTS, new_event(big, source="/test", time=event.time, subject="run"))
        await outlet.emit(CALL_EVENTS, event)
        cluster.max_record_bytes = 2_000
        cluster.come_back()
        await eventually(lambda: outlet.spooled == 0)
        assert seen(bus, "run") == [0, 1]
        assert b"xxxx" in (tmp_path / "refused.msgpack").read_bytes()


async def test_an_emitter_that_gives_up_waiting_does_not_take_its_event_back(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (bus, outlet):
        cluster.away = True
        emission = asyncio.create_task(outlet.emit(CALL_EVENTS, key_pressed("run", 0)))
        await asyncio.sleep(0.01)
        emission.cancel()
        assert await outlet.emit(CALL_EVENTS, key_pressed("run", 1)) == "spool"
        cluster.come_back()
        await eventually(lambda: seen(bus, "run") == [0, 1])


async def test_stopping_makes_everything_durable_that_was_emitted(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (_, outlet):
        cluster.away = True
        emissions = [asyncio.create_task(outlet.emit(CALL_EVENTS, key_pressed("run", n))) for n in range(20)]
        await asyncio.sleep(0)
        await outlet.stop()
        assert await asyncio.gather(*emissions) == ["spool"] * 20
        with pytest.raises(OutletError, match="not started"):
            await outlet.emit(CALL_EVENTS, key_pressed("run", 20))


async def test_whoever_waits_for_it_ends_when_kafka_has_all_of_the_spool(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (bus, outlet):
        await outlet.emptied()
        cluster.away = True
        for number in range(5):
            await outlet.emit(CALL_EVENTS, key_pressed("run", number))
        emptied = asyncio.create_task(outlet.emptied())
        await asyncio.sleep(0.3)
        assert not emptied.done()
        cluster.come_back()
        await emptied
        assert seen(bus, "run") == list(range(5))


async def test_stopping_gives_kafka_time_to_take_the_spool_if_it_is_told_so(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (bus, outlet):
        cluster.away = True
        await outlet.emit(CALL_EVENTS, key_pressed("run", 0))
        stopping = asyncio.create_task(outlet.stop(grace_s=30))
        await asyncio.sleep(0.2)
        cluster.come_back()
        await stopping
        assert seen(bus, "run") == [0]
        assert list(tmp_path.glob("*.spool")) == []


async def test_two_outlets_cannot_share_a_spool(tmp_path: Path) -> None:
    cluster = MemoryCluster()
    async with outlet_on(cluster, tmp_path) as (bus, _):
        with pytest.raises(OutletError, match="another process"):
            await Outlet(bus, tmp_path).start()
