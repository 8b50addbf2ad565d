"""A gateway on a real port, its Kafka in memory, and two carriers that sign with the vendors' own
libraries."""

import asyncio
import base64
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode
from xml.etree import ElementTree

import httpx
import jwt
import pytest
from starlette.datastructures import ImmutableMultiDict
from twilio.request_validator import RequestValidator

from offhook.bus.testing import MemoryBus, memory_bus
from offhook.events import Event, new_event
from offhook.http import serve
from offhook.identities import (
    INBOUND_FALLBACK_PATH,
    INBOUND_PATH,
    inbound_run_id,
    status_path,
    webhook_path,
)
from offhook.records import (
    ConfigurationRecord,
    NoAgentFallback,
    NumberRecord,
    PublicUrlRecord,
    WorkflowRecord,
)
from offhook.security.keyring import Keyring, new_key
from offhook.security.tokens import MediaTokens
from offhook.settings import read_settings
from offhook.topics import CALL_EVENTS, CONFIGURATIONS, NUMBERS, SETTINGS, WEBHOOK_AUDIT, WORKFLOWS
from webhook_gateway.app import build
from webhook_gateway.settings import GatewaySettings

PUBLIC_URL = "https://voice.example.com"
SID = "AC" + "0" * 31 + "1"
TOKEN = "the-auth-token-of-tenant-one"
OTHER_SID = "AC" + "0" * 31 + "2"
OTHER_TOKEN = "the-auth-token-of-tenant-two"
CALL = "CA" + "0" * 31 + "1"
APP = "aaaaaaaa-bbbb-cccc-dddd-000000000001"
API_KEY = "abcd1234"
SECRET = "qwertyuiopasdfghjklzxcvbnm123456"
UUID = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"
NUMBER = "+15550001111"
CALLER = "+15550002222"
WORDS = "Niemand da."

Pairs = Sequence[tuple[str, str]]


def configuration(
    keyring: Keyring, name: str, user: str, provider: str, credentials: Mapping[str, str], **more: Any
):
    account = credentials["account_sid"] if provider == "twilio" else credentials["application_id"]
    return ConfigurationRecord(
        configuration_id=name,
        user_id=user,
        provider=provider,
        name=name,
        account=account,
        sealed_credentials=keyring.seal(json.dumps(credentials), context=name),
        **more,
    )


def number(
    name: str, configuration_id: str, e164: str, user: str = "u1", workflow: str | None = "w1", **more: Any
):
    return NumberRecord(
        number_id=name,
        configuration_id=configuration_id,
        user_id=user,
        e164=e164,
        workflow_id=workflow,
        **more,
    )


def workflow(name: str, user: str):
    fallback = NoAgentFallback(message=WORDS, language="de-DE")
    return WorkflowRecord(
        workflow_id=name, user_id=user, name=name, agent_url="ws://agent", fallback=fallback
    )


class Rig:
    """One running gateway, and what tests do with it."""

    public_url = PUBLIC_URL
    sid, call_sid, app_id, uuid = SID, CALL, APP, UUID
    other_sid, other_token = OTHER_SID, OTHER_TOKEN
    number, caller, words = NUMBER, CALLER, WORDS
    twilio_run = inbound_run_id("twilio", SID, CALL)
    vonage_run = inbound_run_id("vonage", APP, UUID)

    def __init__(self, bus: MemoryBus, keyring: Keyring, tokens: MediaTokens) -> None:
        self.bus = bus
        self.keyring = keyring
        self.tokens = tokens
        self.port = 0
        self._configurations: dict[str, ConfigurationRecord] = {}
        self.http: httpx.AsyncClient
        self.app: Any = None

    # -- records -----------------------------------------------------------------------------------------

    async def put(self, topic: Any, key: str, data: Any) -> None:
        event = None
        if data is not None:
            event = new_event(data, source="/test", time=_now(), subject=key)
        await self.bus.put(topic, key, event)

    async def put_records(self) -> None:
        for record in (
            self.configuration("c1", "u1", "twilio", {"account_sid": SID, "auth_token": TOKEN}),
            self.configuration("c2", "u2", "twilio", {"account_sid": OTHER_SID, "auth_token": OTHER_TOKEN}),
            self.configuration(
                "c3",
                "u1",
                "vonage",
                {
                    "application_id": APP,
                    "api_key": API_KEY,
                    "signature_secret": SECRET,
                    "private_key": "unused",
                },
            ),
        ):
            self._configurations[record.configuration_id] = record
            await self.put(CONFIGURATIONS, record.configuration_id, record)
        for each in (
            number("n1", "c1", NUMBER),
            number("n2", "c3", "+442079460000"),
            number("n3", "c1", "+15550001112", workflow=None),
            number("n4", "c1", "+15550001113", active=False),
            number("n5", "c2", "+15550001114", user="u2", workflow="w2"),
        ):
            await self.put(NUMBERS, each.number_id, each)
        for each in (workflow("w1", "u1"), workflow("w2", "u2")):
            await self.put(WORKFLOWS, each.workflow_id, each)
        await self.put(SETTINGS, PublicUrlRecord.KEY, PublicUrlRecord(url=PUBLIC_URL))

    async def pause(self, configuration_id: str, paused: bool = True) -> None:
        record = self._configurations[configuration_id].model_copy(update={"paused": paused})
        await self.put(CONFIGURATIONS, configuration_id, record)
        await self.bus.settle()

    def configuration(self, *args: Any, **more: Any) -> ConfigurationRecord:
        return configuration(self.keyring, *args, **more)

    # -- carriers ----------------------------------------------------------------------------------------

    def twilio_fields(self, **fields: str) -> list[tuple[str, str]]:
        return list(
            {
                "AccountSid": SID,
                "CallSid": CALL,
                "From": CALLER,
                "To": NUMBER,
                "CallStatus": "ringing",
                "Direction": "inbound",
                "CalledCity": "",
                "FromCity": "Köln + Bonn",
                **fields,
            }.items()
        )

    async def twilio(
        self,
        path: str = INBOUND_PATH,
        pairs: Pairs | None = None,
        *,
        method: str = "POST",
        token: str = TOKEN,
        origin: str = PUBLIC_URL,
        signature: str | None = None,
        header: str = "X-Twilio-Signature",
        headers: Mapping[str, str] | None = None,
        **fields: str,
    ) -> httpx.Response:
        """Send what Twilio would. The signature is made by Twilio's own library unless given ('' sends
        none)."""
        pairs = self.twilio_fields(**fields) if pairs is None else pairs
        if method == "GET":
            path += ("&" if "?" in path else "?") + urlencode(pairs)
            body, signed = b"", ImmutableMultiDict([])
        else:
            body, signed = urlencode(pairs).encode(), ImmutableMultiDict(list(pairs))
        if signature is None:
            signature = RequestValidator(token).compute_signature(origin + path, _Fields(signed))
        sent = {"content-type": "application/x-www-form-urlencoded"} if method == "POST" else {}
        if signature:
            sent[header] = signature
        return await self.http.request(
            method, self.url(path), content=body, headers={**sent, **(headers or {})}
        )

    async def vonage(
        self,
        path: str = INBOUND_PATH,
        fields: Mapping[str, Any] | None = None,
        *,
        method: str = "POST",
        secret: str = SECRET,
        token: str | None = None,
        body: bytes | None = None,
        app_id: str = APP,
        scheme: str = "Bearer",
        **claims: Any,
    ) -> httpx.Response:
        """Send what Vonage would, signed with PyJWT unless a token is given ('' sends none)."""
        if fields is None:
            fields = {
                "from": "447700900000",
                "to": "442079460000",
                "uuid": UUID,
                "conversation_uuid": "CON-1",
            }
        compact = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
        if method == "GET":
            path += ("&" if "?" in path else "?") + urlencode(fields)
            sent = b""
        else:
            sent = compact if body is None else body
        if token is None:
            token = self.vonage_token(sent or compact, secret, app_id, **claims)
        headers = {"authorization": f"{scheme} {token}"} if token else {}
        if method == "POST":
            headers["content-type"] = "application/json"
        return await self.http.request(method, self.url(path), content=sent, headers=headers)

    def vonage_token(self, payload: bytes, secret: str = SECRET, app_id: str = APP, **claims: Any) -> str:
        said = {
            "iss": "Vonage",
            "iat": int(time.time()),
            "jti": secrets.token_hex(16),
            "api_key": API_KEY,
            "application_id": app_id,
            "payload_hash": hashlib.sha256(payload).hexdigest(),
            **claims,
        }
        return jwt.encode(said, secret, algorithm="HS256")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    # -- paths -------------------------------------------------------------------------------------------

    inbound, fallback = INBOUND_PATH, INBOUND_FALLBACK_PATH

    @staticmethod
    def webhook(run: str = "run-1", workflow_id: str = "w1", user_id: str = "u1") -> str:
        return webhook_path(workflow_id, user_id, run)

    @staticmethod
    def status(run: str = "inbound") -> str:
        return status_path(run)

    # -- what came of it ---------------------------------------------------------------------------------

    def events(self, kind: str | None = None) -> list[Event[Any]]:
        """Call events in the order of each run; of one kind, such as `call.received.v1`."""
        return [event for event in self.bus.log(CALL_EVENTS) if kind in (None, event.data.TYPE)]

    def kinds(self) -> list[str]:
        return [event.data.TYPE for event in self.events()]

    async def audits(self, count: int = 1) -> list[Any]:
        """The entries of the webhook log, once there are `count` (they are written in the background)."""
        async with asyncio.timeout(60):
            while len(self.bus.log(WEBHOOK_AUDIT)) < count:
                await asyncio.sleep(0.005)
        found = sorted(self.bus.log(WEBHOOK_AUDIT), key=lambda event: event.time)
        assert len(found) == count
        return [event.data for event in found]

    def twilio_connect(self, response: httpx.Response) -> "Connected":
        """Read TwiML that connects."""
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "text/xml"
        root = ElementTree.fromstring(response.content)
        stream = root.find("Connect/Stream")
        redirect = root.find("Redirect")
        assert stream is not None, response.text
        assert redirect is not None
        assert redirect.text is not None
        token = next(p.attrib["value"] for p in stream.iter("Parameter") if p.attrib["name"] == "token")
        return Connected(stream.attrib["url"], token, redirect.text, stream.attrib["statusCallback"])

    def vonage_connect(self, response: httpx.Response) -> "Connected":
        """Read an NCCO that connects."""
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        (action,) = response.json()
        assert (action["action"], action["eventType"]) == ("connect", "synchronous")
        (endpoint,) = action["endpoint"]
        return Connected(endpoint["uri"], endpoint["headers"]["token"], "", action["eventUrl"][0])

    def said(self, response: httpx.Response) -> str | None:
        """The words of an answer that speaks and then ends the call; '' for one that only ends it; None
        else."""
        assert response.status_code == 200, response.text
        if response.headers["content-type"] == "application/json":
            actions = response.json()
            return "" if not actions else actions[0]["text"] if actions[0]["action"] == "talk" else None
        root = ElementTree.fromstring(response.content)
        if root.find("Connect") is not None:
            return None
        assert root[-1].tag == "Hangup"
        return root.findtext("Say") or ""


class Connected:
    """What instructions to connect say. Paths are below the public URL, ready for the next request."""

    def __init__(self, media_url: str, token: str, continue_url: str, status_url: str) -> None:
        self.media_url = media_url
        self.token = token
        self.continue_path = _below(continue_url)
        self.status_path = _below(status_url)


class _Fields:
    """Form fields as the Twilio library wants them, repeated ones included."""

    def __init__(self, fields: ImmutableMultiDict[str, str]) -> None:
        self._fields = fields

    def __iter__(self):
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def getlist(self, name: str) -> list[str]:
        return self._fields.getlist(name)


def _below(url: str) -> str:
    if not url:
        return ""
    assert url.startswith(PUBLIC_URL + "/")
    return url.partition("#")[0].removeprefix(PUBLIC_URL)  # a fragment is neither sent nor signed


def _now():
    from datetime import UTC, datetime

    return datetime.now(UTC)


@pytest.fixture
def start_rig(tmp_path):
    """Starts gateways: `async with start_rig(redis_url=…) as rig`. Without a Redis, it is one that is
    away."""

    @asynccontextmanager
    async def start(
        redis_url: str = "redis://127.0.0.1:1/0", *, cluster: Any = None, records: bool = True, **more: Any
    ):
        entry = new_key("k1")
        token_key = base64.b64encode(secrets.token_bytes(32)).decode()
        settings = read_settings(
            GatewaySettings,
            keyring=entry,
            token_key=token_key,
            redis_url=redis_url,
            listen_port=0,
            state_dir=tmp_path,
            # What Redis says is told below, not how soon.
            **{"drain_timeout_s": 0.2, "redis_timeout_s": 5, **more},
        )
        async with memory_bus("webhook-gateway", cluster) as bus:
            rig = Rig(bus, Keyring.parse(entry), MediaTokens.parse(token_key))
            if records:
                await rig.put_records()
            rig.app = build(settings, bus)
            rig.stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
            serving = rig.serving = asyncio.create_task(
                serve(
                    rig.app,
                    settings,
                    drain=rig.app.state.drain,
                    stop=rig.stop,
                    on_listening=listening.set_result,
                )
            )
            await asyncio.wait({serving, listening}, return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()
            rig.port = listening.result()
            async with httpx.AsyncClient(trust_env=False, timeout=30) as rig.http:
                try:
                    yield rig
                finally:
                    rig.stop.set()
                    await serving

    return start


@pytest.fixture
async def rig(start_rig) -> AsyncIterator[Rig]:
    """A gateway whose Redis is away."""
    async with start_rig() as started:
        yield started
