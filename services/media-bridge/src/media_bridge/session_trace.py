"""What is seen of a media session: a span for all of it, and below it one for each thing that happens, never per frame."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from opentelemetry.trace import INVALID_SPAN, Span, SpanKind

from media_bridge.agent_socket import AgentUnreachableError
from offhook.events import MediaQuality, Party
from offhook.telemetry import spans, tracing

MAX_INTERRUPTIONS: Final = 100
"""Interruptions of a session that get a span. An agent may clear as often as it likes; all of them are counted."""

# What is nobody's doing on the line, and nothing of ours: to be found when one looks for errors.
_FAULTS: Final = frozenset(
    {"carrier-lost", "carrier-silent", "carrier-protocol", "agent-unreachable", "refused"}
)


class SessionTrace:
    """The spans of one session. Everything but `session` may be called at any time; while tracing is off nothing is made."""

    def __init__(self, workflow_run_id: str, provider: str, agent_protocol: str) -> None:
        self._run = workflow_run_id
        self._provider = provider
        self._protocol = agent_protocol
        self._span: Span = INVALID_SPAN
        self._interruptions = 0
        self._agents = 0

    @contextmanager
    def session(self) -> Iterator[None]:
        """The span that is open while the session lives, in its task and those begun from it."""
        attributes = {"offhook.provider": self._provider, "offhook.agent_protocol": self._protocol}
        with tracing.call_span(
            spans.MEDIA_SESSION, self._run, kind=SpanKind.SERVER, attributes=attributes
        ) as span:
            self._span = span
            yield

    def began(self, bridge: str, epoch: int, sample_rate: int) -> None:
        """The session was claimed."""
        span = self._span
        span.set_attribute("offhook.bridge", bridge)
        span.set_attribute("offhook.epoch", epoch)
        span.set_attribute("offhook.sample_rate", sample_rate)

    def refused(self, reason: str) -> None:
        """The socket was turned away after its start."""
        self._span.set_attribute("offhook.end_reason", reason)
        tracing.failed(self._span, "refused")

    def ended(self, reason: str, ended_by: Party, quality: MediaQuality) -> None:
        span = self._span
        span.set_attribute("offhook.end_reason", reason)
        span.set_attribute("offhook.ended_by", ended_by.value)
        span.set_attribute("offhook.interruptions", quality.interruptions)
        span.set_attribute("offhook.gaps", quality.gaps)
        span.set_attribute("offhook.underruns", quality.underruns)
        span.set_attribute("offhook.agent_connects", self._agents)
        if reason in _FAULTS:
            tracing.failed(span, reason)

    @contextmanager
    def dialling(self, url: str, attempt: int, *, again: bool) -> Iterator[str]:
        """A dial of the agent's URL; gives the `traceparent` that the agent goes on from."""
        if not tracing.enabled():
            yield tracing.call_traceparent(self._run)
            return
        name = spans.AGENT_REDIAL if again else spans.AGENT_CONNECT
        attributes: dict[str, str | int] = {
            "offhook.attempt": attempt,
            "offhook.agent_protocol": self._protocol,
            **_server(url),
        }
        with tracing.call_span(name, self._run, kind=SpanKind.CLIENT, attributes=attributes) as span:
            try:
                yield tracing.traceparent_of(span)
            except AgentUnreachableError as error:
                span.set_attribute("offhook.outcome", error.outcome)
                tracing.failed(span, error.outcome)
                raise
            span.set_attribute("offhook.outcome", "connected")

    @contextmanager
    def agent(self, attempt: int) -> Iterator[Callable[[int], None]]:
        """An agent has the call. Call what is given with the close code when it was lost."""
        self._agents += 1
        attributes: dict[str, str | int] = {
            "offhook.attempt": attempt,
            "offhook.agent_protocol": self._protocol,
        }
        with tracing.call_span(spans.AGENT, self._run, attributes=attributes) as span:

            def lost(code: int) -> None:
                span.set_attribute("offhook.outcome", "lost")
                span.set_attribute("offhook.close_code", code)
                tracing.failed(span, "lost")

            yield lost

    def interrupted(self, heard_ms: int, discarded_ms: int) -> None:
        """The agent was interrupted."""
        self._interruptions += 1
        if not tracing.enabled() or self._interruptions > MAX_INTERRUPTIONS:
            return
        tracing.begin_call_span(
            spans.INTERRUPTION,
            self._run,
            attributes={"offhook.heard_ms": heard_ms, "offhook.discarded_ms": discarded_ms},
            traceparent=tracing.traceparent_of(self._span),
        ).end()


def _server(url: str) -> dict[str, str | int]:
    """The host alone: what follows it may hold a token, and so may what precedes it."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "wss" else 80)
    except ValueError:
        return {}
    return {"server.address": parts.hostname, "server.port": port} if parts.hostname else {}
