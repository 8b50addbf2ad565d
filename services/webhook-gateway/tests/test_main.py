"""The service as a process, on a real Kafka and Redis."""

import asyncio
import base64
import json
import os
import secrets
import signal
import subprocess
import sys
from datetime import UTC, datetime
from urllib.parse import urlencode

import httpx
import pytest
from twilio.request_validator import RequestValidator

from offhook.bus import Bus
from offhook.events import new_event
from offhook.identities import INBOUND_PATH, inbound_run_id
from offhook.records import ConfigurationRecord, NumberRecord, PublicUrlRecord, WorkflowRecord
from offhook.security.keyring import Keyring, new_key
from offhook.settings import ServiceSettings, read_settings
from offhook.topics import CALL_EVENTS, CONFIGURATIONS, NUMBERS, SETTINGS, WORKFLOWS
from offhook_dev.ports import free_port

SID = "AC" + secrets.token_hex(16)
CALL = "CA" + secrets.token_hex(16)
TOKEN = "an-auth-token"
NUMBER = "+15550001111"
PUBLIC_URL = "https://voice.example.com"


class NoSecrets(ServiceSettings):
    SECRETS = frozenset()


def test_a_missing_setting_is_one_sentence_and_exit_code_2():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OFFHOOK_")}
    done = subprocess.run(
        [sys.executable, "-m", "webhook_gateway"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "OFFHOOK_KEYRING is not set" in done.stderr
    assert "OFFHOOK_TOKEN_KEY is not set" in done.stderr


@pytest.fixture
async def bus(kafka):
    made = Bus(read_settings(NoSecrets, kafka_bootstrap=kafka.bootstrap), service="test")
    told = []

    async def hear(events):
        told.extend(events)

    made.consume(CALL_EVENTS, group=f"test-{secrets.token_hex(4)}", handler=hear)
    made.told = told
    await made.start()
    yield made
    await made.stop()


async def test_a_started_gateway_becomes_ready_serves_a_call_and_ends_in_order(
    kafka, redis_url, bus, tmp_path
):
    key, port = new_key("k1"), free_port()
    environment = os.environ | {
        "OFFHOOK_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "OFFHOOK_REDIS_URL": redis_url,
        "OFFHOOK_REDIS_TIMEOUT_S": "5",
        "OFFHOOK_KEYRING": key,
        "OFFHOOK_TOKEN_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "OFFHOOK_LISTEN_PORT": str(port),
        "OFFHOOK_STATE_DIR": str(tmp_path),
    }
    credentials = json.dumps({"account_sid": SID, "auth_token": TOKEN})
    name = secrets.token_hex(8)
    for topic, data in (
        (
            CONFIGURATIONS,
            ConfigurationRecord(
                configuration_id=name,
                user_id="u1",
                provider="twilio",
                name="main",
                account=SID,
                sealed_credentials=Keyring.parse(key).seal(credentials, context=name),
            ),
        ),
        (
            NUMBERS,
            NumberRecord(number_id=name, configuration_id=name, user_id="u1", e164=NUMBER, workflow_id=name),
        ),
        (WORKFLOWS, WorkflowRecord(workflow_id=name, user_id="u1", name="w", agent_url="ws://agent")),
    ):
        await bus.put(topic, name, new_event(data, source="/test", time=datetime.now(UTC), subject=name))

    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "webhook_gateway", env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http, asyncio.timeout(300):
            public = new_event(
                PublicUrlRecord(url=PUBLIC_URL),
                source="/test",
                time=datetime.now(UTC),
                subject=PublicUrlRecord.KEY,
            )
            await bus.put(SETTINGS, PublicUrlRecord.KEY, public)
            while True:
                try:
                    if (await http.get(url + "/readyz")).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
            fields = {
                "AccountSid": SID,
                "CallSid": CALL,
                "From": "+15550002222",
                "To": NUMBER,
                "CallStatus": "ringing",
            }
            signature = RequestValidator(TOKEN).compute_signature(PUBLIC_URL + INBOUND_PATH, fields)
            answer = await http.post(
                url + INBOUND_PATH,
                content=urlencode(fields),
                headers={
                    "x-twilio-signature": signature,
                    "content-type": "application/x-www-form-urlencoded",
                },
            )
            assert answer.status_code == 200
            assert b"<Connect><Stream" in answer.content
            run = inbound_run_id("twilio", SID, CALL)
            # What Kafka is slow to acknowledge is written again: an event is known by its id.
            while len(heard := {event.id: event for event in bus.told if event.subject == run}) < 3:
                await asyncio.sleep(0.05)
            heard = list(heard.values())
            assert [event.data.TYPE for event in heard] == [
                "call.received.v1",
                "call.status.v1",
                "call.instructions-served.v1",
            ]
            assert heard[0].traceparent is not None
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(100):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
