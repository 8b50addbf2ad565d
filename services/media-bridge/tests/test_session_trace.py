"""A media session leaves one span, and one for each thing that happens in it, however often an agent makes it happen."""

import pytest
from opentelemetry.trace import StatusCode

from media_bridge.agent_socket import AgentUnreachableError
from media_bridge.session_trace import MAX_INTERRUPTIONS, SessionTrace
from offhook.events import MediaQuality, Party
from offhook.telemetry import spans, tracing
from offhook.telemetry.testing import recorded_spans

URL = "wss://anna:secret-word@agent.example:8443/zebra?token=giraffe"


def test_a_session_is_one_span_with_what_happened_below_it() -> None:
    trace = SessionTrace("run-1", "twilio", "pcm")
    with recorded_spans() as seen:
        with trace.session():
            trace.began("bridge-1", 1, 8000)
            with trace.dialling(URL, 1, again=False) as traceparent:
                pass
            with trace.agent(1) as lost:
                trace.interrupted(300, 700)
                lost(1006)
            with pytest.raises(AgentUnreachableError), trace.dialling(URL, 2, again=True):
                raise AgentUnreachableError("refused", "HTTP 503 of +14155551234")
            trace.ended("agent-unreachable", Party.PLATFORM, MediaQuality(interruptions=1, gaps=2))
        (session,) = seen.named(spans.MEDIA_SESSION)
        below = [one for one in seen.all() if one is not session]
        assert {one.name for one in below} == {
            spans.AGENT_CONNECT, spans.AGENT_REDIAL, spans.AGENT, spans.INTERRUPTION,
        }  # fmt: skip
        assert session.parent == tracing.call_span_context("run-1")
        (connect,), (redial,), (agent,) = (
            seen.named(name) for name in (spans.AGENT_CONNECT, spans.AGENT_REDIAL, spans.AGENT)
        )
        # The moment comes from a callback of a socket, which knows of no open span but the one it is told.
        assert all(seen.parent_of(one) in (session, agent) for one in below)
        assert connect.context is not None
        assert traceparent == tracing.format_traceparent(connect.context)
        assert (redial.status.description, (redial.attributes or {})["offhook.outcome"]) == (
            "refused", "refused",
        )  # fmt: skip
        assert (agent.status.description, (agent.attributes or {})["offhook.close_code"]) == ("lost", 1006)
        assert session.status.status_code is StatusCode.ERROR
        told = "".join(one.to_json() for one in seen.all())
    assert "agent.example" in told
    for word in ("secret-word", "anna", "token", "zebra", "giraffe", "4155551234"):
        assert word not in told


def test_an_agent_that_clears_for_ever_does_not_fill_the_trace() -> None:
    trace = SessionTrace("run-1", "twilio", "pcm")
    with recorded_spans() as seen, trace.session():
        for _ in range(MAX_INTERRUPTIONS * 3):
            trace.interrupted(1, 1)
        assert len(seen.named(spans.INTERRUPTION)) == MAX_INTERRUPTIONS


def test_while_tracing_is_off_the_agent_gets_the_calls_context_all_the_same() -> None:
    trace = SessionTrace("run-1", "twilio", "pcm")
    with recorded_spans() as seen:
        pass
    with trace.session(), trace.dialling(URL, 1, again=False) as traceparent:
        trace.interrupted(1, 1)
    assert traceparent == tracing.call_traceparent("run-1")
    assert seen.all() == []
