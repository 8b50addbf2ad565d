"""The application while it starts: it listens from the first moment, so that whoever asks is told what it waits for.

uvicorn accepts nothing before an application's lifespan has begun. A service that waits for Kafka would then look like
one that hangs: no probe is answered, and nobody reads why. Here the probes are answered meanwhile, and everything else
is refused with 503.
"""

import asyncio
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from offhook.http.problems import problem_response

PROBE_PATHS: Final = frozenset({"/startupz", "/healthz", "/readyz", "/metrics"})
"""What is answered while the application starts, and is neither counted nor traced."""

_TRY_AGAIN: Final = 1013  # https://www.iana.org/assignments/websocket: try again later


class Lifespan:
    """`app`, for uvicorn. `settled` is set when the start has succeeded (`started`) or failed (`failure`), and `over`
    when nothing of it runs any more.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._ending = asyncio.Event()
        self.started = False
        self.settled = asyncio.Event()
        self.over = asyncio.Event()
        self.failure: Exception | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif self.started or scope["path"] in PROBE_PATHS:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            refusal = problem_response(
                503, "This process is still starting: try again.", headers={"Retry-After": "1"}
            )
            await refusal(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": _TRY_AGAIN})

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # the word to start
        await send({"type": "lifespan.startup.complete"})
        life = asyncio.create_task(self._run(scope), name="lifespan")
        end = asyncio.ensure_future(receive())  # the word to end
        try:
            await asyncio.wait({life, end}, return_when=asyncio.FIRST_COMPLETED)
            if self.started:
                self._ending.set()
            else:
                life.cancel()  # what it waits for may never come
            await asyncio.wait({life})
        finally:
            life.cancel()
            end.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _run(self, scope: Scope) -> None:
        told_to_start = False

        async def receive() -> Message:
            nonlocal told_to_start
            if not told_to_start:
                told_to_start = True
                return {"type": "lifespan.startup"}
            await self._ending.wait()
            return {"type": "lifespan.shutdown"}

        async def send(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self.started = True
                self.settled.set()

        try:
            await self._app(scope, receive, send)
        except Exception as error:  # noqa: BLE001 - `serve` raises it when everything is closed
            self.failure = error
        finally:
            self.settled.set()
            self.over.set()
