"""The store of dead letters, and sending them again.

Sending again is: claim the letter in the database, publish the record as it was with one more header (`replay_of`), note
that it was done. A crash in between leaves a claim that counts as none after half a minute; the record may then be sent
twice, which is harmless: its events have the ids they had, and every consumer drops ids it has stored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import structlog
from sqlalchemy import (
    ColumnElement,
    Row,
    delete,
    exists,
    false,
    func,
    or_,
    select,
    true,
    tuple_,
    update,
)

from call_tracker.cursors import Place
from call_tracker.dead_letters.letters import (
    REPLAY_HEADER,
    Letter,
    Record,
    letter_of,
    pack_headers,
    topic_of,
    unpack_headers,
)
from call_tracker.store.calls import upsert
from call_tracker.store.database import Database
from call_tracker.store.errors import StoreRefusal
from call_tracker.store.log_tables import DEAD_LETTERS
from call_tracker.store.store import Clock
from call_tracker.store.tables import CALLS
from call_tracker.viewers import Viewer
from offhook.bus import Bus
from offhook.bus.errors import BusError
from offhook.identities import is_id

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORGET_AT_ONCE: Final = 1000
_CLAIM_S: Final = 30.0
MAX_AT_ONCE: Final = 500
"""Letters that one bulk replay sends."""

State = Literal["waiting", "claimed", "replayed"]
Outcome = Literal["replayed", "unknown", "already-replayed", "not-replayable"]

# A page of letters with their records could have megabytes.
_LISTED: Final = tuple(
    column for column in DEAD_LETTERS.columns if column.name not in ("key", "value", "headers")
)

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters to list; None does not restrict."""

    topic: str | None = None
    reason: str | None = None
    replayed: bool | None = None
    workflow_run_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoredLetter:
    """A letter and what became of it. `came_back` is the letter it became when its replay failed, too."""

    letter: Letter
    state: State
    replayed_at: datetime | None
    replayed_by: str | None

    @property
    def replayable(self) -> bool:
        """Whether it can be sent again: it is whole, its topic takes it, and it has not been sent again."""
        return self.state != "replayed" and self.letter.whole and topic_of(self.letter.topic) is not None


@dataclass(frozen=True, slots=True)
class Heap:
    """Letters of one topic that wait for the same reason."""

    topic: str
    reason: str
    count: int


class DeadLetterBox:
    """You must migrate the database before use. All methods raise `StoreUnavailable`."""

    def __init__(self, database: Database, bus: Bus, clock: Clock) -> None:
        self._database = database
        self._bus = bus
        self._clock = clock

    async def take(self, records: Sequence[Record]) -> None:
        """The handler of the topic. What cannot be stored is logged and skipped: there is no other place for it."""
        letters = [letter_of(record) for record in records]
        try:
            await self._add(letters)
        except StoreRefusal:
            for letter in letters:
                try:
                    await self._add([letter])
                except StoreRefusal as error:
                    _log.error(
                        "a dead letter cannot be stored",
                        topic=letter.topic,
                        offset=letter.offset,
                        error=str(error),
                    )

    async def _add(self, letters: Sequence[Letter]) -> None:
        rows = {letter.id: _row(letter) for letter in letters}
        async with self._database.write() as connection:
            statement = upsert(connection, DEAD_LETTERS).on_conflict_do_nothing(index_elements=["id"])
            await connection.execute(statement, list(rows.values()))

    async def page(
        self, viewer: Viewer, which: LetterFilter, *, limit: int, after: Place | None = None
    ) -> tuple[list[StoredLetter], Place | None]:
        """Letters the viewer may see, newest first and without their records, and where to go on."""
        query = select(*_LISTED).where(_seen_by(viewer), *_conditions(which))
        if after is not None:
            query = query.where(tuple_(DEAD_LETTERS.c.at_us, DEAD_LETTERS.c.id) < (after.at_us, after.id))
        query = query.order_by(DEAD_LETTERS.c.at_us.desc(), DEAD_LETTERS.c.id.desc()).limit(limit + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        page = rows[:limit]
        more = Place(page[-1].at_us, page[-1].id) if len(rows) > limit else None
        return [_stored(row, with_record=False) for row in page], more

    async def find(self, viewer: Viewer, letter_id: str) -> StoredLetter | None:
        """One letter, if the viewer may see it."""
        if not is_id(letter_id):
            return None
        query = select(DEAD_LETTERS).where(_seen_by(viewer), DEAD_LETTERS.c.id == letter_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _stored(row)

    async def came_back(self, viewer: Viewer, letter_id: str) -> StoredLetter | None:
        """The letter that a replay of this one became, because it could not be handled either."""
        query = select(DEAD_LETTERS).where(_seen_by(viewer), DEAD_LETTERS.c.replay_of == letter_id)
        query = query.order_by(DEAD_LETTERS.c.at_us.desc()).limit(1)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _stored(row)

    async def heaps(self, viewer: Viewer, limit: int = 20) -> Sequence[Heap]:
        """What waits, by topic and reason, the largest first."""
        columns = (DEAD_LETTERS.c.topic, DEAD_LETTERS.c.reason)
        count = func.count().label("count")
        query = select(*columns, count).where(_seen_by(viewer), DEAD_LETTERS.c.state != "replayed")
        query = query.group_by(*columns).order_by(count.desc(), *columns).limit(limit)
        async with self._database.read() as connection:
            return [Heap(row[0], row[1], row[2]) for row in await connection.execute(query)]

    async def replay(self, viewer: Viewer, letter_id: str) -> Outcome:
        """Send a letter back to its topic. Raises `BusError` when Kafka does not take it: nothing was changed then."""
        stored = await self.find(viewer, letter_id)
        if stored is None:
            return "unknown"
        if stored.state == "replayed":
            return "already-replayed"
        topic = topic_of(stored.letter.topic)
        if topic is None or not stored.letter.whole:
            return "not-replayable"
        if not await self._claim(letter_id, viewer.user_id):
            return "already-replayed"
        letter = stored.letter
        headers = [(name, value) for name, value in letter.headers if name != REPLAY_HEADER]
        try:
            await self._bus.republish(
                topic, letter.key, letter.value, [*headers, (REPLAY_HEADER, letter.id.encode())]
            )
        except BusError:
            await self._note(letter_id, "waiting")
            raise
        await self._note(letter_id, "replayed")
        _log.info("dead letter replayed", letter=letter_id, topic=topic.name, by=viewer.user_id)
        return "replayed"

    async def replay_all(
        self, viewer: Viewer, reason: str, topic: str | None = None, until: datetime | None = None
    ) -> tuple[int, int, datetime]:
        """Send letters that wait for this reason since before `until` (now), the oldest first, at most `MAX_AT_ONCE`;
        returns how many were sent, how many of before `until` still wait, and `until`: what fails again is later."""
        until = until or self._clock()
        waiting = [
            _seen_by(viewer), DEAD_LETTERS.c.state != "replayed", DEAD_LETTERS.c.reason == reason,
            DEAD_LETTERS.c.at_us <= _micros(until),
            *([DEAD_LETTERS.c.topic == topic] if topic is not None else []),
        ]  # fmt: skip
        columns = DEAD_LETTERS.c
        query = select(columns.id).where(*waiting).order_by(columns.at_us, columns.offset, columns.id)
        async with self._database.read() as connection:
            ids = (await connection.execute(query.limit(MAX_AT_ONCE))).scalars().all()
        sent = 0
        for letter_id in ids:
            sent += await self.replay(viewer, letter_id) == "replayed"
        async with self._database.read() as connection:
            left = await connection.execute(select(func.count()).select_from(DEAD_LETTERS).where(*waiting))
            return sent, left.scalar_one(), until

    async def forget(self, older_than: timedelta, max_rows: int) -> int:
        """Forget letters of this age, and the oldest ones over `max_rows`; returns how many. Call it again while it
        returns any."""
        limit = _micros(self._clock() - older_than)
        async with self._database.write() as connection:
            newest = select(DEAD_LETTERS.c.at_us).order_by(DEAD_LETTERS.c.at_us.desc())
            full = (await connection.execute(newest.offset(max_rows).limit(1))).scalar_one_or_none()
            before = limit if full is None else max(limit, full + 1)
            old = select(DEAD_LETTERS.c.id).where(DEAD_LETTERS.c.at_us < before).limit(_FORGET_AT_ONCE)
            done = await connection.execute(delete(DEAD_LETTERS).where(DEAD_LETTERS.c.id.in_(old)))
            return done.rowcount

    async def _claim(self, letter_id: str, user_id: str) -> bool:
        now = self._clock()
        free = or_(
            DEAD_LETTERS.c.state == "waiting",
            (DEAD_LETTERS.c.state == "claimed")
            & (DEAD_LETTERS.c.replay_us < _micros(now - timedelta(seconds=_CLAIM_S))),
        )
        claim = update(DEAD_LETTERS).where(DEAD_LETTERS.c.id == letter_id, free)
        async with self._database.write() as connection:
            done = await connection.execute(
                claim.values(state="claimed", replay_us=_micros(now), replay_by=user_id)
            )
            return done.rowcount == 1

    async def _note(self, letter_id: str, state: State) -> None:
        values: dict[str, Any] = {"state": state}
        if state == "waiting":
            values |= {"replay_us": None, "replay_by": None}
        async with self._database.write() as connection:
            await connection.execute(
                update(DEAD_LETTERS).where(DEAD_LETTERS.c.id == letter_id).values(values)
            )


def _seen_by(viewer: Viewer) -> ColumnElement[bool]:
    if viewer.operator:
        return true()
    own_call = exists().where(
        CALLS.c.workflow_run_id == DEAD_LETTERS.c.workflow_run_id, CALLS.c.user_id == viewer.user_id
    )
    accounts = sorted({account for _, account in viewer.accounts})
    # What another account says about a run is not its user's, in the story of a call neither.
    own_word = DEAD_LETTERS.c.account.is_(None)
    return own_call & or_(own_word, DEAD_LETTERS.c.account.in_(accounts) if accounts else false())


def _conditions(which: LetterFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name in ("topic", "reason", "workflow_run_id"):
        wanted = getattr(which, name)
        if wanted is not None:
            found.append(DEAD_LETTERS.c[name] == wanted)
    if which.replayed is not None:
        done = DEAD_LETTERS.c.state == "replayed"
        found.append(done if which.replayed else ~done)
    return found


def _row(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "at_us": _micros(letter.at),
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "recorded_us": None if letter.recorded_at is None else _micros(letter.recorded_at),
        "consumer": letter.consumer,
        "service": letter.service,
        "reason": letter.reason,
        "event_type": letter.event_type,
        "workflow_run_id": letter.workflow_run_id,
        "account": letter.account,
        "key": letter.key,
        "value": letter.value,
        "value_bytes": letter.value_bytes,
        "headers": pack_headers(letter),
        "whole": letter.whole,
        "replay_of": letter.replay_of,
        "state": "waiting",
    }


def _stored(row: Row[Any], *, with_record: bool = True) -> StoredLetter:
    headers = unpack_headers(row.headers) if with_record else ()
    letter = Letter(
        id=row.id, at=_moment(row.at_us), topic=row.topic, partition=row.partition, offset=row.offset,
        recorded_at=None if row.recorded_us is None else _moment(row.recorded_us),
        consumer=row.consumer, service=row.service, reason=row.reason, key=row.key if with_record else None,
        value=row.value if with_record else None,
        value_bytes=row.value_bytes, headers=headers, whole=row.whole, workflow_run_id=row.workflow_run_id,
        account=row.account, event_type=row.event_type, replay_of=row.replay_of,
    )  # fmt: skip
    replayed = row.state == "replayed"
    return StoredLetter(
        letter,
        row.state,
        _moment(row.replay_us) if replayed and row.replay_us is not None else None,
        row.replay_by if replayed else None,
    )


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)
