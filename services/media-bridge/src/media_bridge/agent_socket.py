"""Dialling an agent, and the connection to it."""

import asyncio
import re
import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final

import picows
from picows import WSError, WSHandshakeError, WSParsedURL, WSUpgradeRequest, WSUpgradeResponse

from media_bridge.conversation import Conversation
from media_bridge.sockets import MessageSocket
from offhook.agent_hosts import AgentHostError, AgentHosts
from offhook.agentlink.pcm import MAX_AUDIO
from offhook.providers.base import Frame

# What the handshake owns, or what would change the connection's meaning; a workflow cannot set it.
_OWN_HEADERS: Final = frozenset(
    {
        "connection", "content-length", "host", "keep-alive", "proxy-connection", "te", "trailer", "traceparent",
        "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]{0,4096}")

# Longer than what may be in a message, so that too much audio at once is an error that the agent is told, and not the end
# of its connection. Bots of Twilio's, which takes any size, may say six minutes at once.
_MAX_MESSAGE: Final = 4 * MAX_AUDIO
MESSAGE_TOO_BIG: Final = 1009


class AgentUnreachableError(Exception):
    """The agent did not take the call. `outcome` is a word for the counter, the message a sentence for
    people.
    """

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


class AgentSocket(MessageSocket):
    """An open connection to an agent. `closed` is done, with the agent's close code, when it is gone."""

    def __init__(self, conversation: Conversation) -> None:
        super().__init__(_MAX_MESSAGE)
        self._conversation = conversation
        self.closed: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def message(self, message: Frame) -> None:
        self._conversation.from_agent(message, time.monotonic())

    def ended(self, code: int) -> None:
        if not self.closed.done():
            self.closed.set_result(code)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._conversation.stall(True)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._conversation.stall(False)


async def dial(
    conversation: Conversation,
    url: str,
    headers: Mapping[str, str],
    *,
    subprotocol: str | None,
    traceparent: str,
    timeout_s: float,
    ping_s: float,
    hosts: AgentHosts,
) -> AgentSocket:
    """Connect to an agent. Raises `AgentUnreachableError`."""
    sent = {name: value for name, value in headers.items() if _may_send(name, value)}
    sent["traceparent"] = traceparent
    if subprotocol is not None:
        sent["Sec-WebSocket-Protocol"] = subprotocol

    def connected(address: WSParsedURL) -> Awaitable[Any]:
        return hosts.connect(str(address.host), address.port)

    given_up = False
    listener: object = None
    socket: AgentSocket | None = None

    def accept(_: WSUpgradeRequest, response: WSUpgradeResponse) -> AgentSocket:
        nonlocal socket
        if given_up:
            raise AgentUnreachableError("timeout", "the agent answered too late")
        chosen = response.headers.get("sec-websocket-protocol")
        if chosen is not None and chosen != subprotocol:
            raise AgentUnreachableError(
                "error", f"the agent chose the subprotocol {chosen[:80]!r}, which was not offered"
            )
        socket = AgentSocket(conversation)
        return socket

    if not url.startswith(("ws://", "wss://")):
        raise AgentUnreachableError("error", "the agent's URL does not begin with ws:// or wss://")
    try:
        async with asyncio.timeout(timeout_s):
            _, listener = await picows.ws_connect(
                accept,
                url,
                extra_headers=sent,
                socket_factory=connected,
                websocket_handshake_timeout=timeout_s,
                max_frame_size=_MAX_MESSAGE,
                max_redirects=0,
                read_buffer_init_size=4096,
                enable_auto_pong=False,
                enable_auto_ping=True,
                auto_ping_idle_timeout=ping_s,
                auto_ping_reply_timeout=ping_s,
            )
    except TimeoutError as error:
        raise AgentUnreachableError("timeout", f"the agent did not answer within {timeout_s:g} s") from error
    except WSHandshakeError as error:
        status = error.response.status.value if error.response is not None else None
        said = f"HTTP {status}" if status else "no WebSocket handshake"
        raise AgentUnreachableError("refused", f"the agent answered with {said}") from error
    except AgentHostError as error:
        raise AgentUnreachableError("error", str(error)) from error
    except (OSError, WSError, ValueError) as error:
        # Names the address at most, never a header.
        raise AgentUnreachableError(
            "error", f"the agent cannot be reached ({type(error).__name__})"
        ) from error
    finally:
        # A dial that is given up may still be answered: then nobody is there, and the agent must not think
        # otherwise.
        given_up = listener is None
        if given_up and socket is not None:
            socket.close(1001)
    if not isinstance(listener, AgentSocket):
        # picows returns without a listener when the connection ended before the handshake.
        raise AgentUnreachableError("refused", "the agent closed the connection without an answer")
    return listener


def _may_send(name: str, value: str) -> bool:
    """Whether a workflow's header may go into the handshake: well-formed, and not one of the handshake's
    own.
    """
    lower = name.lower()
    if lower in _OWN_HEADERS or lower.startswith("sec-websocket-"):
        return False
    return _TOKEN.fullmatch(name) is not None and _VALUE.fullmatch(value) is not None
