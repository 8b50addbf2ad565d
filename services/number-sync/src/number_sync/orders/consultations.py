"""What events say of transfers that are under way: the other party came, or did not; the caller has gone."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.database import Clock, Database, now_ms
from number_sync.orders import ledger, once, transfer, transfers
from number_sync.orders.telling import tell
from number_sync.orders.transfers import TransferRow
from offhook.events import (
    TERMINAL_STATUSES,
    CallObserved,
    CallStatus,
    CommandFailed,
    Event,
    EventData,
    InstructionsServed,
    MediaStopped,
    StatusReported,
    TransferEnded,
    TransferResult,
)
from offhook.events.calls import CallEventData

JOINED: Final = "joined"
"""The gateway's word in `InstructionsServed` when it has put the caller through."""

_JUST_NOW_MS: Final = 30_000

_RESULTS: Final[Mapping[CallStatus, TransferResult]] = {
    CallStatus.BUSY: "busy",
    CallStatus.NO_ANSWER: "no-answer",
    # They talked with the agent, and one of the two hung up without the caller.
    CallStatus.COMPLETED: "declined",
    CallStatus.FAILED: "failed",
    CallStatus.CANCELED: "failed",
}


async def observe(database: Database, events: Sequence[Event[EventData]], clock: Clock) -> bool:
    """Whether anything is to be done at a provider because of `events`. Safe to repeat."""
    news = [event.data for event in events if _is_news(event.data)]
    runs = {data.workflow_run_id for data in news if isinstance(data, CallEventData)}
    async with database.read() as connection:
        concerned = await transfers.concerned(connection, runs)
    if not concerned:
        return False
    async with database.write() as connection:
        now = now_ms(clock)
        for data in news:
            # Read again for each event: the one before may have moved it.
            assert isinstance(data, CallEventData)
            for row in await transfers.concerned(connection, {data.workflow_run_id}):
                if data.workflow_run_id == row.workflow_run_id:
                    await _of_the_caller(connection, row, data, now)
                else:
                    await _of_the_consultation(connection, row, data, now)
    return True


def _is_news(data: EventData) -> bool:
    match data:
        case StatusReported(leg="phone"):
            return data.status in TERMINAL_STATUSES
        case CommandFailed(command="originate", final=True) | InstructionsServed(reason="joined"):
            return True
        case CallObserved(found=False):
            return True
        case MediaStopped(reason="carrier-stop" | "carrier-closed"):
            return True
    return isinstance(data, TransferEnded)


async def _of_the_caller(
    connection: AsyncConnection, row: TransferRow, data: CallEventData, now: int
) -> None:
    if isinstance(data, TransferEnded):
        if data.transfer_id not in (None, row.transfer_id) or not _is_of_its_account(data, row):
            return  # an earlier one's, told late or twice; or another account's word
        if row.state in (transfers.MOVED, transfers.RETURNING, transfers.ASKED):
            await transfers.advance(connection, row, transfers.OVER, now=now, result=data.result)
    elif isinstance(data, MediaStopped) and _is_of_its_account(data, row):
        # The provider took the caller away from the agent; should its answer be lost, this is the sign that it did.
        # If it has not been asked yet, the stream ended for another reason, and the caller is still to be transferred.
        if (
            row.state == transfers.ASKED
            and row.order.mode == "cold"
            and await once.any_claimed(connection, row.workflow_run_id, "transfer")
        ):
            await transfers.advance(connection, row, transfers.MOVED, now=now)
            # It waits for nothing any more, and what was ordered after it goes on.
            await ledger.hasten(connection, [row.workflow_run_id], now=now)
    elif isinstance(data, StatusReported) and _is_its_own(data, row):
        over = await transfers.advance(connection, row, transfers.OVER, now=now)
        # Who was put through just now may have come into an empty room.
        alone = row.state == transfers.JOINED and now - row.changed_at < _JUST_NOW_MS
        if over and (alone or row.state == transfers.CONSULTING) and row.consult_run_id is not None:
            await transfer.end_call(connection, row, row.consult_run_id, None, "caller-gone", now)


async def _of_the_consultation(
    connection: AsyncConnection, row: TransferRow, data: CallEventData, now: int
) -> None:
    if row.state != transfers.CONSULTING:
        return
    if isinstance(data, InstructionsServed):
        if (data.provider, data.account) == (row.provider, row.account):
            await transfers.advance(connection, row, transfers.JOINED, now=now, result="completed")
            ended = TransferEnded(
                workflow_run_id=row.workflow_run_id,
                provider=row.provider,
                account=row.account,
                mode="warm",
                result="completed",
                transfer_id=row.transfer_id,
            )
            identity = ("transfer-ended", row.transfer_id)
            await tell(connection, ended, identity, traceparent=None, now=now)
        return
    result: TransferResult = "failed"
    if isinstance(data, StatusReported):
        if (data.provider, data.account) != (row.provider, row.account) or data.status is None:
            return
        result = _RESULTS[data.status]
    elif isinstance(data, CallObserved):
        # Its callbacks were lost, and the provider knows it no more: nobody else would tell that it is over.
        if (data.provider, data.account) != (row.provider, row.account):
            return
    elif not isinstance(data, CommandFailed):
        return
    if await transfers.advance(connection, row, transfers.RETURNING, now=now, result=result):
        await ledger.give_back(connection, row.transfer_id, row.order, now=now)
        unknown = isinstance(data, CallObserved) or (
            isinstance(data, CommandFailed) and data.code == "outcome-unknown"
        )
        if unknown and row.consult_run_id:
            # It may ring yet, or be dialled only now, and nobody would be there.
            await transfer.end_call(connection, row, row.consult_run_id, None, "transfer-over", now)


def _is_of_its_account(data: TransferEnded | MediaStopped, row: TransferRow) -> bool:
    """Anybody's verified webhook may name any run. Old events do not say whose they are."""
    return data.account is None or (data.provider, data.account) == (row.provider, row.account)


def _is_its_own(data: StatusReported, row: TransferRow) -> bool:
    """Anybody's verified callback may name any run; and not every leg that is told under it is the caller's."""
    return (data.provider, data.account, data.provider_call_id) == (
        row.provider,
        row.account,
        row.provider_call_id,
    )
