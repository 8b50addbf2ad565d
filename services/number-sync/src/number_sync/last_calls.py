"""The last call that came in at each number, so that "call this number now" can see that somebody did.

Told by the call events. The statuses are the neutral ones, seen from the caller's side: `answered` and `completed` mean
that an agent took the call, not only that the provider picked it up to say a sentence.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Row, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.database import Database
from number_sync.schema import configurations, number_calls, phone_numbers
from offhook.events import AgentConnected, CallReceived, CallStatus, Event, EventData, StatusReported
from offhook.events.calls import TERMINAL_STATUSES

_AT_ONCE: Final = 500
_ENDED: Final = frozenset(str(status) for status in TERMINAL_STATUSES)


def next_status(known: str, data: EventData) -> str:
    """The status of a call after one more event about it. Repeated and late events change nothing that was true.

    Pure. Events of several origins may come in any order.
    """
    match data:
        case AgentConnected():
            return CallStatus.COMPLETED if known in _ENDED else CallStatus.ANSWERED
        case StatusReported(leg="phone", status=CallStatus.RINGING) if known == CallStatus.INITIATED:
            return CallStatus.RINGING
        case StatusReported(leg="phone", status=CallStatus() as ended) if ended in TERMINAL_STATUSES:
            if known in _ENDED:
                return known
            if known == CallStatus.ANSWERED:
                return CallStatus.COMPLETED
            # The provider has completed a call in which nobody but itself has spoken.
            return CallStatus.NO_ANSWER if ended == CallStatus.COMPLETED else ended
    return known


class LastCalls:
    """`observe` is the bus's handler of the call events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def observe(self, events: Sequence[Event[EventData]]) -> None:
        """Harmless to repeat: an older call never replaces a newer one, and a status never goes back."""
        about = [
            event
            for event in events
            if isinstance(event.data, CallReceived | AgentConnected | StatusReported)
        ]
        if not about:
            return
        received = {event.subject for event in about if isinstance(event.data, CallReceived)}
        async with self._database.read() as connection:
            known = await _known(connection, {event.subject for event in about} - received)
        news = [event for event in about if event.subject in received or event.subject in known]
        if not news:
            return

        async def work(connection: AsyncConnection) -> None:
            for event in news:
                if isinstance(event.data, CallReceived):
                    await _came_in(connection, event.data, int(event.time.timestamp() * 1000))
                else:
                    at = int(event.time.timestamp() * 1000)
                    await _went_on(connection, event.subject, event.data, at)

        await self._database.transact(work)


async def _known(connection: AsyncConnection, run_ids: Iterable[str]) -> Mapping[str, Row[Any]]:
    """Those of the runs that are somebody's last call."""
    found: dict[str, Row[Any]] = {}
    ids = sorted(run_ids)
    for start in range(0, len(ids), _AT_ONCE):
        rows = await connection.execute(
            select(number_calls).where(number_calls.c.workflow_run_id.in_(ids[start : start + _AT_ONCE]))
        )
        found.update({row.workflow_run_id: row for row in rows})
    return found


async def _came_in(connection: AsyncConnection, call: CallReceived, at: int) -> None:
    number_id = (
        await connection.execute(
            select(phone_numbers.c.id).where(
                phone_numbers.c.configuration_id == call.configuration_id,
                phone_numbers.c.e164 == call.to_number,
            )
        )
    ).scalar_one_or_none()
    if number_id is None:
        return
    values = {"workflow_run_id": call.workflow_run_id, "status": str(CallStatus.INITIATED), "at": at}
    last = (
        await connection.execute(
            select(number_calls).where(number_calls.c.number_id == number_id).with_for_update()
        )
    ).first()
    if last is None:
        await connection.execute(insert(number_calls).values(number_id=number_id, **values))
    elif last.workflow_run_id != call.workflow_run_id and last.at <= at:
        await connection.execute(
            update(number_calls).where(number_calls.c.number_id == number_id).values(**values)
        )


async def _went_on(connection: AsyncConnection, run_id: str, data: EventData, at: int) -> None:
    last = (
        await connection.execute(
            select(number_calls, configurations.c.provider, configurations.c.account)
            .join(phone_numbers, phone_numbers.c.id == number_calls.c.number_id)
            .join(configurations, configurations.c.id == phone_numbers.c.configuration_id)
            .where(number_calls.c.workflow_run_id == run_id)
            .with_for_update(of=number_calls)
        )
    ).first()
    if last is None:
        return
    if isinstance(data, StatusReported) and (data.provider, data.account) != (last.provider, last.account):
        return  # anybody's verified callback may name any run
    status = next_status(last.status, data)
    if status != last.status:
        values: dict[str, Any] = {"status": str(status)}
        if status in (CallStatus.ANSWERED, CallStatus.COMPLETED) and last.answered_at is None:
            values["answered_at"] = at
        await connection.execute(
            update(number_calls).where(number_calls.c.number_id == last.number_id).values(values)
        )
