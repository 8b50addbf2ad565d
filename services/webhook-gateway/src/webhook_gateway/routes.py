"""The four paths as plain ASGI endpoints: no framework value takes part in what is signed, and no time is
lost."""

import time
from collections.abc import Callable, Mapping
from typing import Final

from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from offhook.http.observation import Observation
from offhook.http.problems import problem_response
from offhook.identities import INBOUND_FALLBACK_PATH, INBOUND_PATH, TELEPHONY_PREFIX, is_id
from offhook.providers.base import HttpAnswer
from webhook_gateway.arrivals import Outcome, Target
from webhook_gateway.gateway import Gateway
from webhook_gateway.intake import DisconnectedError, IntakeError, discard, take

_METHODS: Final = ("GET", "POST")
_MakeTarget = Callable[[Mapping[str, str]], Target]


def webhook_routes(gateway: Gateway, *, max_body: int, body_timeout_s: float) -> list[Route]:
    """The routes providers use."""

    def call(ids: Mapping[str, str]) -> Target:
        return Target("call", ids["workflow_run_id"], ids["workflow_id"], ids["user_id"])

    def status(ids: Mapping[str, str]) -> Target:
        return Target("status", ids["workflow_run_id"])

    paths: tuple[tuple[str, _MakeTarget], ...] = (
        (TELEPHONY_PREFIX + "/webhook/{workflow_id}/{user_id}/{workflow_run_id}", call),
        (TELEPHONY_PREFIX + "/status-callback/{workflow_run_id}", status),
        (INBOUND_PATH, lambda _: Target("call")),
        (INBOUND_FALLBACK_PATH, lambda _: Target("fallback")),
    )
    return [
        Route(path, Observation(_Endpoint(gateway, target, max_body, body_timeout_s)))
        for path, target in paths
    ]


class ProvidersFirst:
    """ASGI middleware: what providers send goes to its route at once, past the layers that only APIs for people need.

    Unknown paths below the prefix are the application's to refuse.
    """

    def __init__(self, app: ASGIApp, routes: list[Route]) -> None:
        self._app = app
        # A slash at the end is another URL, and signed as such: no redirect may hide it.
        self._providers = Router(routes, redirect_slashes=False, default=app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(TELEPHONY_PREFIX + "/"):
            await self._providers(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class _Endpoint:
    """One path. An object and not a function, so that Starlette hands over the raw scope."""

    def __init__(self, gateway: Gateway, target: _MakeTarget, max_body: int, body_timeout_s: float) -> None:
        self._gateway = gateway
        self._target = target
        self._max_body = max_body
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        if scope["method"] not in _METHODS:
            allow = {"Allow": ", ".join(_METHODS)}
            await problem_response(405, "Providers use GET or POST.", headers=allow)(scope, receive, send)
            return
        ids: Mapping[str, str] = scope["path_params"]
        if not all(is_id(value) for value in ids.values()):
            await problem_response(404, "The path has an id that no call can have.")(scope, receive, send)
            return
        target = self._target(ids)
        remote = scope["client"][0] if scope.get("client") else None
        try:
            request = await take(
                scope,
                receive,
                origins=self._gateway.origins(),
                max_body=self._max_body,
                timeout_s=self._body_timeout_s,
            )
        except DisconnectedError:
            return
        except IntakeError as error:
            outcome = Outcome(HttpAnswer(error.status), error.reason, workflow_run_id=target.workflow_run_id)
            path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
            self._gateway.note(target.kind, scope["method"], path, outcome, remote=remote, started=started)
            if error.status == 413:
                await discard(receive)
            refusal = problem_response(error.status, str(error), headers={"Connection": "close"})
            await refusal(scope, receive, send)
            return
        answer = await self._gateway.answer(target, request, remote=remote, started=started)
        await _send(send, answer)


# Twilio caches what it got with GET (https://www.twilio.com/docs/usage/security): no answer may be used twice.
_NO_STORE: Final = (b"cache-control", b"no-store")


async def _send(send: Send, answer: HttpAnswer) -> None:
    headers = [_NO_STORE]
    if answer.status != 204:
        headers.append((b"content-length", str(len(answer.body)).encode()))
    if answer.content_type is not None:
        headers.append((b"content-type", answer.content_type.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
