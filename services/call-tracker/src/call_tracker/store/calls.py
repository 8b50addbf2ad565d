"""Calls in the store: events are appended, calls advance, and what changed is put into the outbox, together.

A whole batch is one transaction of four steps, each for all of its events at once:

1. insert the events, skipping those whose id is known, and learn which were new;
2. read the calls of the new events;
3. write the calls that changed, each only if nobody else has written it in between (`revision`);
4. insert the changed records into the outbox.

A call that somebody else advanced in between makes the whole transaction start again (`LostRace`). The numbers of the
outbox rows are taken while the call's row is locked, so per call they are in the order of the changes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Table, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.facts import EMPTY, Facts, begun_us, decode, encode, own
from call_tracker.joining import join
from call_tracker.lifecycle import project
from call_tracker.observing import observe
from call_tracker.silence import Patience
from call_tracker.store.errors import LostRace
from call_tracker.store.outbox import outbox_row
from call_tracker.store.tables import CALL_EVENTS, CALL_NUMBERS, CALLS, OUTBOX
from offhook.events import TERMINAL_STATUSES, Event, EventData, new_event
from offhook.events import encode as encode_event
from offhook.events.calls import CallEventData
from offhook.identities import derived_id
from offhook.records import CallState
from offhook.topics import CALL_STATES

SOURCE: Final = "/call-tracker"
"""`ce_source` of everything this service says."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PRINTABLE_LIMIT: Final = 200


@dataclass(frozen=True, slots=True)
class Advance:
    """What a batch did. `changed` are the new records; `ended` those of calls that ended with this batch."""

    new: int
    applied: int
    changed: tuple[CallState, ...] = ()
    ended: tuple[CallState, ...] = ()


def objection(event: Event[EventData]) -> str | None:
    """Why an event cannot be stored, in words for people; None when it can."""
    if not isinstance(event.data, CallEventData):
        return "it is not an event of a call: it names no workflow_run_id"
    for name, value in (("ce_id", event.id), ("ce_source", event.source)):
        if len(value) > _PRINTABLE_LIMIT or not value.isprintable():
            return f"its {name} has control characters or more than {_PRINTABLE_LIMIT} characters"
    return None


async def advance(
    connection: AsyncConnection,
    events: Iterable[Event[EventData]],
    now: datetime,
    patience: Patience = Patience(),  # noqa: B008 - it is frozen
) -> Advance:
    """Store `events` (see `objection`) and advance their calls. Raises `LostRace`: begin the transaction again.

    `now` is the time of the records that go out, and from it the silence counts that `patience` allows.
    """
    told: dict[str, tuple[str, Event[EventData]]] = {}
    for event in events:
        assert isinstance(event.data, CallEventData)
        told.setdefault(event.id, (event.data.workflow_run_id, event))
    new = await _append(connection, told)
    by_run: dict[str, Facts] = {}
    telling: dict[str, int] = {}
    for ce_id, (run, event) in told.items():
        if ce_id in new:
            facts = observe(event)
            by_run[run] = join(by_run.get(run, EMPTY), facts)
            telling[run] = telling.get(run, 0) + (facts is not EMPTY)
    if not by_run:
        return Advance(0, 0)

    rows: list[dict[str, Any]] = []
    changed: list[CallState] = []
    ended: list[CallState] = []
    begun: list[CallState] = []
    held = await _read(connection, list(by_run))
    for run in sorted(by_run):  # in one order everywhere, or two transactions could wait for each other
        before = held.get(run)
        if before is None and _only_takes_away(by_run[run]):
            continue  # the recording was kept for longer than the call
        facts_before = EMPTY if before is None else decode(before.facts)
        facts = join(facts_before, by_run[run])
        if before is not None and facts == facts_before:
            continue
        record = project(run, facts)
        text = record.model_dump_json()
        row = _call_row(record, facts, text, revision=1 if before is None else before.revision + 1)
        if before is not None and own(facts) == own(facts_before):
            # Who only knows of the run could otherwise keep the call from ever being asked about.
            look = {name: getattr(before, name) for name in ("look_at_us", "looks", "look_reason")}
        else:
            look_at_us = patience.next_look_us(record, facts, micros(now))
            look = {"look_at_us": look_at_us, "looks": 0, "look_reason": None}
        rows.append({**row, **look})
        if before is None or before.user_id is None:
            begun.append(record)
        if before is None or text != before.record:
            changed.append(record)
            if record.status in TERMINAL_STATUSES and (before is None or before.active):
                ended.append(record)
    await _write(connection, rows)
    await _write_numbers(connection, begun)
    if changed:
        await connection.execute(
            insert(OUTBOX), [outbox_row(CALL_STATES, _state_event(record, now)) for record in changed]
        )
    applied = sum(telling[record.workflow_run_id] for record in changed)
    return Advance(len(new), applied, tuple(changed), tuple(ended))


async def _append(connection: AsyncConnection, told: dict[str, tuple[str, Event[EventData]]]) -> set[str]:
    if not told:
        return set()
    rows = [
        {
            "ce_id": event.id,
            "workflow_run_id": run,
            "type": event.type,
            "source": event.source,
            "time_us": micros(event.time),
            "data": encode_event(event)[0].decode(),
        }
        for run, event in told.values()
    ]
    statement = upsert(connection, CALL_EVENTS).on_conflict_do_nothing(index_elements=["ce_id"])
    returned = await connection.execute(statement.returning(CALL_EVENTS.c.ce_id), rows)
    return set(returned.scalars())


async def _read(connection: AsyncConnection, runs: list[str]) -> dict[str, Any]:
    # Filled up to a power of two: a few statements that the database has prepared, not one for every length.
    filled = runs + [runs[-1]] * ((1 << (len(runs) - 1).bit_length()) - len(runs))
    columns = (
        CALLS.c.workflow_run_id, CALLS.c.revision, CALLS.c.facts, CALLS.c.record, CALLS.c.active, CALLS.c.user_id,
        CALLS.c.look_at_us, CALLS.c.looks, CALLS.c.look_reason,
    )  # fmt: skip
    query = select(*columns).where(CALLS.c.workflow_run_id.in_(filled))
    return {row.workflow_run_id: row for row in await connection.execute(query)}


async def _write(connection: AsyncConnection, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    statement = upsert(connection, CALLS)
    statement = statement.on_conflict_do_update(
        index_elements=["workflow_run_id"],
        set_={name: statement.excluded[name] for name in rows[0] if name != "workflow_run_id"},
        where=CALLS.c.revision == statement.excluded.revision - 1,
    )
    written = (await connection.execute(statement.returning(CALLS.c.workflow_run_id), rows)).scalars().all()
    if len(written) != len(rows):
        raise LostRace(f"{len(rows) - len(written)} calls were advanced by another transaction in between")


async def _write_numbers(connection: AsyncConnection, begun: Iterable[CallState]) -> None:
    numbers = {
        (record.user_id, number)
        for record in begun
        for number in (record.from_number, record.to_number)
        if record.user_id and number
    }
    if numbers:
        rows = [
            {"user_id": user_id, "number": number, "backwards": number[::-1]}
            for user_id, number in sorted(numbers)  # in one order everywhere, as the calls are
        ]
        await connection.execute(upsert(connection, CALL_NUMBERS).on_conflict_do_nothing(), rows)


def _only_takes_away(facts: Facts) -> bool:
    return facts == Facts(recordings=facts.recordings) and not any(
        recording.kept for recording in facts.recordings.values()
    )


def micros(moment: datetime) -> int:
    """µs since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


def upsert(connection: AsyncConnection, table: Table) -> "postgresql.Insert | sqlite.Insert":
    """INSERT … ON CONFLICT, which both databases have and SQLAlchemy spells twice."""
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _call_row(record: CallState, facts: Facts, text: str, *, revision: int) -> dict[str, Any]:
    return {
        "workflow_run_id": record.workflow_run_id,
        "revision": revision,
        "facts": encode(facts),
        "record": text,
        "began_us": begun_us(facts),
        "user_id": record.user_id,
        "workflow_id": record.workflow_id,
        "configuration_id": record.configuration_id,
        "provider": record.provider,
        "provider_call_id": record.provider_call_id,
        "direction": record.direction,
        "from_number": record.from_number,
        "to_number": record.to_number,
        "status": record.status.value,
        "active": record.status not in TERMINAL_STATUSES,
        "end_reason": record.end_reason,
        "answer_ms": _answer_ms(record),
    }


def _answer_ms(record: CallState) -> int | None:
    if record.requested_at is None or record.answered_at is None:
        return None
    took = datetime.fromisoformat(record.answered_at) - datetime.fromisoformat(record.requested_at)
    return took // timedelta(milliseconds=1)


def _state_event(record: CallState, now: datetime) -> Event[CallState]:
    # The same record told again, after a crash or by another process, is the same event.
    event_id = derived_id("call-state", record.model_dump_json())
    return new_event(record, source=SOURCE, time=now, subject=record.workflow_run_id, event_id=event_id)


__all__ = ["SOURCE", "Advance", "advance", "micros", "objection", "upsert"]
