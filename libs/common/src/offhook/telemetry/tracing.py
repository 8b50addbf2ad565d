"""Tracing: one trace per call, although no provider carries trace context.

The trace id is derived from the run, so every process that has to do with a call finds the same trace without
being told, and so is the id of its root span, which call-tracker emits when the call has ended
(`emit_call_span`).

    SHA-256("call:v1:" + workflow_run_id) = trace id (16 bytes) ‖ root span id (8 bytes) ‖ …

Spans are exported (OTLP over HTTP) only when `OTEL_EXPORTER_OTLP_ENDPOINT` is set; without it, nothing is
recorded and trace context still travels. The exporter has a thread of its own, and drops spans rather than
wait: whatever becomes of the collector, calls go on. Names and attributes are those of `spans`, nothing
else leaves the process; no span is made per audio frame.

Sampling: to keep a share of the calls, set `OTEL_TRACES_SAMPLER=traceidratio` and
`OTEL_TRACES_SAMPLER_ARG=0.1` for every service. The trace id decides, so all of them keep the same calls,
root included. (`parentbased_traceidratio` means the same here: a derived parent has no decision of its own.)
There is no `tracestate`: nothing of ours has to travel in it.
"""

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision, ParentBased
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from offhook.security.redaction import redact_text
from offhook.telemetry import spans

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
# Serializing holds the interpreter: in small pieces, so that no audio waits for it.
_BATCH_VARIABLE: Final = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
_BATCH_SPANS: Final = 64
_FLUSH_S: Final = 3.0
_WORDS: Final = 4096
_propagator: Final = TraceContextTextMapPropagator()

Attributes = Mapping[str, AttributeValue]


@lru_cache(maxsize=1024)
def call_span_context(workflow_run_id: str) -> SpanContext:
    """The root span of a call, as a remote parent: the same in every process and for ever."""
    digest = hashlib.sha256(f"call:v1:{workflow_run_id}".encode()).digest()
    # An id of zeros would be invalid (W3C Trace Context); one in 2^64 runs would otherwise have one.
    trace_id = int.from_bytes(digest[:16], "big") or 1
    span_id = int.from_bytes(digest[16:24], "big") or 1
    return SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def call_trace_id(workflow_run_id: str) -> str:
    """The id of the call's trace, 32 hexadecimal digits."""
    return f"{call_span_context(workflow_run_id).trace_id:032x}"


def call_traceparent(workflow_run_id: str) -> str:
    """The call's root span as a W3C `traceparent`, for event headers and the agent's handshake."""
    return format_traceparent(call_span_context(workflow_run_id))


def format_traceparent(context: SpanContext) -> str:
    """`00-<trace id>-<span id>-<flags>`."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def traceparent_of(span: Span) -> str:
    """A span as a W3C `traceparent`."""
    return format_traceparent(span.get_span_context())


def current_traceparent() -> str | None:
    """The open span as a `traceparent`; None outside of any."""
    context = trace.get_current_span().get_span_context()
    return format_traceparent(context) if context.is_valid else None


def current_in_call(workflow_run_id: str) -> str | None:
    """The open span as a `traceparent` if it is one of this call; else None, as always while tracing is off."""
    if not _configured.enabled:
        return None
    context = trace.get_current_span().get_span_context()
    same = context.trace_id == call_span_context(workflow_run_id).trace_id
    return format_traceparent(context) if same else None


def context_of(traceparent: str | None) -> Context:
    """The context to start a span under; empty for None or for what is no traceparent."""
    return _propagator.extract({"traceparent": traceparent} if traceparent else {}, Context())


def begin_call_span(
    name: str,
    workflow_run_id: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    traceparent: str | None = None,
    began_ns: int | None = None,
) -> Span:
    """A span in the call's trace that you must `end`; it is not made the current one. See `call_span`."""
    if not _configured.enabled:
        return _unrecorded(workflow_run_id)
    root = call_span_context(workflow_run_id)
    current = trace.get_current_span()
    before = current.get_span_context()
    parent = context_of(traceparent)
    if trace.get_current_span(parent).get_span_context().trace_id != root.trace_id:
        # What comes from outside may name another call's trace; it is not believed.
        nearest = current if before.trace_id == root.trace_id else NonRecordingSpan(root)
        parent = trace.set_span_in_context(nearest, Context())
    links = [Link(before)] if before.is_valid and before.trace_id != root.trace_id else None
    told = {"offhook.workflow_run_id": workflow_run_id, **(attributes or {})}
    return trace.get_tracer("offhook").start_span(name, parent, kind, told, links, start_time=began_ns)


@lru_cache(maxsize=1024)
def _unrecorded(workflow_run_id: str) -> Span:
    return NonRecordingSpan(call_span_context(workflow_run_id))


@contextmanager
def call_span(
    name: str,
    workflow_run_id: str,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    attributes: Attributes | None = None,
    traceparent: str | None = None,
    began_ns: int | None = None,
) -> Iterator[Span]:
    """A span in the call's trace, current inside the `with`: below `traceparent` (that of the event being handled), else
    below the open span, else below the root. `began_ns`: when it began (Unix time), if before now.

    An open span of another trace, such as the HTTP request's, becomes a link. An exception makes it an error by its type
    alone, unless it has `failed` before: what an exception says may hold a number. While tracing is off nothing is recorded,
    and nothing is opened either: a webhook has better things to do.
    """
    if not _configured.enabled:
        yield _unrecorded(workflow_run_id)
        return
    span = begin_call_span(
        name, workflow_run_id, kind=kind, attributes=attributes, traceparent=traceparent, began_ns=began_ns
    )
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception as error:
            if not _has_failed(span):
                failed(span, type(error).__name__)
            raise


def _has_failed(span: Span) -> bool:
    return isinstance(span, ReadableSpan) and span.status.status_code is StatusCode.ERROR


def failed(span: Span, kind: str) -> None:
    """Mark a span as an error of this kind; a word, never what an exception says."""
    span.set_status(Status(StatusCode.ERROR, kind))


class Tracing:
    """What `configure` set up. Call `shutdown` at the end, or the last spans are lost."""

    def __init__(self, provider: TracerProvider | None, processor: SpanProcessor | None) -> None:
        self._provider = provider
        self._processor = processor

    @property
    def enabled(self) -> bool:
        return self._provider is not None

    def keeps(self, workflow_run_id: str) -> bool:
        """Whether the trace of this call is one of those that are recorded."""
        if self._provider is None:
            return False
        trace_id = call_span_context(workflow_run_id).trace_id
        decision = self._provider.sampler.should_sample(None, trace_id, spans.CALL).decision
        return decision is Decision.RECORD_AND_SAMPLE

    def emit_call_span(
        self,
        workflow_run_id: str,
        *,
        began_ns: int,
        ended_ns: int,
        attributes: Attributes | None = None,
        error: str | None = None,
    ) -> None:
        """The root span of a call that has ended. Times are Unix nanoseconds; `error` is the word for what went wrong.
        Emitting it twice makes the same span twice.
        """
        if self._provider is None or self._processor is None or not self.keeps(workflow_run_id):
            return
        context = call_span_context(workflow_run_id)
        span = ReadableSpan(
            spans.CALL,
            SpanContext(context.trace_id, context.span_id, False, context.trace_flags),
            resource=self._provider.resource,
            attributes={"offhook.workflow_run_id": workflow_run_id, **(attributes or {})},
            start_time=min(began_ns, ended_ns),
            end_time=ended_ns,
            status=Status(StatusCode.UNSET) if error is None else Status(StatusCode.ERROR, error),
        )
        self._processor.on_end(span)

    def shutdown(self) -> None:
        """Export what is left; waits a few seconds at most."""
        if self._provider is None:
            return
        # The SDK waits for half a minute for a collector that does not answer, and its flush without end.
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-shutdown", daemon=True)
        ending.start()
        ending.join(_FLUSH_S)


def emit_call_span(
    workflow_run_id: str,
    *,
    began_ns: int,
    ended_ns: int,
    attributes: Attributes | None = None,
    error: str | None = None,
) -> None:
    """Emit the root span of a call that has ended, if tracing is on. Times are Unix nanoseconds.

    Emitting it twice makes the same span twice: same ids, so that a trace store keeps one.
    """
    _configured.emit_call_span(
        workflow_run_id, began_ns=began_ns, ended_ns=ended_ns, attributes=attributes, error=error
    )


def now_ns(ago_s: float = 0.0) -> int:
    """Unix time in nanoseconds, `ago_s` seconds before now, for `began_ns`."""
    return time.time_ns() - int(ago_s * 1_000_000_000)


def enabled() -> bool:
    """Whether spans are recorded in this process."""
    return _configured.enabled


def keeps(workflow_run_id: str) -> bool:
    """Whether the trace of this call is recorded: tracing is on, and the sampler keeps it."""
    return _configured.keeps(workflow_run_id)


class _OwnTracers(TracerProvider):
    """Records what this project names. Libraries that trace by themselves, with queries and the words of exceptions, get a
    tracer that does nothing.
    """

    def get_tracer(self, instrumenting_module_name: str, *args: Any, **more: Any) -> trace.Tracer:
        if instrumenting_module_name.partition(".")[0] != "offhook":
            return trace.NoOpTracer()
        return super().get_tracer(instrumenting_module_name, *args, **more)


class _Guard(SpanExporter):
    """Lets out what `spans` names, and of text nothing that is shaped like a secret or a phone number. The last line of
    defence, in the exporter's thread: nothing that it takes out should have been put in.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._exporter.export([_clean(span) for span in spans])

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)


# What a failure is called, never what it says.
_KIND: Final = re.compile(r"[\w.-]{1,64}")


def _clean(span: ReadableSpan) -> ReadableSpan:
    attributes = span.attributes or {}
    clean = {name: _word(name, value) for name, value in attributes.items() if name in spans.ATTRIBUTES}
    description = span.status.description
    if clean == attributes and not span.events and (description is None or _KIND.fullmatch(description)):
        return span
    return ReadableSpan(
        _redacted(span.name),
        span.context,
        span.parent,
        span.resource,
        clean,
        (),
        span.links,
        span.kind,
        status=Status(
            span.status.status_code, description if description and _KIND.fullmatch(description) else None
        ),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _word(name: str, value: AttributeValue) -> AttributeValue:
    return _redacted(value) if isinstance(value, str) and name not in spans.IDS else value


@lru_cache(maxsize=_WORDS)
def _redacted(text: str) -> str:
    return redact_text(text)


def configure(service: str, *, processors: Sequence[SpanProcessor] = ()) -> Tracing:
    """Set up tracing for the process if `OTEL_EXPORTER_OTLP_ENDPOINT` is set, or for tests by `processors`. A process has
    one tracing: what was set up from the environment stays.
    """
    global _configured
    processor: SpanProcessor
    if processors:
        (processor,) = processors
    elif not any(os.environ.get(name) for name in _ENDPOINTS):
        return Tracing(None, None)
    elif _configured.enabled:
        return _configured
    else:
        size = None if os.environ.get(_BATCH_VARIABLE) else _BATCH_SPANS
        processor = BatchSpanProcessor(_Guard(OTLPSpanExporter()), max_export_batch_size=size)
    resource = Resource.create(
        {"service.namespace": "offhook", "service.name": service, "service.version": version("offhook")}
    )
    provider = _OwnTracers(resource=resource, shutdown_on_exit=False)
    if isinstance(provider.sampler, ParentBased):
        # Our parents are derived or made by the same rule: what the root would decide is decided for all.
        provider.sampler = provider.sampler._root
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    _configured = Tracing(provider, processor)
    return _configured


_configured = Tracing(None, None)
