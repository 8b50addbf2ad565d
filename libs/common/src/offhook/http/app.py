"""The FastAPI application every service begins with."""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.telemetry import TelemetryConfig

from offhook.http import problems
from offhook.http.limits import BodyLimit
from offhook.http.observation import Observation
from offhook.http.readiness import Check, HasHealth, Readiness
from offhook.tasks import EndlessTasks
from offhook.telemetry import metrics
from offhook.telemetry.exposition import exposition

DEFAULT_MAX_BODY_BYTES: Final = 256 * 1024
# FastAPI traces by itself as soon as there is a tracer: with the query and the words of exceptions, and below whatever
# trace the request names. `Observation` does it here.
_NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def create_app(
    service: metrics.Service,
    bus: HasHealth | None = None,
    *,
    checks: Iterable[Check] = (),
    endless: EndlessTasks | None = None,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
    **fastapi: Any,
) -> FastAPI:
    """An application with `/startupz`, `/healthz`, `/readyz` and `/metrics`, problems for errors, and bounded bodies.

    `bus` and `checks` decide `/readyz`; the `Readiness` is at `app.state.readiness`, where `serve` marks the
    drain. When one of the `endless` tasks has ended, neither `/readyz` nor `/healthz`
    is content. `fastapi` is passed on to FastAPI (`title`, `description`, …); the interface is described at
    `/openapi.json` unless `openapi_url` says otherwise.
    """
    options: dict[str, Any] = {
        "title": f"Offhook {service}",
        "version": version("offhook"),
        # Its pages load script from another host, at the origin that has the login's cookie.
        "docs_url": None,
        "redoc_url": None,
    }
    app = FastAPI(lifespan=lifespan, telemetry=_NO_TELEMETRY, **{**options, **fastapi})
    ended: Check = endless.problems if endless is not None else tuple
    readiness = Readiness(bus, [*checks, ended])
    app.state.service = service
    app.state.readiness = readiness
    metrics.BUILD_INFO.labels(version("offhook")).set(1)
    problems.install(app)
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes)
    app.add_middleware(Observation)

    @app.get("/startupz", include_in_schema=False)
    async def startupz() -> JSONResponse:
        """Whether the start is over: directories caught up, schema there. Once it is, it is for ever."""
        started = readiness.has_started
        found = () if started else readiness.problems()
        return JSONResponse({"started": started, "problems": list(found)}, 200 if started else 503)

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> JSONResponse:
        """The process lives, its event loop turns, and what should run in it for ever does. Says nothing about others: a
        restart would not help them.
        """
        found = list(ended())
        if found:
            return JSONResponse({"status": "broken", "service": service, "problems": found}, 503)
        return JSONResponse({"status": "ok", "service": service})

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> JSONResponse:
        found = readiness.problems()
        metrics.READY.set(0 if found else 1)
        answer: dict[str, Any] = {"ready": not found, "problems": list(found)}
        degradations = readiness.degradations()
        if degradations:
            answer["degraded"] = list(degradations)
        return JSONResponse(answer, 503 if found else 200)

    @app.get("/metrics", include_in_schema=False)
    async def prometheus(request: Request) -> Response:
        metrics.READY.set(0 if readiness.problems() else 1)
        metrics.DRAINING.set(readiness.draining)
        body, content_type = exposition(service, request.headers.get("Accept", ""))
        return Response(body, headers={"Content-Type": content_type})

    return app
