"""Pages of the webhook log: what providers sent, why it was refused, and trying it again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from call_tracker.cursors import cursor, place_of
from call_tracker.store import Outbox
from call_tracker.viewers import Viewers
from call_tracker.webhook_log import Entry, Explanation, WebhookFilter, WebhookLog, explain
from call_tracker.webhook_log.api import NO_SUCH, NOT_KEPT, surroundings
from call_tracker.webhook_log.explanation import Surroundings
from offhook.events import NearMiss, read_near_miss
from offhook.http import Problem
from offhook.identities import is_id
from offhook.providers.registry import PROVIDERS
from offhook.web import PageUser, Site

WEBHOOKS: Final = "/webhooks"
ONE: Final = WEBHOOKS + "/{webhook_id}"
PAGE_SIZE: Final = 50
_MAX_TEXT: Final = 200
_KINDS: Final = {
    "call": "asks for instructions", "status": "reports progress", "fallback": "asks after a failure",
    "media": "opens the audio", "unknown": "unknown",
}  # fmt: skip
_STATES: Final = {"good": "verified", "bad": "refused", "warning": "drifted", "info": "other"}
_NEAR_MISSES: Final = {
    NearMiss.OTHER_URL.value: "the address",
    NearMiss.FORWARDED_URL.value: "the address that a proxy's header names",
    NearMiss.FORMER_URL.value: "a former public address",
    NearMiss.SLASH.value: "another slash at the end of",
    NearMiss.QUERY_DROPPED.value: "the address without its query",
    NearMiss.QUERY_ENCODING.value: "the query with other percent-encoding",
    NearMiss.OTHER_CREDENTIALS.value: "the secret of the configuration",
    NearMiss.BODY_CHANGED.value: "the body with other spaces, line ends or charset",
    NearMiss.CLOCK.value: "a clock moved by",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """An entry as pages show it."""

    entry: Entry
    explanation: Explanation
    url: str
    state: str
    word: str
    kind: str
    provider: str


def create_router(site: Site, *, webhooks: WebhookLog, viewers: Viewers, outbox: Outbox) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter(include_in_schema=False)

    async def listing(user: PageUser, asked: Mapping[str, str], after: str | None) -> dict[str, Any]:
        viewer = viewers.viewer(user.user_id)
        entries, more = await webhooks.page(viewer, _filter(asked), limit=PAGE_SIZE, after=place_of(after))
        around = surroundings(viewers, viewer)
        following = None
        if more is not None:
            following = f"{WEBHOOKS}?{urlencode(dict(asked) | {'after': cursor(more) or ''})}"
        return {
            "entries": [_shown(entry, around) for entry in entries],
            "next_page": following,
            "filtered": bool(asked),
            "operator": viewer.operator,
        }

    @router.get(WEBHOOKS)
    async def list_page(
        request: Request, user: User, after: Annotated[str | None, Query(max_length=400)] = None
    ) -> Response:
        asked = _asked(request)
        live = None if after else f"{WEBHOOKS}/live?{urlencode(asked)}"
        context = await listing(user, asked, after)
        providers = [("", "All providers"), *((name, adapter.label) for name, adapter in PROVIDERS.items())]
        return site.render(
            request, "webhooks.html", user, live=live, asked=asked, providers=providers, **context
        )

    @router.get(WEBHOOKS + "/live")
    async def list_live(request: Request, user: User) -> Response:
        asked = _asked(request)

        async def fragments() -> Mapping[str, str]:
            piece = site.fragment(request, "webhook-list.html", user, **await listing(user, asked, None))
            return {"webhook-list": piece}

        return site.live(request, user, fragments)

    async def context(user: PageUser, webhook_id: str) -> dict[str, Any]:
        viewer = viewers.viewer(user.user_id)
        entry = await webhooks.find(viewer, webhook_id)
        if entry is None:
            raise Problem(404, NO_SUCH)
        around = surroundings(viewers, viewer)
        results = [_shown(one, around) for one in await webhooks.results(entry.id)]
        waits = entry.replay_at is not None and not any(one.entry.at >= entry.replay_at for one in results)
        return {
            "shown": _shown(entry, around),
            "near": _near(entry, around),
            "results": results,
            "waits": waits,
            "not_kept": NOT_KEPT,
            "public_url": viewers.public_url(),
        }

    @router.get(ONE)
    async def detail_page(request: Request, user: User, webhook_id: str) -> Response:
        return site.render(request, "webhook.html", user, **await context(user, webhook_id))

    @router.get(ONE + "/live")
    async def detail_live(request: Request, user: User, webhook_id: str) -> Response:
        async def fragments() -> Mapping[str, str]:
            found = await context(user, webhook_id)
            return {"webhook-replays": site.fragment(request, "webhook-replays.html", user, **found)}

        return site.live(request, user, fragments)

    @router.get(ONE + "/replay")
    async def replay_page(request: Request, user: User, webhook_id: str) -> Response:
        found = await context(user, webhook_id)
        return site.render(
            request, "replay.html", user,
            title="Replay this webhook?", about=REPLAY_ABOUT, back=found["shown"].url,
            back_text=found["shown"].explanation.title, trail=("Webhooks", WEBHOOKS),
            action=found["shown"].url + "/replay", fields={},
        )  # fmt: skip

    @router.post(ONE + "/replay")
    async def replay(request: Request, user: User, webhook_id: str) -> Response:
        await site.form(request, user)
        asked = await webhooks.ask_again(viewers.viewer(user.user_id), webhook_id)
        if asked is None:
            raise Problem(404, NO_SUCH)
        if not asked:
            raise Problem(409, NOT_KEPT)
        outbox.wake()
        return site.redirect(
            f"{WEBHOOKS}/{quote(webhook_id, safe='')}",
            notice="The gateway tries it again; what comes of it appears here.",
        )

    return router


REPLAY_ABOUT: Final = (
    "The gateway verifies the request as of the time of its arrival, with the configurations and public URLs of today."
    " If it is a status callback and real, what it says is told, and the record of the call follows. Instructions are not"
    " served: that call is long gone."
)


def _asked(request: Request) -> dict[str, str]:
    """The filter of the address; what makes no sense is left out."""
    found: dict[str, str] = {}
    for name in ("provider", "verified", "reason", "account", "run"):
        value = request.query_params.get(name, "").strip()[:_MAX_TEXT]
        if value and "\0" not in value:
            found[name] = value
    for name in ("since", "until"):
        value = request.query_params.get(name, "").strip()[:_MAX_TEXT]
        if value and _moment(value) is not None:
            found[name] = value
    if found.get("verified") not in ("yes", "no"):
        found.pop("verified", None)
    if not is_id(found.get("run", "x")):
        del found["run"]
    return found


def _filter(asked: Mapping[str, str]) -> WebhookFilter:
    verified = asked.get("verified")
    return WebhookFilter(
        provider=asked.get("provider"),
        account=asked.get("account"),
        verified=None if verified is None else verified == "yes",
        reason=asked.get("reason"),
        workflow_run_id=asked.get("run"),
        since=_moment(asked.get("since", "")),
        until=_moment(asked.get("until", "")),
    )


def _moment(text: str) -> datetime | None:
    """A time as browsers send it: local, and the page says that it means UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else None


def _shown(entry: Entry, around: Surroundings) -> Shown:
    said = explain(entry.data, around)
    adapter = PROVIDERS.get(entry.data.provider)
    word = "Refused" if not entry.data.verified else ("Verified" if said.kind == "good" else said.title)
    return Shown(
        entry,
        said,
        f"{WEBHOOKS}/{quote(entry.id, safe='')}",
        _STATES[said.kind],
        word,
        _KINDS.get(entry.data.kind, entry.data.kind),
        adapter.label if adapter else entry.data.provider,
    )


def _near(entry: Entry, around: Surroundings) -> list[tuple[str, str]]:
    """What would have matched: words, and what they are about."""
    found: list[tuple[str, str]] = []
    for text in entry.data.near_misses:
        word, about = read_near_miss(text)
        if word == NearMiss.NOT_LOOKED:
            continue
        if word == NearMiss.OTHER_CREDENTIALS:
            about = around.name_of(about) or "of somebody else"
        elif word == NearMiss.CLOCK:
            about += " s"
        found.append((_NEAR_MISSES.get(word, word), about))
    return found
