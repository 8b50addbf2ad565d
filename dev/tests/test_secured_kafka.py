"""Kafka with TLS, passwords and access control, as in production: what the rules allow is enough, and no more is needed."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from installation import Installation, outcome_of

from carrier_sim import Callee, Caller, Say, WaitForAgent
from offhook.bus import Bus, BusUnavailable, PlainBusSettings
from offhook.kafka_security import KafkaSecurity
from offhook.preparation import variable
from offhook.topics import CALL_EVENTS, PREPARE, SERVICES, WEBHOOK_AUDIT, Access
from offhook_dev.errors import DevError
from offhook_dev.pytest_plugin import real_is_required
from offhook_dev.secured_kafka import SecuredKafka

pytestmark = [
    pytest.mark.real,
    pytest.mark.asyncio(loop_scope="module"),
]

TALK = (WaitForAgent(timeout_s=60), Say(1.0), WaitForAgent(timeout_s=60))


@pytest.fixture(scope="module")
def kafka(servers_directory: Path) -> Iterator[SecuredKafka]:
    server = SecuredKafka(servers_directory / "secured-kafka", (*SERVICES, PREPARE, "stranger"))
    try:
        server.start_now()
    except DevError as error:
        if real_is_required():
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    yield server
    server.stop_now()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prepared(kafka: SecuredKafka) -> str:
    """What `offhook prepare` said when it made the topics, as its own user; the services are allowed what they need."""
    await kafka.allow_services(*SERVICES, PREPARE)
    return await prepare(**kafka.environment(PREPARE), OFFHOOK_PARTITIONS="4")


async def prepare(*options: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OFFHOOK_")}
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "offhook.command", "prepare", *options],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout)


def as_user(kafka: SecuredKafka, user: str) -> KafkaSecurity:
    return KafkaSecurity("SASL_SSL", "SCRAM-SHA-512", user, kafka.password(user), kafka.ca_file)


@contextlib.asynccontextmanager
async def bus_of(kafka: SecuredKafka, service: str, user: str | None = None) -> AsyncIterator[Bus]:
    security = as_user(kafka, user or service)
    settings = PlainBusSettings(kafka.bootstrap, auto_prepare=False, kafka_security=security)
    bus = Bus(settings, service=service)
    try:
        yield bus
    finally:
        await bus.stop()


async def why_not_ready(bus: Bus, sentence: str) -> str:
    """What a bus that cannot start waits for, once `sentence` is part of it: at first that may be Kafka's answer."""
    starting = asyncio.create_task(bus.start())
    reason = ""
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(60):
                while sentence not in (reason := next(iter(bus.health().problems), reason)):
                    assert not starting.done()
                    await asyncio.sleep(0.05)
        assert sentence in reason
        assert not bus.health().ready
        return reason
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


async def test_whole_calls_go_through_with_what_the_rules_allow_and_nobody_is_denied_anything(
    kafka: SecuredKafka, prepared: str, tmp_path: Path
) -> None:
    assert "Kafka: created telephony.call-events.v1" in prepared
    urls = {name: f"sqlite+aiosqlite:///{tmp_path / name}.db" for name in ("call-tracker", "number-sync")}
    await prepare("--no-topics", **{variable(name): url for name, url in urls.items()})
    env = {service: kafka.environment(service) | {"OFFHOOK_AUTO_PREPARE": "false"} for service in SERVICES}
    async with Installation(
        tmp_path, service_env=env, kafka=kafka.bootstrap, recorder=True, database_urls=urls
    ) as installation:
        workflow = await installation.workflow(record_audio=True)
        number = await installation.number("twilio", workflow)
        await installation.number("vonage", workflow)
        await installation.known()

        into = await installation.call("twilio", number, *TALK)
        out = await installation.dial("vonage", workflow, Callee(0.2, "answer", Caller(TALK)))
        for call in (into, out):
            assert outcome_of(call.record)[0][-1] == "completed"
            assert call.objections == []

        # Every consumer of the topic buries this one, and call-tracker reads what they buried.
        await write_as_stranger(kafka, b"this is no event")
        async with asyncio.timeout(60):
            while len(letters := await dead_letters(installation)) < 3:
                await asyncio.sleep(0.2)
        back = await installation.demo.client.post(f"/dead-letters/{letters[0]}/replay")
        assert back.status_code in (200, 202, 204), back.text

        for run in (into.run, out.run):
            async with asyncio.timeout(60):
                while (await waveform(installation, run)) != 200:
                    await asyncio.sleep(0.5)
    assert denials(kafka) == []


async def write_as_stranger(kafka: SecuredKafka, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=kafka.plain)
    await producer.start()
    try:
        await producer.send_and_wait(CALL_EVENTS.name, value, b"run")
    finally:
        await producer.stop()


async def dead_letters(installation: Installation) -> list[str]:
    answer = await installation.demo.client.get("/dead-letters")
    assert answer.status_code == 200, answer.text
    return [str(one["id"]) for one in answer.json()["dead_letters"]]


async def waveform(installation: Installation, run: str) -> int:
    origin = installation.stack.address.http_url
    return (await installation.demo.client.get(f"{origin}/calls/{run}/waveform.json")).status_code


def denials(kafka: SecuredKafka) -> list[str]:
    return [line for line in kafka.log.read_text(errors="replace").splitlines() if "is Denied" in line]


async def test_what_a_service_is_not_allowed_it_cannot_do_and_says_so(
    kafka: SecuredKafka, prepared: str
) -> None:
    # The recorder's user, with the program of the bridge.
    async with bus_of(kafka, "media-bridge", user="recorder") as bus:
        reason = await why_not_ready(bus, "or this user may not see it")
    assert reason.startswith("Kafka has no topic telephony.call-commands.v1, telephony.configurations.v1")
    async with bus_of(kafka, "recorder") as bus:
        await bus.start()
        with pytest.raises(BusUnavailable, match="TopicAuthorizationFailed"):
            await bus.republish(WEBHOOK_AUDIT, b"k", b"forged", [])


async def test_a_user_without_any_right_is_told_which_ones_are_missing(
    kafka: SecuredKafka, prepared: str
) -> None:
    async with bus_of(kafka, "recorder", user="stranger") as bus:
        await why_not_ready(
            bus, "the user stranger may not publish: allow it what docs/reference/topics.md lists"
        )


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            {"password": "not-its-password"},
            "it does not let the user recorder in: check OFFHOOK_KAFKA_SASL_USERNAME",
        ),
        ({"mechanism": "PLAIN"}, "it does not take PLAIN over SASL_SSL: check OFFHOOK_KAFKA_SASL_MECHANISM"),
        ({"ca_file": None}, "its certificate is not believed"),
        (
            {"protocol": "PLAINTEXT"},
            "it does not answer PLAINTEXT: check the address, OFFHOOK_KAFKA_SECURITY_PROTOCOL",
        ),
        ({"protocol": "SASL_PLAINTEXT"}, "it does not answer SASL_PLAINTEXT"),
    ],
    ids=["password", "mechanism", "authority", "plaintext", "without-tls"],
)
async def test_a_wrong_setting_is_one_sentence_in_readiness_and_not_a_restart(
    kafka: SecuredKafka, prepared: str, wrong: dict[str, Any], sentence: str
) -> None:
    security = replace(as_user(kafka, "recorder"), **wrong)
    bus = Bus(PlainBusSettings(kafka.bootstrap, kafka_security=security), service="recorder")
    reason = await why_not_ready(bus, f"Kafka at {kafka.bootstrap} cannot be used: {sentence}")
    await bus.stop()
    assert "not-its-password" not in reason
    assert kafka.password("recorder") not in reason


async def test_a_certificate_of_another_name_is_not_believed(kafka: SecuredKafka, prepared: str) -> None:
    elsewhere = kafka.bootstrap.replace("127.0.0.1", "localhost")  # the same door under another name
    bus = Bus(PlainBusSettings(elsewhere, kafka_security=as_user(kafka, "recorder")), service="recorder")
    await why_not_ready(bus, "its certificate is not believed (Hostname mismatch")
    await bus.stop()


async def test_with_mutual_tls_the_certificate_is_the_user(kafka: SecuredKafka, prepared: str) -> None:
    await kafka.allow("certified", [Access("topic", CALL_EVENTS.name, ("Describe", "Write"))])
    certificate, key = kafka.certificate("certified")
    with_it = KafkaSecurity("SSL", ca_file=kafka.ca_file, cert_file=certificate, key_file=key)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.mutual_tls, **with_it.client_options())
    await producer.start()
    await producer.send_and_wait(CALL_EVENTS.name, None, b"run")
    await producer.stop()

    without = KafkaSecurity("SSL", ca_file=kafka.ca_file)
    bus = Bus(PlainBusSettings(kafka.mutual_tls, kafka_security=without), service="recorder")
    await why_not_ready(bus, "OFFHOOK_KAFKA_CERT_FILE")
    await bus.stop()
