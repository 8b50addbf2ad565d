"""What the service asks of its database, one method for each."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.facts import Beginning, decode
from call_tracker.observing import CLAIMS
from call_tracker.silence import Patience, Stage, stage_of
from call_tracker.store.calls import Advance, advance, micros, upsert
from call_tracker.store.database import Database
from call_tracker.store.errors import LostRace
from call_tracker.store.forgetting import forget_calls
from call_tracker.store.looking import AskAbout, Looked, look, look_at_all_that_lives
from call_tracker.store.outbox import outbox_row
from call_tracker.store.searching import CallFilter, Position, find
from call_tracker.store.tables import CALL_EVENTS, CALLS, IDEMPOTENCY_KEYS, OUTBOX
from offhook.events import Event, EventData, StatusReported
from offhook.records import CallState
from offhook.topics import CALL_EVENTS as CALL_EVENTS_TOPIC
from offhook.topics import Topic

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ACCOUNTS_WORDS: Final = frozenset(f"offhook.{kind.TYPE}" for kind in (StatusReported, *CLAIMS))

STORY_PAGES: Final = 10
"""For a story of 1000 events so many thousand are read at most, whoever told them."""

Clock = Callable[[], datetime]
"""The time now, aware."""

Telling = tuple[Topic, Event[EventData]]
"""An event to publish, and where."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """What makes a request the same request: who, under which key, and a digest of what was asked."""

    user_id: str
    key: str
    request_sha256: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request that may be repeated. `repeated`: it is the answer given the first time;
    `same_request` is False when the key was used for something else then."""

    response: str
    repeated: bool = False
    same_request: bool = True


@dataclass(frozen=True, slots=True)
class LiveCall:
    """A call that has not ended, and where it counts."""

    workflow_run_id: str
    user_id: str
    configuration_id: str | None


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants done to a call: what is told about it, and what is ordered."""

    events: Sequence[Event[EventData]] = ()
    commands: Sequence[Telling] = ()


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it was told. `data` is its JSON text."""

    id: str
    type: str
    source: str
    time: datetime
    data: msgspec.Raw


@dataclass(frozen=True, slots=True)
class Story:
    """A call with its events, in order of arrival. `cut`: there are more events than were asked for, or read. `may_live`: it
    has not ended, or was given up and its provider speaks of it."""

    record: CallState
    events: list[StoredEvent]
    cut: bool
    may_live: bool


class _Told(msgspec.Struct):
    """The one field of a provider's callback that says whose it is."""

    account: str | None = None


class Store:
    """You must `await database.migrate()` before use. All methods raise `StoreUnavailable`."""

    def __init__(self, database: Database, clock: Clock, patience: Patience = Patience()) -> None:  # noqa: B008 - frozen
        self.database = database
        self._clock = clock
        self._patience = patience

    async def apply(self, events: Sequence[Event[EventData]]) -> Advance:
        """Append events to the log and advance their calls, in one transaction. Known events are skipped."""
        return await self.database.transact(lambda connection: self._advance(connection, events))

    async def answer_to(self, idempotency: Idempotency) -> Answer | None:
        """The answer already given to this request, if any."""
        async with self.database.read() as connection:
            return await _earlier(connection, idempotency)

    async def request_call(
        self,
        requested: Event[EventData],
        tellings: Sequence[Telling],
        response: str,
        idempotency: Idempotency | None = None,
    ) -> Answer:
        """Begin a call: the event, its record and what is told about it become true together, once per key."""

        async def work(connection: AsyncConnection) -> Answer:
            if idempotency is not None:
                earlier = await self._claim(connection, idempotency, response)
                if earlier is not None:
                    return earlier
            await self._advance(connection, [requested])
            await self._tell(connection, tellings)
            return Answer(response)

        return await self.database.transact(work)

    async def request(
        self, user_id: str, run: str, make: Callable[[CallState, Stage | None], Request]
    ) -> CallState | None:
        """Ask for something to be done to a call of `user_id`: what `make` gives for its record, and the stage where it is,
        becomes true together.

        Returns the record as it was, None when there is no such call. What `make` raises undoes it.
        """

        async def work(connection: AsyncConnection) -> CallState | None:
            query = select(CALLS.c.record, CALLS.c.facts).where(
                CALLS.c.workflow_run_id == run, CALLS.c.user_id == user_id
            )
            found = (await connection.execute(query)).first()
            if found is None:
                return None
            record = CallState.model_validate_json(found.record)
            request = make(record, stage_of(record, decode(found.facts)))
            await self._advance(connection, request.events)
            told = [(CALL_EVENTS_TOPIC, event) for event in request.events]
            await self._tell(connection, [*told, *request.commands])
            return record

        return await self.database.transact(work)

    async def find(self, user_id: str, run: str) -> CallState | None:
        """The record of a call of `user_id`."""
        async with self.database.read() as connection:
            return await _find(connection, user_id, run)

    async def story(self, user_id: str, run: str, limit: int) -> Story | None:
        """A call of `user_id` with its first `limit` events.

        What another account told about this run, or caused, is in the log, and not in the story: it is somebody else's. A
        flood of it (`STORY_PAGES`) ends the story.
        """
        call = select(CALLS.c.record, CALLS.c.facts).where(
            CALLS.c.workflow_run_id == run, CALLS.c.user_id == user_id
        )
        async with self.database.read() as connection:
            found = (await connection.execute(call)).first()
        if found is None:
            return None
        record, facts = CallState.model_validate_json(found.record), decode(found.facts)
        account = Beginning.of(facts.origins).account
        own: list[StoredEvent] = []
        read, cut = 0, False
        async for event in self.events(run, limit + 1):
            read += 1
            is_own = account is None or _account_of(event) in (None, account)
            cut = read > STORY_PAGES * (limit + 1) or (is_own and len(own) == limit)
            if cut:
                break
            if is_own:
                own.append(event)
        return Story(record, own, cut, stage_of(record, facts) is not None)

    async def events(self, run: str, page: int) -> AsyncIterator[StoredEvent]:
        """The events of a call, in order of arrival, whoever told them, read in pages of this length."""
        query = select(CALL_EVENTS).where(CALL_EVENTS.c.workflow_run_id == run)
        query, seq = query.order_by(CALL_EVENTS.c.seq).limit(page), 0
        more = True
        while more:
            async with self.database.read() as connection:
                rows = (await connection.execute(query.where(CALL_EVENTS.c.seq > seq))).all()
            more = len(rows) == page
            for row in rows:
                yield StoredEvent(
                    row.ce_id, row.type, row.source, _EPOCH + timedelta(microseconds=row.time_us),
                    msgspec.Raw(row.data.encode()),
                )  # fmt: skip
                seq = row.seq

    async def calls(
        self, user_id: str, which: CallFilter, *, limit: int, after: Position | None = None
    ) -> tuple[list[CallState], Position | None]:
        """Calls of `user_id`, newest first, and the position to go on from; None when there are no more."""
        async with self.database.read() as connection:
            page, more = await find(connection, user_id, which, limit=limit, after=after)
            if not page:
                return [], None
            runs = [one.workflow_run_id for one in page]
            filled = runs + [runs[-1]] * (limit - len(runs))  # one statement for every length
            query = select(CALLS.c.workflow_run_id, CALLS.c.record).where(CALLS.c.workflow_run_id.in_(filled))
            records = {row.workflow_run_id: row.record for row in await connection.execute(query)}
        return [CallState.model_validate_json(records[run]) for run in runs], more

    async def active_calls(self) -> int:
        """How many calls have not ended."""
        async with self.database.read() as connection:
            query = select(func.count()).select_from(CALLS).where(CALLS.c.active)
            return (await connection.execute(query)).scalar_one()

    async def look(self, ask_about: AskAbout, *, limit: int) -> Looked:
        """Ask about calls that have been silent for too long; see `looking`."""
        return await self.database.transact(
            lambda connection: look(connection, self._patience, self._clock(), ask_about, limit)
        )

    async def look_at_all_that_lives(self) -> int:
        """Ask soon about every call that has not ended; returns about how many."""
        return await self.database.transact(
            lambda connection: look_at_all_that_lives(connection, self._patience, self._clock())
        )

    async def live_calls(self, *, after: str = "", limit: int = 500) -> list[LiveCall]:
        """Calls that have not ended, whose user is known and which a workflow answers, a page in the order of their runs."""
        query = (
            select(CALLS.c.workflow_run_id, CALLS.c.user_id, CALLS.c.configuration_id)
            .where(CALLS.c.active, CALLS.c.user_id.is_not(None), CALLS.c.workflow_run_id > after)
            .where(
                CALLS.c.workflow_id.is_not(None)
            )  # without one it was turned away: it takes nobody's place
            .order_by(CALLS.c.workflow_run_id)
            .limit(limit)
        )
        async with self.database.read() as connection:
            return [LiveCall(*row) for row in await connection.execute(query)]

    async def forget_calls(self, older_than: timedelta, *, limit: int) -> int:
        """Forget up to `limit` ended calls that began so long ago, with their events; returns how many."""
        before_us = micros(self._clock() - older_than)
        return await self.database.transact(lambda connection: forget_calls(connection, before_us, limit))

    async def forget_answers(self, older_than: timedelta) -> int:
        """Forget idempotency keys of this age; returns how many."""
        limit = micros(self._clock() - older_than)
        async with self.database.write() as connection:
            gone = await connection.execute(
                delete(IDEMPOTENCY_KEYS).where(IDEMPOTENCY_KEYS.c.made_us < limit)
            )
            return gone.rowcount

    async def _advance(self, connection: AsyncConnection, events: Sequence[Event[EventData]]) -> Advance:
        return await advance(connection, events, self._clock(), self._patience)

    async def _claim(
        self, connection: AsyncConnection, idempotency: Idempotency, response: str
    ) -> Answer | None:
        keys = IDEMPOTENCY_KEYS.c
        row = {
            "user_id": idempotency.user_id,
            "key": idempotency.key,
            "request_sha256": idempotency.request_sha256,
            "response": response,
            "made_us": micros(self._clock()),
        }
        statement = upsert(connection, IDEMPOTENCY_KEYS).values(row).on_conflict_do_nothing()
        # A concurrent request with the same key waits here for the first one's transaction.
        if (await connection.execute(statement.returning(keys.key))).first() is not None:
            return None
        earlier = await _earlier(connection, idempotency)
        if earlier is None:
            raise LostRace("the key was forgotten in between")
        return earlier

    async def _tell(self, connection: AsyncConnection, tellings: Sequence[Telling]) -> None:
        rows = [outbox_row(topic, event) for topic, event in tellings]
        if rows:
            await connection.execute(insert(OUTBOX), rows)


async def _earlier(connection: AsyncConnection, idempotency: Idempotency) -> Answer | None:
    keys = IDEMPOTENCY_KEYS.c
    mine = (keys.user_id == idempotency.user_id) & (keys.key == idempotency.key)
    row = (await connection.execute(select(keys.request_sha256, keys.response).where(mine))).first()
    return (
        None if row is None else Answer(row.response, True, row.request_sha256 == idempotency.request_sha256)
    )


def _account_of(event: StoredEvent) -> str | None:
    if event.type not in _ACCOUNTS_WORDS:
        return None
    return msgspec.json.decode(event.data, type=_Told).account


async def _find(connection: AsyncConnection, user_id: str, run: str) -> CallState | None:
    query = select(CALLS.c.record).where(CALLS.c.workflow_run_id == run, CALLS.c.user_id == user_id)
    text: str | None = (await connection.execute(query)).scalar_one_or_none()
    return None if text is None else CallState.model_validate_json(text)
