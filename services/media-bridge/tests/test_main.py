"""The service as a process, on a real Kafka and Redis."""

import asyncio
import base64
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from offhook.bus import Bus
from offhook.events import MediaStarted, MediaStopped
from offhook.records import PublicUrlRecord
from offhook.security.keyring import Keyring, new_key
from offhook.security.tokens import MediaTokens
from offhook.settings import ServiceSettings, read_settings
from offhook.topics import CALL_COMMANDS, CALL_EVENTS, SETTINGS
from offhook_dev.ports import free_port

CALL = "CA" + secrets.token_hex(16)


class NoSecrets(ServiceSettings):
    SECRETS = frozenset()


def without_offhook() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("OFFHOOK_")}


def test_a_missing_setting_is_one_sentence_and_exit_code_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "media_bridge"],
        env=without_offhook(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2
    assert "OFFHOOK_KEYRING is not set" in done.stderr
    assert "OFFHOOK_TOKEN_KEY is not set" in done.stderr


def test_a_port_in_use_is_one_sentence_and_exit_code_2(tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        environment = without_offhook() | {
            "OFFHOOK_KEYRING": new_key("k1"),
            "OFFHOOK_TOKEN_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
            "OFFHOOK_LISTEN_PORT": str(port),
            "OFFHOOK_STATE_DIR": str(tmp_path),
        }
        done = subprocess.run(
            [sys.executable, "-m", "media_bridge"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
async def bus(kafka: Any) -> AsyncIterator[Bus]:
    made = Bus(read_settings(NoSecrets, kafka_bootstrap=kafka.bootstrap), service="test")
    made.told = []  # type: ignore[attr-defined]

    async def hear(events: Any) -> None:
        made.told.extend(events)  # type: ignore[attr-defined]

    group = f"test-{secrets.token_hex(4)}"
    made.consume(CALL_EVENTS, group=group, handler=hear)
    made.consume(CALL_COMMANDS, group=group, handler=hear)
    await made.start()
    yield made
    await made.stop()


async def test_at_sigterm_new_calls_are_refused_live_ones_finish_and_the_process_exits_with_0(
    kafka: Any, redis_url: str, bus: Any, tmp_path: Any, agent: Any, outside: Any
) -> None:
    key, token_key = new_key("k1"), base64.b64encode(secrets.token_bytes(32)).decode()
    rig = outside(bus, Keyring.parse(key), MediaTokens.parse(token_key))
    rig.port, rig.admin_port = free_port(), free_port()
    environment = without_offhook() | {
        "OFFHOOK_KAFKA_BOOTSTRAP": kafka.bootstrap,
        "OFFHOOK_REDIS_URL": redis_url,
        "OFFHOOK_KEYRING": key,
        "OFFHOOK_TOKEN_KEY": token_key,
        "OFFHOOK_LISTEN_PORT": str(rig.port),
        "OFFHOOK_ADMIN_PORT": str(rig.admin_port),
        "OFFHOOK_STATE_DIR": str(tmp_path),
        "OFFHOOK_REDIS_TIMEOUT_S": "5",
        "OFFHOOK_COMFORT_AFTER_S": "60",
        "OFFHOOK_SILENCE_TIMEOUT_S": "60",
        "OFFHOOK_START_TIMEOUT_S": "30",
        "OFFHOOK_AGENT_CONNECT_TIMEOUT_S": "30",
        "OFFHOOK_AGENT_PING_S": "60",
        "OFFHOOK_DRAIN_TIMEOUT_S": "60",
    }
    user = "u" + secrets.token_hex(4)
    name = "w" + secrets.token_hex(4)
    await rig.configuration(name, user, "twilio", {"account_sid": rig.sid, "auth_token": rig.auth_token})
    await rig.workflow(name, agent.url, user_id=user)
    await rig.put(SETTINGS, PublicUrlRecord.KEY, PublicUrlRecord(url=rig.public_url))
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "media_bridge", env=environment)
    try:
        async with asyncio.timeout(300):
            while True:
                try:
                    if (await rig.ready())[0] == 200:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
            run = rig.twilio_run(CALL)
            caller = await rig.twilio(name, run, user=user)
            await caller.start(rig.mint(run, call=CALL), call=CALL)
            caller.speak()
            connection = await agent.connection()
            await connection.until(lambda: len(connection.audio) >= 640 * 5)

            process.send_signal(signal.SIGTERM)
            while (await rig.ready())[0] != 503:
                await asyncio.sleep(0.02)
            with pytest.raises(InvalidStatus) as refused:
                await rig.twilio(name, run, user=user)
            assert refused.value.response.status_code == 503

            before = len(connection.audio)
            await connection.until(lambda: len(connection.audio) >= before + 640 * 20)
            await connection.send(b"\0\x10" * 1600)
            await caller.until(lambda: len(caller.audio) >= 160 * 5)
            await connection.send({"event": "hangup", "reason": "done"})
            assert await caller.ends() == 1000
            assert await process.wait() == 0

            # What Kafka is slow to acknowledge is written again: an event is known by its id.
            while len(heard := {event.id: event.data for event in bus.told if event.subject == run}) < 5:
                await asyncio.sleep(0.05)
            told = list(heard.values())
    finally:
        await caller.leave()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert {type(data).__name__ for data in told} == {
        "MediaStarted", "AgentConnected", "HangupRequested", "HangUp", "MediaStopped",
    }  # fmt: skip
    (started,) = (data for data in told if isinstance(data, MediaStarted))
    (stopped,) = (data for data in told if isinstance(data, MediaStopped))
    assert (started.epoch, stopped.epoch) == (1, 1)
    assert stopped.reason == "agent-hangup"
    assert stopped.quality.caller_audio_ms >= 500
    assert stopped.quality.agent_audio_ms >= 100
