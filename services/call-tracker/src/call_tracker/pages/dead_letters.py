"""Pages of the dead letters: what could not be handled, and sending it again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from starlette.requests import Request
from starlette.responses import Response

from call_tracker.cursors import cursor, place_of
from call_tracker.dead_letters import DeadLetterBox, LetterFilter, StoredLetter
from call_tracker.dead_letters.api import BUS_AWAY, NO_SUCH, NOT_REPLAYABLE, refuse
from call_tracker.dead_letters.letters import topic_of
from call_tracker.viewers import Viewers
from offhook.bus.errors import BusError
from offhook.http import Problem
from offhook.identities import is_id
from offhook.topics import ALL_TOPICS
from offhook.web import PageUser, Site
from offhook.web.forms import text_of

DEAD_LETTERS: Final = "/dead-letters"
ONE: Final = DEAD_LETTERS + "/{letter_id}"
PAGE_SIZE: Final = 50
_SHOWN_BYTES: Final = 64 * 1024
_MAX_REASON: Final = 1000
ABOUT: Final = (
    "The record is published to its topic again, as it was, with one more header that says so. Every consumer of the topic"
    " gets it; those that know it already skip it."
)
MANY_ABOUT: Final = (
    "All of them, the oldest first and at most 500 at a time, are published to their topic again, as they were. First put"
    " right what was wrong: what fails again comes back as a new dead letter."
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A letter as pages show it. `value` is JSON, laid out, where it is JSON; bytes that are no text are shown in
    hexadecimal. `why_not`: why it cannot be sent again."""

    stored: StoredLetter
    url: str
    value: str
    cut: bool
    headers: list[tuple[str, str]]
    key: str
    why_not: str | None


def create_router(site: Site, *, letters: DeadLetterBox, viewers: Viewers) -> APIRouter:
    User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
    router = APIRouter(include_in_schema=False)

    async def listing(user: PageUser, asked: Mapping[str, str], after: str | None) -> dict[str, Any]:
        viewer = viewers.viewer(user.user_id)
        found, more = await letters.page(viewer, _filter(asked), limit=PAGE_SIZE, after=place_of(after))
        following = None
        if more is not None:
            following = f"{DEAD_LETTERS}?{urlencode(dict(asked) | {'after': cursor(more) or ''})}"
        return {
            "letters": found,
            "heaps": [] if asked or after else await letters.heaps(viewer),
            "next_page": following,
            "filtered": bool(asked),
            "operator": viewer.operator,
            "replayable": {topic.name for topic in ALL_TOPICS if topic_of(topic.name) is not None},
            "many_about": MANY_ABOUT,
            "reason_query": lambda heap: urlencode({"reason": heap.reason, "topic": heap.topic}),
        }

    @router.get(DEAD_LETTERS)
    async def list_page(
        request: Request, user: User, after: Annotated[str | None, Query(max_length=400)] = None
    ) -> Response:
        asked = _asked(request)
        live = None if after else f"{DEAD_LETTERS}/live?{urlencode(asked)}"
        topics = [("", "All topics"), *((topic.name, topic.name) for topic in ALL_TOPICS)]
        return site.render(
            request, "dead-letters.html", user, live=live, asked=asked, topics=topics,
            **await listing(user, asked, after),
        )  # fmt: skip

    @router.get(DEAD_LETTERS + "/live")
    async def list_live(request: Request, user: User) -> Response:
        asked = _asked(request)

        async def fragments() -> Mapping[str, str]:
            found = await listing(user, asked, None)
            return {"letter-list": site.fragment(request, "dead-letter-list.html", user, **found)}

        return site.live(request, user, fragments)

    # --- many

    @router.get(DEAD_LETTERS + "/replay")
    async def replay_many_page(
        request: Request,
        user: User,
        reason: Annotated[str, Query(max_length=_MAX_REASON)] = "",
        topic: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        return site.render(
            request, "replay.html", user,
            title="Replay all dead letters with this reason?", about=f"{reason} {MANY_ABOUT}",
            back=DEAD_LETTERS, back_text="Dead letters", trail=("Dead letters", DEAD_LETTERS),
            action=DEAD_LETTERS + "/replay", fields={"reason": reason, "topic": topic},
        )  # fmt: skip

    @router.post(DEAD_LETTERS + "/replay")
    async def replay_many(request: Request, user: User) -> Response:
        form = await site.form(request, user)
        reason, topic = text_of(form, "reason")[:_MAX_REASON], text_of(form, "topic")[:200]
        if not reason:
            raise Problem(422, "Say which reason.")
        try:
            sent, left, _ = await letters.replay_all(viewers.viewer(user.user_id), reason, topic or None)
        except BusError:
            raise Problem(503, BUS_AWAY) from None
        more = f" {left} more wait for the same reason." if left else ""
        return site.redirect(DEAD_LETTERS, notice=f"{sent} sent again.{more}")

    # --- one

    async def context(user: PageUser, letter_id: str) -> dict[str, Any]:
        viewer = viewers.viewer(user.user_id)
        found = await letters.find(viewer, letter_id)
        if found is None:
            raise Problem(404, NO_SUCH)
        origin = None
        if found.letter.replay_of is not None:
            origin = await letters.find(viewer, found.letter.replay_of)
        return {
            "shown": _shown(found),
            "came_back": await letters.came_back(viewer, letter_id),
            "origin": origin,
            "about": ABOUT,
        }

    @router.get(ONE)
    async def detail_page(request: Request, user: User, letter_id: str) -> Response:
        return site.render(request, "dead-letter.html", user, **await context(user, letter_id))

    @router.get(ONE + "/live")
    async def detail_live(request: Request, user: User, letter_id: str) -> Response:
        async def fragments() -> Mapping[str, str]:
            found = await context(user, letter_id)
            return {"letter-replay": site.fragment(request, "dead-letter-replay.html", user, **found)}

        return site.live(request, user, fragments)

    @router.get(ONE + "/replay")
    async def replay_page(request: Request, user: User, letter_id: str) -> Response:
        found = await context(user, letter_id)
        url = found["shown"].url
        return site.render(
            request, "replay.html", user,
            title="Replay this dead letter?", about=ABOUT, back=url, back_text="Dead letter",
            trail=("Dead letters", DEAD_LETTERS), action=url + "/replay", fields={},
        )  # fmt: skip

    @router.post(ONE + "/replay")
    async def replay(request: Request, user: User, letter_id: str) -> Response:
        await site.form(request, user)
        try:
            refuse(await letters.replay(viewers.viewer(user.user_id), letter_id))
        except BusError:
            raise Problem(503, BUS_AWAY) from None
        return site.redirect(f"{DEAD_LETTERS}/{letter_id}", notice="Sent again, to the topic it came from.")

    return router


def _asked(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, limit in (("topic", 200), ("reason", _MAX_REASON), ("state", 10), ("run", 64)):
        value = request.query_params.get(name, "").strip()[:limit]
        if value and "\0" not in value:
            found[name] = value
    if found.get("state") not in ("waiting", "replayed"):
        found.pop("state", None)
    if not is_id(found.get("run", "x")):
        del found["run"]
    return found


def _filter(asked: Mapping[str, str]) -> LetterFilter:
    state = asked.get("state")
    return LetterFilter(
        topic=asked.get("topic"),
        reason=asked.get("reason"),
        replayed=None if state is None else state == "replayed",
        workflow_run_id=asked.get("run"),
    )


def _shown(stored: StoredLetter) -> Shown:
    letter = stored.letter
    value = (letter.value or b"")[:_SHOWN_BYTES]
    why_not = None
    if stored.state != "replayed" and not stored.replayable:
        why_not = NOT_REPLAYABLE
    return Shown(
        stored,
        f"{DEAD_LETTERS}/{letter.id}",
        _readable(value),
        letter.value_bytes > len(value),
        [(name, _text(each)) for name, each in letter.headers],
        "" if letter.key is None else _text(letter.key),
        why_not,
    )


def _readable(value: bytes) -> str:
    try:
        return json.dumps(json.loads(value), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return _text(value)


def _text(value: bytes) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return value.hex(" ")
    return text if all(letter.isprintable() or letter in "\r\n\t" for letter in text) else value.hex(" ")
