"""Everything about a call is in one trace, which anybody can name from the run alone."""

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.trace import StatusCode

from offhook.telemetry import spans, tracing
from offhook.telemetry.testing import recorded_spans


def test_the_trace_id_is_derived_from_the_run() -> None:
    digest = hashlib.sha256(b"call:v1:run-1").hexdigest()
    assert tracing.call_traceparent("run-1") == f"00-{digest[:32]}-{digest[32:48]}-01"
    assert tracing.call_traceparent("run-1") != tracing.call_traceparent("run-2")


def test_a_traceparent_survives_being_read_and_written() -> None:
    traceparent = tracing.call_traceparent("run-1")
    context = trace.get_current_span(tracing.context_of(traceparent)).get_span_context()
    assert tracing.format_traceparent(context) == traceparent


@pytest.mark.parametrize(
    "text", [None, "", "nonsense", "00-0-0-00", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
)
def test_what_is_no_traceparent_is_no_context(text: str | None) -> None:
    assert not trace.get_current_span(tracing.context_of(text)).get_span_context().is_valid


def test_without_an_endpoint_nothing_is_recorded_and_the_context_still_travels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", raising=False)
    traces = tracing.configure("call-tracker")
    assert not traces.enabled
    assert tracing.current_traceparent() is None
    with tracing.call_span("handle", "run-1") as span:
        assert not span.is_recording()
        assert tracing.format_traceparent(span.get_span_context()) == tracing.call_traceparent("run-1")
    tracing.emit_call_span("run-1", began_ns=1, ended_ns=2)
    traces.shutdown()


class _Collector(HTTPServer):
    """What an OpenTelemetry collector does at its OTLP/HTTP port, as far as we need it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.requests: list[ExportTraceServiceRequest] = []


class _Receive(BaseHTTPRequestHandler):
    server: _Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[_Collector]:
    with _Collector() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


_SERVICE = """
import time
from offhook.telemetry import tracing
from opentelemetry import trace

traces = tracing.configure("webhook-gateway")
assert traces.enabled
with trace.get_tracer("offhook.http").start_as_current_span("POST /webhook"):
    with tracing.call_span("answer", "run-1", attributes={"offhook.provider": "twilio"}):
        inner = tracing.current_traceparent()
with tracing.call_span("store", "run-1", traceparent=inner):
    pass
with tracing.call_span("unrelated", "run-1", traceparent=tracing.call_traceparent("run-2")):
    pass
tracing.emit_call_span("run-1", began_ns=1_000, ended_ns=5_000, attributes={"offhook.status": "completed"})
print(time.monotonic())
traces.shutdown()
"""


def _spans(collector: _Collector, **environment: str) -> dict[str, Span]:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    subprocess.run(
        [sys.executable, "-c", _SERVICE],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, **environment},
        check=True,
        timeout=60,
    )
    resources = [resource for request in collector.requests for resource in request.resource_spans]
    for resource in resources:
        names = {one.key: one.value.string_value for one in resource.resource.attributes}
        assert names["service.name"] == "webhook-gateway"
    return {
        span.name: span for resource in resources for scope in resource.scope_spans for span in scope.spans
    }


def test_spans_of_a_call_hang_below_its_root_and_link_the_request(collector: _Collector) -> None:
    spans = _spans(collector)
    root = tracing.call_span_context("run-1")
    call, answer, request, store = (spans[name] for name in ("call", "answer", "POST /webhook", "store"))
    assert int.from_bytes(call.trace_id, "big") == root.trace_id
    assert int.from_bytes(call.span_id, "big") == root.span_id
    assert call.parent_span_id == b""
    assert (call.start_time_unix_nano, call.end_time_unix_nano) == (1_000, 5_000)
    assert answer.trace_id == call.trace_id
    assert answer.parent_span_id == call.span_id
    assert [link.span_id for link in answer.links] == [request.span_id]
    assert store.parent_span_id == answer.span_id
    # A traceparent of another call is not believed.
    assert spans["unrelated"].trace_id == call.trace_id
    assert spans["unrelated"].parent_span_id == call.span_id


@pytest.mark.parametrize("sampler", ["traceidratio", "parentbased_traceidratio"])
@pytest.mark.parametrize(("share", "kept"), [("0.0", False), ("1.0", True)])
def test_sampling_keeps_or_drops_whole_calls(
    collector: _Collector, sampler: str, share: str, kept: bool
) -> None:
    spans = _spans(collector, OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=share)
    assert bool(spans) == kept
    assert {"call", "answer"} <= spans.keys() or not kept


def test_which_calls_are_kept_follows_from_the_call() -> None:
    program = """
from offhook.telemetry import tracing
tracing.configure("media-bridge")
kept = [run for run in map(str, range(400)) if tracing.keeps(run)]
for run in map(str, range(400)):
    with tracing.call_span("x", run) as span:
        assert span.is_recording() == (run in kept)
        assert tracing.traceparent_of(span).endswith("-01" if run in kept else "-00")
print(" ".join(kept))
"""
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
    }
    told = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, **environment},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert told[0] == told[1]
    assert 60 < len(told[0]) < 140


def test_a_span_opened_in_a_span_of_the_call_hangs_below_it() -> None:
    with recorded_spans() as seen:
        with tracing.call_span("outer", "run-1"):
            with tracing.call_span("inner", "run-1"):
                pass
            with tracing.call_span("of another call", "run-2"):
                pass
        (outer,), (inner,), (other,) = (seen.named(name) for name in ("outer", "inner", "of another call"))
        assert seen.parent_of(inner) is outer
        assert other.parent == tracing.call_span_context("run-2")
        assert [link.context for link in other.links] == [outer.context]


def test_an_exception_is_told_by_its_kind_alone() -> None:
    with recorded_spans() as seen:
        with pytest.raises(ValueError, match="dial"), tracing.call_span("dial", "run-1"):
            raise ValueError("cannot dial +14155551234 with token=0123456789abcdef")
        (dial,) = seen.named("dial")
        assert (dial.status.status_code, dial.status.description) == (StatusCode.ERROR, "ValueError")
        assert dial.events == ()


_CARELESS = """
from offhook.telemetry import tracing
from opentelemetry import trace

traces = tracing.configure("webhook-gateway")
with trace.get_tracer("somebody.elses.library").start_as_current_span("GET /?token=0123456789abcdef"):
    careless = {
        "url.full": "https://voice.example/?From=%2B14155551234",
        "offhook.reason": "call from +14155551234 refused",
        "offhook.outcome": "Bearer 0123456789abcdef",
        "offhook.status": "sip:anna@192.0.2.1",
    }
    with tracing.call_span("status", "run-1", attributes=careless) as span:
        span.add_event("heard", {"from": "+14155551234"})
        span.record_exception(ValueError("+14155551234"))
        tracing.failed(span, "Anna is busy")
traces.shutdown()
"""


def test_what_should_not_have_been_put_into_a_span_does_not_leave_the_process(collector: _Collector) -> None:
    endpoint = f"http://127.0.0.1:{collector.server_port}"
    subprocess.run(
        [sys.executable, "-c", _CARELESS],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
        check=True,
        timeout=60,
    )
    told = "".join(str(request) for request in collector.requests)
    assert "run-1" in told
    for secret in ("4155551234", "0123456789abcdef", "192.0.2.1", "url.full", "heard", "GET /", "Anna"):
        assert secret not in told


def test_a_process_ends_although_the_collector_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-c", _SERVICE],
            env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint},
            check=True,
            capture_output=True,
            text=True,
            timeout=100,
        )
        took_s = time.monotonic() - float(done.stdout)  # from the shutdown on: one clock for all processes
    assert took_s < 25  # the SDK alone would wait for longer


def test_every_span_says_what_it_means_and_has_known_attributes() -> None:
    names = [span.name for span in spans.SPANS]
    assert len(set(names)) == len(names)
    for span in spans.SPANS:
        assert span.meaning.endswith("."), span.name
        assert set(span.attributes) <= set(spans.ATTRIBUTES), span.name
    used = {name for span in spans.SPANS for name in span.attributes} | set(spans.EVERYWHERE)
    assert used == set(spans.ATTRIBUTES)
    assert set(spans.ATTRIBUTES) >= spans.IDS
