"""Answers of a process that is about to end close their connections (RFC 9110, 7.6.1; RFC 9112, 9.6).

A proxy would otherwise send its next request on a connection that ends at that moment, could not know whether it was
heard, and would answer 502 or 503.
"""

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class LastAnswers:
    """An application whose HTTP answers say `Connection: close` from the moment `draining` does."""

    def __init__(self, app: ASGIApp, draining: Callable[[], bool]) -> None:
        self._app = app
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start" and self._draining():
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, send_last if scope["type"] == "http" else send)
