"""Orders that may be carried out once only: claimed in the ledger before the provider is asked.

Whoever finds such an order claimed does not know whether it was carried out, and must not do it again.
"""

from typing import Final

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.orders.command import Command
from number_sync.schema import commands

_CLAIMED: Final = "claimed"
_OPEN: Final = "open"


async def claim(connection: AsyncConnection, command: Command) -> bool:
    """After this has been *committed* the provider may be asked, once. False: somebody has claimed it before."""
    claimed = await connection.execute(
        update(commands)
        .where(
            commands.c.command_id == command.command_id,
            commands.c.state == _OPEN,
            commands.c.result.is_(None),
        )
        .values(result=_CLAIMED)
    )
    return claimed.rowcount == 1


async def claimed(connection: AsyncConnection, command: Command) -> bool:
    """Whether the provider may have been asked."""
    found = await connection.execute(
        select(commands.c.seq).where(
            commands.c.command_id == command.command_id, commands.c.result == _CLAIMED
        )
    )
    return found.first() is not None


async def any_claimed(connection: AsyncConnection, run_id: str, kind: str) -> bool:
    """Whether the provider may have been asked for an open order of this kind for a run."""
    found = await connection.execute(
        select(commands.c.seq).where(
            commands.c.workflow_run_id == run_id,
            commands.c.kind == kind,
            commands.c.state == _OPEN,
            commands.c.result == _CLAIMED,
        )
    )
    return found.first() is not None


async def unclaim(connection: AsyncConnection, command: Command) -> None:
    """The provider has surely not done it."""
    await connection.execute(
        update(commands)
        .where(commands.c.command_id == command.command_id, commands.c.state == _OPEN)
        .values(result=None)
    )
