"""Carriers that may misbehave: signed with the vendors' own libraries, but every byte is the test's choice."""

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import ssl
import time
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode, urlsplit, urlunsplit

import httpx
import jwt
import websockets
from installation import Installation, Json
from twilio.request_validator import RequestValidator
from websockets.asyncio.client import ClientConnection
from websockets.protocol import State

from offhook.identities import INBOUND_PATH, inbound_run_id, status_path
from offhook_agent import Call, chime
from offhook_dev.simulated import PERSON, TWILIO_CREDENTIALS, VONAGE_CREDENTIALS

ACCOUNT_SID: Final = TWILIO_CREDENTIALS["account_sid"]
AUTH_TOKEN: Final = TWILIO_CREDENTIALS["auth_token"]
APPLICATION: Final = VONAGE_CREDENTIALS["application_id"]
FORM: Final = "application/x-www-form-urlencoded"

Headers = dict[str, str]


@dataclass(slots=True)
class Witness:
    """An agent that greets and notes what it hears, by run: bytes of 16 kHz PCM, and keys."""

    heard: dict[str, int] = field(default_factory=dict)
    digits: dict[str, str] = field(default_factory=dict)

    async def on_call(self, call: Call) -> None:
        run = call.workflow_run_id
        await call.play(chime(sample_rate=call.sample_rate))
        keys = asyncio.create_task(self._keys(call))
        try:
            async for audio in call.audio():
                self.heard[run] = self.heard.get(run, 0) + len(audio)
        finally:
            keys.cancel()

    async def _keys(self, call: Call) -> None:
        async for digit in call.digits():
            self.digits[call.workflow_run_id] = self.digits.get(call.workflow_run_id, "") + digit

    def heard_ms(self, run: str) -> float:
        return self.heard.get(run, 0) / 32


def twilio_signature(url: str, fields: Mapping[str, str] | None = None, token: str = AUTH_TOKEN) -> str:
    """As Twilio signs: over the URL without its port."""
    parts = urlsplit(url)
    signed = urlunsplit(parts._replace(netloc=parts.hostname or ""))
    return str(RequestValidator(token).compute_signature(signed, dict(fields or {})))


def vonage_token(payload: bytes | None, secret: str | None = None, **claims: Any) -> str:
    """As Vonage signs; `claims` replaces some of them."""
    known: Json = {
        "iat": int(time.time()), "jti": str(uuid.uuid4()), "iss": "Vonage",
        "api_key": VONAGE_CREDENTIALS["api_key"], "application_id": APPLICATION,
    }  # fmt: skip
    if payload is not None:
        known["payload_hash"] = hashlib.sha256(payload).hexdigest()
    return jwt.encode(known | claims, secret or VONAGE_CREDENTIALS["signature_secret"], algorithm="HS256")


@dataclass(frozen=True, slots=True)
class Order:
    """What the gateway answered to a call: where the audio goes, and what to say there first."""

    run: str
    call_id: str
    media_url: str
    token: str
    headers: Mapping[str, str] = field(default_factory=dict)


class RogueCarrier:
    """Plain HTTP and WebSocket clients that trust the edge's certificate."""

    def __init__(self, installation: Installation) -> None:
        self.origin = installation.origin
        self.trust = ssl.create_default_context(cafile=str(installation.stack.address.ca_file))
        self.http = httpx.AsyncClient(verify=self.trust, timeout=20, trust_env=False)

    @property
    def port(self) -> int:
        return urlsplit(self.origin).port or 443

    # --- what real carriers would send

    def twilio_call(self, number: str, call_sid: str | None = None, **more: str) -> dict[str, str]:
        """The form of a call that comes in."""
        return {
            "CallSid": call_sid or "CA" + os.urandom(16).hex(), "AccountSid": ACCOUNT_SID, "From": PERSON, "To": number,
            "CallStatus": "ringing", "Direction": "inbound", "ApiVersion": "2010-04-01", "CallerCity": "",
        } | more  # fmt: skip

    def vonage_call(self, number: str, **more: Any) -> Json:
        """The JSON of a call that comes in."""
        leg, conversation = str(uuid.uuid4()), f"CON-{uuid.uuid4()}"
        who = {"from": PERSON.lstrip("+"), "to": number.lstrip("+")}
        return who | {"uuid": leg, "conversation_uuid": conversation} | more

    async def twilio(self, path: str, fields: Mapping[str, str], **headers: str) -> httpx.Response:
        """A form post with the right signature."""
        signed = {"X-Twilio-Signature": twilio_signature(self.origin + path, fields), "Content-Type": FORM}
        return await self.http.post(self.origin + path, content=urlencode(fields), headers=signed | headers)

    async def vonage(self, path: str, document: Any, **claims: Any) -> httpx.Response:
        """A JSON post with a token of its own."""
        body = (
            document if isinstance(document, bytes) else json.dumps(document, separators=(",", ":")).encode()
        )
        signed = {
            "Authorization": f"Bearer {vonage_token(body, **claims)}",
            "Content-Type": "application/json",
        }
        return await self.http.post(self.origin + path, content=body, headers=signed)

    async def order(self, provider: str, number: str) -> Order:
        """Ring, and read the instructions."""
        if provider == "twilio":
            fields = self.twilio_call(number)
            return self.read_twilio(await self.twilio(INBOUND_PATH, fields), fields["CallSid"])
        document = self.vonage_call(number)
        return self.read_vonage(await self.vonage(INBOUND_PATH, document), document["uuid"])

    def read_twilio(self, answer: httpx.Response, call_sid: str) -> Order:
        assert answer.status_code == 200, answer.text
        stream = ElementTree.fromstring(answer.content).find("Connect/Stream")
        assert stream is not None, answer.text
        parameters = {one.attrib["name"]: one.attrib["value"] for one in stream.findall("Parameter")}
        run = inbound_run_id("twilio", ACCOUNT_SID, call_sid)
        return Order(run, call_sid, stream.attrib["url"], parameters["token"], parameters)

    def read_vonage(self, answer: httpx.Response, leg: str) -> Order:
        assert answer.status_code == 200, answer.text
        (endpoint,) = answer.json()[0]["endpoint"]
        run = inbound_run_id("vonage", APPLICATION, leg)
        return Order(run, leg, endpoint["uri"], endpoint["headers"]["token"], endpoint["headers"])

    async def end(self, provider: str, order: Order) -> None:
        """Tell that the call is over."""
        if provider == "twilio":
            fields = self.twilio_call("", order.call_id, CallStatus="completed", CallDuration="3")
            answer = await self.twilio(status_path(), fields)
        else:
            event = {
                "uuid": order.call_id,
                "conversation_uuid": "CON-1",
                "status": "completed",
                "direction": "inbound",
            }
            answer = await self.vonage(status_path(), event | {"timestamp": "2026-01-01T00:00:00.000Z"})
        assert answer.status_code == 204, answer.text

    # --- audio sockets

    def socket(self, url: str, headers: Headers | None = None) -> Any:
        """A WebSocket with these headers, whatever they are."""
        return websockets.connect(
            url, ssl=self.trust, additional_headers=headers or {}, max_size=None, max_queue=None, proxy=None
        )

    def signed(self, provider: str, url: str) -> Headers:
        if provider == "twilio":
            return {"X-Twilio-Signature": str(RequestValidator(AUTH_TOKEN).compute_signature(url, {}))}
        return {"Authorization": f"Bearer {vonage_token(None)}"}

    @contextlib.asynccontextmanager
    async def stream(self, provider: str, order: Order, start: bool = True) -> AsyncIterator["Stream"]:
        """An admitted audio socket; with `start`, the carrier's first messages have been sent."""
        async with self.socket(order.media_url, self.signed(provider, order.media_url)) as socket:
            stream = Stream(provider, order, socket)
            if start:
                await stream.start()
            yield stream
            if socket.protocol.state is State.OPEN:
                closing = asyncio.create_task(socket.close())
                await stream.closed()
                socket.transport.abort()  # all is said; the edge would wait a second for the connection's end
                await closing
            elif socket.protocol.close_rcvd is not None:
                socket.transport.abort()


class Stream:
    """One audio socket of the carrier's."""

    def __init__(self, provider: str, order: Order, socket: ClientConnection) -> None:
        self.provider, self.order, self.socket = provider, order, socket
        self.sid = "MZ" + os.urandom(16).hex()

    async def start(self, **overriding: Any) -> None:
        order = self.order
        if self.provider == "vonage":
            first = {"event": "websocket:connected", "content-type": "audio/l16;rate=16000", **order.headers}
            await self.say(first | overriding)
            return
        await self.say({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {
            "accountSid": ACCOUNT_SID, "streamSid": self.sid, "callSid": order.call_id, "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": dict(order.headers),
        }  # fmt: skip
        await self.say(
            {"event": "start", "sequenceNumber": "1", "start": start | overriding, "streamSid": self.sid}
        )

    async def say(self, message: Json) -> None:
        await self.socket.send(json.dumps(message))

    async def audio(self, payload: bytes, **more: Any) -> None:
        """Caller's audio: mu-law for Twilio, PCM at 16 kHz for Vonage."""
        if self.provider == "vonage":
            await self.socket.send(payload)
            return
        media = {
            "track": "inbound",
            "chunk": "2",
            "timestamp": "5",
            "payload": base64.b64encode(payload).decode(),
        }
        await self.say(
            {"event": "media", "sequenceNumber": "4", "media": media, "streamSid": self.sid} | more
        )

    async def silence(self, ms: int) -> None:
        """Caller's silence, in the usual frames of 20 ms but all at once."""
        frame = b"\xff" * 160 if self.provider == "twilio" else bytes(640)
        for _ in range(ms // 20):
            await self.audio(frame)

    async def press(self, digit: str) -> None:
        if self.provider == "vonage":
            await self.say({"event": "websocket:dtmf", "digit": digit, "duration": 260})
        else:
            await self.say(
                {"event": "dtmf", "streamSid": self.sid, "dtmf": {"track": "inbound_track", "digit": digit}}
            )

    async def hears_the_agent(self) -> None:
        """Returns when audio has come."""
        async with asyncio.timeout(60):
            async for message in self.socket:
                if isinstance(message, bytes) or '"media"' in message:
                    return
        raise AssertionError(f"the bridge closed with {self.socket.close_code} and said nothing")

    async def closed(self) -> int | None:
        """The code the bridge closes with."""
        protocol = self.socket.protocol
        async with asyncio.timeout(60):
            while protocol.close_rcvd is None and protocol.state is not State.CLOSED:
                await asyncio.sleep(0.02)
        return protocol.close_rcvd.code if protocol.close_rcvd is not None else None
