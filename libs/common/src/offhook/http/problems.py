"""Errors as `application/problem+json` (RFC 9457), for every client but the telephony providers.

No problem repeats what the client sent: the value that failed validation may be somebody's secret, and
answers end up in logs of proxies and clients.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from offhook.security.redaction import is_secret_name

PROBLEM_JSON: Final = "application/problem+json"
_MAX_ERRORS: Final = 20


class Problem(HTTPException):
    """Raise it to answer with a problem. `detail` says what to do, for the caller; `more` are further
    members.
    """

    def __init__(
        self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(status, detail, dict(headers) if headers else None)
        self.more = more


def problem_body(
    status: int, detail: str | None = None, more: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The members of a problem: `type`, `title`, `status`, `detail` and whatever `more` has."""
    body: dict[str, Any] = {"type": "about:blank", "title": _title(status), "status": status}
    if detail and detail != body["title"]:
        body["detail"] = detail
    return {**body, **(more or {})}


def problem_response(
    status: int,
    detail: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> JSONResponse:
    """A problem as a response, for code outside of routes."""
    body = problem_body(status, detail, more)
    return JSONResponse(body, status, headers=headers, media_type=PROBLEM_JSON)


def install(app: FastAPI) -> None:
    """Make `app` answer every error with a problem."""
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unforeseen)


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    more = error.more if isinstance(error, Problem) else None
    return problem_response(error.status_code, error.detail, headers=error.headers, more=more)


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    errors = [_one_error(one) for one in error.errors()[:_MAX_ERRORS]]
    return problem_response(422, "The request is not valid; see errors.", more={"errors": errors})


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    # The server logs the traceback; a stranger learns nothing from it.
    return problem_response(500, "Something went wrong here; it has been logged.")


def _one_error(error: Mapping[str, Any]) -> dict[str, Any]:
    location: Sequence[Any] = error["loc"]
    message = str(error["msg"]).removeprefix("Value error, ")
    if any(is_secret_name(str(part)) for part in location):
        message = "is not valid"
    return {
        "location": [part if isinstance(part, int) else str(part)[:100] for part in location[:10]],
        "message": message[:500],
    }


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"
