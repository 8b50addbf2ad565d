"""What misbehaves like a carrier, or only claims to be one, is answered right, and nobody else's call notices."""

import asyncio
import contextlib
import itertools
import json
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode
from xml.etree import ElementTree

import httpx
import pytest
import pytest_asyncio
import websockets
from installation import PAUSED, PROVIDERS, STATUSES, Installation, Ringing, agent_that
from rogue_carrier import FORM, Order, RogueCarrier, Stream, Witness, twilio_signature, vonage_token

from offhook.identities import INBOUND_PATH, media_path, status_path, webhook_path

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="session")]

REFUSED: Final = 1008
each_provider = pytest.mark.parametrize("provider", PROVIDERS)


@dataclass(slots=True)
class Attack:
    """The installation under attack: who attacks, the numbers an agent answers, calls that go on all the time."""

    installation: Installation
    carrier: RogueCarrier
    numbers: dict[str, str]
    witness: Witness
    bystanders: dict[str, Ringing]
    open: contextlib.AsyncExitStack
    odd_calls: dict[str, Stream] = field(default_factory=dict)

    async def odd_call(self, provider: str) -> Stream:
        """One call for all odd messages: each of them has to leave it alive."""
        if provider not in self.odd_calls:
            stream = await self.open.enter_async_context(
                self.carrier.stream(provider, await self.order(provider))
            )
            self.odd_calls[provider] = stream
            await stream.hears_the_agent()
        await self.odd_calls[provider].silence(20)
        return self.odd_calls[provider]

    async def order(self, provider: str) -> Order:
        return await self.carrier.order(provider, self.numbers[provider])

    @contextlib.asynccontextmanager
    async def talking(self, provider: str) -> AsyncIterator[Stream]:
        """A call whose caller hears the agent; afterwards it is ended as it should be, and its record must be right."""
        order = await self.order(provider)
        async with self.carrier.stream(provider, order) as stream:
            await stream.hears_the_agent()
            yield stream
        await self.carrier.end(provider, order)
        record = await self.installation.record(order.run)
        assert record["statuses"] == STATUSES

    async def agent_has_heard(self, run: str, ms: float) -> float:
        """How much the agent heard, once that is at least `ms`."""
        async with asyncio.timeout(60):
            while self.witness.heard_ms(run) < ms:
                await asyncio.sleep(0.02)
        return self.witness.heard_ms(run)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def attack(installation: Installation) -> AsyncIterator[Attack]:
    witness = Witness()
    async with agent_that(witness.on_call) as url, contextlib.AsyncExitStack() as opened:
        workflow = await installation.workflow(url)
        example = await installation.workflow()
        numbers = {provider: await installation.number(provider, workflow) for provider in PROVIDERS}
        bystanding = {provider: await installation.number(provider, example) for provider in PROVIDERS}
        await installation.known()
        bystanders = {
            provider: installation.endless(provider, number) for provider, number in bystanding.items()
        }
        carrier = RogueCarrier(installation)
        opened.push_async_callback(carrier.http.aclose)
        yield Attack(installation, carrier, numbers, witness, bystanders, opened)


# --- webhooks that are not a carrier's


@each_provider
async def test_an_unsigned_webhook_gets_no_instructions(attack: Attack, provider: str) -> None:
    carrier, number = attack.carrier, attack.numbers[provider]
    url = carrier.origin + INBOUND_PATH
    if provider == "twilio":
        answer = await carrier.http.post(url, data=carrier.twilio_call(number))
        assert answer.status_code == 403
    else:
        answer = await carrier.http.post(url, json=carrier.vonage_call(number))
        # Vonage itself may forget to sign after an error of its own; this status makes it try again.
        assert answer.status_code == 503
    assert attack_learns_nothing(answer)


@each_provider
@pytest.mark.parametrize("kind", ["webhook", "status"])
async def test_a_webhook_with_somebody_elses_signature_is_refused(
    attack: Attack, provider: str, kind: str
) -> None:
    carrier, number = attack.carrier, attack.numbers[provider]
    path = INBOUND_PATH if kind == "webhook" else status_path()
    if provider == "twilio":
        fields = carrier.twilio_call(number)
        forged = twilio_signature(carrier.origin + path, fields, token=PAUSED["twilio"]["auth_token"])
        answer = await carrier.twilio(path, fields, **{"X-Twilio-Signature": forged})
    else:
        answer = await carrier.vonage(path, carrier.vonage_call(number), secret="x" * 40)
    assert answer.status_code == 403
    assert attack_learns_nothing(answer)


@each_provider
async def test_a_webhook_changed_on_its_way_is_refused(attack: Attack, provider: str) -> None:
    carrier, number = attack.carrier, attack.numbers[provider]
    url = carrier.origin + INBOUND_PATH
    if provider == "twilio":
        fields = carrier.twilio_call(number)
        headers = {"X-Twilio-Signature": twilio_signature(url, fields)}
        answer = await carrier.http.post(url, data=fields | {"From": "+12125550199"}, headers=headers)
    else:
        document = carrier.vonage_call(number)
        headers = {"Authorization": f"Bearer {vonage_token(json.dumps(document).encode())}"}
        answer = await carrier.http.post(url, json=document | {"from": "12125550199"}, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "claims",
    [
        # In seconds from now.
        {"iat": -3600},
        {"iat": 3600},
        {"iss": "Nexmo"},
        {"api_key": "zzzz9999"},
        {"application_id": PAUSED["vonage"]["application_id"]},
        {"payload_hash": None},
        {"jti": ""},
    ],
    ids=lambda claims: next(iter(claims)),
)
async def test_a_vonage_token_with_one_wrong_claim_is_refused(attack: Attack, claims: dict[str, Any]) -> None:
    document = attack.carrier.vonage_call(attack.numbers["vonage"])
    if "iat" in claims:
        claims = {"iat": int(time.time()) + claims["iat"]}
    answer = await attack.carrier.vonage(INBOUND_PATH, document, **claims)
    if "application_id" in claims:
        # The token is right for the other application, which has no such number: the caller hears words, no agent.
        assert "connect" not in answer.text
    else:
        assert answer.status_code == 403


async def test_a_signed_vonage_request_cannot_be_used_for_another_path(attack: Attack) -> None:
    carrier = attack.carrier
    body = json.dumps(carrier.vonage_call(attack.numbers["vonage"])).encode()
    headers = {"Authorization": f"Bearer {vonage_token(body)}", "Content-Type": "application/json"}
    first = await carrier.http.post(carrier.origin + INBOUND_PATH, content=body, headers=headers)
    assert first.status_code == 200
    replayed = await carrier.http.post(carrier.origin + status_path(), content=body, headers=headers)
    assert replayed.status_code == 403


@each_provider
async def test_a_repeated_webhook_is_answered_again_but_opens_one_audio_socket(
    attack: Attack, provider: str
) -> None:
    carrier, number = attack.carrier, attack.numbers[provider]
    url = carrier.origin + INBOUND_PATH
    if provider == "twilio":
        fields = carrier.twilio_call(number)
        orders = [
            carrier.read_twilio(await carrier.twilio(INBOUND_PATH, fields), fields["CallSid"]) for _ in "12"
        ]
    else:
        document = carrier.vonage_call(number)
        body = json.dumps(document).encode()
        headers = {"Authorization": f"Bearer {vonage_token(body)}", "Content-Type": "application/json"}
        orders = [
            carrier.read_vonage(await carrier.http.post(url, content=body, headers=headers), document["uuid"])
            for _ in "12"
        ]
    async with carrier.stream(provider, orders[0]) as first, carrier.stream(provider, orders[1]) as second:
        assert await second.closed() == REFUSED
        await first.hears_the_agent()
    await carrier.end(provider, orders[0])


@each_provider
async def test_a_body_beyond_the_limit_is_refused(attack: Attack, provider: str) -> None:
    carrier = attack.carrier
    if provider == "twilio":
        fields = carrier.twilio_call(attack.numbers[provider], Extra="x" * 70_000)
        answer = await carrier.twilio(INBOUND_PATH, fields)
    else:
        answer = await carrier.vonage(
            INBOUND_PATH, carrier.vonage_call(attack.numbers[provider], extra="x" * 70_000)
        )
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "body",
    [b"", b"CallSid=CA1", b"\xff\xfe%zz&&==&CallSid", b"a=b&" * 9000, os.urandom(512), b"CallSid=" + b"A" * 5000],
    ids=["empty", "no account", "not a form", "thousands of fields", "noise", "a long id"],
)  # fmt: skip
async def test_a_body_that_is_no_twilio_form_is_refused_without_a_fault_of_ours(
    attack: Attack, body: bytes
) -> None:
    url = attack.carrier.origin + INBOUND_PATH
    headers = {"X-Twilio-Signature": twilio_signature(url), "Content-Type": FORM}
    answer = await attack.carrier.http.post(url, content=body, headers=headers)
    assert answer.status_code in (400, 403)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b'{"uuid":"1"', b'{"uuid":{}}', b"[" * 30_000, b'{"uuid":"\xff"}', b'{"uuid":1e999}'],
    ids=["empty", "a list", "null", "half", "cut", "an object as id", "deep", "not UTF-8", "infinity"],
)  # fmt: skip
@pytest.mark.parametrize("path", [INBOUND_PATH, status_path()], ids=["call", "status"])
async def test_a_signed_body_that_is_no_vonage_event_is_refused_without_a_fault_of_ours(
    attack: Attack, body: bytes, path: str
) -> None:
    answer = await attack.carrier.vonage(path, body)
    if path == INBOUND_PATH:
        # It is signed, so it may be a call: then somebody hears that nothing comes of it.
        assert answer.status_code == 200
        assert [action["action"] for action in answer.json()] == ["talk"]
    else:
        assert answer.status_code == 400


async def test_a_signed_twilio_form_without_an_account_is_refused(attack: Attack) -> None:
    form = attack.carrier.twilio_call(attack.numbers["twilio"]) | {"AccountSid": ""}
    assert (await attack.carrier.twilio(INBOUND_PATH, form)).status_code == 403


@pytest.mark.parametrize("fields", [{"CallSid": ""}, {"CallSid": "../../etc"}])
async def test_a_signed_twilio_form_without_a_usable_call_id_is_answered_with_words(
    attack: Attack, fields: dict[str, str]
) -> None:
    form = attack.carrier.twilio_call(attack.numbers["twilio"]) | fields
    answer = await attack.carrier.twilio(INBOUND_PATH, form)
    assert answer.status_code == 200
    assert [verb.tag for verb in ElementTree.fromstring(answer.content)] == ["Say", "Hangup"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", INBOUND_PATH, 405),
        ("DELETE", status_path(), 405),
        ("POST", status_path("x" * 65), 404),
        ("POST", status_path("a%2e%2e"), 404),
        ("POST", webhook_path("w", "u", "r") + "/more", 404),
        ("POST", "/api/v1/telephony/", 404),
        ("GET", INBOUND_PATH + "?" + "q" * 9000, 414),
    ],
)
async def test_a_request_no_carrier_makes_gets_the_right_status(
    attack: Attack, method: str, path: str, status: int
) -> None:
    answer = await attack.carrier.http.request(method, attack.carrier.origin + path)
    assert answer.status_code == status


async def test_a_call_cannot_be_steered_by_the_path_of_another_tenant(attack: Attack) -> None:
    carrier = attack.carrier
    fields = carrier.twilio_call(attack.numbers["twilio"])
    answer = await carrier.twilio(webhook_path("w1", "stranger", "r1"), fields)
    assert answer.status_code == 200
    assert "<Say" in answer.text
    assert "<Connect" not in answer.text


async def test_a_webhook_that_trickles_in_is_given_up_and_others_are_answered_meanwhile(
    attack: Attack,
) -> None:
    carrier = attack.carrier
    fields = carrier.twilio_call(attack.numbers["twilio"])
    reader, writer = await asyncio.open_connection("localhost", carrier.port, ssl=carrier.trust)
    try:
        head = (
            f"POST {INBOUND_PATH} HTTP/1.1\r\nHost: localhost:{carrier.port}\r\nContent-Type: {FORM}\r\n"
            f"X-Twilio-Signature: {twilio_signature(carrier.origin + INBOUND_PATH, fields)}\r\nContent-Length: 400\r\n\r\n"
        )
        writer.write(head.encode() + b"CallSid=")
        waiting = asyncio.create_task(reader.readline())
        while not waiting.done():
            order = await attack.order("vonage")
            assert order.token
            with contextlib.suppress(ConnectionError):
                writer.write(b"C")
                await writer.drain()
            await asyncio.wait({waiting}, timeout=0.4)
        assert b" 408 " in waiting.result()
    finally:
        writer.close()


@pytest.mark.parametrize("spelling", [str.lower, str.upper, str.title], ids=["lower", "upper", "title"])
async def test_header_names_may_be_spelt_in_any_case(attack: Attack, spelling: Any) -> None:
    carrier = attack.carrier
    fields = carrier.twilio_call(attack.numbers["twilio"])
    body = urlencode(fields)
    headers = {
        "host": f"localhost:{carrier.port}",
        "content-type": FORM,
        "content-length": str(len(body)),
        "x-twilio-signature": twilio_signature(carrier.origin + INBOUND_PATH, fields),
        "connection": "close",
    }
    lines = "".join(f"{spelling(name)}: {value}\r\n" for name, value in headers.items())
    answer = await raw(carrier, f"POST {INBOUND_PATH} HTTP/1.1\r\n{lines}\r\n{body}")
    assert b" 200 " in answer.split(b"\r\n")[0]
    assert b"<Connect>" in answer
    order = await attack.order("twilio")
    upgrade = {
        "host": f"localhost:{carrier.port}", "upgrade": "WebSocket", "connection": "Upgrade",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13",
        "x-twilio-signature": carrier.signed("twilio", order.media_url)["X-Twilio-Signature"],
    }  # fmt: skip
    lines = "".join(f"{spelling(name)}: {value}\r\n" for name, value in upgrade.items())
    path = "/" + order.media_url.split("/", 3)[3]
    answer = await raw(carrier, f"GET {path} HTTP/1.1\r\n{lines}\r\n", until=b"\r\n\r\n")
    assert b" 101 " in answer.split(b"\r\n")[0]


# --- audio sockets that are not a carrier's


@each_provider
async def test_an_audio_socket_without_the_carriers_signature_is_refused(
    attack: Attack, provider: str
) -> None:
    order = await attack.order(provider)
    wrong = {
        "twilio": {"X-Twilio-Signature": twilio_signature(order.media_url, token="wrong")},
        "vonage": {"Authorization": f"Bearer {vonage_token(None, secret='x' * 40)}"},
    }[provider]
    for headers in ({}, wrong):
        with pytest.raises(websockets.InvalidStatus) as refusal:
            async with attack.carrier.socket(order.media_url, headers):
                pass
        assert refusal.value.response.status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (media_path("w", "demo", "r"), 403),
        (media_path("w" * 65, "demo", "r"), 404),
        (media_path("w", "demo", "r") + "/x", 404),
        ("/api/v1/telephony/ws/", 404),
    ],
)
async def test_an_audio_socket_for_no_call_of_ours_is_refused(attack: Attack, path: str, status: int) -> None:
    url = attack.carrier.origin.replace("https", "wss") + path
    with pytest.raises(websockets.InvalidStatus) as refusal:
        async with attack.carrier.socket(url, attack.carrier.signed("twilio", url)):
            pass
    assert refusal.value.response.status_code == status


@each_provider
async def test_a_media_token_opens_one_socket_only(attack: Attack, provider: str) -> None:
    async with attack.talking(provider) as stream:
        async with attack.carrier.stream(provider, stream.order) as thief:
            assert await thief.closed() == REFUSED
        await stream.press("5")
        await keys_arrive(attack, stream.order.run, "5")


@each_provider
async def test_the_media_token_of_another_call_opens_nothing(attack: Attack, provider: str) -> None:
    mine, other = await attack.order(provider), await attack.order(provider)
    stolen = Order(
        mine.run, mine.call_id, mine.media_url, other.token, {**mine.headers, "token": other.token}
    )
    for token in (
        stolen,
        Order(mine.run, mine.call_id, mine.media_url, "", {**mine.headers, "token": "x.y"}),
    ):
        async with attack.carrier.stream(provider, token) as stream:
            assert await stream.closed() == REFUSED
    # Neither was used up by that.
    async with attack.carrier.stream(provider, mine) as stream:
        await stream.hears_the_agent()


async def test_sockets_that_never_start_are_closed(attack: Attack) -> None:
    async def wait(provider: str, instead: str) -> int | None:
        order = await attack.order(provider)
        async with attack.carrier.stream(provider, order, start=False) as stream:
            if instead == "audio":
                await stream.silence(20)
            elif instead == "noise":
                await stream.socket.send("\x00 noise")
            return await stream.closed()

    cases = list(itertools.product(PROVIDERS, ("nothing", "audio", "noise")))
    codes = await asyncio.gather(*(wait(*case) for case in cases))
    assert dict(zip(cases, codes, strict=True)) == dict.fromkeys(cases, REFUSED)


async def test_a_stream_of_an_unknown_format_is_refused(attack: Attack) -> None:
    order = await attack.order("twilio")
    async with attack.carrier.stream("twilio", order, start=False) as stream:
        await stream.start(mediaFormat={"encoding": "audio/opus", "sampleRate": 48000, "channels": 2})
        assert await stream.closed() == REFUSED
    order = await attack.order("vonage")
    async with attack.carrier.stream("vonage", order, start=False) as stream:
        await stream.start(**{"content-type": "audio/l16;rate=44100"})
        assert await stream.closed() == REFUSED


# --- calls that are real and odd


@pytest.mark.parametrize(
    ("provider", "sizes"),
    [
        ("twilio", [1] * 160),
        ("twilio", [3] * 320),
        ("twilio", [8000]),
        ("twilio", [1, 3, 159, 161, 320, 8000, 7]),
        ("vonage", [2] * 320),
        ("vonage", [320] * 8),
        ("vonage", [32_000]),
        ("vonage", [642, 638, 1280, 32_000]),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(map(str, value[:8])),
)
async def test_audio_in_pieces_of_any_length_reaches_the_agent_whole(
    attack: Attack, provider: str, sizes: list[int]
) -> None:
    frame_ms = 20
    per_ms, quiet = (8, b"\xff") if provider == "twilio" else (32, b"\0")
    async with attack.talking(provider) as stream:
        run = stream.order.run
        before = attack.witness.heard_ms(run)
        for size in sizes:
            await stream.audio(quiet * size)
        sent_ms = sum(sizes) / per_ms
        heard_ms = await attack.agent_has_heard(run, before + sent_ms - frame_ms + 1) - before
        assert sent_ms - frame_ms < heard_ms <= sent_ms


async def test_half_samples_are_left_out_and_the_call_goes_on(attack: Attack) -> None:
    async with attack.talking("vonage") as stream:
        for size in (1, 3, 641, 0):
            await stream.socket.send(b"\0" * size)
        await stream.silence(200)
        assert await attack.agent_has_heard(stream.order.run, 200) == 200


async def test_binary_messages_mean_nothing_to_the_twilio_protocol(attack: Attack) -> None:
    async with attack.talking("twilio") as stream:
        await stream.socket.send(os.urandom(640))
        await stream.socket.send(b"")
        await stream.silence(200)
        assert await attack.agent_has_heard(stream.order.run, 200) == 200


@each_provider
@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", "42", '"text"', "{}", '{"event":null}', '{"event":7}', '{"event":"tomorrow"}',
        '{"event":"media"}', '{"event":"media","media":{"payload":"***"}}', '{"event":"mark","mark":{"name":"never sent"}}',
        '{"event":"dtmf","dtmf":{}}', '{"event":"websocket:dtmf"}', '{"event":"websocket:notify","payload":{"x":1}}',
        '{"event":"websocket:cleared"}', "[" * 3000, '{"event":"x","data":"' + "y" * 60_000 + '"}',
    ],
    ids=lambda text: text[:24] or "empty",
)  # fmt: skip
async def test_messages_nobody_understands_change_nothing(attack: Attack, provider: str, text: str) -> None:
    stream = await attack.odd_call(provider)
    before = attack.witness.digits.get(stream.order.run, "")
    await stream.socket.send(text)
    await stream.press("7")
    await keys_arrive(attack, stream.order.run, before + "7")


async def test_numbers_and_unknown_fields_are_welcome_where_twilio_writes_strings(attack: Attack) -> None:
    order = await attack.order("twilio")
    async with attack.carrier.stream("twilio", order, start=False) as stream:
        await stream.say({"event": "connected", "protocol": "Call", "version": 2, "region": {"name": "ie1"}})
        start = {
            "streamSid": stream.sid, "accountSid": order.run and "AC" + "0" * 31 + "1", "callSid": order.call_id,
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": "8000", "channels": "1", "bits": 8},
            "customParameters": {**order.headers, "count": 3, "vip": True}, "tracks": ["inbound"], "new": [1, 2],
        }  # fmt: skip
        await stream.say(
            {"event": "start", "sequenceNumber": 1, "streamSid": stream.sid, "start": start, "new": {}}
        )
        for number in range(10):
            media = {
                "track": "inbound",
                "chunk": number,
                "timestamp": number * 20.0,
                "payload": "/" * 212 + "/w==",
                "new": 0,
            }
            await stream.say(
                {
                    "event": "media",
                    "sequenceNumber": 2 + number,
                    "streamSid": stream.sid,
                    "media": media,
                    "new": None,
                }
            )
        await stream.hears_the_agent()
        await attack.agent_has_heard(order.run, 180)
    await attack.carrier.end("twilio", order)


@each_provider
async def test_messages_in_fragments_are_put_together(attack: Attack, provider: str) -> None:
    async with attack.talking(provider) as stream:
        digit = {
            "twilio": ['{"event":"dtmf","dtmf', '":{"dig', 'it":"9"}}'],
            "vonage": ['{"event":"websocket', ':dtmf","digit":', '"9"}'],
        }
        await stream.socket.ping()
        await stream.socket.send(digit[provider])
        await keys_arrive(attack, stream.order.run, "9")


@each_provider
async def test_a_message_beyond_every_limit_ends_its_own_call_only(attack: Attack, provider: str) -> None:
    order = await attack.order(provider)
    async with attack.carrier.stream(provider, order) as stream:
        await stream.hears_the_agent()
        with contextlib.suppress(websockets.ConnectionClosed):
            await stream.socket.send("x" * 2_000_000)
        assert await stream.closed() in (1009, None)
    async with attack.talking(provider) as next_call:
        await next_call.silence(100)


# --- nobody else noticed


@each_provider
async def test_a_call_that_went_on_all_the_time_noticed_nothing(attack: Attack, provider: str) -> None:
    bystander = attack.bystanders[provider]
    assert not bystander.task.done()
    words = len(bystander.call.report.response_ms)
    assert words > 0
    # Until the end is asked for: of the words that are being said then, the stream hears no more once it is closed.
    assert bystander.call.report.caller_audio_lost_ms == 0
    await attack.installation.demo.post(f"/calls/{bystander.run}/hangup", {})
    call = await attack.installation.over(bystander)
    assert call.objections == []
    assert call.outcome == (STATUSES, "operator-hung-up", "operator")
    assert call.report.streams == 1


def attack_learns_nothing(answer: httpx.Response) -> bool:
    return "token" not in answer.text and "wss" not in answer.text


async def raw(carrier: RogueCarrier, request: str, until: bytes | None = None) -> bytes:
    """Send these bytes, read the answer to its end (or to a mark)."""
    reader, writer = await asyncio.open_connection("localhost", carrier.port, ssl=carrier.trust)
    try:
        writer.write(request.encode())
        async with asyncio.timeout(60):
            return await (reader.readuntil(until) if until else reader.read())
    finally:
        writer.close()


async def keys_arrive(attack: Attack, run: str, expected: str) -> None:
    async with asyncio.timeout(60):
        while attack.witness.digits.get(run, "") != expected:
            await asyncio.sleep(0.02)
