"""Try an agent: open its WebSocket as the bridge does, speak for a second, listen, say goodbye, and tell what happened."""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from number_sync.trial_failures import Failure, failure_of
from number_sync.trial_talk import Link, PcmLink, Talk, TrialCall, TwilioLink
from offhook.agent_hosts import AgentHosts
from offhook.agentlink import pcm
from offhook.audio import FRAME_MS
from offhook.identities import new_id
from offhook.providers.media import Frame
from offhook.telemetry.tracing import call_traceparent

CONNECT_TIMEOUT_S: Final = 5.0
TOTAL_S: Final = 12.0

# What the agent gets to answer after the caller's words, and the silence after its own that ends the trial.
_LISTEN_S: Final = 5.0
_QUIET_S: Final = 1.5
_GOODBYE_S: Final = 1.0
# Between the end of listening and the moment when a write that hangs is given up.
_MARGIN_S: Final = 0.5

_MAX_MESSAGES: Final = 5_000
_MAX_BYTES: Final = 16 * 1024 * 1024
# As the bridge takes them: base64 and JSON make a third more of the same audio.
_MAX_MESSAGE: Final = pcm.MAX_AUDIO * 3 // 2
_MAX_TOLD: Final = 200
# A shorter header value is no secret, and its letters are everywhere.
_MIN_SECRET: Final = 4

# What the handshake owns, or what would change the connection's meaning; as in the bridge, a workflow cannot set it.
_OWN_HEADERS: Final = frozenset(
    {
        "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "traceparent",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]{0,4096}")

# The client logs whole handshakes at DEBUG, the agent's secret headers included.
_silent: Final = logging.getLogger("number_sync.trial.client")
_silent.setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class TrialAgent:
    """The agent of a workflow: its URL (ws or wss), protocol, sample rate in Hz (`pcm` only), and headers with their secrets."""

    url: str
    protocol: Literal["pcm", "twilio"] = "pcm"
    sample_rate: Literal[8000, 16000, 24000] = 16000
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    workflow_id: str = "trial"
    user_id: str = "trial"
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it. Holds no header's value, whatever the agent sent back.

    `code`: `ok`, `silent` (nothing to hear), `hung-up` and `closed` (before anything was heard), `deaf` (does not read),
    `unusable` (nothing to hear, and objections), or why there was no connection (`trial_failures`). `handshake_ms`: until the
    WebSocket was open. `first_audio_ms`: from then to the first audio. `audio_ms_back`: how much audio came. `messages`: how many
    of each kind. `closed`: how it ended. `objections`: what the bridge would object to.
    """

    code: str
    connected: bool
    sentence: str
    remedy: str
    run_id: str
    handshake_ms: int | None = None
    first_audio_ms: int | None = None
    audio_ms_back: int = 0
    messages: Mapping[str, int] = field(default_factory=dict)
    closed: str | None = None
    objections: tuple[str, ...] = ()


async def try_agent(
    workflow: TrialAgent,
    *,
    hosts: AgentHosts | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    total_s: float = TOTAL_S,
) -> Trial:
    """Call the agent. Takes at most `total_s` (and a moment for the goodbye); raises nothing for what an agent does."""
    run_id = f"trial-{new_id()}"
    deadline = time.monotonic() + total_s
    connect_s = min(connect_timeout_s, total_s)
    began = time.monotonic()
    try:
        socket = await _dial(workflow, run_id, connect_s, hosts or AgentHosts())
    except (OSError, InvalidHandshake, ValueError) as error:
        failure = failure_of(error, workflow.url, connect_s)
        return Trial(failure.code, False, failure.sentence, failure.remedy, run_id)
    opened = time.monotonic()
    call = TrialCall(run_id, workflow.workflow_id, workflow.user_id, workflow.metadata)
    link: Link = TwilioLink(call) if workflow.protocol == "twilio" else PcmLink(call, workflow.sample_rate)
    talk = Talk(link)
    censor = _Censor(workflow.headers)
    visit = _Visit(socket, link, talk, censor)
    try:
        await visit.hold(min(deadline, opened + 1.0 + _LISTEN_S + _MARGIN_S))
        closed = await visit.leave()
    finally:
        socket.transport.abort()
    objections = tuple(censor(sentence) for sentence in talk.objections)
    verdict = _verdict(talk, visit, closed, objections, workflow.protocol)
    first = talk.first_audio_ms
    return Trial(
        code=verdict.code,
        connected=True,
        sentence=verdict.sentence,
        remedy=verdict.remedy,
        run_id=run_id,
        handshake_ms=round((opened - began) * 1000),
        first_audio_ms=None if first is None else max(0, round(first - opened * 1000)),
        audio_ms_back=talk.audio_ms,
        messages=dict(talk.messages),
        closed=closed,
        objections=objections,
    )


class _Connect(connect):
    """The bridge follows no redirects, so neither does a trial; nor may an agent's secrets travel to another host."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def _dial(workflow: TrialAgent, run_id: str, timeout_s: float, hosts: AgentHosts) -> ClientConnection:
    headers = {name: value for name, value in workflow.headers.items() if _may_send(name, value)}
    headers["traceparent"] = call_traceparent(run_id)
    target = parse_uri(workflow.url)
    async with asyncio.timeout(timeout_s):
        return await _Connect(
            workflow.url,
            sock=await hosts.connect(target.host, target.port),
            additional_headers=headers,
            user_agent_header=None,
            subprotocols=[Subprotocol(pcm.SUBPROTOCOL)] if workflow.protocol == "pcm" else None,
            compression=None,
            proxy=None,
            open_timeout=timeout_s,
            ping_interval=None,
            close_timeout=_GOODBYE_S,
            max_size=_MAX_MESSAGE,
            logger=_silent,
        )


def _may_send(name: str, value: str) -> bool:
    lower = name.lower()
    if lower in _OWN_HEADERS or lower.startswith("sec-websocket-"):
        return False
    return _TOKEN.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None


class _Visit:
    """The open connection. `hold` talks, `leave` says goodbye and tells how it ended."""

    def __init__(self, socket: ClientConnection, link: Link, talk: Talk, censor: "_Censor") -> None:
        self._censor = censor
        self._socket = socket
        self._link = link
        self._talk = talk
        self._bytes = 0
        self._count = 0
        self.listened_s = 0.0
        self.too_much = False
        self.left_first = False
        """The agent closed, or its connection broke, before the goodbye."""
        self.deaf = False
        """The agent did not read what it was sent."""

    async def hold(self, deadline: float) -> None:
        """Speak for a second and listen until the agent has been quiet for a while, or until `deadline` (monotonic seconds)."""
        began = time.monotonic()
        reading = asyncio.create_task(self._read())
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                await self._speak(reading, deadline - _MARGIN_S)
        except TimeoutError:
            # In time `_speak` returns by itself: this one hung in a write.
            self.deaf = True
        except ConnectionClosed:
            self.left_first = True
        finally:
            self.listened_s = time.monotonic() - began
            reading.cancel()
            await asyncio.wait({reading})
        if not reading.cancelled() and (error := reading.exception()) is not None:
            raise error

    async def leave(self) -> str:
        """Stop and close; how the connection ended, in words."""
        if self.left_first:
            return self._ending()
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                await self._send(
                    self._talk.goodbye("agent-hangup" if self._talk.hung_up else "caller-hangup")
                )
        # Bounded by `close_timeout`: reads on until the agent's own close frame comes.
        await self._socket.close(1000)
        if self._socket.protocol.close_rcvd is None:
            return "The trial said goodbye; the agent did not close its side within a second."
        return (
            f"The trial said goodbye, and the agent closed with code {self._socket.protocol.close_rcvd.code}."
        )

    def _ending(self) -> str:
        received, sent = self._socket.protocol.close_rcvd, self._socket.protocol.close_sent
        if received is not None:
            reason = f": {self._censor(received.reason)}" if received.reason else ""
            return f"The agent closed with code {int(received.code)}{reason}."
        if sent is not None:
            # What no WebSocket may send, or too long a message: the client closes by itself.
            why = self._censor(sent.reason) or "a message that no WebSocket sends"
            return f"The trial closed with code {int(sent.code)}: {why}."
        return "The connection broke without a goodbye."

    async def _speak(self, reading: asyncio.Task[None], deadline: float) -> None:
        talk = self._talk
        await self._send(self._link.opening())
        words = self._link.speaking()
        start = time.monotonic()
        sent = 0
        spoken_at = start + len(words) * FRAME_MS / 1000
        while not reading.done() and not talk.hung_up:
            now = time.monotonic()
            if now >= deadline or self._has_answered(now, spoken_at):
                return
            # As many frames as time has passed for, however late this wakes up.
            while sent * FRAME_MS / 1000 <= now - start:
                await self._send([words[sent] if sent < len(words) else self._link.silence()])
                sent += 1
            await self._send(talk.tick(now * 1000))
            await asyncio.wait({reading}, timeout=FRAME_MS / 1000)
        if reading.done() and not self.too_much and not talk.hung_up:
            self.left_first = True

    def _has_answered(self, now: float, spoken_at: float) -> bool:
        last = self._talk.last_audio_ms
        return last is not None and now - max(last / 1000, spoken_at) >= _QUIET_S

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for message in self._socket:
                self._count += 1
                self._bytes += len(message)
                if self._count > _MAX_MESSAGES or self._bytes > _MAX_BYTES:
                    self.too_much = True
                    self._talk.object(
                        f"more than {_MAX_MESSAGES} messages or {_MAX_BYTES // 2**20} MiB within a few seconds"
                    )
                    return
                await self._send(self._talk.receive(message, time.monotonic() * 1000))

    async def _send(self, frames: list[Frame]) -> None:
        for frame in frames:
            await self._socket.send(frame)


def _verdict(talk: Talk, visit: _Visit, closed: str, objections: tuple[str, ...], protocol: str) -> Failure:
    took = "The agent took the call"
    if talk.first_audio_ms is not None:
        heard = f"{took} and was heard: {talk.audio_ms / 1000:.1f} s of audio came back."
        if visit.left_first and talk.messages["hangup"] == 0 and "code 1000" not in closed:
            return Failure(
                "ok",
                f"{heard} Then it left. {closed}",
                "A call would now be given to the next agent: look at its log.",
            )
        if objections:
            return Failure("ok", heard, "The bridge objects to some of its messages; they are listed here.")
        return Failure("ok", heard, "")
    if objections:
        other = "Twilio Media Streams" if protocol == "pcm" else "PCM"
        return Failure(
            "unusable",
            f"{took}, but what it sent cannot be used: {objections[0]}.",
            f"Compare it with the agent protocol. If the agent speaks {other}, choose that protocol in the workflow.",
        )
    if talk.hung_up:
        return Failure(
            "hung-up", f"{took} and hung up before it said anything.", "Look at the agent's log for why."
        )
    if visit.left_first:
        return Failure(
            "closed", f"{took} and left before it said anything. {closed}", "Look at the agent's log for why."
        )
    if visit.deaf:
        return Failure(
            "deaf", f"{took}, but does not read what it is sent.", "The agent may be stuck: look at its log."
        )
    return Failure(
        "silent",
        f"{took} but nothing was heard within {visit.listened_s:.0f} s.",
        "It may wait for words that it understands: the trial only makes sounds. Otherwise look at the agent's log.",
    )


class _Censor:
    """An agent may send back what it got; none of it is told."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        parts = {
            part for value in headers.values() for part in (value, *value.split()) if len(part) >= _MIN_SECRET
        }
        self._secrets = sorted(parts, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """The agent's words, without what is secret and not too many."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text[:_MAX_TOLD]
