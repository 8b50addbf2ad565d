"""Spans without a collector, for tests: what is recorded inside `recorded_spans` is in the list it gives."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from offhook.telemetry import tracing


class RecordedSpans:
    """The spans that have ended so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        """In the order in which they ended."""
        return [span for span in self.all() if span.name == name]

    def parent_of(self, span: ReadableSpan) -> ReadableSpan | None:
        """None for a root, and for a span whose parent is not among them."""
        wanted = span.parent.span_id if span.parent else None
        return next((one for one in self.all() if one.context and one.context.span_id == wanted), None)


@contextmanager
def recorded_spans() -> Iterator[RecordedSpans]:
    """Tracing is on inside, and off again after it."""
    exporter, tracing_on = _recording()
    exporter.clear()
    before = tracing._configured
    tracing._configured = tracing_on
    try:
        yield RecordedSpans(exporter)
    finally:
        tracing._configured = before


@cache
def _recording() -> tuple[InMemorySpanExporter, tracing.Tracing]:
    # A process has one tracer provider, for ever.
    exporter = InMemorySpanExporter()
    before = tracing._configured
    made = tracing.configure("test", processors=[SimpleSpanProcessor(exporter)])
    tracing._configured = before
    return exporter, made
