"""The list of calls: filters, figures, export."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from call_tracker.cursors import Place, cursor, place_of
from call_tracker.pages import filters
from call_tracker.pages.call_rows import CALLS, row
from call_tracker.pages.charts import HEIGHT, Chart, chart
from call_tracker.pages.export import MAX_ROWS, export
from call_tracker.pages.filters import Asked, asked
from call_tracker.pages.parts import PageParts
from call_tracker.store import Position
from call_tracker.store.figures import figures as count_figures
from offhook.providers.registry import PROVIDERS
from offhook.web import PageUser, Site
from offhook.web.errors import PAGE_HEADERS

EXPORT: Final = f"{CALLS}.csv"
PAGE_SIZE: Final = 50
_DAY: Final = timedelta(hours=24)
_FIGURES_S: Final = 3.0
_MOST_KEPT: Final = 1000

After = Annotated[str | None, Query(max_length=400)]


@dataclass(frozen=True, slots=True)
class _Kept:
    made: float
    chart: Chart


def create_router(site: Site, parts: PageParts) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter()
    kept: dict[str, _Kept] = {}

    async def figures(user: PageUser) -> Chart:
        """Of the last day; for a moment, all pages of a user show the same."""
        now = time.monotonic()
        known = kept.get(user.user_id)
        if known is not None and now - known.made < _FIGURES_S:
            return known.chart
        until = parts.clock()
        async with parts.store.database.read() as connection:
            drawn = chart(await count_figures(connection, user.user_id, until - _DAY, until))
        if len(kept) >= _MOST_KEPT:
            kept.clear()
        kept[user.user_id] = _Kept(now, drawn)
        return drawn

    def name_of(user: PageUser) -> Any:
        def name(workflow_id: str) -> str | None:
            found = parts.holdings.workflow(workflow_id)
            return found.name if found is not None and found.user_id == user.user_id else None

        return name

    async def listing(user: PageUser, which: Asked, after: str | None) -> dict[str, Any]:
        place = place_of(after)
        position = None if place is None else Position(place.at_us, place.id)
        calls, more = await parts.store.calls(user.user_id, which.which, limit=PAGE_SIZE, after=position)
        following = None if more is None else cursor(Place(more.began_us, more.workflow_run_id))
        now, name = parts.clock(), name_of(user)
        return {
            "rows": [row(call, name, now) for call in calls],
            "next_page": following and f"{CALLS}?{which.query(after=following)}",
            "first_page": f"{CALLS}?{which.query()}" if after else None,
            "asked": which,
        }

    @router.get(CALLS)
    async def list_page(request: Request, user: User, after: After = None) -> Response:
        which = asked(request.query_params)
        workflows = sorted(
            ((one.workflow_id, one.name) for one in parts.holdings.workflows_of(user.user_id)),
            key=lambda pair: pair[1].lower(),
        )
        choices = {
            "statuses": filters.STATUSES,
            "directions": filters.DIRECTIONS,
            "end_reasons": filters.END_REASONS,
            "workflows": workflows,
            "providers": [(name, adapter.label) for name, adapter in PROVIDERS.items()],
        }
        found: dict[str, Any] = {
            **await listing(user, which, after),
            "choices": choices,
            "chart": await figures(user),
            "chart_height": HEIGHT,
            "live": f"{CALLS}/live?{which.query(after=after)}",
            "export": f"{EXPORT}?{which.query()}",
            "export_limit": MAX_ROWS,
            "errors": which.errors,
        }
        return site.render(request, "calls.html", user, **found)

    @router.get(CALLS + "/live")
    async def list_live(request: Request, user: User, after: After = None) -> Response:
        which = asked(request.query_params)
        place_of(after)  # refused now, not in the stream

        async def fragments() -> Mapping[str, str]:
            found = await listing(user, which, after)
            drawn = await figures(user)
            return {
                "call-figures": site.fragment(
                    request, "call-figures.html", user, chart=drawn, chart_height=HEIGHT
                ),
                "call-rows": site.fragment(request, "call-rows.html", user, **found),
                "call-empty": site.fragment(request, "call-empty.html", user, **found),
                "call-more": site.fragment(request, "call-more.html", user, **found),
            }

        return site.live(request, user, fragments)

    @router.get(EXPORT)
    async def export_csv(request: Request, user: User) -> Response:
        which = asked(request.query_params)
        name = name_of(user)
        lines = export(parts.store, user.user_id, which.which, lambda workflow_id: name(workflow_id) or "")
        first = await anext(lines)

        async def content() -> Any:
            yield first
            async for piece in lines:
                yield piece

        file = f"calls-{parts.clock():%Y-%m-%d-%H%M}.csv"
        headers = PAGE_HEADERS | {"Content-Disposition": f'attachment; filename="{file}"'}
        return StreamingResponse(content(), media_type="text/csv; charset=utf-8", headers=headers)

    return router
