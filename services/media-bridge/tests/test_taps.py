"""The audio of recorded calls while Kafka does not take it."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from media_bridge import taps as module
from media_bridge.taps import TapWriter
from offhook.bus import BusUnavailable
from offhook.bus.memory import MemoryCluster
from offhook.bus.testing import memory_bus
from offhook.events import AudioTap, decode
from offhook.telemetry import metrics
from offhook.topics import MEDIA_TAPS


def tap(index: int) -> AudioTap:
    second = base64.b64encode(bytes(8000)).decode()
    return AudioTap(
        workflow_run_id="r1",
        epoch=1,
        stream_id="s1",
        index=index,
        offset_ms=index * 1000,
        duration_ms=1000,
        started_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        encoding="mulaw",
        sample_rate=8000,
        caller=second,
        agent=second,
    )


async def test_what_does_not_fit_while_kafka_is_away_is_dropped_and_counted() -> None:
    cluster = MemoryCluster()
    cluster.away = True
    taps = [tap(index) for index in range(10)]
    size = len(taps[0].caller) * 2
    dropped = metrics.MEDIA_TAPS.labels("dropped")._value
    before = dropped.get()
    async with memory_bus(cluster=cluster, service="media-bridge") as bus:
        await bus.start()
        writer = TapWriter(bus, "/media-bridge/b1", max_bytes=size * 4)
        writer.start()
        for one in taps:
            writer.tell(one)
        await asyncio.sleep(0)
        assert dropped.get() - before == len(taps) - 4
        cluster.come_back()
        await writer.stop()
    told = [decode(record.value, record.headers).data for record in cluster.records(MEDIA_TAPS.name)]
    assert [one.index for one in told] == [0, 1, 2, 3]
    assert told == taps[:4]


async def test_what_kafka_does_not_take_yet_waits_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    cluster, refusals = MemoryCluster(), [BusUnavailable("away")] * 3
    dropped = metrics.MEDIA_TAPS.labels("dropped")._value
    before = dropped.get()
    async with memory_bus(cluster=cluster, service="media-bridge") as bus:
        await bus.start()
        send = bus.send

        async def perhaps(outgoing: Any) -> Any:
            if refusals:
                raise refusals.pop()
            return await send(outgoing)

        monkeypatch.setattr(bus, "send", perhaps)
        writer = TapWriter(bus, "/media-bridge/b1", max_bytes=10_000_000)
        writer.start()
        for index in range(5):
            writer.tell(tap(index))
        await writer.stop()
    told = [decode(record.value, record.headers).data for record in cluster.records(MEDIA_TAPS.name)]
    assert [one.index for one in told if isinstance(one, AudioTap)] == [0, 1, 2, 3, 4]
    assert (dropped.get(), refusals) == (before, [])
