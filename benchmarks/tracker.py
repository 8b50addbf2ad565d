"""Call events from Kafka into PostgreSQL: how fast a backlog is worked off, and how old an event is when it can be read.

The alternative is a consumer as it is usually written: one event, one transaction, one commit (`plain_tracker`). Same
broker, same database (fsync on), same events; it does less (no facts, no outbox).
"""

import asyncio
import base64
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from benchmarks.tables import Section
from offhook.bus import Bus, PlainBusSettings
from offhook.events import (
    CallOriginated,
    CallRequested,
    CallStatus,
    Event,
    EventData,
    MediaQuality,
    MediaStarted,
    MediaStopped,
    Party,
    StatusReported,
    new_event,
)
from offhook.identities import new_id
from offhook.security.api_keys import setting_entry
from offhook.topics import CALL_EVENTS
from offhook_dev.kafka import KafkaServer
from offhook_dev.ports import free_port
from offhook_dev.postgres import PostgresServer
from offhook_dev.programs import Program
from offhook_dev.servers import Server

CALLS = 3000
PLAIN_SECONDS = 5.0
STEADY_RATE = 200
STEADY_SECONDS = 5.0
SIDE_BY_SIDE = 200
"""Calls that live at the same time; their events come in turns."""


def run() -> Section:
    return asyncio.run(_run())


async def _run() -> Section:
    section = Section(
        "Call events from Kafka into PostgreSQL, one process",
        ("consumer", "events/s, a backlog", f"p99 age in the store at {STEADY_RATE}/s, ms"),
    )
    with tempfile.TemporaryDirectory(prefix="offhook-bench-") as directory:
        home = Path(directory)
        os.chmod(home, 0o711)  # PostgreSQL runs as another user when root runs this
        kafka, postgres = KafkaServer(home / "kafka"), PostgresServer(home / "postgres")
        await kafka.start()
        await postgres.start()
        url = postgres.create_database("bench")
        engine = create_async_engine(url)
        bus = Bus(
            PlainBusSettings(kafka.bootstrap, partitions=6),
            service="benchmark",
        )
        await bus.start()
        try:
            await bus.publish_many(CALL_EVENTS, _backlog())
            ours = _call_tracker(home, kafka.bootstrap, url)
            ours_rate = await _work_off(ours, engine, "call_events", stop=False)
            try:
                age = await _age_when_stored(bus, ours)
            finally:
                await ours.stop()
            plain_rate = await _work_off(
                _Plain(home, kafka.bootstrap, url), engine, "plain_events", stop=True
            )
        finally:
            await bus.stop()
            await engine.dispose()
            await postgres.stop()
            await kafka.stop()
    section.rows = [
        ("call-tracker", f"{ours_rate:.0f}", f"≤ {age * 1000:.0f}"),
        ("one event at a time", f"{plain_rate:.0f}", ""),
        ("ratio", f"{ours_rate / plain_rate:.1f}×", ""),
    ]
    section.notes = [
        "Broker, database and consumer share the machine's cores; the database syncs every commit. The age is the upper bound of",
        "the histogram's bucket, from the event's time to its commit, through Kafka.",
    ]
    section.data = {
        "call_tracker": {"per_second": ours_rate, "age_p99_s": age},
        "plain": {"per_second": plain_rate},
    }
    return section


async def _work_off(program: Server, engine: AsyncEngine, table: str, *, stop: bool) -> float:
    """Events a second, from the first one in the table to the last one (or to the end of patience)."""
    total = len(_story("", "")) * CALLS
    begun: tuple[float, int] | None = None
    await program.start()
    try:
        while True:
            await asyncio.sleep(0.02)
            count = await _count(engine, table)
            now = time.perf_counter()
            if begun is None:
                begun = (now, count) if count else None
            elif count >= total or (stop and now - begun[0] >= PLAIN_SECONDS):
                return (count - begun[1]) / (now - begun[0])
    finally:
        if stop:
            await program.stop()


async def _count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as connection:
        try:
            return int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())
        except ProgrammingError:  # not created yet
            return 0


async def _age_when_stored(bus: Bus, program: Program) -> float:
    before = await _age_buckets(program.port)
    pause = 1 / STEADY_RATE
    due = time.perf_counter()
    for number in range(int(STEADY_RATE * STEADY_SECONDS)):
        event = _story(f"steady-{number}", f"CAsteady{number}")[0]
        now = datetime.now(UTC)
        await bus.publish(
            CALL_EVENTS, new_event(event.data, source="/bench", time=now, subject=event.subject)
        )
        due += pause
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
    await asyncio.sleep(1)
    after = await _age_buckets(program.port)
    counts = {bound: after[bound] - before.get(bound, 0.0) for bound in after}
    wanted = 0.99 * max(counts.values())
    return min(bound for bound, count in counts.items() if count >= wanted)


async def _age_buckets(port: int) -> dict[float, float]:
    async with httpx.AsyncClient(trust_env=False) as client:
        page = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
    return {
        float(sample.labels["le"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "offhook_call_event_age_seconds_bucket"
    }


def _backlog() -> list[Event[EventData]]:
    mark = new_id()[:8]
    events = []
    for first in range(0, CALLS, SIDE_BY_SIDE):
        block = [
            _story(f"{mark}-{number}", f"CA{mark}{number}") for number in range(first, first + SIDE_BY_SIDE)
        ]
        events += [story[step] for step in range(len(block[0])) for story in block]
    return events


def _story(run: str, call_id: str) -> Sequence[Event[EventData]]:
    """An outbound call from the request to its end."""
    about = {"workflow_run_id": run or "x", "provider": "twilio"}
    leg = about | {"account": "AC1", "provider_call_id": call_id}
    begun = datetime(2026, 11, 1, 12, tzinfo=UTC)

    def status(word: CallStatus, sequence: int) -> StatusReported:
        return StatusReported.model_validate(
            leg
            | {"status": word, "provider_status": word.value, "sequence": sequence, "provider_time": begun}
        )

    quality = MediaQuality(caller_audio_ms=5000, agent_audio_ms=3000)
    media = {
        "workflow_run_id": run or "x",
        "provider": "twilio",
        "provider_call_id": call_id,
        "stream_id": "MZ1",
        "epoch": 1,
    }
    told: list[EventData] = [
        CallRequested.model_validate(
            about
            | {"workflow_id": "w1", "user_id": "u1", "configuration_id": "c1", "account": "AC1"}
            | {"from_number": "+14155550100", "to_number": "+14155550199"}
        ),
        CallOriginated.model_validate(leg | {"configuration_id": "c1"}),
        status(CallStatus.INITIATED, 0),
        status(CallStatus.RINGING, 1),
        status(CallStatus.ANSWERED, 2),
        MediaStarted.model_validate(media | {"bridge": "b1", "sample_rate": 8000}),
        MediaStopped.model_validate(
            media | {"reason": "stop", "ended_by": Party.CALLEE, "duration_ms": 5000, "quality": quality}
        ),
        status(CallStatus.COMPLETED, 3),
    ]
    return [
        new_event(data, source="/bench", time=begun + timedelta(seconds=step), subject=run)
        for step, data in enumerate(told)
    ]


def _call_tracker(home: Path, kafka: str, url: str) -> Program:
    port = free_port()
    return Program(
        "call-tracker",
        [sys.executable, "-m", "call_tracker"],
        home,
        port=port,
        ready_url=f"http://127.0.0.1:{port}/readyz",
        env={
            "OFFHOOK_KAFKA_BOOTSTRAP": kafka,
            "OFFHOOK_DATABASE_URL": url,
            "OFFHOOK_API_KEYS": setting_entry("u1", "key"),
            "OFFHOOK_SESSION_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "OFFHOOK_LISTEN_PORT": str(port),
            "OFFHOOK_STATE_DIR": str(home / "state"),
            "OFFHOOK_LOG_LEVEL": "warning",
            "OFFHOOK_PARTITIONS": "6",
        },
    )


class _Plain(Server):
    """The plain consumer; it serves nothing, so it is ready when it runs."""

    name = "plain-tracker"

    def __init__(self, home: Path, kafka: str, url: str) -> None:
        super().__init__(home / "plain")
        self._env = {**os.environ, "BENCH_KAFKA": kafka, "BENCH_DATABASE_URL": url, "PYTHONPATH": os.getcwd()}

    def _prepare(self) -> None:
        pass

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", "benchmarks.plain_tracker"]

    def _environment(self) -> dict[str, str]:
        return self._env

    def _answers(self) -> bool:
        return True
