"""The pages: calls, one call.

    calls.py       routes of the list and of one call
    templates/     one template a page, and one for each piece that follows what happens

Routes ask the store directly and show only what belongs to whoever looks.
"""

from fastapi import APIRouter

from call_tracker.pages import calls
from call_tracker.pages.parts import TEMPLATES, PageParts
from offhook.web import Site

__all__ = ["TEMPLATES", "PageParts", "create_pages"]


def create_pages(site: Site, parts: PageParts) -> APIRouter:
    """All pages. `site` has `TEMPLATES` as its templates."""
    router = APIRouter(include_in_schema=False)
    router.include_router(calls.create_router(site, parts))
    return router
