"""What is seen of every HTTP request: a metric, and a span when tracing is on. Never the query, never a
header.
"""

import time
from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offhook.http.lifespan import PROBE_PATHS
from offhook.telemetry import metrics, tracing


class Observation:
    """ASGI middleware. The route's template names the request (`/calls/{id}`), so that ids make no new time
    series.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._tracer = trace.get_tracer("offhook.http")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBE_PATHS:
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"

        async def noting_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        opened: AbstractContextManager[Span | None] = nullcontext()
        if tracing.enabled():
            opened = self._tracer.start_as_current_span(
                method,
                Context(),  # whoever asks is outside: it does not choose the trace
                SpanKind.SERVER,
                attributes={"http.request.method": method},
                # The words of an error may hold what callers said of themselves; it is in the log, without secrets.
                record_exception=False,
                set_status_on_exception=False,
            )
        with opened as span:
            try:
                await self._app(scope, receive, noting_send)
            finally:
                route = getattr(scope.get("route"), "path", None) or "unknown"
                metrics.HTTP_REQUESTS.labels(method, route, str(status)).inc()
                metrics.HTTP_REQUEST_SECONDS.labels(method, route).observe(time.perf_counter() - began)
                if span is not None and span.is_recording():
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_status(StatusCode.ERROR)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
