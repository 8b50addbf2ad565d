"""What the benchmarks need around a service: its environment, and the records number-sync would have published."""

import base64
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from offhook.bus import Bus, PlainBusSettings
from offhook.events import EventData, new_event
from offhook.records import ConfigurationRecord, PublicUrlRecord, WorkflowRecord
from offhook.security.keyring import Keyring
from offhook.topics import CONFIGURATIONS, SETTINGS, WORKFLOWS, Topic

ACCOUNT: Final = "AC" + "0" * 31 + "1"
TOKEN: Final = "not-a-real-auth-token-0123456789"
ORIGIN: Final = "https://voice.example.com"


def environment(home: Path, kafka: str, redis: str) -> dict[str, str]:
    return {
        "OFFHOOK_KAFKA_BOOTSTRAP": kafka,
        "OFFHOOK_REDIS_URL": redis,
        "OFFHOOK_KEYRING": "k1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "OFFHOOK_TOKEN_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "OFFHOOK_STATE_DIR": str(home / "state"),
        "OFFHOOK_LOG_LEVEL": "error",
        "OFFHOOK_PARTITIONS": "6",
    }


def account_records(env: dict[str, str]) -> list[tuple[Topic, str, EventData]]:
    """One Twilio account `c1` of user `u1`, and the public URL."""
    keyring = Keyring.parse(env["OFFHOOK_KEYRING"])
    configuration = ConfigurationRecord(
        configuration_id="c1",
        user_id="u1",
        provider="twilio",
        name="bench",
        account=ACCOUNT,
        sealed_credentials=keyring.seal(
            f'{{"account_sid":"{ACCOUNT}","auth_token":"{TOKEN}"}}', context="c1"
        ),
    )
    return [
        (CONFIGURATIONS, "c1", configuration),
        (SETTINGS, PublicUrlRecord.KEY, PublicUrlRecord(url=ORIGIN)),
    ]


def workflow_record(agent_url: str, sample_rate: int) -> tuple[Topic, str, EventData]:
    """Workflow `w1` of user `u1`, with an agent that speaks PCM."""
    record = WorkflowRecord.model_validate(
        {
            "workflow_id": "w1",
            "user_id": "u1",
            "name": "bench",
            "agent_url": agent_url,
            "sample_rate": sample_rate,
        }
    )
    return WORKFLOWS, "w1", record


async def publish(kafka: str, records: Iterable[tuple[Topic, str, EventData]]) -> None:
    bus = Bus(PlainBusSettings(kafka, partitions=6), service="benchmark")
    await bus.start()
    for topic, key, data in records:
        await bus.put(topic, key, new_event(data, source="/benchmark", time=datetime.now(UTC), subject=key))
    await bus.stop()
