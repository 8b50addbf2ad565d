"""One running installation for end-to-end tests: the real stack, both simulated carriers, two tenants, agents."""

import asyncio
import base64
import contextlib
import hashlib
import itertools
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import httpx
import sqlalchemy
import websockets
from aiohttp import web
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from websockets.asyncio.server import ServerConnection

from carrier_sim import (
    Callee,
    Caller,
    CallReport,
    CarrierSim,
    Faults,
    HangUp,
    Say,
    SimConfig,
    StayUntilHungUp,
    WaitForAgent,
)
from carrier_sim.caller import Step
from carrier_sim.twilio.call import TwilioCall
from carrier_sim.vonage.call import VonageCall
from number_sync.schema import configurations, phone_numbers, workflows
from offhook.agentlink.pcm import SUBPROTOCOL
from offhook.identities import INBOUND_FALLBACK_PATH, INBOUND_PATH, inbound_run_id, status_path
from offhook.topics import CONFIGURATIONS, NUMBERS, WORKFLOWS, Topic
from offhook_agent import Agent, Call
from offhook_dev.edge import make_certificate
from offhook_dev.ports import free_port
from offhook_dev.simulated import PATIENCE, PERSON, TWILIO_CREDENTIALS, VONAGE_CREDENTIALS, credentials
from offhook_dev.stack import DEMO_USER, Stack

PROVIDERS: Final = ("twilio", "vonage")
STATUSES: Final = ["initiated", "ringing", "answered", "completed"]
ENDED: Final = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})
API_KEYS: Final = {
    DEMO_USER: "ohk_made-up-for-tests",
    "stranger": "ohk_made-up-for-a-stranger",
    # These begin with nothing.
    "newcomer": "ohk_made-up-for-a-newcomer",
    "without-script": "ohk_made-up-for-somebody-without-script",
    "operator": "ohk_made-up-for-an-operator",
}
# A second account at each provider, whose configuration is paused.
PAUSED: Final = {
    "twilio": {"account_sid": "AC" + "0" * 31 + "2", "auth_token": "not-a-real-auth-token-2222222222"},
    "vonage": VONAGE_CREDENTIALS | {"application_id": "aaaaaaaa-0000-4000-8000-000000000002"},
}
ACCOUNTS: Final = {
    "twilio": TWILIO_CREDENTIALS["account_sid"],
    "vonage": VONAGE_CREDENTIALS["application_id"],
}

ANSWERED: Final = WaitForAgent(timeout_s=60)
"""The agent has its say. Two busy cores may take their time."""
TALK: Final = (ANSWERED, Say(0.6), ANSWERED, HangUp())

# Calls that talk at the same time: more than this, and two cores cannot keep real time.
_AT_ONCE: Final = 8
_RECORD_WITHIN_S: Final = 60.0
_KNOWN_WITHIN_S: Final = 60.0
_SET_UP: Final = ((CONFIGURATIONS, configurations), (NUMBERS, phone_numbers), (WORKFLOWS, workflows))

Json = dict[str, Any]
Outcome = tuple[list[str], str | None, str | None]


def outcome_of(record: Json) -> Outcome:
    """Statuses, end reason, who ended it."""
    return record["statuses"], record["end_reason"], record["ended_by"]


@dataclass(frozen=True, slots=True)
class Finished:
    """A call that is over: the carrier's report, the record of the calls API with its events, and the run."""

    run: str
    report: CallReport
    record: Json

    @property
    def outcome(self) -> "Outcome":
        return outcome_of(self.record)

    @property
    def objections(self) -> list[str]:
        """What a real carrier would have rejected or warned about, and what the person waited for in vain."""
        return [f"{one.code} {one.message}" for one in self.report.violations] + self.report.unmet

    def told(self, kind: str) -> list[Json]:
        """The data of the call's events of one type, in order of arrival."""
        return [event["data"] for event in self.record["events"] if event["type"] == f"offhook.{kind}"]


@dataclass(slots=True)
class Ringing:
    """An inbound call that has begun."""

    run: str
    call: TwilioCall | VonageCall
    task: "asyncio.Task[CallReport]"


class Api:
    """The installation's API with somebody's key."""

    def __init__(self, base: str, key: str) -> None:
        self.client = httpx.AsyncClient(
            base_url=base, headers={"Authorization": f"Bearer {key}"}, timeout=20, trust_env=False
        )

    async def post(self, path: str, body: Json, **headers: str) -> Json:
        answer = await self.client.post(path, json=body, headers=headers)
        assert answer.is_success, (path, answer.status_code, answer.text)
        made: Json = answer.json()
        return made


class RestRoad:
    """The way from number-sync to the carriers' REST APIs, on which answers can be held up."""

    def __init__(self, sim: CarrierSim) -> None:
        self._sim = sim
        self._free = asyncio.Event()
        self._free.set()
        self._closing = contextlib.AsyncExitStack()
        self.base_url = ""

    def hold(self) -> None:
        """From now on the carriers do what they are asked, and nobody hears of it."""
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    async def __aenter__(self) -> Self:
        chain, key = self._sim.certificate_files()
        own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        own.load_cert_chain(chain, key)
        trust = ssl.create_default_context(cafile=str(self._sim.ca_pem))
        self._client = httpx.AsyncClient(verify=trust, timeout=60, trust_env=False)
        self._closing.push_async_callback(self._client.aclose)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._forward)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._closing.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=own).start()
        self.base_url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()
        await self._closing.aclose()

    async def _forward(self, request: web.Request) -> web.Response:
        headers = {
            name: request.headers[name]
            for name in ("Authorization", "Content-Type")
            if name in request.headers
        }
        try:
            answer = await self._client.request(
                request.method,
                self._sim.base_url + request.path_qs,
                headers=headers,
                content=await request.read(),
            )
        except httpx.TransportError:
            # The carrier has cut the connection, so it is cut here too.
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
        await self._free.wait()
        kind = {"Content-Type": answer.headers.get("Content-Type", "application/json")}
        return web.Response(status=answer.status_code, body=answer.content, headers=kind)


class Installation:
    """Start with `async with`; `demo` and `stranger` are the APIs of two users, the first has an account at each provider."""

    def __init__(
        self,
        home: Path,
        *,
        service_env: Mapping[str, Mapping[str, str]] | None = None,
        database_urls: Mapping[str, str] | None = None,
        recorder: bool = False,
        replicas: Mapping[str, int] | None = None,
        kafka: str | None = None,
    ) -> None:
        self.home = home
        self._kafka = kafka
        self._recorder = recorder
        self._replicas = replicas
        self.secrets = {"api_key": API_KEYS[DEMO_USER], **_fresh_keys()}
        self._service_env = service_env or {}
        self._database_urls = dict(database_urls or {})
        port = free_port()
        self.origin = f"https://localhost:{port}"
        certificate = make_certificate(home / "stack")
        self.sim = CarrierSim(SimConfig(home=home / "sim", trust=certificate.authority, patience=PATIENCE))
        self._port, self._certificate = port, certificate
        self.stack: Stack
        self.rest_road: RestRoad
        self.demo: Api
        self.stranger: Api
        self.configurations: dict[str, str] = {}
        self.paused: dict[str, str] = {}
        self._serial = itertools.count(100)
        self._callees = itertools.count(100)
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._open = contextlib.AsyncExitStack()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as opening:
            await opening.enter_async_context(self.sim)
            self.rest_road = await opening.enter_async_context(RestRoad(self.sim))
            self.stack = await opening.enter_async_context(self._stack())
            for user, name in ((DEMO_USER, "demo"), ("stranger", "stranger")):
                api = Api(f"{self.stack.address.http_url}/api/v1", API_KEYS[user])
                setattr(self, name, api)
                opening.push_async_callback(api.client.aclose)
            await self._open_accounts()
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._open.aclose()

    def _stack(self) -> Stack:
        (self.home / "stack").mkdir(parents=True, exist_ok=True)
        (self.home / "stack" / "secrets.json").write_text(json.dumps(self.secrets))
        keys = ",".join(
            f"{user}:{hashlib.sha256(key.encode()).hexdigest()}" for user, key in API_KEYS.items()
        )
        own_env: dict[str, dict[str, str]] = {
            # Silences of a carrier are minutes; the machine that tests has none.
            "call-tracker": {"OFFHOOK_API_KEYS": keys, "OFFHOOK_SILENCE_FACTOR": "0.1"},
            "number-sync": {
                "OFFHOOK_API_KEYS": keys,
                "OFFHOOK_PROVIDER_TIMEOUT_S": "40",
                "OFFHOOK_PROVIDER_DEADLINE_S": "44",
            },
            # Nor has it the speed at which carriers, agents and programs of ours that start again keep the usual limits.
            "media-bridge": {
                "OFFHOOK_START_TIMEOUT_S": "10",
                "OFFHOOK_SILENCE_TIMEOUT_S": "30",
                "OFFHOOK_AGENT_CONNECT_TIMEOUT_S": "20",
                "OFFHOOK_AGENT_PING_S": "30",
            },
            "webhook-gateway": {"OFFHOOK_BODY_TIMEOUT_S": "10", "OFFHOOK_RECONNECT_LIMIT": "90"},
        }
        return Stack(
            self.home / "stack",
            port=self._port,
            certificate=self._certificate,
            carriers=dict.fromkeys(PROVIDERS, self.rest_road.base_url),
            carrier_ca=self.sim.ca_pem,
            database_urls=self._database_urls,
            recorder=self._recorder,
            replicas=self._replicas,
            kafka=self._kafka,
            service_env={
                name: {**own_env.get(name, {}), **self._service_env.get(name, {})}
                for name in {*own_env, *self._service_env}
            },
        )

    async def _open_accounts(self) -> None:
        keys = credentials(self.home)
        private_key = keys["vonage"]["private_key"]
        urls = {"answer_url": self.inbound, "event_url": self.origin + status_path()}
        for account in (keys["twilio"], PAUSED["twilio"]):
            self.sim.twilio.add_account(account["account_sid"], account["auth_token"])
        for account in (VONAGE_CREDENTIALS, PAUSED["vonage"]):
            self.sim.vonage.add_application(
                **account, private_key=private_key, **urls, fallback_answer_url=self.fallback,
                answer_method="POST", fallback_method="POST",
            )  # fmt: skip
        paused = {"twilio": PAUSED["twilio"], "vonage": PAUSED["vonage"] | {"private_key": private_key}}
        for provider in PROVIDERS:
            self.configurations[provider] = await self.configuration(provider, keys[provider])
            self.paused[provider] = await self.configuration(
                provider, paused[provider], name=f"{provider} paused", paused=True
            )

    async def configuration(
        self, provider: str, keys: Mapping[str, str], *, name: str = "", **more: Any
    ) -> str:
        """An account at a provider, with what the API takes beside."""
        made = await self.demo.post(
            "/telephony-configurations",
            {"name": name or provider, "provider": provider, "credentials": keys} | more,
        )
        return str(made["configuration_id"])

    @property
    def inbound(self) -> str:
        return self.origin + INBOUND_PATH

    @property
    def fallback(self) -> str:
        return self.origin + INBOUND_FALLBACK_PATH

    # --- what a user sets up -------------------------------------------------------------------------------------------

    async def known(self) -> None:
        """Wait until all services know what is in number-sync's database, whoever has put it there or taken it away.

        Changes of what they know already are not waited for.
        """
        engine = create_async_engine(self.stack.database_url("number-sync"))
        try:
            async with asyncio.timeout(_KNOWN_WITHIN_S):
                for topic, table in _SET_UP:
                    while not await self._is_known(engine, topic, table):
                        await asyncio.sleep(0.05)
        finally:
            await engine.dispose()

    async def _is_known(self, engine: AsyncEngine, topic: Topic, table: sqlalchemy.Table) -> bool:
        async with engine.connect() as connection:
            count = await connection.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(table))
        return set((await self.stack.entries(topic)).values()) == {count}

    async def workflow(self, agent_url: str | None = None, **fields: Any) -> str:
        """A workflow; without `agent_url` the example agent takes its calls."""
        body = {
            "name": f"Workflow {next(self._serial)}",
            "agent_url": agent_url or self.stack.address.agent_url,
        }
        made = await self.demo.post("/workflows", body | fields)
        return str(made["workflow_id"])

    def number_at_carrier(self, provider: str, *, paused: bool = False) -> str:
        """A number of the account at the provider, which Offhook has not been told of."""
        number = f"+141555501{next(self._numbers):02d}"
        if provider == "twilio":
            account = (PAUSED["twilio"] if paused else TWILIO_CREDENTIALS)["account_sid"]
            self.sim.twilio.add_number(
                account, number, voice_url=self.inbound, voice_fallback_url=self.fallback,
                status_callback=self.origin + status_path(),
            )  # fmt: skip
        else:
            application = (PAUSED["vonage"] if paused else VONAGE_CREDENTIALS)["application_id"]
            self.sim.vonage.add_number(application, number)
        return number

    _numbers = itertools.count(0)

    async def number(self, provider: str, workflow_id: str | None, *, paused: bool = False) -> str:
        """A number that the workflow answers."""
        number = self.number_at_carrier(provider, paused=paused)
        configuration = (self.paused if paused else self.configurations)[provider]
        await self.demo.post(
            f"/telephony-configurations/{configuration}/phone-numbers",
            {"number": number, "workflow_id": workflow_id, "default_caller_id": True},
        )
        return number

    def callee(self, callee: Callee) -> str:
        """The number of somebody who behaves like this when called."""
        number = f"+1212555{next(self._callees):04d}"
        self.sim.callees[number] = callee
        return number

    # --- calls -----------------------------------------------------------------------------------------------------------

    def ring(self, provider: str, number: str, *steps: Step, faults: Faults | None = None) -> Ringing:
        """A person calls a number."""
        carrier = self.sim.twilio if provider == "twilio" else self.sim.vonage
        call = carrier.place(PERSON, number, faults=faults)
        caller = Caller(steps, seed=next(self._serial))
        task = asyncio.create_task(call.run_inbound(caller))
        self._keep(task)
        account = call.account.sid if isinstance(call, TwilioCall) else call.application.id
        return Ringing(inbound_run_id(provider, account, call.report.provider_call_id), call, task)

    async def over(self, ringing: Ringing) -> Finished:
        """The call, when it is over and its record is complete."""
        report = await ringing.task
        return Finished(ringing.run, report, await self.record(ringing.run))

    def endless(self, provider: str, number: str, faults: Faults | None = None) -> Ringing:
        """A person calls a number and talks with the agent until `hang_up`."""
        words = (Say(0.6), WaitForAgent(quiet_s=0.5, timeout_s=20))
        return self.ring(provider, number, ANSWERED, *(words * 2000), faults=faults)

    async def hang_up(self, ringing: Ringing) -> Finished:
        """The person of an inbound call puts the phone down."""
        ringing.call.end("caller", "hung-up")
        return await self.over(ringing)

    async def answers(self, ringing: Ringing, more: int) -> None:
        """Returns when the agent has answered the caller's words so many times more."""
        wanted = len(ringing.call.report.response_ms) + more
        async with asyncio.timeout(120):
            while len(ringing.call.report.response_ms) < wanted:
                assert not ringing.task.done(), ringing.call.report
                await asyncio.sleep(0.05)

    def dials(self, number: str) -> list[TwilioCall | VonageCall]:
        """The calls the carriers were asked to place to a number."""
        placed = (*self.sim.twilio.calls.values(), *self.sim.vonage.calls.values())
        return [call for call in placed if call.to_number.lstrip("+") == number.lstrip("+")]

    async def call(self, provider: str, number: str, *steps: Step, faults: Faults | None = None) -> Finished:
        """A person calls a number; returns when the call is over. A limited number of calls run at once."""
        async with self._slots:
            ringing = self.ring(provider, number, *steps, faults=faults)
            return await self.over(ringing)

    async def call_in_vain(self, provider: str, number: str) -> CallReport:
        """A person calls a number that no workflow answers: nobody has a record of that."""
        async with self._slots:
            return await self.ring(provider, number, StayUntilHungUp(40)).task

    async def dial(self, provider: str, workflow_id: str, callee: Callee, **more: Any) -> Finished:
        """Offhook calls somebody; returns when the call is over."""
        async with self._slots:
            placed = await self.demo.post(
                "/calls",
                {
                    "workflow_id": workflow_id,
                    "configuration_id": self.configurations[provider],
                    "to": self.callee(callee),
                    **more,
                },
            )
            run = str(placed["workflow_run_id"])
            record = await self.record(run)
            report = await self.sim.next_report(record["provider_call_id"])
            return Finished(run, report, await self.record(run))

    async def look(self, run: str) -> Json | None:
        """The record of a call at this moment; None when there is none (or nobody to ask)."""
        try:
            answer = await self.demo.client.get(f"/calls/{run}")
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    async def record(
        self, run: str, when: Callable[[Json], bool] | None = None, within_s: float | None = None
    ) -> Json:
        """The record of a call once it is complete (or `when` holds). Raises `AssertionError` with what there is."""
        seen: Json | None = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s or (180.0 if when is None else _RECORD_WITHIN_S)):
                while True:
                    seen = await self.look(run)
                    if seen is not None and (when or _is_complete)(seen):
                        return seen
                    await asyncio.sleep(0.1)
        raise AssertionError(f"the record of {run} never came to what was expected: {seen}")

    def in_background(self, work: Awaitable[Any]) -> "asyncio.Task[Any]":
        """A task that does not outlive the installation."""
        task = asyncio.ensure_future(work)
        self._keep(task)
        return task

    def _keep(self, task: "asyncio.Future[Any]") -> None:
        self._tasks.add(task)  # type: ignore[arg-type]
        task.add_done_callback(self._tasks.discard)  # type: ignore[arg-type]


def _is_complete(record: Json) -> bool:
    kinds = [event["type"] for event in record["events"]]
    return record["status"] in ENDED and kinds.count("offhook.media.started.v1") == kinds.count(
        "offhook.media.stopped.v1"
    )


def _fresh_keys() -> dict[str, str]:
    return {
        "keyring": "test1:" + base64.b64encode(os.urandom(32)).decode(),
        "token_key": base64.b64encode(os.urandom(32)).decode(),
        "session_key": base64.b64encode(os.urandom(32)).decode(),
    }


@contextlib.asynccontextmanager
async def agent_that(on_call: Callable[[Call], Awaitable[None]]) -> AsyncIterator[str]:
    """An agent in this process; gives its URL."""
    agent = Agent()
    agent.on_call(on_call)
    async with agent.serve() as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"


@contextlib.asynccontextmanager
async def raw_agent_that(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    """A server that speaks the agent's protocol by hand; gives its URL."""
    protocols: Sequence[Any] = [SUBPROTOCOL]
    async with websockets.serve(handler, "127.0.0.1", 0, subprotocols=protocols) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
