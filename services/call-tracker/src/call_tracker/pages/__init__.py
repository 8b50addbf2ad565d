"""The pages: calls, one call.

    calls.py  one_call.py     routes
    call_rows.py  call_view.py  filters.py  export.py     what they say, and are asked
    telling.py  timeline.py  explanations.py  charts.py  wording.py     in words and drawings; pure
    templates/     one template a page, and one for each piece that follows what happens

Routes ask the store directly and show only what belongs to whoever looks.
"""

from fastapi import APIRouter

from call_tracker.pages import calls, one_call
from call_tracker.pages.parts import TEMPLATES, PageParts
from call_tracker.pages.wording import offset, readable
from offhook.web import Site

__all__ = ["TEMPLATES", "PageParts", "create_pages"]


def create_pages(site: Site, parts: PageParts) -> APIRouter:
    """All pages. `site` has `TEMPLATES` as its templates."""
    site.filters["spoken_number"] = readable
    site.filters["offset"] = offset
    router = APIRouter(include_in_schema=False)
    router.include_router(calls.create_router(site, parts))
    router.include_router(one_call.create_router(site, parts))
    return router
