"""`/api/v1/dead-letters`: records that could not be handled, and sending them again."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from call_tracker.cursors import cursor, place_of
from call_tracker.dead_letters.box import DeadLetterBox, LetterFilter, StoredLetter
from call_tracker.viewers import Viewers
from call_tracker.webhook_log.api import NO_NUL
from offhook.bus.errors import BusError
from offhook.http import Problem
from offhook.identities import ID_PATTERN

PREFIX: Final = "/api/v1/dead-letters"
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
SHOWN_BYTES: Final = 64 * 1024
NO_SUCH: Final = "There is no such dead letter, or it is somebody else's."
ALREADY: Final = (
    "This dead letter has been replayed already. If its record failed again, it is a dead letter of its own."
)
NOT_REPLAYABLE: Final = (
    "This dead letter cannot be replayed: its topic takes no old records, or it was too large to keep."
)
BUS_AWAY: Final = "Kafka does not take the record; nothing was changed. Try again in a few seconds."


class LetterOut(BaseModel):
    """One record that could not be handled: where it was, who could not handle it, and why."""

    id: str
    at: datetime
    topic: str
    partition: int
    offset: int
    recorded_at: datetime | None
    consumer: str
    service: str
    reason: str
    event_type: str | None
    workflow_run_id: str | None
    state: Literal["waiting", "replayed"]
    replayable: bool
    replayed_at: datetime | None
    replayed_by: str | None
    replay_of: str | None


class HeapOut(BaseModel):
    """How many letters wait for one reason."""

    topic: str
    reason: str
    count: int


class LettersOut(BaseModel):
    """Newest first. `next_cursor` is what to give as `cursor` for the following page, null at the end."""

    dead_letters: list[LetterOut]
    waiting: list[HeapOut]
    next_cursor: str | None


class LetterDetail(LetterOut):
    """With the record itself. Bytes that are no UTF-8 are shown as U+FFFD; `value` holds at most 64 KiB."""

    key: str | None
    headers: list[tuple[str, str]]
    value: str | None
    value_bytes: int
    came_back_as: str | None


class Replayed(BaseModel):
    """The record was published again, to the topic it came from."""

    id: str
    topic: str


class HeapIn(BaseModel):
    """Which letters: all that wait for this reason (as it is told) since before `until` (now), of one topic or of all."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1000, pattern=NO_NUL)
    topic: str | None = Field(None, max_length=200, pattern=NO_NUL)
    until: AwareDatetime | None = None


class HeapReplayed(BaseModel):
    """How many were published again, and how many from before `until` still wait for this reason."""

    replayed: int
    waiting: int
    until: datetime


def create_router(
    *, letters: DeadLetterBox, viewers: Viewers, authenticate: Callable[..., Awaitable[str]]
) -> APIRouter:
    """All routes. `authenticate` is a dependency: the user who asks."""
    User = Annotated[str, Depends(authenticate)]  # noqa: N806 - a type
    router = APIRouter(prefix=PREFIX, tags=["dead letters"])

    @router.get("")
    async def list_dead_letters(
        user: User,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
        cursor_text: Annotated[str | None, Query(alias="cursor", max_length=400)] = None,
        topic: Annotated[str | None, Query(max_length=200, pattern=NO_NUL)] = None,
        reason: Annotated[str | None, Query(max_length=1000, pattern=NO_NUL)] = None,
        replayed: bool | None = None,
        workflow_run_id: Annotated[str | None, Query(pattern=ID_PATTERN)] = None,
    ) -> LettersOut:
        """Dead letters, newest first: of your calls, or all for an operator; and what waits, by reason."""
        viewer = viewers.viewer(user)
        which = LetterFilter(topic, reason, replayed, workflow_run_id)
        found, more = await letters.page(viewer, which, limit=limit, after=place_of(cursor_text))
        heaps = await letters.heaps(viewer)
        return LettersOut(
            dead_letters=[LetterOut(**_fields(one)) for one in found],
            waiting=[HeapOut(topic=heap.topic, reason=heap.reason, count=heap.count) for heap in heaps],
            next_cursor=cursor(more),
        )

    @router.get("/{letter_id}")
    async def read_dead_letter(user: User, letter_id: str) -> LetterDetail:
        """One dead letter with its record."""
        viewer = viewers.viewer(user)
        found = await letters.find(viewer, letter_id)
        if found is None:
            raise Problem(404, NO_SUCH, reason="unknown-dead-letter")
        again = await letters.came_back(viewer, letter_id)
        letter = found.letter
        return LetterDetail(
            **_fields(found),
            key=None if letter.key is None else letter.key.decode("utf-8", "replace"),
            headers=[(name, value.decode("utf-8", "replace")) for name, value in letter.headers],
            value=None if letter.value is None else letter.value[:SHOWN_BYTES].decode("utf-8", "replace"),
            value_bytes=letter.value_bytes,
            came_back_as=None if again is None else again.letter.id,
        )

    @router.post("/replay")
    async def replay_dead_letters(user: User, body: HeapIn) -> HeapReplayed:
        """Send all that wait for a reason again, the oldest first, at most 500 at once."""
        try:
            sent, left, until = await letters.replay_all(
                viewers.viewer(user), body.reason, body.topic, body.until
            )
        except BusError:
            raise Problem(503, BUS_AWAY, headers={"Retry-After": "5"}) from None
        return HeapReplayed(replayed=sent, waiting=left, until=until)

    @router.post("/{letter_id}/replay")
    async def replay_dead_letter(user: User, letter_id: str) -> Replayed:
        """Send the record again, to the topic it came from, as it was and with one more header (`replay_of`)."""
        viewer = viewers.viewer(user)
        try:
            outcome = await letters.replay(viewer, letter_id)
        except BusError:
            raise Problem(503, BUS_AWAY, headers={"Retry-After": "5"}) from None
        refuse(outcome)
        found = await letters.find(viewer, letter_id)
        return Replayed(id=letter_id, topic="" if found is None else found.letter.topic)

    return router


def refuse(outcome: str) -> None:
    """Raise the problem of a letter that was not sent again."""
    if outcome == "unknown":
        raise Problem(404, NO_SUCH, reason="unknown-dead-letter")
    if outcome == "already-replayed":
        raise Problem(409, ALREADY, reason="already-replayed")
    if outcome == "not-replayable":
        raise Problem(409, NOT_REPLAYABLE, reason="not-replayable")


def _fields(stored: StoredLetter) -> dict[str, object]:
    letter = stored.letter
    return {
        "id": letter.id, "at": letter.at, "topic": letter.topic, "partition": letter.partition,
        "offset": letter.offset, "recorded_at": letter.recorded_at, "consumer": letter.consumer,
        "service": letter.service, "reason": letter.reason, "event_type": letter.event_type,
        "workflow_run_id": letter.workflow_run_id,
        "state": "replayed" if stored.state == "replayed" else "waiting",
        "replayable": stored.replayable, "replayed_at": stored.replayed_at, "replayed_by": stored.replayed_by,
        "replay_of": letter.replay_of,
    }  # fmt: skip
