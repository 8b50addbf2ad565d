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
