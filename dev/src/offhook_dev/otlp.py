"""A trace store for tests: takes spans in over the wire, as a collector does, and shows them as trees.

OTLP over HTTP with protobuf, https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

_MAX_REQUEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Seen:
    """A span as it was exported. Ids are hexadecimal, `parent` is '' for a root; times are Unix nanoseconds."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    kind: str
    began: int
    ended: int
    attributes: Mapping[str, Any]
    error: str | None
    links: tuple[str, ...] = ()

    @property
    def run(self) -> str | None:
        """The call it belongs to."""
        return self.attributes.get("offhook.workflow_run_id")


@dataclass(slots=True)
class Trace:
    """The spans of one trace."""

    spans: list[Seen] = field(default_factory=list)

    @property
    def roots(self) -> list[Seen]:
        return [span for span in self.spans if not span.parent]

    @property
    def orphans(self) -> list[Seen]:
        """Spans whose parent is not there."""
        known = {span.id for span in self.spans}
        return [span for span in self.spans if span.parent and span.parent not in known]

    @property
    def services(self) -> set[str]:
        return {span.service for span in self.spans}

    def named(self, name: str) -> list[Seen]:
        """In the order in which they began."""
        return sorted((span for span in self.spans if span.name == name), key=lambda span: span.began)

    def parent_of(self, span: Seen) -> Seen | None:
        return next((one for one in self.spans if one.id == span.parent), None)

    def children_of(self, span: Seen) -> list[Seen]:
        """In the order in which they began."""
        return sorted((one for one in self.spans if one.parent == span.id), key=lambda one: one.began)

    def lines(self, span: Seen | None = None, depth: int = 0) -> list[str]:
        """The tree as text: name, service, when it began and how long it took (ms), from the root on."""
        heads = self.roots if span is None else [span]
        first = min((one.began for one in self.spans), default=0)
        told: list[str] = []
        for head in heads:
            at, took = (head.began - first) / 1e6, (head.ended - head.began) / 1e6
            mark = f"  ✗ {head.error}" if head.error is not None else ""
            told.append(f"{'  ' * depth}{head.name}  [{head.service}]  {at:+.0f} ms, {took:.1f} ms{mark}")
            for child in self.children_of(head):
                told += self.lines(child, depth + 1)
        return told


class TraceStore:
    """Takes spans in, as a collector does (OTLP over HTTP). Start with `async with`; point
    `OTEL_EXPORTER_OTLP_ENDPOINT` at `url`."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.bodies: list[bytes] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        app.router.add_post("/v1/traces", self._take)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        self.requests.append(ExportTraceServiceRequest.FromString(body))
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )

    @property
    def services(self) -> set[str]:
        """Who has sent spans."""
        return {span.service for span in self.spans()}

    def content(self) -> bytes:
        """Everything that was exported, as text."""
        return b"\n".join(str(request).encode() for request in self.requests)

    def spans(self) -> list[Seen]:
        """Each once: an export whose answer came late is repeated."""
        seen = {
            (span.trace_id, span.span_id): _seen(
                span, _value_of(resource.resource.attributes, "service.name")
            )
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        }
        return list(seen.values())

    def trace(self, trace_id: str) -> Trace:
        return Trace([span for span in self.spans() if span.trace == trace_id])

    async def wait_for(self, trace_id: str, when: Callable[[Trace], bool], within_s: float = 20.0) -> Trace:
        """The trace once `when` holds of it. Raises `AssertionError` with the tree as it is."""
        deadline = time.monotonic() + within_s
        while not when(trace := self.trace(trace_id)):
            if time.monotonic() > deadline:
                missing = [f"without its parent: {span.name} [{span.service}]" for span in trace.orphans]
                raise AssertionError("the trace never was complete:\n" + "\n".join(trace.lines() + missing))
            await asyncio.sleep(0.1)
        return trace


def _seen(span: WireSpan, service: Any) -> Seen:
    return Seen(
        service=str(service),
        name=span.name,
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=WireSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        attributes={one.key: _plain(one.value) for one in span.attributes},
        error=span.status.message if span.status.code == Status.STATUS_CODE_ERROR else None,
        links=tuple(link.span_id.hex() for link in span.links),
    )


def _value_of(attributes: Sequence[Any], name: str) -> Any:
    return next((_plain(one.value) for one in attributes if one.key == name), "")


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
