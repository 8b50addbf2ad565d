"""A bridge on real ports, its Kafka in memory; carriers that sign with the vendors' own libraries; agents on
sockets.
"""

import asyncio
import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websocket
from websockets.exceptions import ConnectionClosed

from media_bridge.app import admin_settings, build
from media_bridge.settings import BridgeSettings
from offhook.bus.testing import memory_bus
from offhook.events import Event, EventData, new_event
from offhook.http import serve
from offhook.identities import inbound_run_id, media_path
from offhook.records import ConfigurationRecord, PublicUrlRecord, WorkflowRecord
from offhook.security.keyring import Keyring, new_key
from offhook.security.tokens import MediaTokens
from offhook.settings import read_settings
from offhook.topics import CALL_COMMANDS, CALL_EVENTS, CONFIGURATIONS, SETTINGS, WORKFLOWS

PUBLIC_URL = "https://voice.example.com"
SID = "AC" + "0" * 31 + "1"
AUTH_TOKEN = "the-auth-token-of-tenant-one"
OTHER_SID = "AC" + "0" * 31 + "2"
OTHER_AUTH_TOKEN = "the-auth-token-of-tenant-two"
CALL = "CA" + "0" * 31 + "1"
STREAM = "MZ" + "0" * 31 + "1"
APP = "aaaaaaaa-bbbb-cccc-dddd-000000000001"
API_KEY = "abcd1234"
SECRET = "qwertyuiopasdfghjklzxcvbnm123456"
UUID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
TIMEOUT_S = 90.0


class Agent:
    """A server that an agent developer might have written. Remembers what came; says what the test tells it
    to.
    """

    def __init__(self) -> None:
        self.connections: list[AgentConnection] = []
        self.arrived: asyncio.Queue[AgentConnection] = asyncio.Queue()
        self.refuse_with: int | None = None
        self.subprotocols: list[str] | None = ["offhook.pcm.v1"]
        self.url = ""

    async def connection(self) -> "AgentConnection":
        return await asyncio.wait_for(self.arrived.get(), TIMEOUT_S)

    async def _handle(self, socket: ServerConnection) -> None:
        connection = AgentConnection(socket)
        self.connections.append(connection)
        self.arrived.put_nowait(connection)
        await connection.listen()

    def _before(self, socket: ServerConnection, request: Any) -> Any:
        if self.refuse_with is not None:
            return socket.respond(self.refuse_with, "no\n")
        return None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Agent"]:
        async with serve_websocket(
            self._handle,
            "127.0.0.1",
            0,
            subprotocols=self.subprotocols,  # type: ignore[arg-type]
            process_request=self._before,
            compression=None,
            ping_interval=None,
        ) as server:
            self.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/call"
            yield self


class Wire:
    """One end of a socket: what came, in order, with a way to wait for it."""

    def __init__(self, socket: ClientConnection | ServerConnection) -> None:
        self.socket = socket
        self.messages: list[Any] = []
        self.audio = bytearray()
        self.close_code: int | None = None
        self._news = asyncio.Event()
        self.closed = asyncio.Event()

    async def listen(self) -> None:
        try:
            async for message in self.socket:
                self._took(message)
                self._news.set()
        except ConnectionClosed:
            pass
        self.close_code = self.socket.close_code
        self.closed.set()
        self._news.set()

    def _took(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.audio += message
            self.messages.append(message)
            return
        decoded = json.loads(message)
        self.messages.append(decoded)
        if decoded.get("event") == "media":
            self.audio += base64.b64decode(decoded["media"]["payload"])

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until the condition is true of what came; returns its value."""
        async with asyncio.timeout(TIMEOUT_S):
            while not (value := condition()):
                self._news.clear()
                await asyncio.wait({asyncio.ensure_future(self._news.wait())}, timeout=0.05)
        return value

    def said(self, event: str) -> list[dict[str, Any]]:
        return [
            message
            for message in self.messages
            if isinstance(message, dict) and message.get("event") == event
        ]

    async def hears(self, event: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = await self.until(lambda: self.said(event))
        return found[0]

    async def ends(self) -> int | None:
        await asyncio.wait_for(self.closed.wait(), TIMEOUT_S)
        return self.close_code

    async def send(self, message: object) -> None:
        await self.socket.send(message if isinstance(message, bytes | str) else json.dumps(message))


class AgentConnection(Wire):
    def __init__(self, socket: ServerConnection) -> None:
        super().__init__(socket)
        request = socket.request
        assert request is not None
        self.headers = request.headers


class Caller(Wire):
    """A carrier's end of the audio socket. `speak` sends 20 ms frames at real pace."""

    frame = b""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket)
        self._task = asyncio.create_task(self.listen())
        self._speaking: asyncio.Task[None] | None = None

    def media(self, payload: bytes) -> object:
        raise NotImplementedError

    async def say(self, payload: bytes) -> None:
        await self.send(self.media(payload))

    def speak(self, payload: bytes | None = None) -> None:
        """Go on sending frames until the socket is closed, as carriers do."""

        async def speak() -> None:
            loop = asyncio.get_running_loop()
            due = loop.time()
            while True:
                await self.say(payload or self.frame)
                due += 0.02
                await asyncio.sleep(max(0.0, due - loop.time()))

        self._speaking = asyncio.create_task(speak())

    async def hang_up(self) -> None:
        await self.socket.close()

    async def stop_speaking(self) -> None:
        if self._speaking is not None:
            self._speaking.cancel()
            await asyncio.wait({self._speaking})
            if not self._speaking.cancelled():
                self._speaking.exception()

    async def leave(self) -> None:
        await self.stop_speaking()
        await self.socket.close()
        await self._task


class TwilioCaller(Caller):
    frame = b"\x10" * 160

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket)
        self._sequence = 1
        self._chunk = 0

    async def start(self, token: str, call: str = CALL, account: str = SID, **parameters: str) -> None:
        await self.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        await self.send(
            {
                "event": "start",
                "sequenceNumber": "1",
                "start": {
                    "accountSid": account,
                    "streamSid": STREAM,
                    "callSid": call,
                    "tracks": ["inbound"],
                    "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                    "customParameters": {"token": token, **parameters},
                },
                "streamSid": STREAM,
            }
        )

    def media(self, payload: bytes) -> object:
        self._sequence += 1
        self._chunk += 1
        return {
            "event": "media",
            "sequenceNumber": str(self._sequence),
            "media": {
                "track": "inbound",
                "chunk": str(self._chunk),
                "timestamp": str(self._chunk * 20),
                "payload": base64.b64encode(payload).decode(),
            },
            "streamSid": STREAM,
        }

    async def press(self, digit: str) -> None:
        await self.send(
            {
                "event": "dtmf",
                "streamSid": STREAM,
                "sequenceNumber": "9",
                "dtmf": {"track": "inbound_track", "digit": digit},
            }
        )

    async def play_marks(self) -> None:
        """Return every mark as Twilio does when everything before it was played."""
        for message in self.said("mark"):
            await self.send(
                {"event": "mark", "streamSid": STREAM, "sequenceNumber": "9", "mark": message["mark"]}
            )

    async def stop(self) -> None:
        await self.send(
            {
                "event": "stop",
                "sequenceNumber": "9",
                "stop": {"accountSid": SID, "callSid": CALL},
                "streamSid": STREAM,
            }
        )


class VonageCaller(Caller):
    frame = b"\x00\x10" * 320

    async def start(self, token: str, call: str = UUID, rate: int = 16000, **headers: str) -> None:
        self.frame = b"\x00\x10" * (rate // 50)
        await self.send(
            {
                "event": "websocket:connected",
                "content-type": f"audio/l16;rate={rate}",
                "call_uuid": call,
                "token": token,
                **headers,
            }
        )

    def media(self, payload: bytes) -> object:
        return payload

    async def press(self, digit: str) -> None:
        await self.send({"event": "websocket:dtmf", "digit": digit, "duration": 260})

    async def play_marks(self) -> None:
        for message in self.messages:
            if isinstance(message, dict) and message.get("action") == "notify":
                await self.send({"event": "websocket:notify", "payload": message["payload"]})


class Rig:
    """The bridge, and what is around it."""

    public_url = PUBLIC_URL
    sid = SID
    auth_token = AUTH_TOKEN
    call_sid = CALL
    app_id = APP
    uuid = UUID

    def __init__(self, bus: Any, keyring: Keyring, tokens: MediaTokens) -> None:
        self.bus = bus
        self.keyring = keyring
        self.tokens = tokens
        self.port = 0
        self.admin_port = 0
        self.stop = asyncio.Event()
        self.app: Any = None
        self.callers: list[Caller] = []

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def mint(self, run: str, account: str = SID, call: str = CALL, *, ttl_s: int = 60) -> str:
        return self.tokens.mint(run, account, call, int(time.time()) + ttl_s, secrets.token_urlsafe(12))

    def twilio_run(self, call: str = CALL) -> str:
        return inbound_run_id("twilio", SID, call)

    async def twilio(
        self,
        workflow: str = "w1",
        run: str | None = None,
        *,
        user: str = "u1",
        auth_token: str = AUTH_TOKEN,
        headers: Mapping[str, str] | None = None,
        path: str | None = None,
        **options: Any,
    ) -> TwilioCaller:
        path = path or media_path(workflow, user, run or self.twilio_run())
        signed = "wss" + PUBLIC_URL.removeprefix("https") + path
        signature = RequestValidator(auth_token).compute_signature(signed, {})
        sent = {"x-twilio-signature": signature} if headers is None else dict(headers)
        socket = await connect(
            self.ws + path, additional_headers=sent, compression=None, open_timeout=TIMEOUT_S, **options
        )
        caller = TwilioCaller(socket)
        self.callers.append(caller)
        return caller

    async def vonage(
        self,
        workflow: str = "w1",
        run: str | None = None,
        *,
        user: str = "u1",
        secret: str = SECRET,
        **claims: Any,
    ) -> VonageCaller:
        path = media_path(workflow, user, run or inbound_run_id("vonage", APP, UUID))
        body = {"iss": "Vonage", "iat": int(time.time()), "jti": secrets.token_hex(8), "api_key": API_KEY,
                "application_id": APP, **claims}  # fmt: skip
        bearer = jwt.encode(body, secret, algorithm="HS256")
        socket = await connect(
            self.ws + path,
            additional_headers={"Authorization": f"Bearer {bearer}"},
            compression=None,
            open_timeout=TIMEOUT_S,
        )
        caller = VonageCaller(socket)
        self.callers.append(caller)
        return caller

    async def call(self, provider: str = "twilio", workflow: str = "w1") -> Caller:
        """A caller whose stream has started and who goes on speaking."""
        caller: TwilioCaller | VonageCaller
        if provider == "twilio":
            caller = await self.twilio(workflow)
            await caller.start(self.mint(self.twilio_run()))
        else:
            caller = await self.vonage(workflow)
            await caller.start(self.mint(inbound_run_id("vonage", APP, UUID), APP, UUID))
        caller.speak()
        return caller

    def events(self, kind: type[EventData] | None = None) -> list[Any]:
        """The data of the call events told so far."""
        told = [event.data for event in self.bus.log(CALL_EVENTS)]
        return told if kind is None else [data for data in told if isinstance(data, kind)]

    def envelopes(self) -> list[Event[EventData]]:
        return self.bus.log(CALL_EVENTS)

    def commands(self) -> list[EventData]:
        return [event.data for event in self.bus.log(CALL_COMMANDS)]

    async def tells(self, kind: type[EventData], count: int = 1) -> list[Any]:
        """Wait for events of a kind."""
        async with asyncio.timeout(TIMEOUT_S):
            while len(found := self.events(kind)) < count:
                await asyncio.sleep(0.01)
        return found

    async def workflow(self, workflow_id: str, agent_url: str, **more: Any) -> None:
        record = WorkflowRecord(
            workflow_id=workflow_id,
            user_id=more.pop("user_id", "u1"),
            name=workflow_id,
            agent_url=agent_url,
            **more,
        )
        await self.put(WORKFLOWS, workflow_id, record)
        if self.app is not None:
            await self.bus.settle()

    async def put(self, topic: Any, key: str, record: EventData) -> None:
        from datetime import UTC, datetime

        await self.bus.put(topic, key, new_event(record, source="/test", time=datetime.now(UTC), subject=key))

    async def configuration(
        self, name: str, user: str, provider: str, credentials: Mapping[str, Any]
    ) -> None:
        account = credentials["account_sid"] if provider == "twilio" else credentials["application_id"]
        record = ConfigurationRecord(
            configuration_id=name,
            user_id=user,
            provider=provider,
            name=name,
            account=account,
            sealed_credentials=self.keyring.seal(json.dumps(credentials), context=name),
        )
        await self.put(CONFIGURATIONS, name, record)

    async def ready(self) -> tuple[int, Any]:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            answer = await client.get(f"http://127.0.0.1:{self.admin_port}/readyz")
            return answer.status_code, answer.json()

    async def metrics(self) -> str:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            return (await client.get(f"http://127.0.0.1:{self.admin_port}/metrics")).text


@asynccontextmanager
async def running_rig(redis_url: str, state_dir: Any, agent_url: str, **overrides: Any) -> AsyncIterator[Rig]:
    keyring_text = new_key("k1")
    token_key = base64.b64encode(secrets.token_bytes(32)).decode()
    async with memory_bus(service="media-bridge") as bus:
        rig = Rig(bus, Keyring.parse(keyring_text), MediaTokens.parse(token_key))
        await rig.configuration("c1", "u1", "twilio", {"account_sid": SID, "auth_token": AUTH_TOKEN})
        await rig.configuration(
            "c2", "u2", "twilio", {"account_sid": OTHER_SID, "auth_token": OTHER_AUTH_TOKEN}
        )
        await rig.configuration(
            "c3",
            "u1",
            "vonage",
            {
                "application_id": APP,
                "api_key": API_KEY,
                "signature_secret": SECRET,
                "api_secret": "x",
                "private_key": "x",
            },
        )
        await rig.put(SETTINGS, PublicUrlRecord.KEY, PublicUrlRecord(url=PUBLIC_URL))
        await rig.workflow("w1", agent_url, metadata={"plan": "gold"})
        await rig.workflow("twilio-bot", agent_url, agent_protocol="twilio", metadata={"plan": "gold"})
        await rig.workflow("w2", agent_url, user_id="u2")
        settings = read_settings(
            BridgeSettings,
            **{
                "redis_url": redis_url, "keyring": keyring_text, "token_key": token_key, "state_dir": state_dir,
                "listen_port": 0, "admin_port": 0, "bridge_id": "b1",
                # The deadlines of calls are told by the tests that are about them; no other test meets one.
                "comfort_after_s": 60, "silence_timeout_s": 60, "start_timeout_s": 30, "agent_connect_timeout_s": 30,
                "agent_ping_s": 60, "drain_timeout_s": 60, "redis_timeout_s": 5, **overrides,
            },
        )  # fmt: skip
        rig.app = build(settings, bus)
        listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(
            serve(
                rig.app,
                admin_settings(settings),
                drain=rig.app.state.drain,
                stop=rig.stop,
                on_listening=listening.set_result,
            )
        )
        await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()
        rig.admin_port = listening.result()
        rig.port = rig.app.state.bridge.port
        try:
            yield rig
        finally:
            for caller in rig.callers:
                await caller.leave()
            rig.stop.set()
            await serving


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    async with Agent().serving() as serving:
        yield serving


@pytest.fixture
async def twilio_bot() -> AsyncIterator[Agent]:
    bot = Agent()
    bot.subprotocols = None
    async with bot.serving() as serving:
        yield serving


@pytest.fixture
async def rig(redis_url: str, tmp_path: Any, agent: Agent) -> AsyncIterator[Rig]:
    async with running_rig(redis_url, tmp_path, agent.url) as running:
        yield running


@pytest.fixture
def running(redis_url: str, tmp_path: Any, agent: Agent) -> Callable[..., Any]:
    """Makes a rig with settings of the test's own: `async with running(max_sessions=1) as rig`."""

    def make(**overrides: Any) -> Any:
        return running_rig(overrides.pop("redis_url", redis_url), tmp_path, agent.url, **overrides)

    return make


@pytest.fixture
def outside() -> type[Rig]:
    """A rig without a bridge of its own, for one that runs as a process: set `port` and `admin_port`."""
    return Rig
