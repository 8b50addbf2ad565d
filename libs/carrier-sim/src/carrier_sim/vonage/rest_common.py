"""What Vonage's REST APIs share: error shapes, bodies, numbers in queries."""

import json
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web

_ERRORS = "https://developer.nexmo.com/api-errors"


class RestError(Exception):
    """An error as Vonage's newer APIs answer it; `more` are further members of the body."""

    def __init__(self, status: int, kind: str, title: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {
            "type": f"{_ERRORS}{kind}",
            "title": title,
            "detail": detail,
            "instance": uuid.uuid4().hex,
            **more,
        }

    def response(self) -> web.Response:
        return web.json_response(self.body, status=self.status)


def unauthorized() -> RestError:
    return RestError(
        401, "#unauthorized", "Invalid credentials supplied", "You did not provide correct credentials."
    )


def not_found(identity: str) -> RestError:
    return RestError(
        404, "#not-found", "Not Found", f"ID '{identity}' does not exist, or you do not have access"
    )


def bad_request(detail: str, kind: str = "#bad-request", **more: Any) -> RestError:
    return RestError(400, kind, "Bad Request", detail, **more)


# The problem type and title that go with a status when a test asks only for the status.
_PROBLEMS = {
    400: ("#bad-request", "Bad Request", "The request is invalid"),
    401: ("#unauthorized", "Invalid credentials supplied", "You did not provide correct credentials."),
    403: ("#forbidden", "Your account is not provisioned", "This account may not use this API"),
    404: ("#not-found", "Not Found", "It does not exist, or you do not have access"),
    429: ("#throttled", "Rate Limit Hit", "Please wait, then retry your request"),
    500: ("#internal-error", "Internal Error", "There was an error on our side"),
    503: ("#unavailable", "Service Unavailable", "The service is not available at the moment"),
}
_LABELS = {401: "authentication failed", 420: "method failed", 429: "throttled", 500: "internal error"}


def numbers_error(code: int, label: str, status: int | None = None) -> web.Response:
    """An error as the account and Numbers APIs answer it."""
    return web.json_response(
        {"error-code": str(code), "error-code-label": label}, status=code if status is None else status
    )


def of_status(status: int, path: str, code: int | str | None = None) -> web.Response:
    """The error Vonage answers with `status` on a path, with another `code` (problem type, error code) if one is given."""
    kind, title, detail = _PROBLEMS.get(status, ("#error", "Error", "Something went wrong"))
    if path.startswith(("/account/", "/number/")):
        number = int(code) if code is not None and str(code).isdigit() else status
        return numbers_error(number, _LABELS.get(number, title.lower()), status)
    return RestError(status, kind if code is None else f"#{code}", title, detail).response()


def guard(handle: Callable[[web.Request, bytes], web.Response]) -> Callable[[web.Request], Any]:
    """Read the body, and answer errors in Vonage's shape."""

    async def guarded(request: web.Request) -> web.Response:
        try:
            return handle(request, await request.read())
        except RestError as error:
            return error.response()

    return guarded


def json_object(body: bytes) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except ValueError:
        raise bad_request("the body is not JSON") from None
    if not isinstance(data, dict):
        raise bad_request("the body is expected to be an object")
    return data


def count(query: Mapping[str, str], name: str, default: int, high: int, low: int = 1) -> int:
    text = query.get(name, str(default))
    if not text.isdigit() or not low <= int(text) <= high:
        raise bad_request(f"{name}: {low} to {high} expected")
    return int(text)
