"""The real process on real Kafka: killed in the middle of its work, without its database, and ended in order."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from events_of_calls import SESSION_KEY, AnyEvent, Call

from call_tracker.joining import gather
from call_tracker.lifecycle import project
from call_tracker.settings import TrackerSettings
from offhook.bus import Bus
from offhook.events import decode
from offhook.records import CallState
from offhook.security.api_keys import setting_entry
from offhook.topics import CALL_EVENTS, CALL_STATES
from offhook_dev.kafka import KafkaServer
from offhook_dev.ports import free_port
from offhook_dev.postgres import PostgresServer

pytestmark = pytest.mark.real


class Process:
    """`python -m call_tracker`, as it is deployed."""

    def __init__(self, home: Path, bootstrap: str, database_url: str, user: str) -> None:
        self.home, self.user, self.bootstrap = home, user, bootstrap
        self.port = free_port()
        self._env = {
            "PATH": os.environ["PATH"],
            "OFFHOOK_KAFKA_BOOTSTRAP": bootstrap,
            "OFFHOOK_DATABASE_URL": database_url,
            "OFFHOOK_API_KEYS": setting_entry(user, "key"),
            "OFFHOOK_SESSION_KEY": SESSION_KEY,
            "OFFHOOK_LISTEN_PORT": str(self.port),
            "OFFHOOK_STATE_DIR": str(home),
            # Small batches: a kill finds something half done.
            "OFFHOOK_BATCH_SIZE": "20",
            "OFFHOOK_PARTITIONS": "2",
        }
        self._running: subprocess.Popen[bytes] | None = None
        self.log = home / "log"

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                [sys.executable, "-m", "call_tracker"], env=self._env, stdout=log, stderr=log
            )
        await self._until(self._answers, 60)

    async def _answers(self) -> bool:
        assert self._running is not None
        assert self._running.poll() is None, self.log.read_text()
        try:
            return (await self.get("/startupz"))[0] == 200
        except httpx.TransportError:
            return False

    async def _until(self, condition: Any, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            while not await condition():
                await asyncio.sleep(0.05)

    async def get(self, path: str) -> tuple[int, Any]:
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            headers={"Authorization": "Bearer key"},
            timeout=60,
            trust_env=False,
        ) as client:
            answer = await client.get(path)
            return answer.status_code, answer.json()

    async def calls(self) -> dict[str, CallState]:
        status, page = await self.get("/api/v1/calls?limit=200")
        assert status == 200, page
        return {one["workflow_run_id"]: CallState.model_validate(one) for one in page["calls"]}

    def kill(self) -> None:
        assert self._running is not None
        self._running.kill()
        self._running.wait()

    async def end(self) -> int:
        assert self._running is not None
        self._running.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self._running.wait, 30)

    def clean_up(self) -> None:
        if self._running is not None and self._running.poll() is None:
            self.kill()


@asynccontextmanager
async def publisher(bootstrap: str) -> AsyncIterator[Bus]:
    settings = TrackerSettings(kafka_bootstrap=bootstrap, session_key=SESSION_KEY, partitions=2)  # type: ignore[arg-type]
    bus = Bus(settings, service="test")
    await bus.start()
    try:
        yield bus
    finally:
        await bus.stop()


def lives(user: str, count: int) -> tuple[list[AnyEvent], dict[str, CallState]]:
    """The events of many calls as they would come, side by side, some twice; and the records they must end in."""
    mark = uuid.uuid4().hex[:8]
    stories, want = [], {}
    for number in range(count):
        call = Call(run=f"run-{mark}-{number}", call_id=f"CA{mark}{number}", user=user)
        story = call.twilio_outbound()
        want[call.run] = project(call.run, gather(story))
        stories.append([*story[:5], story[3], *story[5:], story[-1]])
    return [story[step] for step in range(len(stories[0])) for story in stories], want


async def states_on_kafka(bootstrap: str, runs: Sequence[str]) -> dict[str, list[CallState]]:
    """Every record published about these runs, in order."""
    consumer = AIOKafkaConsumer(CALL_STATES.name, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    found: dict[str, list[CallState]] = {run: [] for run in runs}
    try:
        partitions = consumer.assignment()  # without a group: all of them
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    event = decode(record.value, record.headers)
                    if event.subject in found and isinstance(event.data, CallState):
                        found[event.subject].append(event.data)
    finally:
        await consumer.stop()
    return found


async def until_equal(process: Process, want: dict[str, CallState], within_s: float = 60) -> None:
    found: dict[str, CallState] = {}
    try:
        async with asyncio.timeout(within_s):
            while found != want:
                await asyncio.sleep(0.1)
                found = await process.calls()
    except TimeoutError:
        wrong = [run for run in want if found.get(run) != want[run]]
        pytest.fail(f"{len(wrong)} of {len(want)} records are wrong; {process.log.read_text()[-2000:]}")


@pytest.fixture
async def process(kafka: KafkaServer, database_url: str, tmp_path: Path) -> AsyncIterator[Process]:
    process = Process(tmp_path, kafka.bootstrap, database_url, f"user-{uuid.uuid4().hex[:8]}")
    yield process
    process.clean_up()


async def test_killed_again_and_again_while_it_consumes_it_leaves_complete_records_and_nothing_doubled(
    process: Process,
) -> None:
    events, want = lives(process.user, 100)
    await process.start()
    async with publisher(process.bootstrap) as bus:
        for half in range(2):
            size = len(events) // 2
            await bus.publish_many(CALL_EVENTS, events[half * size : (half + 1) * size])
            process.kill()
            await process.start()
    await until_equal(process, want)
    for run in want:
        _, story = await process.get(f"/api/v1/calls/{run}")
        ids = [event["id"] for event in story["events"]]
        assert sorted(ids) == sorted({event.id for event in events if event.subject == run})
    assert await process.end() == 0
    published = await states_on_kafka(process.bootstrap, list(want))
    for run, states in published.items():
        assert states[-1] == want[run]


async def test_without_its_database_it_waits_and_then_catches_up(
    kafka: KafkaServer, servers_directory: Path, tmp_path: Path
) -> None:
    directory = servers_directory / f"postgres-{uuid.uuid4().hex[:8]}"
    postgres = PostgresServer(directory, fsync=False)
    await postgres.start()
    process = Process(tmp_path, kafka.bootstrap, postgres.url, f"user-{uuid.uuid4().hex[:8]}")
    try:
        await process.start()
        events, want = lives(process.user, 20)
        half = len(events) // 2
        async with publisher(process.bootstrap) as bus:
            await bus.publish_many(CALL_EVENTS, events[:half])
            await postgres.stop()
            await bus.publish_many(CALL_EVENTS, events[half:])
            async with asyncio.timeout(30):
                while (await process.get("/readyz"))[0] != 503:
                    await asyncio.sleep(0.1)
            status, problem = await process.get("/api/v1/calls")
            assert (status, problem["title"]) == (503, "Service Unavailable")
            assert (await process.get("/healthz"))[0] == 200
            await postgres.start()
        await until_equal(process, want)
        async with asyncio.timeout(30):
            while (await process.get("/readyz"))[0] != 200:
                await asyncio.sleep(0.1)
        assert await process.end() == 0
    finally:
        process.clean_up()
        await postgres.stop()


def test_a_missing_setting_is_one_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "call_tracker"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "OFFHOOK_SESSION_KEY is not set" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_schema_can_be_migrated_by_itself(database_url: str, tmp_path: Path) -> None:
    env = {
        "PATH": os.environ["PATH"],
        "OFFHOOK_SESSION_KEY": SESSION_KEY,
        "OFFHOOK_DATABASE_URL": database_url,
    }
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-m", "call_tracker", "migrate"],
            env=env,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
    nowhere = env | {"OFFHOOK_DATABASE_URL": "postgresql+asyncpg://user:secret@127.0.0.1:1/none"}
    done = subprocess.run(
        [sys.executable, "-m", "call_tracker", "migrate"],
        env=nowhere,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
