"""Take one HTTP request off the wire as it came: raw path, raw query, raw body, everything bounded.

Frameworks decode, and a signature is over what was not decoded: so nothing here goes through a framework's
request object.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from starlette.types import Receive, Scope

from offhook.providers.base import HttpRequest

_MAX_TARGET: Final = 8192
_MAX_DISCARD: Final = 256 * 1024
_DISCARD_S: Final = 1.0
_TOO_LARGE: Final = "The body may have at most {limit} bytes."


class IntakeError(Exception):
    """The request was not taken. `status` is the answer; the text says what was expected. `reason` is for the
    audit."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason


class DisconnectedError(Exception):
    """The sender went away before its request was complete: there is nobody to answer."""


async def take(
    scope: Scope, receive: Receive, *, origins: tuple[str, ...], max_body: int, timeout_s: float
) -> HttpRequest:
    """The request, once its whole body is there.

    Raises `IntakeError`: 413 for a body over `max_body` bytes, 408 for one that takes longer than
    `timeout_s`, 414 for an overlong URL; `DisconnectedError` when the sender leaves.
    """
    raw_path = scope.get("raw_path") or scope["path"].encode()
    query = scope["query_string"]
    if len(raw_path) + len(query) > _MAX_TARGET:
        raise IntakeError(414, "url-too-long", f"The URL may have at most {_MAX_TARGET} bytes.")
    headers = _headers(scope["headers"])
    declared = headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:18]) > max_body:
        raise IntakeError(413, "body-too-large", _TOO_LARGE.format(limit=max_body))
    try:
        async with asyncio.timeout(timeout_s):
            body = await _body(receive, max_body)
    except TimeoutError:
        raise IntakeError(408, "body-too-slow", f"The body did not come within {timeout_s:g} s.") from None
    return HttpRequest(
        method=scope["method"],
        origins=origins,
        path=raw_path.decode("latin-1"),
        query=query.decode("latin-1"),
        headers=headers,
        body=body,
    )


async def discard(receive: Receive) -> None:
    """Read what is left of a refused body, for a moment and up to 256 KiB: a sender whose connection is reset
    while it still sends never sees the answer."""
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_S):
            while size < _MAX_DISCARD:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _headers(raw: list[tuple[bytes, bytes]]) -> Mapping[str, str]:
    """Names in lower case. A repeated header becomes one value (RFC 9110, 5.2), so a second signature proves
    nothing. No webhook becomes a WebSocket; one that asks for it is still verified as a webhook, body
    included."""
    headers: dict[str, str] = {}
    for name, value in raw:
        key = name.decode("latin-1").lower()
        if key == "upgrade":
            continue
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


async def _body(receive: Receive, max_body: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > max_body:
            raise IntakeError(413, "body-too-large", _TOO_LARGE.format(limit=max_body))
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else bytes(chunk)
        chunks.append(chunk)
