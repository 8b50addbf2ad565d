"""`offhook prepare`: one shot, as often and as many at once as anybody likes; and services that wait for it."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from offhook.topics import ALL_TOPICS
from offhook_dev.kafka import KafkaServer
from offhook_dev.ports import free_port
from offhook_dev.pytest_plugin import KafkaFactory

pytestmark = [pytest.mark.real]

_CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("OFFHOOK_")}
_SESSION_KEY = "b2ZmaG9vay10ZXN0cy1vbmx5LW5vLXNlY3JldC1hdC1hbGw="


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        env={**_CLEAN, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def prepared(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = started("offhook.command", "prepare", *arguments, **environment)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_two_at_once_on_an_installation_without_anything_do_it_once(
    kafka_factory: KafkaFactory, postgres_url: str, tmp_path: Path
) -> None:
    kafka = kafka_factory()
    environment = {
        "OFFHOOK_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "OFFHOOK_CALL_TRACKER_DATABASE_URL": postgres_url,
        "OFFHOOK_NUMBER_SYNC_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'numbers.db'}",
        "OFFHOOK_PARTITIONS": "2",
    }
    two = [started("offhook.command", "prepare", **environment) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in two]
    assert [process.returncode for process in two] == [0, 0], said
    both = "".join(out for out, _ in said)
    assert both.count("call-tracker: migrated from nothing to ") == 1
    assert both.count("call-tracker: the schema is at ") == 1
    assert both.count("number-sync: migrated from nothing to ") == 1

    code, out, err = prepared(**environment)
    assert (code, err) == (0, "")
    assert f"Kafka: all {len(ALL_TOPICS)} topics are there" in out.splitlines()


def test_what_is_missing_when_the_time_is_over_is_a_sentence_without_secrets(tmp_path: Path) -> None:
    calls = f"sqlite+aiosqlite:///{tmp_path / 'calls.db'}"
    assert prepared("--no-topics", OFFHOOK_CALL_TRACKER_DATABASE_URL=calls)[0] == 0
    code, _, err = prepared(
        "--within", "10",
        OFFHOOK_KAFKA_BOOTSTRAP="127.0.0.1:1",
        OFFHOOK_CALL_TRACKER_DATABASE_URL=calls,
        OFFHOOK_NUMBER_SYNC_DATABASE_URL="postgresql+asyncpg://offhook:hunter2@127.0.0.1:1/numbers",
    )  # fmt: skip
    *_, last = err.splitlines()
    assert code == 1
    assert last.startswith("Not everything is prepared: ")
    assert "Kafka at 127.0.0.1:1 cannot be used" in last
    assert "number-sync: the database does not answer" in last
    assert "call-tracker" not in last  # its part is done
    assert "hunter2" not in err


def test_a_text_that_is_no_url_is_refused_without_being_repeated() -> None:
    code, _, err = prepared("--no-topics", OFFHOOK_NUMBER_SYNC_DATABASE_URL="hunter2@somewhere")
    assert code == 1
    assert "OFFHOOK_NUMBER_SYNC_DATABASE_URL is not the URL of a database" in err
    assert "hunter2" not in err


async def test_a_service_told_not_to_prepare_waits_and_says_for_what(
    kafka_factory: KafkaFactory, postgres_url: str, tmp_path: Path
) -> None:
    kafka: KafkaServer = await asyncio.to_thread(kafka_factory)
    port = free_port()
    service = started(
        "call_tracker",
        OFFHOOK_AUTO_PREPARE="false",
        OFFHOOK_KAFKA_BOOTSTRAP=kafka.bootstrap,
        OFFHOOK_DATABASE_URL=postgres_url,
        OFFHOOK_SESSION_KEY=_SESSION_KEY,
        OFFHOOK_STATE_DIR=str(tmp_path),
        OFFHOOK_LISTEN_PORT=str(port),
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            await until(client, "/startupz", 503, "the database has no schema")
            assert (await client.get("/healthz")).status_code == 200
            await asyncio.to_thread(prepared, "--no-topics", OFFHOOK_CALL_TRACKER_DATABASE_URL=postgres_url)
            await until(client, "/startupz", 503, "Kafka has no topic telephony.call-events.v1")
            await asyncio.to_thread(prepared, OFFHOOK_KAFKA_BOOTSTRAP=kafka.bootstrap, OFFHOOK_PARTITIONS="2")
            await until(client, "/readyz", 200, "")
            await until(client, "/startupz", 200, "")
    finally:
        service.terminate()
        _, err = await asyncio.to_thread(service.communicate, timeout=90)
    assert service.returncode == 0, err


async def until(client: httpx.AsyncClient, path: str, status: int, problem: str) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                answer = await client.get(path)
                if answer.status_code == status and problem in answer.text:
                    return
            except httpx.TransportError:
                pass  # it does not listen yet
            await asyncio.sleep(0.1)
