"""Problems as pages, where a person looks at them; and what every page's headers say.

Services answer every error with a problem (RFC 9457). Where a browser asked for a page, this turns the problem into
one; the API, below `/api/`, is left as it is. A form that the script sent gets JSON either way.
"""

import json
from collections.abc import Callable
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offhook.http.problems import PROBLEM_JSON

_MAX_PROBLEM_BYTES: Final = 64 * 1024
_API: Final = "/api/"

PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; form-action 'self'; base-uri 'none';"
    " object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    # Not `no-referrer`: browsers would then send `Origin: null` with our own forms (Fetch, 3.1).
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
    "Cache-Control": "no-store",
}

ErrorPage = Callable[[Request, int, dict[str, Any]], Response]


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer."""
    return _is_page(request) and "text/html" in request.headers.get("accept", "")


def wants_json(request: Request) -> bool:
    """Whether the script of one of our pages asks: it sends forms with `Accept: application/json`."""
    return _is_page(request) and "application/json" in request.headers.get("accept", "")


def _is_page(request: Request) -> bool:
    return not request.url.path.startswith(_API)


class Pages:
    """ASGI middleware: problems become pages for people, and redirects become JSON for the script.

    `page` makes the page of a problem. A 303 cannot be read by a script (Fetch hides it), so it is told where to go.
    """

    def __init__(self, app: ASGIApp, page: ErrorPage) -> None:
        self._app = app
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        html, script = wants_page(request), wants_json(request)
        if not html and not script:
            await self._app(scope, receive, send)
            return
        held: Message | None = None
        body = b""

        async def looking_send(message: Message) -> None:
            nonlocal held, body
            if message["type"] == "http.response.start":
                headers = Headers(raw=message["headers"])
                kind = headers.get("content-type", "")
                if (html and kind.startswith(PROBLEM_JSON)) or (script and message["status"] == 303):
                    held = message
                    return
            elif held is not None:
                body += message.get("body", b"")
                if not message.get("more_body") or len(body) > _MAX_PROBLEM_BYTES:
                    start, held = held, None
                    await self._instead(request, start, body)(scope, receive, send)
                return
            await send(message)

        await self._app(scope, receive, looking_send)

    def _instead(self, request: Request, start: Message, body: bytes) -> Response:
        headers = MutableHeaders(raw=list(start["headers"]))
        if start["status"] == 303:
            answer = Response(
                json.dumps({"location": headers["location"]}),
                media_type="application/json",
                headers={"Cache-Control": "no-store"},
            )
            for cookie in headers.getlist("set-cookie"):
                answer.headers.append("set-cookie", cookie)
            return answer
        try:
            problem: dict[str, Any] = json.loads(body)
        except ValueError:
            problem = {}
        page = self._page(request, start["status"], problem)
        for name in ("retry-after", "allow", "connection"):
            if name in headers:
                page.headers[name] = headers[name]
        return page
