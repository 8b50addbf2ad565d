"""Tracing: one trace per call, although no provider carries trace context.

The trace id is derived from the run, so every process that has to do with a call finds the same trace without
being told, and so is the id of its root span, which call-tracker emits when the call has ended
(`emit_call_span`).

    SHA-256("call:v1:" + workflow_run_id) = trace id (16 bytes) ‖ root span id (8 bytes) ‖ …

Spans are exported (OTLP over HTTP) only when `OTEL_EXPORTER_OTLP_ENDPOINT` is set; without it, nothing is
recorded and trace context still travels. To keep a share of the calls, set `OTEL_TRACES_SAMPLER=traceidratio`
and `OTEL_TRACES_SAMPLER_ARG=0.1` for every service: the trace id decides, so all of them keep the same calls.
No phone number and no token belongs into an attribute, and no span is made per audio frame.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_FLUSH_MS: Final = 3000
_propagator: Final = TraceContextTextMapPropagator()

Attributes = Mapping[str, AttributeValue]


def call_span_context(workflow_run_id: str) -> SpanContext:
    """The root span of a call, as a remote parent: the same in every process and for ever."""
    digest = hashlib.sha256(f"call:v1:{workflow_run_id}".encode()).digest()
    # An id of zeros would be invalid (W3C Trace Context); one in 2^64 runs would otherwise have one.
    trace_id = int.from_bytes(digest[:16], "big") or 1
    span_id = int.from_bytes(digest[16:24], "big") or 1
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def call_traceparent(workflow_run_id: str) -> str:
    """The call's root span as a W3C `traceparent`, for event headers and the agent's handshake."""
    return format_traceparent(call_span_context(workflow_run_id))


def format_traceparent(context: SpanContext) -> str:
    """`00-<trace id>-<span id>-<flags>`."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def current_traceparent() -> str | None:
    """The open span as a `traceparent`; None outside of any."""
    context = trace.get_current_span().get_span_context()
    return format_traceparent(context) if context.is_valid else None


def context_of(traceparent: str | None) -> Context:
    """The context to start a span under; empty for None or for what is no traceparent."""
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, Context())


@contextmanager
def call_span(
    name: str,
    workflow_run_id: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    traceparent: str | None = None,
) -> Iterator[Span]:
    """A span in the call's trace, below its root or below `traceparent` (that of the event being handled).

    The span that was open before, such as the HTTP request's, is of another trace: it becomes a link. While tracing is
    off nothing is recorded, and nothing is opened either: a webhook has better things to do.
    """
    if not _configured.enabled:
        yield NonRecordingSpan(call_span_context(workflow_run_id))
        return
    before = trace.get_current_span().get_span_context()
    root = call_span_context(workflow_run_id)
    parent = context_of(traceparent)
    if trace.get_current_span(parent).get_span_context().trace_id != root.trace_id:
        parent = trace.set_span_in_context(NonRecordingSpan(root), Context())
    links = [Link(before)] if before.is_valid and before.trace_id != root.trace_id else None
    told = {"offhook.workflow_run_id": workflow_run_id, **(attributes or {})}
    tracer = trace.get_tracer("offhook")
    with tracer.start_as_current_span(name, parent, kind, told, links) as span:
        yield span


class Tracing:
    """What `configure` set up. Call `shutdown` at the end, or the last spans are lost."""

    def __init__(self, provider: TracerProvider | None, processor: SpanProcessor | None) -> None:
        self._provider = provider
        self._processor = processor

    @property
    def enabled(self) -> bool:
        return self._provider is not None

    def emit_call_span(
        self, workflow_run_id: str, *, began_ns: int, ended_ns: int, attributes: Attributes | None = None
    ) -> None:
        """The root span of a call that has ended. Times are Unix nanoseconds. Emitting it twice makes the
        same span twice.
        """
        if self._provider is None or self._processor is None:
            return
        context = call_span_context(workflow_run_id)
        sampler = self._provider.sampler
        if sampler.should_sample(None, context.trace_id, "call").decision is not Decision.RECORD_AND_SAMPLE:
            return
        span = ReadableSpan(
            "call",
            SpanContext(context.trace_id, context.span_id, False, context.trace_flags),
            resource=self._provider.resource,
            attributes={"offhook.workflow_run_id": workflow_run_id, **(attributes or {})},
            start_time=began_ns,
            end_time=ended_ns,
        )
        self._processor.on_end(span)

    def shutdown(self) -> None:
        """Export what is left; waits a few seconds at most."""
        if self._provider is not None:
            self._provider.force_flush(_FLUSH_MS)
            self._provider.shutdown()


def emit_call_span(
    workflow_run_id: str, *, began_ns: int, ended_ns: int, attributes: Attributes | None = None
) -> None:
    """Emit the root span of a call that has ended, if tracing is on. Times are Unix nanoseconds.

    Emitting it twice makes the same span twice: same ids, so that a trace store keeps one.
    """
    _configured.emit_call_span(workflow_run_id, began_ns=began_ns, ended_ns=ended_ns, attributes=attributes)


def enabled() -> bool:
    """Whether spans are recorded in this process."""
    return _configured.enabled


def configure(service: str, *, processors: Sequence[SpanProcessor] = ()) -> Tracing:
    """Set up tracing for the process if `OTEL_EXPORTER_OTLP_ENDPOINT` is set, or for tests by `processors`."""
    global _configured
    processor: SpanProcessor
    if processors:
        (processor,) = processors
    elif any(os.environ.get(name) for name in _ENDPOINTS):
        processor = BatchSpanProcessor(OTLPSpanExporter())
    else:
        return Tracing(None, None)
    resource = Resource.create(
        {"service.namespace": "offhook", "service.name": service, "service.version": version("offhook")}
    )
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    _configured = Tracing(provider, processor)
    return _configured


_configured = Tracing(None, None)
