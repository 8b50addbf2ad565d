"""Which calls are to be looked up at their providers, claimed so that each is asked about by one process at a time.

A claim is an update: it puts the next look off, and whoever updated the row asks. What is asked goes into the outbox in the
same transaction, so a crash loses no question, and repeats none but by the next look. It raises `revision`, as every update
of a call does: who read the call before it begins anew, and does not write the former look back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.facts import decode
from call_tracker.silence import Patience
from call_tracker.store.calls import SOURCE, Advance, advance, micros
from call_tracker.store.outbox import outbox_row
from call_tracker.store.tables import CALLS, OUTBOX
from offhook.events import TERMINAL_STATUSES, CallObserved, Event, EventData, Observe, new_event
from offhook.records import CallState
from offhook.telemetry import spans
from offhook.telemetry.tracing import call_span
from offhook.topics import CALL_COMMANDS
from offhook.topics import CALL_EVENTS as CALL_EVENTS_TOPIC

AskAbout = Callable[[CallState, str], Observe | None]
"""The question about a call, and why it is asked; None when nobody knows whom to ask."""


@dataclass(frozen=True, slots=True)
class Looked:
    """What a round did: how many calls were due, the reasons of the questions, and what giving calls up changed."""

    due: int
    asked: Sequence[str] = ()
    given_up: Advance = field(default_factory=lambda: Advance(0, 0))


async def look(
    connection: AsyncConnection, patience: Patience, now: datetime, ask_about: AskAbout, limit: int
) -> Looked:
    """Claim up to `limit` calls that are due, and ask for them or give them up. Raises `LostRace`."""
    now_us = micros(now)
    query = (
        select(
            CALLS.c.workflow_run_id,
            CALLS.c.record,
            CALLS.c.facts,
            CALLS.c.began_us,
            CALLS.c.look_at_us,
            CALLS.c.looks,
            CALLS.c.look_reason,
        )
        .where(CALLS.c.look_at_us <= now_us)
        .order_by(CALLS.c.look_at_us)
        .limit(limit)
        .with_for_update(skip_locked=True)  # SQLite has one writer anyway
    )
    due = (await connection.execute(query)).all()
    asked: list[str] = []
    told: list[dict[str, str]] = []
    lost: list[Event[EventData]] = []
    for row in due:
        record = CallState.model_validate_json(row.record)
        if not await _claim(connection, patience, row, record, now_us):
            continue
        if patience.has_given_up(record, row.began_us, now_us, row.looks):
            with call_span(spans.CALL_GIVEN_UP, record.workflow_run_id):
                lost.append(_lost(record, now))
                told.append(outbox_row(CALL_EVENTS_TOPIC, lost[-1]))
            continue
        reason = row.look_reason or ("cost" if record.status in TERMINAL_STATUSES else "silence")
        question = ask_about(record, reason)
        if question is not None:
            event: Event[EventData] = new_event(
                question, source=SOURCE, time=now, subject=record.workflow_run_id
            )
            with call_span(
                spans.LOOK_UP_ASKED, record.workflow_run_id, attributes={"offhook.reason": reason}
            ):
                told.append(outbox_row(CALL_COMMANDS, event))
            asked.append(reason)
    if told:
        await connection.execute(insert(OUTBOX), told)
    return Looked(len(due), asked, await advance(connection, lost, now, patience))


async def look_at_all_that_lives(connection: AsyncConnection, patience: Patience, now: datetime) -> int:
    """After a start: what was told to nobody while nobody listened is asked for. Returns for how many calls."""
    at_us = patience.start_us(micros(now))
    later = CALLS.c.look_at_us.is_(None) | (CALLS.c.look_at_us > at_us)
    statement = update(CALLS).where(CALLS.c.active, later)
    changed = {"look_at_us": at_us, "look_reason": "start", "revision": CALLS.c.revision + 1}
    return (await connection.execute(statement.values(changed))).rowcount


async def _claim(
    connection: AsyncConnection, patience: Patience, row: Any, record: CallState, now_us: int
) -> bool:
    next_us = patience.next_look_us(record, decode(row.facts), now_us, row.looks + 1)
    statement = (
        update(CALLS)
        .where(CALLS.c.workflow_run_id == row.workflow_run_id, CALLS.c.look_at_us == row.look_at_us)
        .values(look_at_us=next_us, looks=row.looks + 1, look_reason=None, revision=CALLS.c.revision + 1)
    )
    return (await connection.execute(statement)).rowcount == 1


def _lost(record: CallState, now: datetime) -> Event[EventData]:
    data = CallObserved(
        workflow_run_id=record.workflow_run_id,
        provider=record.provider or "unknown",
        account="",
        provider_call_id=record.provider_call_id,
        found=False,
        reason="given-up",
    )
    return new_event(data, source=SOURCE, time=now, subject=record.workflow_run_id)
