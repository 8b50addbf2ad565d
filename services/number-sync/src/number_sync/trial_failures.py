"""Why an agent could not be reached, in words with a remedy. Pure: the WebSocket client's exceptions in, sentences out."""

import socket
import ssl
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, NegotiationError

from offhook.agent_hosts import AgentHostError

_NETWORK: Final = "Check the host and the port in the agent's URL, that the agent runs, and that Offhook's network may reach it."
_HEADERS: Final = "Check the workflow's headers: the agent, or a proxy before it, wants others than it got."


@dataclass(frozen=True, slots=True)
class Failure:
    """`code`: a word for programs; `sentence` and `remedy` for people. Names the host, never a query or a header."""

    code: str
    sentence: str
    remedy: str


def where(url: str) -> str:
    """Host and port of an agent's URL."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{host}:{port}"


def failure_of(error: Exception, url: str, timeout_s: float) -> Failure:
    """What went wrong when `url` was dialled. `error`: an `OSError` (also a timeout), an `InvalidHandshake` or a `ValueError`."""
    place = where(url)
    match error:
        case TimeoutError():
            return Failure(
                "timeout",
                f"{place} did not take the call within {timeout_s:g} s.",
                f"A firewall may drop the connection, or the agent is too busy to answer. {_NETWORK}",
            )
        case socket.gaierror():
            return Failure(
                "dns",
                f"The name {urlsplit(url).hostname} has no address.",
                "Check the host in the agent's URL; it must be known where Offhook runs, not only on your machine.",
            )
        case ssl.SSLCertVerificationError():
            return Failure(
                "tls",
                f"The certificate of {place} cannot be trusted: {error.verify_message or error.reason}.",
                "Give the agent a certificate for that name from an authority that Offhook's machines know.",
            )
        case ssl.SSLError():
            return Failure(
                "tls",
                f"{place} does not speak TLS as it should ({error.reason or 'no reason was given'}).",
                "If the agent has no TLS, its URL begins with ws://, not wss://.",
            )
        case InvalidStatus():
            return _refused(error.response.status_code, place)
        case NegotiationError():
            return Failure(
                "subprotocol",
                f"{place} chose a WebSocket subprotocol that it was not offered.",
                "An agent answers with the subprotocol it was offered, or with none. Does the workflow name the right protocol?",
            )
        case InvalidMessage() if isinstance(error.__cause__, EOFError | ConnectionError):
            return Failure(
                "closed-early",
                f"{place} closed the connection without an answer.",
                f"It may want TLS (wss:// instead of ws://), or is no web server at all. {_NETWORK}",
            )
        case InvalidHandshake():
            return Failure(
                "not-a-websocket",
                f"{place} did not answer as a WebSocket server does.",
                "Check the port and the path in the agent's URL: something else answers there.",
            )
        case AgentHostError():
            return Failure(
                "not-allowed", f"{error}.", "Ask the operator of this installation to allow the agent's host."
            )
        case ConnectionRefusedError():
            return _nobody(place)
        case ConnectionError():
            plain = (
                "If the agent has no TLS, its URL begins with ws://, not wss://. "
                if url.startswith("wss")
                else ""
            )
            return Failure(
                "closed-early", f"{place} broke the connection while it was being opened.", plain + _NETWORK
            )
        case OSError() if "Connect call failed" in str(error) and "111" in str(error):
            return _nobody(place)  # all of several addresses refused
        case OSError():
            return Failure(
                "unreachable", f"{place} cannot be reached: {error.strerror or 'no route'}.", _NETWORK
            )
    return Failure(
        "bad-url", "The agent's URL cannot be used.", "It looks like wss://agent.example.com/call."
    )


def _nobody(place: str) -> Failure:
    return Failure("refused", f"Nobody listens at {place}: the connection was refused.", _NETWORK)


def _refused(status: int, place: str) -> Failure:
    said = f"{place} answered with HTTP {status} instead of taking the call."
    if status == 401:
        return Failure("unauthorized", said, f"401 means: not known here. {_HEADERS}")
    if status == 403:
        return Failure("forbidden", said, f"403 means: not allowed. {_HEADERS}")
    if status == 404:
        return Failure("not-found", said, "Check the path in the agent's URL: there is nothing at it.")
    if 300 <= status < 400:
        return Failure(
            "redirect", said, "Calls do not follow redirects: put the final address into the agent's URL."
        )
    if status >= 500:
        return Failure(
            "agent-failed", said, "The agent, or the proxy before it, is in trouble: look at its log."
        )
    remedy = "Check the path in the agent's URL; a web server answers there that opens no WebSocket for this request."
    return Failure("not-a-websocket", said, remedy)
