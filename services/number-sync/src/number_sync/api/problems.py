"""What the store objects to, as problems (RFC 9457)."""

import math

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from sqlalchemy.exc import InterfaceError, OperationalError

from number_sync.errors import (
    BusyError,
    ConflictError,
    FixedError,
    InvalidError,
    LimitError,
    NotFoundError,
    NumberSyncError,
    ProviderTroubleError,
)
from offhook.errors import KeyringError
from offhook.http.problems import problem_response
from offhook.telemetry import metrics

log = structlog.get_logger(__name__)


def install_errors(app: FastAPI) -> None:
    """Answer what the store objects to with a problem."""
    app.add_exception_handler(NumberSyncError, _problem)
    app.add_exception_handler(KeyringError, _lost_key)
    for away in (OperationalError, InterfaceError, OSError):
        app.add_exception_handler(away, _store_away)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    detail = str(error)
    detail = detail[:1].upper() + detail[1:]
    match error:
        case NotFoundError():
            return problem_response(404, detail)
        case ConflictError() | LimitError():
            return problem_response(409, detail)
        case BusyError():
            return problem_response(429, detail, headers={"Retry-After": "5"})
        case ProviderTroubleError(passing=passing, retry_after_s=wait_s):
            # 502: it has answered, and will answer the same again.
            headers = {} if wait_s is None else {"Retry-After": str(math.ceil(wait_s))}
            more = {"code": error.code, "sentence": error.sentence, "remedy": error.remedy}
            return problem_response(503 if passing else 502, detail, headers=headers, more=more)
        case InvalidError(field=field):
            status = 400 if isinstance(error, FixedError) else 422
            # As the framework's own validation errors look.
            location = ["body", *field.split(".", 1)]
            return problem_response(
                status, f"{field}: {error}", more={"errors": [{"location": location, "message": str(error)}]}
            )
    raise error


async def _lost_key(request: Request, error: Exception) -> JSONResponse:
    return problem_response(
        500, "Stored secrets cannot be opened: OFFHOOK_KEYRING does not hold the key they were sealed with."
    )


async def _store_away(request: Request, error: Exception) -> JSONResponse:
    metrics.STORE_ERRORS.labels("api").inc()
    log.error("store.unavailable", exc_info=error)
    return problem_response(503, "The store cannot be reached; try again.", headers={"Retry-After": "5"})
