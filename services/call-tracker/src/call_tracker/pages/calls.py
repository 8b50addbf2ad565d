"""Pages of calls."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from call_tracker.pages.parts import PageParts
from call_tracker.store import CallFilter
from offhook.web import PageUser, Site

CALLS: Final = "/calls"
PAGE_SIZE: Final = 50


def create_router(site: Site, parts: PageParts) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter()

    @router.get(CALLS)
    async def list_page(request: Request, user: User) -> Response:
        calls, _ = await parts.store.calls(user.user_id, CallFilter(), limit=PAGE_SIZE)
        return site.render(request, "calls.html", user, calls=calls)

    return router
