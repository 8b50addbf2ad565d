"""What a service's pages are made with."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from offhook.http.problems import Problem, problem_response
from offhook.security.api_keys import CSRF_HEADER, SAFE_METHODS, ApiKeys
from offhook.security.sessions import Session, Sessions
from offhook.web.assets import assets
from offhook.web.errors import PAGE_HEADERS, Pages, wants_json, wants_page
from offhook.web.forms import Form, local_path, read_form, text_of
from offhook.web.live import Fragments, Streams
from offhook.web.login import Login, LoginLimit

NOTICE_COOKIE: Final = "offhook_notice"
NAVIGATION: Final = (
    ("Numbers & accounts", "/telephony-configurations"),
    ("Workflows", "/workflows"),
    ("Calls", "/calls"),
    ("Webhooks", "/webhooks"),
    ("Dead letters", "/dead-letters"),
)
"""What the pages of all services lead to, whichever service serves them: text and path."""

_NOTICE_S: Final = 60
_MAX_NOTICE_CHARS: Final = 500
_HERE: Final = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class PageUser:
    """Who looks at the page. `csrf` goes into every form; it is empty for a program with a bearer key, which needs none."""

    user_id: str
    csrf: str


class SignInNeeded(Problem):
    """Nobody is logged in. A page's request is led to the login, and back afterwards."""

    def __init__(self, request: Request) -> None:
        there = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        self.location = "/login"
        if request.method in SAFE_METHODS and there != "/":
            self.location = f"/login?next={quote(there, safe='/')}"
        super().__init__(
            401, "You are not signed in, or no longer. Sign in and try again.", location=self.location
        )


class Site:
    """Pages of one service. You must call `install` once, and `close` at the end.

    `templates` is the service's own folder; it finds `base.html`, `forms.html` and `parts.html` here. With `login`
    this service also serves `/login`, `/logout` and `/`; the others send people there. `redis_url` is where tries to
    log in are counted for all processes together. `navigation` are the pages that every page leads to.
    """

    def __init__(
        self,
        *,
        api_keys: ApiKeys,
        sessions: Sessions,
        templates: Path,
        clock: Callable[[], float] = time.time,
        login: bool = False,
        redis_url: str | None = None,
        navigation: Sequence[tuple[str, str]] = NAVIGATION,
        streams: Streams | None = None,
        limit: LoginLimit | None = None,
    ) -> None:
        self._api_keys = api_keys
        self._sessions = sessions
        self._clock = clock
        self._streams = streams or Streams()
        self._limit = (limit or LoginLimit(redis_url, clock=clock)) if login else None
        self._app: FastAPI | None = None
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader([templates, _HERE]),
            autoescape=True,  # everywhere: every template is HTML, whatever its name ends in
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._templates.filters |= {"href": safe_href, "moment": _moment}
        self._templates.globals |= {"asset": assets().url, "navigation": tuple(navigation)}

    def install(self, app: FastAPI) -> None:
        """Serve assets (and the login) in `app`, and make its problems pages where a person asked for one."""
        self._app = app
        app.include_router(assets().router())
        if self._limit is not None:
            app.include_router(Login(self, self._api_keys, self._sessions, self._limit).router())
        app.add_exception_handler(SignInNeeded, self._sign_in)
        unforeseen = app.exception_handlers[Exception]

        async def unforeseen_page(request: Request, error: Exception) -> Response:
            # Answered outside of all middlewares, so `Pages` does not see it.
            if wants_page(request):
                return self.error(request, 500, {})
            answer = unforeseen(request, error)
            return answer if isinstance(answer, Response) else await answer

        app.add_exception_handler(Exception, unforeseen_page)
        app.add_middleware(Pages, page=self.error)

    async def close(self) -> None:
        """Let go of Redis."""
        if self._limit is not None:
            await self._limit.close()

    @property
    def filters(self) -> dict[str, Callable[..., Any]]:
        """The filters of the templates, by name; a service may add its own before the first page."""
        filters: dict[str, Callable[..., Any]] = self._templates.filters
        return filters

    async def user(self, request: Request) -> PageUser:
        """A FastAPI dependency: who is logged in. Nobody: the browser is sent to `/login`, and back afterwards."""
        found = self.user_of(request)
        if found is None:
            raise SignInNeeded(request)
        return found

    def user_of(self, request: Request) -> PageUser | None:
        """Who is logged in, if anybody. An API key as bearer is as good as a login. Other credentials are for somebody
        else, such as a proxy that asks for a password."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            user_id = self._api_keys.user_of(key.strip())
            return None if user_id is None else PageUser(user_id, "")
        session = self._sessions.of_request(request)
        return None if session is None else self._page_user(session)

    def _page_user(self, session: Session) -> PageUser:
        return PageUser(session.holder.user_id, self._sessions.csrf(session))

    async def form(self, request: Request, user: PageUser) -> Form:
        """The fields of a form of this user's page, without `csrf`. Raises a problem: 403, 413, 415 or 422."""
        fields = await read_form(request)
        token = request.headers.get(CSRF_HEADER) or text_of(fields, "csrf")
        fields.pop("csrf", None)
        if user.csrf:
            session = self._sessions.of_request(request)
            if session is None:
                raise SignInNeeded(request)
            if not self._sessions.csrf_matches(session, token):
                detail = (
                    "The form is from another login, or too old. Go back, reload the page and send it again."
                )
                raise Problem(403, detail)
        return fields

    def render(
        self,
        request: Request,
        template: str,
        user: PageUser | None = None,
        *,
        status: int = 200,
        **context: Any,
    ) -> HTMLResponse:
        """A page. `context` are the template's variables; `user`, `path`, `notice` and `now` are there by themselves."""
        notice = self._notice(request)
        html = self._templates.get_template(template).render(
            self._context(request, user) | {"notice": notice} | context
        )
        response = HTMLResponse(html, status, headers=dict(PAGE_HEADERS))
        if NOTICE_COOKIE in request.cookies:
            response.delete_cookie(NOTICE_COOKIE, httponly=True, samesite="lax")
        return response

    def fragment(self, request: Request, template: str, user: PageUser | None, **context: Any) -> str:
        """One piece of a page: a template of its own whose outermost element has the piece's id."""
        return self._templates.get_template(template).render(self._context(request, user) | context).strip()

    def refuse(
        self,
        request: Request,
        template: str,
        user: PageUser,
        errors: Mapping[str, str],
        *,
        status: int = 422,
        detail: str | None = None,
        **context: Any,
    ) -> Response:
        """A form that cannot be accepted: its page again with `errors` by field (and `detail`, of the whole form); for
        the script a problem that says the same."""
        if wants_json(request):
            listed = [{"location": ["body", name], "message": text} for name, text in errors.items()]
            return problem_response(
                status, detail or "Some fields need another look.", more={"errors": listed}
            )
        return self.render(
            request, template, user, status=status, errors=errors, form_error=detail, **context
        )

    def live(
        self,
        request: Request,
        user: PageUser,
        fragments: Fragments,
        *,
        every_s: float = 1.0,
    ) -> StreamingResponse:
        """Server-sent events: `{"id": html}` for the pieces that changed. `fragments` may raise a problem when what the
        page shows is gone. Ends when the login does."""

        def goes_on() -> bool:
            draining = self._app is not None and self._app.state.readiness.draining
            return not draining and self.user_of(request) is not None

        return self._streams.response(request, user.user_id, fragments, every_s=every_s, goes_on=goes_on)

    def redirect(self, url: str, *, notice: str | None = None) -> RedirectResponse:
        """303 to a page of this site; `notice` is shown there, once."""
        response = RedirectResponse(local_path(url), 303, headers={"Cache-Control": "no-store"})
        if notice:
            response.set_cookie(
                NOTICE_COOKIE,
                self._sessions.sign(notice[:_MAX_NOTICE_CHARS]),
                max_age=_NOTICE_S,
                httponly=True,
                samesite="lax",
            )
        return response

    def error(self, request: Request, status: int, problem: Mapping[str, Any]) -> Response:
        """The page of a problem. 401 leads to the login."""
        if status == 401:
            return RedirectResponse(SignInNeeded(request).location, 303, headers=dict(PAGE_HEADERS))
        title, advice = _WORDS.get(status, (HTTPStatus(status).phrase, "Go back and try again."))
        return self.render(
            request,
            "error.html",
            self.user_of(request),
            status=status,
            error_status=status,
            error_title=title,
            error_detail=str(problem.get("detail") or advice),
            error_items=[
                {"field": ".".join(str(part) for part in one.get("location", ())[1:]), "text": one["message"]}
                for one in problem.get("errors", ())
            ],
        )

    async def _sign_in(self, request: Request, error: Exception) -> Response:
        assert isinstance(error, SignInNeeded)
        if wants_page(request):
            return RedirectResponse(error.location, 303, headers=dict(PAGE_HEADERS))
        return problem_response(
            401, error.detail, headers={"WWW-Authenticate": "Bearer"}, more={"location": error.location}
        )

    def _notice(self, request: Request) -> str | None:
        value = request.cookies.get(NOTICE_COOKIE)
        return None if value is None else self._sessions.signed(value)

    def _context(self, request: Request, user: PageUser | None) -> dict[str, Any]:
        return {
            "user": user,
            "path": request.url.path,
            "now": datetime.fromtimestamp(self._clock(), UTC),
            "errors": {},
            "form_error": None,
        }


_WORDS: Final = {
    400: ("That did not work", "The request is not complete. Go back and try again."),
    403: ("Not allowed", "You may not do this."),
    404: ("There is nothing here", "It does not exist, was removed, or belongs to somebody else."),
    405: ("Not this way", "This address is used by a form. Go back to the page it is on."),
    409: ("That contradicts something else", "Go back and look at what changed meanwhile."),
    413: ("Too much at once", "Send less, for example fewer numbers at a time."),
    422: ("Some fields need another look", "Go back and correct them."),
    429: ("Too many tries", "Wait a little and try again."),
    500: ("Something went wrong here", "It has been logged. Try again; if it stays, tell your operator."),
    503: ("Not available right now", "A part this page needs does not answer. Try again in a moment."),
}


def safe_href(url: object) -> str:
    """`url` if following it can only open a page: a path, a fragment, or http(s), tel, mailto. Else `#`."""
    text = str(url).strip()
    return text if text.startswith(("/", "#", "?", "https://", "http://", "tel:", "mailto:")) else "#"


def _moment(at: int | float | str | datetime | None) -> datetime | None:
    """A time as templates are given it (ms since 1970, RFC 3339, a datetime) in UTC."""
    if at is None or isinstance(at, datetime):
        return None if at is None else at.astimezone(UTC)
    if isinstance(at, str):
        return datetime.fromisoformat(at).astimezone(UTC)
    return datetime.fromtimestamp(at / 1000, UTC)
