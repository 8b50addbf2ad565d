"""Requests have bounds: a body longer than the limit is refused, by its announced length or as it comes."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offhook.http.problems import Problem, problem_response


class BodyLimit:
    """ASGI middleware: 413 for bodies of more than `max_bytes`."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_long = f"The body may have at most {self._max_bytes} bytes."
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not announced.isdigit() or int(announced) > self._max_bytes:
            await problem_response(413, too_long, headers={"Connection": "close"})(scope, receive, send)
            return
        received = 0
        started = False

        async def bounded_receive() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > self._max_bytes:
                    raise Problem(413, too_long, headers={"Connection": "close"})
            return message

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, bounded_receive, noting_send)
        except Problem as problem:
            # FastAPI's handlers make it an answer themselves; another application lets it through.
            if started:
                raise
            await problem_response(problem.status_code, problem.detail, headers=problem.headers)(
                scope, receive, send
            )
