"""Transfers that are under way, one row each. Theory of operation:

    cold   asked ─────────────────────────► moved ─► over       the provider dials, and asks the gateway when that is over

    warm   asked ─► consulting ─► joined ─────────► over        the agent has put the caller through
                        └──────► returning ────────► over       the other party did not come, or declined: the caller is
                                                                sent back to an agent

A warm transfer has a second call, the *consultation*: `consult_run_id`, whose dial is an order like any other, written
in the transaction that makes the row `consulting`. Everything after that follows from events: the consultation's end,
the gateway's word that it was joined, the caller's end, and `TransferEnded`, after which nothing is left to do.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.database import insert_if_absent
from number_sync.orders.command import Command
from number_sync.schema import transfers
from offhook.events import Transfer, TransferResult
from offhook.identities import consult_run_id, transfer_id

ASKED: Final = "asked"
MOVED: Final = "moved"
CONSULTING: Final = "consulting"
JOINED: Final = "joined"
RETURNING: Final = "returning"
OVER: Final = "over"


@dataclass(frozen=True, slots=True)
class TransferRow:
    """What is known of a transfer. `account` is the configuration's, whose word about these calls counts. `changed_at` in ms
    since 1970."""

    transfer_id: str
    workflow_run_id: str
    consult_run_id: str | None
    state: str
    result: TransferResult | None
    provider: str
    account: str
    provider_call_id: str
    order: Transfer
    changed_at: int


def id_of(command: Command) -> str:
    return transfer_id(command.command_id)


async def begin(
    connection: AsyncConnection,
    command: Command,
    data: Transfer,
    *,
    account: str,
    provider_call_id: str,
    now: int,
) -> TransferRow:
    """The row of this order; a new one the first time."""
    transfer_id = id_of(command)
    await insert_if_absent(
        connection,
        transfers,
        transfer_id=transfer_id,
        workflow_run_id=command.run_id,
        consult_run_id=consult_run_id(command.command_id) if data.mode == "warm" else None,
        state=ASKED,
        provider=data.provider,
        account=account,
        provider_call_id=provider_call_id,
        data=data.model_dump(mode="json"),
        changed_at=now,
    )
    row = (await connection.execute(select(transfers).where(transfers.c.transfer_id == transfer_id))).one()
    return _transfer(row)


async def of_run(connection: AsyncConnection, run_id: str, state: str) -> TransferRow | None:
    """The run's transfer in this state; the last one, should there be more."""
    found = await connection.execute(
        select(transfers)
        .where(transfers.c.workflow_run_id == run_id, transfers.c.state == state)
        .order_by(transfers.c.changed_at.desc())
        .limit(1)
    )
    row = found.first()
    return None if row is None else _transfer(row)


async def concerned(connection: AsyncConnection, run_ids: Collection[str]) -> list[TransferRow]:
    """The transfers under way of which one of these runs is the caller or the consultation."""
    if not run_ids:
        return []
    rows = await connection.execute(
        select(transfers).where(
            or_(transfers.c.workflow_run_id.in_(run_ids), transfers.c.consult_run_id.in_(run_ids)),
            transfers.c.state != OVER,
        )
    )
    return [_transfer(row) for row in rows]


async def advance(
    connection: AsyncConnection,
    transfer: TransferRow,
    state: str,
    *,
    now: int,
    result: TransferResult | None = None,
) -> bool:
    """From the state in `transfer` to another one. False when somebody else has moved it."""
    values: dict[str, Any] = {"state": state, "changed_at": now}
    if result is not None:
        values["result"] = result
    moved = await connection.execute(
        update(transfers)
        .where(transfers.c.transfer_id == transfer.transfer_id, transfers.c.state == transfer.state)
        .values(**values)
    )
    return moved.rowcount == 1


async def forget(connection: AsyncConnection, *, before: int) -> None:
    """Delete what has not changed since `before` (ms since 1970): no call lasts so long."""
    await connection.execute(delete(transfers).where(transfers.c.changed_at < before))


def _transfer(row: Row[Any]) -> TransferRow:
    return TransferRow(
        row.transfer_id,
        row.workflow_run_id,
        row.consult_run_id,
        row.state,
        row.result,
        row.provider,
        row.account,
        row.provider_call_id,
        Transfer.model_validate(row.data),
        row.changed_at,
    )
