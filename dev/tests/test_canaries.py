"""No secret is to be found anywhere: canaries are planted in a running installation, and looked for in every place."""

import asyncio
import base64
import contextlib
import html
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import asyncpg
import httpx
import pytest
import pytest_asyncio
from canaries import (
    SHAPES,
    Canary,
    Find,
    Places,
    command_lines,
    files_below,
    kafka_content,
    redis_content,
    search,
    search_numbers,
)
from installation import API_KEYS, PROVIDERS, TALK, Installation, Json
from rogue_carrier import RogueCarrier, twilio_signature, vonage_token
from sqlalchemy.engine import make_url

from carrier_sim import Callee, Caller
from carrier_sim.rest_faults import RestFault
from carrier_sim.vonage.applications import new_private_key
from offhook.identities import INBOUND_PATH, status_path
from offhook.security.sessions import COOKIE
from offhook_dev.otlp import TraceStore
from offhook_dev.postgres import PostgresServer
from offhook_dev.simulated import PERSON
from offhook_dev.stack import DEMO_USER, SERVICES

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

NUMBERS: Final = {"twilio": "+14155550170", "vonage": "+14155550171"}
CALLEE: Final = "+12125550172"
# Everybody whose number takes part.
PEOPLE: Final = (*NUMBERS.values(), PERSON, CALLEE)
_LINKS: Final = re.compile(r"""(?:href|action|data-live)="([^"]+)\"""")
_MAX_PAGES: Final = 200


@dataclass
class Planted:
    """What was planted, and the contents of every place afterwards."""

    canaries: list[Canary]
    places: Places = field(default_factory=dict)
    pages: set[str] = field(default_factory=set)
    traces: TraceStore = field(default_factory=TraceStore)

    def of(self, kind: str) -> Places:
        return {place: content for place, content in self.places.items() if place.startswith(kind)}


class Nest:
    """Plants the canaries and lets the installation live with them, on good days and on bad ones."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.canaries: list[Canary] = []
        self.answers: Places = {}
        self.said: Places = {}
        self.origin = installation.stack.address.http_url
        self.twilio_account = "AC" + secrets.token_hex(16)
        self.application = "bbbbbbbb-0000-4000-8000-00000000000c"

    def canary(self, name: str, value: str | None = None) -> str:
        """A secret to look for; a random one unless given."""
        made = Canary(name, value or secrets.token_hex(16))
        self.canaries.append(made)
        return made.value

    def client(self, **more: Any) -> httpx.AsyncClient:
        """A client whose answers are kept. Not kept are cookies: they go to whom they belong."""
        return httpx.AsyncClient(
            base_url=self.origin, timeout=30, trust_env=False, event_hooks={"response": [self._keep]}, **more
        )

    async def _keep(self, answer: httpx.Response) -> None:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return
        await answer.aread()
        headers = [f"{name}: {value}" for name, value in answer.headers.items() if name != "set-cookie"]
        self._enter(answer.request, "\n".join(headers).encode() + b"\n" + answer.content)

    def _enter(self, request: httpx.Request, content: bytes) -> None:
        place = f"answer {len(self.answers)} {request.method} {request.url.path}"
        self.answers[place] = content

    # --- planting ------------------------------------------------------------------------------------------------------

    async def accounts(self, api: httpx.AsyncClient) -> None:
        """Both providers' accounts with every secret they can have, workflows with headers, and a number each."""
        twilio = {
            "account_sid": self.twilio_account,
            "auth_token": self.canary("the Twilio auth token"),
            "auth_token_secondary": self.canary("the second Twilio auth token"),
        }
        vonage = {
            "application_id": self.application,
            "private_key": self.canary("the Vonage private key", new_private_key()),
            "api_key": "nest1234",
            "api_secret": self.canary("the Vonage API secret"),
            "signature_secret": self.canary("the Vonage signature secret"),
            "signature_secret_secondary": self.canary("the second Vonage signature secret"),
        }
        sim = self.installation.sim
        sim.twilio.add_account(twilio["account_sid"], twilio["auth_token"])
        sim.twilio.add_number(self.twilio_account, NUMBERS["twilio"])
        known = ("api_key", "api_secret", "private_key", "signature_secret")
        sim.vonage.add_application(
            self.application,
            **{name: vonage[name] for name in known},
            answer_url=self.installation.inbound,
            event_url=self.installation.origin + status_path(),
            answer_method="POST",
        )
        sim.vonage.add_number(self.application, NUMBERS["vonage"])
        headers = {
            "Authorization": "Bearer " + self.canary("the agent's bearer token"),
            "X-Agent-Key": self.canary("the agent's key"),
        }
        self.workflow = await self._made(
            api,
            "/workflows",
            name="Nest",
            agent_url=self.installation.stack.address.agent_url,
            headers=headers,
        )
        for provider, credentials in (("twilio", twilio), ("vonage", vonage)):
            configuration = await self._made(
                api, "/telephony-configurations", name=provider, provider=provider, credentials=credentials
            )
            self.installation.configurations[provider] = configuration["configuration_id"]
            await self._made(
                api,
                f"/telephony-configurations/{configuration['configuration_id']}/phone-numbers",
                number=NUMBERS[provider],
                workflow_id=self.workflow["workflow_id"],
                default_caller_id=True,
            )
        await self.set_up()

    async def _made(self, api: httpx.AsyncClient, path: str, **body: Any) -> Json:
        answer = await api.post("/api/v1" + path, json=body)
        assert answer.status_code == 201, (path, answer.status_code, answer.text)
        made: Json = answer.json()
        return made

    async def set_up(self) -> None:
        """Wait until the numbers are set up at the providers."""
        sim = self.installation.sim
        async with asyncio.timeout(90):
            while not (
                sim.twilio.number(NUMBERS["twilio"])[1].voice_url
                and sim.vonage.applications[self.application].signs
            ):
                await asyncio.sleep(0.1)

    # --- bad days ------------------------------------------------------------------------------------------------------

    async def refused(self, api: httpx.AsyncClient) -> None:
        """What people send by mistake: secrets that are wrong, and secrets in the wrong place."""
        token = self.canary("a refused auth token")
        pem = self.canary("a key that is no PEM")
        misplaced = self.canary("a misplaced secret")
        base = "/api/v1/telephony-configurations"
        refused = {"account_sid": self.twilio_account, "auth_token": token}
        wrong: list[tuple[str, str, Any]] = [
            ("POST", base, {"name": "refused", "provider": "twilio", "credentials": refused}),
            ("POST", base, {"name": "a", "provider": "twilio", "credentials": {"account_sid": misplaced, "auth_token": token}}),
            ("POST", base, {"name": "b", "provider": misplaced, "credentials": {"auth_token": token}}),
            ("POST", base, {"name": "d", "provider": "twilio", "credentials": misplaced}),
            ("POST", base, {"name": "e", "provider": "twilio", "credentials": {"auth_token": [misplaced]}}),
            ("POST", base, {"name": "f", "provider": "twilio", "auth_token": misplaced, "credentials": {}}),
            ("POST", base, {"name": misplaced * 4, "provider": "twilio", "credentials": {}}),
            ("POST", base, {"name": "g", "provider": "vonage", "credentials": {
                "application_id": "x", "api_key": misplaced, "private_key": f"-----BEGIN PRIVATE KEY-----\n{pem}\n",
                "signature_secret": token}}),
            ("POST", "/api/v1/workflows", {"name": "h", "agent_url": "ws://127.0.0.1:1", "headers": {"X-Key": f"{misplaced}\n"}}),
            ("POST", "/api/v1/workflows", {"name": "i", "agent_url": "ws://127.0.0.1:1", "headers": {f"X {misplaced}": "v"}}),
            ("POST", "/api/v1/workflows", {"name": "j", "agent_url": f"ws://me:{misplaced}@127.0.0.1:1"}),
            ("POST", "/api/v1/workflows", {"name": "k", "agent_url": misplaced, "sample_rate": misplaced}),
            ("POST", f"{base}/{self.installation.configurations['twilio']}/phone-numbers", {"number": misplaced}),
        ]  # fmt: skip
        for method, path, body in wrong:
            answer = await api.request(method, path, json=body)
            assert answer.status_code in (201, 404, 409, 422), (path, answer.status_code, answer.text)
        await api.post(base, content=f'{{"auth_token": "{misplaced}"'.encode())
        await api.get("/api/v1/workflows", headers={"Authorization": f"Bearer ohk_{misplaced}"})
        await api.get("/api/v1/workflows", headers={"Authorization": misplaced})
        # The refused account's row stays, for the pages to show.
        forms = [
            ("/login", {"key": misplaced}),
            ("/login", {"key": "ohk_" + misplaced, "next": "/workflows"}),
            ("/login", {"password": misplaced}),
        ]
        async with self.client() as nobody:
            for path, form in forms:
                answer = await nobody.post(path, data=form)
                assert answer.status_code in (401, 403, 422), (path, answer.status_code)

    async def forged(self) -> None:
        """Webhooks that are not what they say: signed with a wrong secret, or with secrets where none belong."""
        guessed = self.canary("a forger's secret")
        carrier = RogueCarrier(self.installation)
        carried = {"Authorization": f"Bearer {guessed}", "Cookie": f"offhook_session={guessed}"}
        url = self.installation.origin + INBOUND_PATH
        fields = carrier.twilio_call(NUMBERS["twilio"]) | {"AccountSid": self.twilio_account}
        attempts: list[tuple[dict[str, str], Any]] = [
            ({"X-Twilio-Signature": twilio_signature(url, fields, guessed)}, {"data": fields}),
            (carried, {"data": fields}),
            (carried, {"data": fields | {"AuthToken": guessed}}),
        ]
        body = json.dumps(carrier.vonage_call(NUMBERS["vonage"])).encode()
        forged = vonage_token(body, guessed, application_id=self.application, api_key="nest1234")
        kind = {"Content-Type": "application/json"}
        attempts.append((kind | {"Authorization": f"Bearer {forged}"}, {"content": body}))
        for headers, content in attempts:
            for path in (INBOUND_PATH, status_path("no-such-run")):
                answer = await carrier.http.post(self.installation.origin + path, headers=headers, **content)
                assert answer.status_code in (400, 403, 404, 503), (path, answer.status_code, answer.text)
                self._enter(answer.request, answer.content)
        await carrier.http.aclose()

    async def providers_misbehave(self, api: httpx.AsyncClient) -> None:
        """Credentials are tried and calls are placed while the providers answer whatever they like."""
        sim = self.installation.sim
        for fault in (
            RestFault(do="html", status=502),
            RestFault(do="wrong-shape"),
            RestFault(do="status", status=401),
            RestFault(do="status", status=500),
            RestFault(do="cut"),
        ):
            sim.rest_faults = [fault]
            await asyncio.gather(
                *(
                    api.post(f"/api/v1/telephony-configurations/{configuration}/test")
                    for configuration in self.installation.configurations.values()
                )
            )
        sim.rest_faults = [RestFault(do="wrong-shape", method="POST")]
        for configuration in self.installation.configurations.values():
            await api.post(
                "/api/v1/calls",
                json={
                    "workflow_id": self.workflow["workflow_id"],
                    "configuration_id": configuration,
                    "to": CALLEE,
                },
            )
        await asyncio.sleep(1)
        sim.rest_faults = []

    async def store_fails(self, api: httpx.AsyncClient, database: str) -> None:
        """The store fails in the middle of a request."""
        lost = self.canary("a secret on its way into a broken store")
        connection = await asyncpg.connect(database)
        try:
            for table in ("configurations", "workflows"):
                await connection.execute(f"ALTER TABLE {table} RENAME TO away")
                try:
                    answers = [
                        await api.post("/api/v1/workflows", json={
                            "name": "lost", "agent_url": "ws://127.0.0.1:1", "headers": {"X-Key": lost}}),
                        await api.post("/api/v1/telephony-configurations", json={
                            "name": "lost", "provider": "twilio",
                            "credentials": {"account_sid": "AC" + "1" * 32, "auth_token": lost}}),
                    ]  # fmt: skip
                finally:
                    await connection.execute(f"ALTER TABLE away RENAME TO {table}")
                assert any(answer.status_code >= 500 for answer in answers), answers
        finally:
            await connection.close()

    async def crash(self) -> str:
        """number-sync dies and starts again, as others try to start with settings that cannot work. Returns a new key,
        made on the command line meanwhile."""
        number_sync = self.installation.stack.programs["number-sync"]
        number_sync.kill()
        wrong = {
            "OFFHOOK_KEYRING": f"k1:{self.canary('a malformed key ring')}",
            "OFFHOOK_TOKEN_KEY": self.canary("a malformed token key") + "!",
            "OFFHOOK_SESSION_KEY": self.canary("a malformed session key") + "!",
            "OFFHOOK_API_KEYS": "somebody:"
            + self.canary("an API key in clear where its digest belongs")
            + "x",
            "OFFHOOK_DATABASE_URL": f"mysql://me:{self.canary('the password of a wrong database')}@127.0.0.1/x",
        }
        password = self.canary("a wrong database password")
        unreachable = {"OFFHOOK_DATABASE_URL": f"postgresql+asyncpg://me:{password}@127.0.0.1:1/x"}
        started, key, *_ = await asyncio.gather(
            number_sync.start(), self._key(), self._misconfigured("wrong", wrong),
            self._waiting("unreachable", unreachable),
        )  # fmt: skip
        assert started.running
        return key

    async def _misconfigured(self, name: str, env: dict[str, str]) -> None:
        done = await self._run([sys.executable, "-m", "number_sync"], env)
        assert done.returncode != 0
        self.said[f"log of a number-sync whose settings are {name}"] = done.stdout + done.stderr

    async def _waiting(self, name: str, env: dict[str, str]) -> None:
        """One that waits for what is missing, and says so until it is ended."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("OFFHOOK_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "number_sync",
            env=own | self.environment() | env,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stderr is not None
        told = b""
        try:
            async with asyncio.timeout(60):
                while b"waiting" not in told:
                    line = await process.stderr.readline()
                    assert line, told
                    told += line
        finally:
            if process.returncode is None:
                process.terminate()
            told += await process.stderr.read()
            await process.wait()
        self.said[f"log of a number-sync whose settings are {name}"] = told

    # --- people --------------------------------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """The settings of number-sync, for another process of the installation."""
        stack, known = self.installation.stack, self.installation.secrets
        return {
            "OFFHOOK_DATABASE_URL": stack.database_url("number-sync"),
            "OFFHOOK_KEYRING": known["keyring"],
            "OFFHOOK_SESSION_KEY": known["session_key"],
            "OFFHOOK_KAFKA_BOOTSTRAP": stack.address.kafka,
            "OFFHOOK_LISTEN_PORT": "0",
            "OFFHOOK_STATE_DIR": str(self.installation.home / "another"),
        }

    async def _run(self, command: list[str], env: dict[str, str]) -> "subprocess.CompletedProcess[bytes]":
        own = {name: value for name, value in os.environ.items() if not name.startswith("OFFHOOK_")}
        return await asyncio.to_thread(
            subprocess.run,
            command,
            env=own | self.environment() | env,
            capture_output=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    async def _key(self) -> str:
        command = [str(Path(sys.executable).with_name("offhook")), "keys"]
        made = await self._run([*command, "create", "--user", DEMO_USER, "--label", "nest"], {})
        assert made.returncode == 0, made.stderr
        # It is shown there this once, and nowhere else.
        key = self.canary("an API key from the command line", made.stdout.decode().strip())
        self.said["output of offhook keys create, but for the key"] = made.stderr
        rotated = await self._run([*command, "rotate"], {})
        assert rotated.returncode == 0, rotated.stderr
        self.said["output of offhook keys rotate"] = rotated.stdout + rotated.stderr
        return key

    async def logged_in(self, browser: httpx.AsyncClient, key: str) -> None:
        """Log in as a browser does; the cookie is a canary as well."""
        async with asyncio.timeout(90):
            while (await browser.post("/login", data={"key": key})).status_code != 303:
                await asyncio.sleep(0.2)  # the new key is on its way
        self.canary("a login cookie", browser.cookies[COOKIE].rpartition(".")[2])

    async def filled_in_wrongly(self, browser: httpx.AsyncClient) -> None:
        """Forms of the pages with secrets that cannot be accepted."""
        page = (await browser.get("/telephony-configurations/new?provider=twilio")).text
        csrf = re.search(r'name="csrf" value="([^"]+)"', page)
        assert csrf is not None
        token, key = self.canary("a token typed into a form"), self.canary("a key typed into a form")
        header, misplaced = (
            self.canary("a header typed into a form"),
            self.canary("a token in the wrong input"),
        )
        configuration = self.installation.configurations["twilio"]
        new = "/telephony-configurations/new"
        sid, auth = "credentials.account_sid", "credentials.auth_token"
        forms: list[tuple[str, dict[str, str]]] = [
            (new, {"provider": "twilio", "name": "", sid: "no", auth: token}),
            (new, {"provider": "vonage", "name": "x", "credentials.private_key": key, "credentials.api_secret": token}),
            (f"/telephony-configurations/{configuration}/edit", {"name": "twilio", sid: "no", auth: token}),
            ("/workflows/new", {"name": "", "agent_url": "no", "header.0.name": "X-Key", "header.0.value": header}),
            ("/workflows/new", {"name": "z", "agent_url": "ws://127.0.0.1:1", "header.0.name": "X Key",
                                "header.0.value": header}),
        ]  # fmt: skip
        for path, form in forms:
            for more in ({}, {"Accept": "application/json"}):
                answer = await browser.post(path, data=form | {"csrf": csrf[1]}, headers=more)
                assert answer.status_code == 422, (path, form, answer.status_code, answer.text)
        # An account whose token the provider refuses is saved, and shown with what the provider said.
        form = {
            "provider": "twilio",
            "name": "refused by form",
            sid: "AC" + secrets.token_hex(16),
            auth: token,
        }
        answer = await browser.post(new, data=form | {"csrf": csrf[1]})
        assert answer.status_code == 303, answer.text
        # What stood in an input that is not secret stands there again, for whoever typed it: only this answer is not kept.
        form = {"provider": "twilio", "name": "n", sid: misplaced, auth: token, "csrf": csrf[1]}
        async with httpx.AsyncClient(base_url=self.origin, cookies=browser.cookies, trust_env=False) as same:
            assert (await same.post(new, data=form)).status_code == 422
        answer = await browser.post(new, data=form, headers={"Accept": "application/json"})
        assert answer.status_code == 422, answer.text

    async def crawl(self, browser: httpx.AsyncClient) -> set[str]:
        """Every page that can be reached with a login, and the first words of every stream."""
        waiting = ["/", "/telephony-configurations", "/workflows", "/calls", "/api/v1/workflows"]
        waiting += ["/api/v1/telephony-configurations", "/api/v1/calls", "/openapi.json", "/docs"]
        waiting += ["/api/v1/telephony-configurations/providers"]
        seen: set[str] = set()
        pages: set[str] = set()
        while waiting and len(seen) < _MAX_PAGES:
            path = waiting.pop(0)
            if path in seen or "logout" in path:
                continue
            seen.add(path)
            async with browser.stream("GET", path, follow_redirects=True) as answer:
                if answer.headers.get("content-type", "").startswith("text/event-stream"):
                    content = b""
                    async with asyncio.timeout(90):
                        async for piece in answer.aiter_bytes():
                            content += piece
                            if b"data:" in content:
                                break
                    self._enter(answer.request, content)
                    pages.add(path)
                    continue
                await answer.aread()
            if answer.status_code == 200:
                pages.add(path)
            for link in _LINKS.findall(answer.text):
                parts = urlsplit(urljoin(str(answer.url), html.unescape(link)))
                if parts.netloc == urlsplit(self.origin).netloc:
                    waiting.append(parts.path + (f"?{parts.query}" if parts.query else ""))
        return pages


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def planted(
    _kafka_can_be_had: None, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Planted]:
    """An installation that has lived with the canaries, and everything it has left anywhere."""
    database = f"canaries_{secrets.token_hex(4)}"
    url = postgres_server.create_database(database)
    home = tmp_path_factory.mktemp("canaries")
    async with contextlib.AsyncExitStack() as open_:
        open_.callback(postgres_server.drop_database, database)
        traces = await open_.enter_async_context(TraceStore())
        env = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
            "OTEL_BSP_SCHEDULE_DELAY": "300",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        installation = NestInstallation(
            home, service_env=dict.fromkeys(SERVICES, env), database_urls={"number-sync": url}
        )
        await open_.enter_async_context(installation)
        nest = Nest(installation)
        for name, value in installation.secrets.items():
            nest.canary(f"the setting {name}", value.rpartition(":")[2])
        nest.canary(
            "the key of the installation's rings, as bytes", _bytes_as_text(installation.secrets["keyring"])
        )
        password = make_url(url).password
        assert isinstance(password, str)
        nest.canary("the database password", password)
        pages = await live(nest, url.replace("+asyncpg", ""))
        planted = Planted(nest.canaries, pages=pages, traces=traces)
        planted.places = await everything(nest, url, traces)
        yield planted


def _bytes_as_text(setting: str) -> str:
    return base64.b64decode(setting.rpartition(":")[2]).hex()


class NestInstallation(Installation):
    """Without the accounts of the other tests."""

    async def _open_accounts(self) -> None:
        return


async def live(nest: Nest, database: str) -> set[str]:
    """Some good minutes and many bad ones. Returns the pages there were."""
    installation = nest.installation
    async with nest.client(headers={"Authorization": f"Bearer {API_KEYS[DEMO_USER]}"}) as api:
        await nest.accounts(api)
        await nest.refused(api)
        await nest.forged()
        calls = [installation.call(provider, NUMBERS[provider], *TALK) for provider in PROVIDERS]
        installation.sim.callees[CALLEE] = Callee(0.2, "answer", Caller(TALK))
        placed = await api.post(
            "/api/v1/calls",
            json={
                "workflow_id": nest.workflow["workflow_id"],
                "configuration_id": installation.configurations["twilio"],
                "to": CALLEE,
            },
        )
        finished = await asyncio.gather(*calls, installation.record(placed.json()["workflow_run_id"]))
        assert all(finished)
        await api.post(f"/api/v1/workflows/{nest.workflow['workflow_id']}/try")
        await nest.providers_misbehave(api)
        await nest.store_fails(api, database)
        key = await nest.crash()
        async with nest.client() as browser:
            await nest.logged_in(browser, key)
            await nest.filled_in_wrongly(browser)
            pages = await nest.crawl(browser)
            for path in (
                f"/api/v1/workflows/{nest.workflow['workflow_id']}",
                *(f"/api/v1/telephony-configurations/{one}" for one in installation.configurations.values()),
                *(
                    f"/api/v1/telephony-configurations/{one}/{what}"
                    for one in installation.configurations.values()
                    for what in ("phone-numbers", "available-numbers")
                ),
                *(f"/api/v1/calls/{call.run}" for call in finished[: len(PROVIDERS)]),
            ):
                answer = await browser.get(path)
                assert answer.status_code == 200, (path, answer.status_code, answer.text)
    return pages


async def everything(nest: Nest, database_url: str, traces: TraceStore) -> Places:
    """All that can be read anywhere."""
    stack = nest.installation.stack
    home = nest.installation.home / "stack"
    async with asyncio.timeout(90):
        while len(traces.services) < len(SERVICES):
            await asyncio.sleep(0.1)
    places = dict(nest.answers) | nest.said
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        for service, port in stack.admin_ports.items():
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
            places[f"metrics of {service}"] = answer.content
            for path in ("/readyz", "/healthz"):
                places[f"answer of {service} {path}"] = (
                    await client.get(f"http://127.0.0.1:{port}{path}")
                ).content
    places |= await kafka_content(stack.address.kafka)
    places |= files_below(home, "*.log", "store.db*")
    # As it lies on the broker's disk, for what a consumer no longer sees.
    places |= {f"kafka {name}": content for name, content in files_below(home / "kafka", "0*.log").items()}
    redis = stack.servers["redis"]
    places |= await redis_content(f"redis://127.0.0.1:{redis.port}/0")
    places |= command_lines({name: server.pid for name, server in stack.servers.items()})
    places["traces"] = traces.content()
    dump = await asyncio.to_thread(
        subprocess.run,
        [str(PostgresServer.install() / "pg_dump"), "--inserts", database_url.replace("+asyncpg", "")],
        capture_output=True,
        check=True,
        timeout=60,
    )
    places["database dump of number-sync"] = dump.stdout
    return places


def told(finds: list[Find]) -> str:
    return "\n".join(f"{find.what} in {find.place}, after …{find.before!r}" for find in finds)


# --- that there is something to be found, if it is there


async def test_every_place_was_searched(planted: Planted) -> None:
    wanted = {
        "topic telephony.": 8, "file logs/": 6, "file call-tracker/store.db": 1, "kafka file": 8, "redis": 1,
        "metrics of": 4, "answer": 60, "traces": 1, "database dump": 1, "command line of": 8, "log of a": 2,
        "output of offhook": 2,
    }  # fmt: skip
    for kind, least in wanted.items():
        found = planted.of(kind)
        assert len(found) >= least, (kind, sorted(found))
        assert sum(map(len, found.values())) > 0, kind
    assert {f"/{page}" for page in ("telephony-configurations", "workflows")} <= planted.pages
    assert len(planted.pages) > 12, sorted(planted.pages)
    assert NUMBERS["twilio"].encode() in planted.places["database dump of number-sync"]
    assert any(NUMBERS["vonage"].encode() in content for content in planted.of("topic").values())
    assert b"workflow_run_id" in planted.places["traces"]


async def test_a_canary_in_a_copy_of_a_log_is_found_in_whatever_form(planted: Planted) -> None:
    log = planted.places["file logs/number-sync.log"]
    assert log
    for canary in planted.canaries:
        secret = canary.value.encode()
        for form in (
            secret,
            json.dumps(canary.value).encode(),
            secret.hex().encode(),
            base64.b64encode(secret),
            base64.b64encode(b"AC1:" + secret + b":"),
            base64.urlsafe_b64encode(b"x" + secret),
            # Cut off after a while, as long lines are.
            secret[: len(secret) * 7 // 8],
        ):
            copy = log + b'{"event": "it said ' + form + b'"}\n' + log
            assert canary.name in {find.what for find in search([canary], {"a copy": copy})}, canary.name
    assert search_numbers([PERSON], {"a copy": log + b'"from": "' + PERSON.encode() + b'"'})
    assert search_numbers([PERSON], {"a copy": log + PERSON[1:].encode() + b" rang"})


async def test_what_is_shaped_like_a_secret_is_found_although_nobody_planted_it() -> None:
    for example in (
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl",
        "m1.dev1.1700000000.bm9uY2U.cnVu.bWFjbWFjbWFjbWFjbWFjbWFj",
        f"s1.demo.{'0' * 32}.1700000000.1700043200.{'n' * 32}.{'m' * 43}",
        "ohk_" + "k" * 43,
    ):
        assert search([], {"a log": f"it said {example}\n".encode()}), example
    assert len(SHAPES) == 4


# --- that nothing is


@pytest.mark.parametrize(
    "kind",
    ["file logs/", "log of", "topic", "kafka file", "file call-tracker", "database dump", "redis", "answer", "metrics of",
     "traces", "command line", "output of"],
)  # fmt: skip
async def test_no_secret_is_in(planted: Planted, kind: str) -> None:
    places = planted.of(kind)
    assert places
    finds = search(planted.canaries, places)
    assert not finds, told(finds)


@pytest.mark.parametrize("kind", ["file logs/", "log of", "metrics of", "traces", "command line"])
async def test_no_whole_phone_number_is_in(planted: Planted, kind: str) -> None:
    finds = search_numbers(PEOPLE, planted.of(kind))
    assert not finds, told(finds)
