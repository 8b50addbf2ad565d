"""The store of the webhook log.

Bounded by age and by rows: of verified and of refused requests each so many, so that a flood of forged ones pushes out
only such. What is needed to try a refused request again stays sealed; this service cannot open it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    delete,
    false,
    func,
    insert,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.cursors import Place
from call_tracker.store.calls import SOURCE, upsert
from call_tracker.store.database import Database
from call_tracker.store.errors import StoreRefusal
from call_tracker.store.log_tables import WEBHOOKS
from call_tracker.store.outbox import outbox_row
from call_tracker.store.store import Clock
from call_tracker.store.tables import OUTBOX
from call_tracker.viewers import Viewer
from offhook.bus.errors import PoisonError
from offhook.events import Event, EventData, WebhookAudited, WebhookReplay, new_event
from offhook.identities import derived_id
from offhook.topics import WEBHOOK_REPLAYS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORGET_AT_ONCE: Final = 5000
_MAX_ID: Final = 200
_MAX_SEALED: Final = 40_000


@dataclass(frozen=True, slots=True)
class WebhookFilter:
    """Which entries to list; None does not restrict. Times are aware; `until` is not included."""

    provider: str | None = None
    account: str | None = None
    verified: bool | None = None
    reason: str | None = None
    workflow_run_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One request. `can_replay`: it was kept, so it can be tried again; `replay_at` and `replay_by` are the last time
    somebody asked for that."""

    id: str
    at: datetime
    data: WebhookAudited
    can_replay: bool
    replay_at: datetime | None
    replay_by: str | None


@dataclass(frozen=True, slots=True)
class Taken:
    """How many entries were stored, and how many were known already."""

    new: int
    known: int


class WebhookLog:
    """You must migrate the database before use. All methods raise `StoreUnavailable`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def take(self, events: Sequence[Event[EventData]]) -> None:
        """The handler of the topic: store entries. Raises `PoisonError` for what can never be stored."""
        for event in events:
            objection = _objection(event)
            if objection is not None:
                raise PoisonError(event, objection)
        try:
            await self.add(events)
        except StoreRefusal:
            for event in events:
                try:
                    await self.add([event])
                except StoreRefusal as error:
                    raise PoisonError(event, f"it cannot be stored: {error}") from error

    async def add(self, events: Sequence[Event[EventData]]) -> Taken:
        """Store entries; known ones are skipped."""
        rows = {event.id: _row(event) for event in events}
        async with self._database.write() as connection:
            statement = upsert(connection, WEBHOOKS).on_conflict_do_nothing(index_elements=["id"])
            written = await connection.execute(statement.returning(WEBHOOKS.c.id), list(rows.values()))
            new = len(written.all())
        return Taken(new, len(events) - new)

    async def page(
        self, viewer: Viewer, which: WebhookFilter, *, limit: int, after: Place | None = None
    ) -> tuple[list[Entry], Place | None]:
        """Entries that the viewer may see, newest first, and where to go on; None when there are no more."""
        query = _shown().where(_seen_by(viewer), *_conditions(which))
        if after is not None:
            query = query.where(tuple_(WEBHOOKS.c.at_us, WEBHOOKS.c.id) < (after.at_us, after.id))
        query = query.order_by(WEBHOOKS.c.at_us.desc(), WEBHOOKS.c.id.desc()).limit(limit + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        page = rows[:limit]
        more = Place(page[-1].at_us, page[-1].id) if len(rows) > limit else None
        return [_entry(row) for row in page], more

    async def find(self, viewer: Viewer, entry_id: str) -> Entry | None:
        """One entry, if the viewer may see it."""
        if "\0" in entry_id:
            return None
        query = _shown().where(_seen_by(viewer), WEBHOOKS.c.id == entry_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else _entry(row)

    async def results(self, entry_id: str, limit: int = 20) -> list[Entry]:
        """What came of replays of an entry, newest first. Ask only for an entry that the viewer may see."""
        query = _shown().where(WEBHOOKS.c.replay_of == entry_id)
        query = query.order_by(WEBHOOKS.c.at_us.desc(), WEBHOOKS.c.id.desc()).limit(limit)
        async with self._database.read() as connection:
            return [_entry(row) for row in await connection.execute(query)]

    async def ask_again(self, viewer: Viewer, entry_id: str) -> bool | None:
        """Ask the gateway to try a request again. False when it was not kept, None when there is no such entry."""

        if "\0" in entry_id:
            return None

        async def work(connection: AsyncConnection) -> bool | None:
            query = select(WEBHOOKS.c.sealed).where(_seen_by(viewer), WEBHOOKS.c.id == entry_id)
            row = (await connection.execute(query)).first()
            if row is None or row.sealed is None:
                return None if row is None else False
            now = self._clock()
            asked: Event[EventData] = new_event(
                WebhookReplay(
                    audit_id=entry_id, sealed_request=row.sealed, requested_by=viewer.user_id
                ),
                source=SOURCE, time=now, subject=entry_id,
                # Asked for twice in one moment is asked for once.
                event_id=derived_id("webhook-replay", entry_id, viewer.user_id, str(int(now.timestamp()))),
            )  # fmt: skip
            await connection.execute(insert(OUTBOX), [outbox_row(WEBHOOK_REPLAYS, asked)])
            await connection.execute(
                update(WEBHOOKS)
                .where(WEBHOOKS.c.id == entry_id)
                .values(replay_us=_micros(now), replay_by=viewer.user_id)
            )
            return True

        return await self._database.transact(work)

    async def forget(self, older_than: timedelta, max_rows: int) -> int:
        """Forget entries of this age, and the oldest ones over `max_rows` (verified and refused each); returns how
        many. Call it again while it returns any."""
        gone = 0
        limit = _micros(self._clock() - older_than)
        for condition in (WEBHOOKS.c.verified.is_(True), WEBHOOKS.c.verified.is_(False)):
            async with self._database.write() as connection:
                newest = select(WEBHOOKS.c.at_us).where(condition).order_by(WEBHOOKS.c.at_us.desc())
                full = (await connection.execute(newest.offset(max_rows).limit(1))).scalar_one_or_none()
                before = limit if full is None else max(limit, full + 1)
                old = select(WEBHOOKS.c.id).where(condition, WEBHOOKS.c.at_us < before).limit(_FORGET_AT_ONCE)
                done = await connection.execute(delete(WEBHOOKS).where(WEBHOOKS.c.id.in_(old)))
                gone += done.rowcount
        return gone

    async def count(self, viewer: Viewer, which: WebhookFilter, *, limit: int = 1000) -> int:
        """How many entries there are, counted up to `limit`."""
        query = select(WEBHOOKS.c.id).where(_seen_by(viewer), *_conditions(which)).limit(limit)
        async with self._database.read() as connection:
            counted = await connection.execute(select(func.count()).select_from(query.subquery()))
            return counted.scalar_one()


def _objection(event: Event[EventData]) -> str | None:
    if not isinstance(event.data, WebhookAudited):
        return "it is not an entry of the webhook log"
    if len(event.id) > _MAX_ID or not event.id.isascii() or not event.id.isprintable() or " " in event.id:
        return f"its ce_id is not 1 to {_MAX_ID} visible characters"
    return None


def _row(event: Event[EventData]) -> dict[str, Any]:
    data = event.data
    assert isinstance(data, WebhookAudited)
    sealed = data.sealed_request
    text = data.model_copy(update={"sealed_request": None}).model_dump_json()
    return {
        "id": event.id,
        "at_us": _micros(event.time),
        "provider": _clean(data.provider, 40) or "unknown",
        "account": _clean(data.account, 200),
        "workflow_run_id": _clean(data.workflow_run_id, 64),
        "verified": data.verified,
        "reason": _clean(data.reason, 60),
        "replay_of": _clean(data.replay_of, 200),
        # PostgreSQL takes no NUL in text; in JSON it is escaped.
        "data": text,
        "sealed": sealed if sealed is not None and len(sealed) <= _MAX_SEALED else None,
    }


def _clean(text: str | None, limit: int) -> str | None:
    return None if text is None else text.replace("\0", "\ufffd")[:limit]


def _shown() -> Select[Any]:
    columns = WEBHOOKS.c
    return select(
        columns.id, columns.at_us, columns.data, columns.replay_us, columns.replay_by,
        columns.sealed.is_not(None).label("can_replay"),
    )  # fmt: skip


def _seen_by(viewer: Viewer) -> ColumnElement[bool]:
    if viewer.operator:
        return true()
    if not viewer.accounts:
        return false()
    by_provider: dict[str, list[str]] = {}
    for provider, account in sorted(viewer.accounts):
        by_provider.setdefault(provider, []).append(account)
    return or_(
        *(
            (WEBHOOKS.c.provider == provider) & WEBHOOKS.c.account.in_(accounts)
            for provider, accounts in by_provider.items()
        )
    )


def _conditions(which: WebhookFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name in ("provider", "account", "reason", "workflow_run_id"):
        wanted = getattr(which, name)
        if wanted is not None:
            found.append(WEBHOOKS.c[name] == wanted)
    if which.verified is not None:
        found.append(WEBHOOKS.c.verified.is_(which.verified))
    if which.since is not None:
        found.append(WEBHOOKS.c.at_us >= _micros(which.since))
    if which.until is not None:
        found.append(WEBHOOKS.c.at_us < _micros(which.until))
    return found


def _entry(row: Row[Any]) -> Entry:
    return Entry(
        row.id,
        _moment(row.at_us),
        WebhookAudited.model_validate_json(row.data),
        bool(row.can_replay),
        None if row.replay_us is None else _moment(row.replay_us),
        row.replay_by,
    )


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(at_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_us)
