"""The service as it runs: a process of its own, real Kafka, a provider's HTTP server."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from counting_provider import counting_provider, twilio_error
from running_number_sync import KEYRING, KEYS, PUBLIC_URL, SESSION_KEY, TWILIO, Service

from offhook.bus import Bus
from offhook.events import (
    CallOriginated,
    CommandFailed,
    Event,
    EventData,
    HangUp,
    Originate,
    Party,
    new_event,
)
from offhook.identities import new_id
from offhook.records import ConfigurationRecord, PublicUrlRecord
from offhook.security.api_keys import setting_entry
from offhook.settings import ServiceSettings
from offhook.topics import CALL_COMMANDS, CALL_EVENTS, CONFIGURATIONS, SETTINGS
from offhook_dev.kafka import KafkaServer
from offhook_dev.ports import free_port

pytestmark = pytest.mark.real


class OnlyKafka(ServiceSettings):
    SECRETS = frozenset()


@asynccontextmanager
async def number_sync(
    kafka: str, state: Path, provider_url: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """The process, ready, and its address."""
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "OFFHOOK_KAFKA_BOOTSTRAP": kafka,
        "OFFHOOK_KEYRING": KEYRING,
        "OFFHOOK_API_KEYS": setting_entry("ada", KEYS["ada"]),
        "OFFHOOK_SESSION_KEY": SESSION_KEY,
        "OFFHOOK_PUBLIC_URL": PUBLIC_URL,
        "OFFHOOK_STATE_DIR": str(state),
        "OFFHOOK_LISTEN_PORT": str(port),
        "OFFHOOK_TWILIO_API_URL": provider_url,
        "OFFHOOK_LOG_LEVEL": "debug",
    }
    address = f"http://127.0.0.1:{port}"
    with (state / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "number_sync", env=env, stderr=log
        )
    try:
        async with asyncio.timeout(60), httpx.AsyncClient(trust_env=False) as client:
            while True:
                assert process.returncode is None, (state / "log").read_text()
                try:
                    if (await client.get(f"{address}/readyz")).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_from_the_api_over_kafka_to_the_provider_and_back(kafka: KafkaServer, tmp_path: Path) -> None:
    events: list[Event[EventData]] = []

    async def collect(batch: Any) -> None:
        events.extend(batch)

    async def told(run: str) -> EventData:
        async with asyncio.timeout(60):
            while True:
                for event in events:
                    if event.subject == run:
                        return event.data
                await asyncio.sleep(0.05)

    bus = Bus(OnlyKafka(kafka_bootstrap=kafka.bootstrap), service="test")
    bus.consume(CALL_EVENTS, group=f"test-{new_id()}", handler=collect)
    configurations = bus.directory(CONFIGURATIONS, ConfigurationRecord)
    settings = bus.directory(SETTINGS, PublicUrlRecord)
    await bus.start()
    runs = [new_id() for _ in range(3)]

    def order(run: str, data: EventData) -> Event[EventData]:
        return new_event(data, source="/test", time=datetime.now(UTC), subject=run)

    def originate(run: str, configuration_id: str) -> Event[EventData]:
        return order(
            run,
            Originate(
                workflow_run_id=run,
                workflow_id="w",
                user_id="ada",
                configuration_id=configuration_id,
                provider="twilio",
                from_number="+14155551234",
                to_number="+442079460000",
            ),
        )

    try:
        with counting_provider() as provider:
            async with number_sync(kafka.bootstrap, tmp_path, provider.url) as (process, address):
                headers = {"Authorization": f"Bearer {KEYS['ada']}"}
                body = {"name": "Main", "provider": "twilio", "credentials": TWILIO}
                async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
                    made = await client.post(f"{address}/api/v1/telephony-configurations", json=body)
                assert made.status_code == 201, made.text
                configuration_id = made.json()["configuration_id"]
                async with asyncio.timeout(30):
                    while (
                        configurations.get(configuration_id) is None
                        or settings.get(PublicUrlRecord.KEY) is None
                    ):
                        await asyncio.sleep(0.05)
                # Delivered twice, as Kafka may.
                first = originate(runs[0], configuration_id)
                await bus.publish(CALL_COMMANDS, first)
                await bus.publish(CALL_COMMANDS, first)
                originated = await told(runs[0])
                assert isinstance(originated, CallOriginated)
                hang_up = HangUp(
                    workflow_run_id=runs[0],
                    configuration_id=configuration_id,
                    provider="twilio",
                    provider_call_id=None,
                    requested_by=Party.AGENT,
                )
                await bus.publish(CALL_COMMANDS, order(runs[0], hang_up))
                async with asyncio.timeout(30):
                    while provider.hang_ups != [originated.provider_call_id]:
                        await asyncio.sleep(0.05)
                provider.to_dial = [twilio_error(401, 20003, "Authenticate")]
                await bus.publish(CALL_COMMANDS, originate(runs[1], configuration_id))
                failed = await told(runs[1])
                assert isinstance(failed, CommandFailed)
                assert failed.code == "credentials"
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(30):
                    assert await process.wait() == 0
            # What was ordered meanwhile is dialled when it is back.
            await bus.publish(CALL_COMMANDS, originate(runs[2], configuration_id))
            async with number_sync(kafka.bootstrap, tmp_path, provider.url):
                assert isinstance(await told(runs[2]), CallOriginated)
            assert len(provider.dials) == 3
        assert TWILIO["auth_token"] not in (tmp_path / "log").read_text()
    finally:
        await bus.stop()


async def test_a_number_nobody_answers_is_detached_without_asking_the_provider(service: Service) -> None:
    made = await service.api.post(
        "/telephony-configurations", json={"name": "A", "provider": "twilio", "credentials": TWILIO}
    )
    numbers = f"/telephony-configurations/{made.json()['configuration_id']}/phone-numbers"
    await service.api.post(numbers, json={"number": "+14155551234"})
    async with asyncio.timeout(20):
        while True:
            [number] = (await service.api.get(numbers)).json()["phone_numbers"]
            if number["sync"]["state"] == "detached":
                break
            await asyncio.sleep(0.02)
    assert number["sync"]["reason"] == "no-workflow"
    assert number["sync"]["next_at"] is None
