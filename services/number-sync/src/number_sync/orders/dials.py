"""The claims that make dialling *at most once*: one row per run. Theory of operation:

    dial      unclaimed ─► claimed ─► accepted            CallOriginated
                  ▲           ├─────► refused             CommandFailed
                  └───────────┤  (surely not accepted: the claim is taken back, and made anew later)
                              └─────► unknown             CommandFailed "outcome-unknown"
                                        └─► accepted      the call showed life after all: CallOriginated

`claimed` is committed before the provider is asked. Whoever finds a claim that is not his own and has no outcome must
not dial: the provider may have accepted. He looks for the call at the provider, by its numbers and time (`finding`), and
waits for it to show life (a webhook of the provider that names its call id); then he gives up.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.database import insert_if_absent
from number_sync.orders.command import Command
from number_sync.orders.telling import tell
from number_sync.schema import commands, dials
from offhook.events import CallOriginated, Originate

ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"
NOTHING_TO_END: Final = "nothing-to-end"
"""Result of a hang-up of a call that the provider did not seem to have."""


@dataclass(frozen=True, slots=True)
class DialRow:
    """What is known of a run's dial."""

    claim: str | None
    claimed_at: int | None
    outcome: str | None
    provider: str
    configuration_id: str
    account: str | None
    provider_call_id: str | None
    conversation_id: str | None


async def expect(connection: AsyncConnection, command_id: str, order: Originate) -> None:
    """The run is to be dialled by this command; by the first one of the run, where there are several."""
    await insert_if_absent(
        connection,
        dials,
        workflow_run_id=order.workflow_run_id,
        command_id=command_id,
        configuration_id=order.configuration_id,
        provider=order.provider,
    )


async def dial_of(connection: AsyncConnection, run_id: str, *, lock: bool = False) -> DialRow | None:
    """`lock`: nobody settles it before this transaction has ended."""
    query = select(dials).where(dials.c.workflow_run_id == run_id)
    row = (await connection.execute(query.with_for_update() if lock else query)).first()
    return None if row is None else _dial(row)


async def belongs(connection: AsyncConnection, command: Command) -> bool:
    """Whether the run's dial was made by this very command: only the first Originate of a run may dial."""
    found = await connection.execute(
        select(dials.c.workflow_run_id).where(
            dials.c.workflow_run_id == command.run_id, dials.c.command_id == command.command_id
        )
    )
    return found.first() is not None


async def claim(connection: AsyncConnection, command: Command, *, token: str, account: str, now: int) -> bool:
    """Claim the run's one dial. After this has been *committed* the holder of `token`, and nobody else, may dial, once."""
    claimed = await connection.execute(
        update(dials)
        .where(
            dials.c.workflow_run_id == command.run_id,
            dials.c.command_id == command.command_id,
            dials.c.claim.is_(None),
            dials.c.outcome.is_(None),
        )
        .values(claim=token, claimed_at=now, account=account)
    )
    return claimed.rowcount == 1


async def unclaim(connection: AsyncConnection, run_id: str, *, token: str) -> bool:
    """Take the claim back: the provider has surely not accepted. False when the claim is no longer this one."""
    undone = await connection.execute(
        update(dials)
        .where(dials.c.workflow_run_id == run_id, dials.c.claim == token, dials.c.outcome.is_(None))
        .values(claim=None, claimed_at=None)
    )
    return undone.rowcount == 1


async def settle_accepted(
    connection: AsyncConnection,
    run_id: str,
    *,
    provider_call_id: str,
    conversation_id: str | None,
    traceparent: str | None,
    now: int,
) -> bool:
    """The provider has the call, and named it. Tells `CallOriginated`, once; False when that was known already.

    Also right after `unknown`: the answer or a sign of life came late.
    """
    row = (
        await connection.execute(
            update(dials)
            .where(
                dials.c.workflow_run_id == run_id,
                or_(dials.c.outcome.is_(None), dials.c.outcome == UNKNOWN),
                dials.c.claimed_at.is_not(None),
            )
            .values(
                outcome=ACCEPTED,
                settled_at=now,
                provider_call_id=provider_call_id,
                conversation_id=conversation_id,
            )
            .returning(dials)
        )
    ).first()
    if row is None:
        return False
    originated = CallOriginated(
        workflow_run_id=run_id,
        provider=row.provider,
        account=row.account,
        configuration_id=row.configuration_id,
        provider_call_id=provider_call_id,
        conversation_id=conversation_id,
    )
    await tell(connection, originated, ("call-originated", run_id), traceparent=traceparent, now=now)
    # Somebody may have wanted it ended while it was lost.
    await connection.execute(
        update(commands)
        .where(
            commands.c.workflow_run_id == run_id,
            commands.c.kind == "hangup",
            commands.c.result == NOTHING_TO_END,
        )
        .values(state="open", result=None, finished_at=None, attempts=0, due_at=now)
    )
    return True


async def unsettled_between(
    connection: AsyncConnection,
    *,
    provider: str,
    account: str,
    numbers: tuple[str, str],
    but: str,
    since: int,
) -> list[int]:
    """When other runs than `but` were dialled, from the one number to the other, whose calls are not known: in ms since
    1970, none before `since`."""
    rows = await connection.execute(
        select(dials.c.claimed_at, commands.c.data)
        .join(commands, commands.c.command_id == dials.c.command_id)
        .where(
            dials.c.account == account,
            dials.c.provider == provider,
            dials.c.claimed_at >= since,
            or_(dials.c.outcome.is_(None), dials.c.outcome == UNKNOWN),
            dials.c.workflow_run_id != but,
        )
    )
    return [row.claimed_at for row in rows if (row.data["from_number"], row.data["to_number"]) == numbers]


async def runs_of_calls(connection: AsyncConnection, provider_call_ids: Collection[str]) -> dict[str, str]:
    """Which runs these calls are known to be."""
    if not provider_call_ids:
        return {}
    rows = await connection.execute(
        select(dials.c.provider_call_id, dials.c.workflow_run_id).where(
            dials.c.provider_call_id.in_(provider_call_ids)
        )
    )
    return {row.provider_call_id: row.workflow_run_id for row in rows}


async def settle(connection: AsyncConnection, run_id: str, *, outcome: str, now: int) -> None:
    """`refused` or `unknown`; an outcome that is already there stays."""
    await connection.execute(
        update(dials)
        .where(dials.c.workflow_run_id == run_id, dials.c.outcome.is_(None))
        .values(outcome=outcome, settled_at=now)
    )


async def unsettled_runs(connection: AsyncConnection, run_ids: Collection[str]) -> dict[str, tuple[str, str]]:
    """Which of `run_ids` were claimed and are not known to be accepted, and at which provider and account: a sign
    of life from there is news."""
    if not run_ids:
        return {}
    rows = await connection.execute(
        select(dials.c.workflow_run_id, dials.c.provider, dials.c.account).where(
            dials.c.workflow_run_id.in_(run_ids),
            dials.c.claimed_at.is_not(None),
            or_(dials.c.outcome.is_(None), dials.c.outcome == UNKNOWN),
        )
    )
    return {row.workflow_run_id: (row.provider, row.account) for row in rows}


def _dial(row: Row[Any]) -> DialRow:
    return DialRow(
        row.claim,
        row.claimed_at,
        row.outcome,
        row.provider,
        row.configuration_id,
        row.account,
        row.provider_call_id,
        row.conversation_id,
    )
