"""Calls that ended long ago are forgotten: record, events and numbers, a bounded number at a time.

Readers of the topic of records hear of it: the record's tombstone goes out with the next of the outbox.
"""

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.store.outbox import tombstone_row
from call_tracker.store.tables import CALL_EVENTS, CALL_NUMBERS, CALLS, OUTBOX
from offhook.topics import CALL_STATES


async def forget_calls(connection: AsyncConnection, before_us: int, limit: int) -> int:
    """Forget up to `limit` ended calls that began before this; returns how many. Calls that live are never forgotten."""
    query = (
        select(CALLS.c.workflow_run_id, CALLS.c.user_id, CALLS.c.from_number, CALLS.c.to_number)
        .where(~CALLS.c.active, CALLS.c.began_us < before_us)
        .order_by(CALLS.c.began_us)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    old = (await connection.execute(query)).all()
    if not old:
        return 0
    runs = [row.workflow_run_id for row in old]
    await connection.execute(delete(CALL_EVENTS).where(CALL_EVENTS.c.workflow_run_id.in_(runs)))
    await connection.execute(delete(CALLS).where(CALLS.c.workflow_run_id.in_(runs)))
    numbers = {
        (row.user_id, number)
        for row in old
        for number in (row.from_number, row.to_number)
        if row.user_id and number
    }
    for user_id, number in sorted(numbers):
        await _forget_number(connection, user_id, number)
    await connection.execute(insert(OUTBOX), [tombstone_row(CALL_STATES, run) for run in runs])
    return len(old)


async def _forget_number(connection: AsyncConnection, user_id: str, number: str) -> None:
    for column in (CALLS.c.from_number, CALLS.c.to_number):
        left = select(CALLS.c.workflow_run_id).where(CALLS.c.user_id == user_id, column == number).limit(1)
        if (await connection.execute(left)).first() is not None:
            return
    mine = (CALL_NUMBERS.c.user_id == user_id) & (CALL_NUMBERS.c.number == number)
    await connection.execute(delete(CALL_NUMBERS).where(mine))
