"""A service with pages, as the tests run it, and browsers without script."""

import base64
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from offhook.http import Problem, create_app
from offhook.security.api_keys import ApiKeys, require_user, setting_entry
from offhook.security.sessions import Sessions
from offhook.web import PageUser, Site
from offhook.web.live import Streams
from offhook.web.login import LoginLimit

KEYS = {"ada": "ohk_key-of-ada-for-tests-only", "bob": "ohk_key-of-bob-for-tests-only"}
SESSION_KEY = base64.b64encode(b"k" * 32).decode()
_PAGE = """{% extends "base.html" %}{% import "forms.html" as forms %}
{% block title %}A page{% endblock %}
{% block content %}<h1>Hello {{ user.user_id }}</h1>{{ forms.errors(errors, form_error) }}
{% call forms.form("/save", user) %}{{ forms.field("name", "Name", name, error=errors.get("name")) }}{% endcall %}
{% endblock %}"""


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Service:
    """A service with a few pages. `saved` is what its form was sent, `pieces` what its live page shows."""

    app: FastAPI
    site: Site
    sessions: Sessions
    streams: Streams
    clock: Clock
    saved: list[Any] = field(default_factory=list)
    pieces: dict[str, str] = field(default_factory=dict)

    def browser(self, **options: Any) -> httpx.AsyncClient:
        """What a browser sends, and a cookie jar. Redirects are not followed."""
        headers = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", **options.pop("headers", {})}
        transport = httpx.ASGITransport(
            app=self.app, client=options.pop("client", ("127.0.0.1", 1)), raise_app_exceptions=False
        )
        return httpx.AsyncClient(
            transport=transport, base_url=options.pop("base_url", "http://offhook.test"), headers=headers
        )

    async def signed_in(self, user: str = "ada", **options: Any) -> httpx.AsyncClient:
        browser = self.browser(**options)
        answer = await browser.post("/login", data={"key": KEYS[user]})
        assert answer.status_code == 303, answer.text
        return browser

    def csrf(self, browser: httpx.AsyncClient) -> str:
        session = self.sessions.read(browser.cookies["offhook_session"])
        assert session is not None
        return self.sessions.csrf(session)


def make_service(templates: Path, limit: LoginLimit | None = None, streams: Streams | None = None) -> Service:
    (templates / "page.html").write_text(_PAGE)
    (templates / "piece.html").write_text('<p id="piece">{{ text }}</p>')
    clock = Clock()
    api_keys = ApiKeys(",".join(setting_entry(user, key) for user, key in KEYS.items()))
    sessions = Sessions(SESSION_KEY, api_keys, clock=clock)
    streams = streams or Streams(keep_alive_s=0.05)
    site = Site(
        api_keys=api_keys, sessions=sessions, templates=templates, clock=clock, login=True, limit=limit,
        streams=streams,
    )  # fmt: skip
    app = create_app("number-sync", max_body_bytes=64 * 1024)
    site.install(app)
    service = Service(app, site, sessions, streams, clock)
    user = Annotated[PageUser, Depends(site.user)]

    @app.get("/page")
    async def page(request: Request, user: user) -> Response:  # type: ignore[valid-type]
        return site.render(request, "page.html", user, name="")

    @app.post("/save")
    async def save(request: Request, user: user) -> Response:  # type: ignore[valid-type]
        form = await site.form(request, user)
        if form.get("name") == "taken":
            return site.refuse(request, "page.html", user, {"name": "This name is taken."}, name="taken")
        service.saved.append(form)
        return site.redirect("/page", notice="Saved <b>it</b>.")

    @app.get("/live")
    async def live(request: Request, user: user) -> StreamingResponse:  # type: ignore[valid-type]
        async def fragments() -> dict[str, str]:
            if "gone" in service.pieces:
                raise Problem(404, "It is gone.")
            return {
                name: site.fragment(request, "piece.html", user, text=text)
                for name, text in service.pieces.items()
            }

        return site.live(request, user, fragments, every_s=0.01)

    @app.get("/fails/{status}")
    async def fails(status: int) -> None:
        if status == 500:
            raise RuntimeError("the secret of the house")
        raise Problem(status, f"Told <i>so</i> with {status}.", headers={"Retry-After": "7"})

    @app.post("/api/v1/things")
    @app.get("/api/v1/things")
    async def things(who: Annotated[str, Depends(require_user(api_keys, sessions))]) -> str:
        return who

    return service
