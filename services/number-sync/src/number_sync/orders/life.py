"""What a provider tells of calls that were ordered here: signs of life, and ends.

A provider that speaks of a call has accepted it, whatever became of its answer to the dial. One that tells the end of a
call has carried out its hang-up.
"""

from collections.abc import Sequence
from typing import Final

from number_sync.database import Clock, Database, now_ms
from number_sync.orders import dials, ledger
from offhook.events import TERMINAL_STATUSES, Event, EventData, InstructionsServed, StatusReported

_LONGEST_CALL_ID: Final = 128  # characters, as the ledger stores them

_Whose = tuple[str, str, str]  # run, provider, account
_Call = tuple[str, str | None]  # the provider's id, and its conversation


async def observe(database: Database, events: Sequence[Event[EventData]], clock: Clock) -> bool:
    """Whether the calls in `events` show life that was news."""
    await _confirm(database, events, clock)
    signs: dict[_Whose, _Call] = {}
    for event in events:
        sign = _sign_of_life(event.data)
        if sign is not None and all(map(_storable, sign[1])):
            signs.setdefault(*sign)
    async with database.read() as connection:
        dialled = await dials.unsettled_runs(connection, {run_id for run_id, _, _ in signs})
    # Anybody's verified callback may name any run: only the account that was to dial can show its life.
    news = {
        run_id: signs[run_id, provider, account]
        for run_id, (provider, account) in dialled.items()
        if (run_id, provider, account) in signs
    }
    if not news:
        return False
    async with database.write() as connection:
        now = now_ms(clock)
        for run_id in sorted(news):
            provider_call_id, conversation_id = news[run_id]
            await dials.settle_accepted(
                connection,
                run_id,
                provider_call_id=provider_call_id,
                conversation_id=conversation_id,
                traceparent=None,
                now=now,
            )
        await ledger.hasten(connection, news, now=now)
    return True


async def _confirm(database: Database, events: Sequence[Event[EventData]], clock: Clock) -> None:
    ended = {
        (
            event.data.workflow_run_id,
            event.data.provider,
            event.data.account,
            event.data.provider_call_id,
        )
        for event in events
        if isinstance(event.data, StatusReported)
        and event.data.leg == "phone"
        and event.data.status in TERMINAL_STATUSES
    }
    async with database.read() as connection:
        waiting = await ledger.unconfirmed(connection, ended)
    if waiting:
        async with database.write() as connection:
            await ledger.confirmed(connection, waiting, now=now_ms(clock))


def _sign_of_life(data: EventData) -> tuple[_Whose, _Call] | None:
    """Whose it is and which call, of an event that only a call the provider has can cause."""
    match data:
        case StatusReported(leg="phone") if data.provider_call_id:
            call = data.provider_call_id, data.conversation_id
            return (data.workflow_run_id, data.provider, data.account), call
        case InstructionsServed(account=str(account)) if data.provider_call_id:
            return (data.workflow_run_id, data.provider, account), (data.provider_call_id, None)
    return None


def _storable(provider_id: str | None) -> bool:
    """Whether an id is what a provider sends, and nothing a database refuses (NUL) or cuts off."""
    return provider_id is None or (len(provider_id) <= _LONGEST_CALL_ID and provider_id.isprintable())
