"""Callers, and for the bridge their agent: the load of the capacity benchmark, as a process of its own.

Every call sends one 20 ms frame of mu-law each 20 ms and hears the agent's echo. Prints one JSON object.

* `bridge`: callers dial the bridge, the bridge dials the agent here. A frame in is a frame out, so the n-th frame heard answers
  the n-th sent, and both directions are timed apart.
* `direct`: callers dial a server that echoes (Pipecat). It returns audio in pieces of its own, so one loud frame a second is
  sent into quiet and looked for in what comes back.
"""

import asyncio
import base64
import json
import sys
import time
from collections import deque
from typing import Any

import picows
import uvloop
from twilio.request_validator import RequestValidator

from benchmarks.bench_stack import ACCOUNT, ORIGIN, TOKEN
from benchmarks.tables import percentile
from offhook.identities import media_path, new_id
from offhook.security.tokens import MediaTokens

QUIET = base64.b64encode(b"\xfe\x7e" * 80).decode()
LOUD = base64.b64encode(b"\x80\x00" * 80).decode()
_BINARY, _TEXT = picows.WSMsgType.BINARY, picows.WSMsgType.TEXT
_now = time.perf_counter


class Call:
    """One call's clocks: when frames left, and how long they took."""

    __slots__ = (
        "agent",
        "caller",
        "down",
        "down_sent",
        "heard",
        "loud_at",
        "loud_due",
        "rtt",
        "run",
        "sent",
        "up",
        "up_sent",
    )

    def __init__(self) -> None:
        self.run = new_id()
        self.up_sent: deque[float] = deque()
        self.down_sent: deque[float] = deque()
        self.up: list[float] = []
        self.down: list[float] = []
        self.rtt: list[float] = []
        self.sent = 0
        self.heard = 0
        self.caller: Any = None
        self.agent: Any = None
        self.loud_at: float | None = None
        self.loud_due = 0


class Caller(picows.WSListener):
    def __init__(self, call: Call, start: list[str], direct: bool) -> None:
        self.call, self.start, self.direct = call, start, direct

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        for message in self.start:
            transport.send(_TEXT, message.encode())
        self.call.caller = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is not _TEXT:
            return
        call = self.call
        if self.direct:
            payload = frame.get_payload_as_bytes()
            call.heard += 1
            if call.loud_at is not None and _is_loud(payload):
                call.rtt.append(_now() - call.loud_at)
                call.loud_at = None
        elif call.down_sent:
            call.heard += 1
            call.down.append(_now() - call.down_sent.popleft())

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.call.caller = None


def _is_loud(message: bytes) -> bool:
    begin = message.find(b'"payload"')
    if begin < 0:
        return False
    raw = base64.b64decode(message[message.index(b'"', begin + 10) + 1 : message.rindex(b'"')])
    return any((byte ^ 0xFF) & 0x7F > 0x50 for byte in raw[::4])


class Agent(picows.WSListener):
    """Echoes each frame at once."""

    calls: dict[str, Call]

    def __init__(self) -> None:
        self.call: Call | None = None

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is _BINARY:
            call = self.call
            if call is not None and call.up_sent:
                now = _now()
                call.up.append(now - call.up_sent.popleft())
                call.down_sent.append(now)
                transport.send(_BINARY, frame.get_payload_as_bytes())
        elif frame.msg_type is _TEXT and self.call is None:
            self.call = Agent.calls[json.loads(frame.get_payload_as_bytes())["workflow_run_id"]]
            # What was sent before the agent was there comes as a burst; it is not measured.
            self.call.agent = transport


def _agent(request: Any) -> Any:
    response = picows.WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": "offhook.pcm.v1"})
    return picows.WSUpgradeResponseWithListener(response, Agent())


async def main(options: dict[str, Any]) -> None:
    direct = options["mode"] == "direct"
    calls = [Call() for _ in range(options["calls"])]
    Agent.calls = {call.run: call for call in calls}
    server = None
    if not direct:
        server = await picows.ws_create_server(_agent, "127.0.0.1", options["agent_port"])
    for call in calls:
        await _dial(call, options, direct)
        await asyncio.sleep(0.01)
    deadline = _now() + 15
    while not all(call.caller and (direct or call.agent) for call in calls) and _now() < deadline:
        await asyncio.sleep(0.05)
    connected = sum(1 for call in calls if call.caller and (direct or call.agent))
    cpu = time.process_time()
    begun = _now()
    print(json.dumps({"measuring": connected}), flush=True)
    behind = await _talk(calls, direct, options["seconds"])
    busy = (time.process_time() - cpu) / (_now() - begun)
    print(json.dumps(_result(calls, direct, connected, busy, behind)), flush=True)
    for call in calls:
        if call.caller:
            call.caller.disconnect()
    if server is not None:
        server.close()


async def _dial(call: Call, options: dict[str, Any], direct: bool) -> None:
    path = media_path("w1", "u1", call.run)
    sid, stream = "CA" + call.run, "MZ" + call.run
    parameters: dict[str, str] = {}
    headers = {}
    if not direct:
        tokens = MediaTokens.parse(options["token_key"])
        parameters["token"] = tokens.mint(call.run, ACCOUNT, sid, int(time.time()) + 600, new_id())
        url = "wss" + ORIGIN.removeprefix("https") + path
        headers["X-Twilio-Signature"] = RequestValidator(TOKEN).compute_signature(url, {})
    start = {
        "event": "start", "sequenceNumber": "1", "streamSid": stream,
        "start": {
            "accountSid": ACCOUNT, "streamSid": stream, "callSid": sid, "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        },
    }  # fmt: skip
    hello = [json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"}), json.dumps(start)]
    await picows.ws_connect(
        lambda: Caller(call, hello, direct), f"ws://127.0.0.1:{options['port']}{path}", extra_headers=headers
    )


async def _talk(calls: list[Call], direct: bool, seconds: float) -> float:
    """Send frames at real pace, the calls spread over the 20 ms. Returns the worst delay of this process itself, in s."""
    slots = [calls[index::20] for index in range(20)]
    if not direct:
        # Let the bursts of the beginning drain, then start all clocks from nothing.
        await asyncio.sleep(0.5)
        for call in calls:
            call.up_sent.clear()
            call.down_sent.clear()
    begun = _now()
    tick, behind = 0, 0.0
    settle = 50 * 20  # the first second is not measured
    while True:
        due = begun + tick * 0.001
        wait = due - _now()
        if wait > 0:
            await asyncio.sleep(wait)
        elif tick % 20 == 0:
            await asyncio.sleep(0)
        if tick > settle:
            behind = max(behind, _now() - due)
        for call in slots[tick % 20]:
            _send(call, direct)
        tick += 1
        if tick == settle:
            for call in calls:
                call.up.clear()
                call.down.clear()
                call.rtt.clear()
        if tick * 0.001 > seconds + 1:
            break
    await asyncio.sleep(0.5)
    return behind


def _send(call: Call, direct: bool) -> None:
    if call.caller is None:
        return
    payload = QUIET
    now = _now()
    if direct:
        if call.sent % 50 == call.loud_due:
            payload, call.loud_at = LOUD, now
    else:
        call.up_sent.append(now)
    call.sent += 1
    call.caller.send(
        _TEXT,
        f'{{"event":"media","sequenceNumber":"{call.sent + 1}","media":{{"track":"inbound","chunk":"{call.sent}",'
        f'"timestamp":"{call.sent * 20}","payload":"{payload}"}},"streamSid":"MZ{call.run}"}}'.encode(),
    )


def _result(calls: list[Call], direct: bool, connected: int, busy: float, behind: float) -> dict[str, Any]:
    result: dict[str, Any] = {
        "connected": connected,
        "alive": sum(1 for call in calls if call.caller is not None),
        "load_cpu": busy,
        "load_behind_ms": behind * 1000,
    }
    series = (
        {"rtt": [t for call in calls for t in call.rtt]}
        if direct
        else {
            "up": [t for call in calls for t in call.up],
            "down": [t for call in calls for t in call.down],
        }
    )
    for name, values in series.items():
        result[f"{name}_p50_ms"] = percentile(values, 50) * 1000
        result[f"{name}_p99_ms"] = percentile(values, 99) * 1000
        result[f"{name}_count"] = len(values)
    return result


if __name__ == "__main__":
    uvloop.run(main(json.loads(sys.argv[1])))
