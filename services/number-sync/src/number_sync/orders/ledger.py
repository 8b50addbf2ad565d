"""The ledger: every command that came from Kafka. See `dials` for what makes dialling *at most once*.

The consumer writes a command down and Kafka may forget it; the worker carries it out from here. Theory of operation:

    command   open ──────────────► done | failed          leased while a process works on it; a lease that is not
                                                          renewed (kill -9) runs out and another process goes on

Outcomes and the events that tell them are one transaction.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.database import insert_if_absent
from number_sync.orders import dials as claims
from number_sync.orders.command import KINDS, LOOKS, Command, Order, kind_of, order_of
from number_sync.orders.telling import tell
from number_sync.schema import commands, configurations, dials
from offhook.bus.errors import PoisonError
from offhook.events import CommandFailed, Event, EventData, HangUp, Observe, Originate, Transfer
from offhook.identities import derived_id, is_id

OPEN: Final = "open"
DONE: Final = "done"
FAILED: Final = "failed"


async def record(connection: AsyncConnection, events: Sequence[Event[EventData]], *, now: int) -> int:
    """Write down the commands among `events`; those that are already written down are left alone. Returns how many are new.

    The first Originate of a run makes its dial row; a second one finds it and will see that it has nothing to do.
    """
    new = 0
    for event in events:
        order = order_of(event)
        if order is None:
            continue
        if not _storable(event.id, order):
            raise PoisonError(event, "its event id, configuration id or provider is longer than any of ours")
        if isinstance(order, Observe) and await _is_looked_at(connection, order):
            continue
        added = await insert_if_absent(
            connection,
            commands,
            command_id=event.id,
            kind=kind_of(order),
            workflow_run_id=order.workflow_run_id,
            configuration_id=order.configuration_id,
            data=order.model_dump(mode="json"),
            ordered_at=int(event.time.timestamp() * 1000),
            traceparent=event.traceparent if len(event.traceparent or "") <= 64 else None,
            state=OPEN,
            attempts=0,
            due_at=now,
            lease_until=0,
        )
        new += added
        if added and isinstance(order, HangUp):
            # An order to dial that waits to be tried again need not be.
            await hasten(connection, (order.workflow_run_id,), now=now)
        if added and isinstance(order, Originate):
            await claims.expect(connection, event.id, order)
    return new


async def lease(
    connection: AsyncConnection,
    *,
    owner: str,
    now: int,
    until: int,
    limit: int,
    looks: int = 0,
    busy: Collection[str] = (),
) -> list[Command]:
    """Take up to `limit` commands that are due, oldest first: at most one of each run, and only the run's oldest open one.

    Up to `looks` of them may be of the kinds in `LOOKS`, in what is then left of `limit`. `busy` are configurations to
    leave alone for now.
    """
    due = (
        select(commands)
        .where(commands.c.due_at <= now, commands.c.lease_until < now, *_eligible(busy))
        .order_by(commands.c.seq)
    )
    first = await connection.execute(due.where(commands.c.kind.not_in(LOOKS)).limit(limit))
    rows = list(first.all())
    room = min(looks, limit - len(rows))
    if room > 0:
        held = [row.workflow_run_id for row in rows]
        then = due.where(commands.c.kind.in_(LOOKS), commands.c.workflow_run_id.not_in(held)).limit(room)
        rows += (await connection.execute(then)).all()
    taken = []
    for row in rows:
        changed = await connection.execute(
            update(commands)
            .where(commands.c.seq == row.seq, commands.c.state == OPEN, commands.c.lease_until < now)
            .values(lease_owner=owner, lease_until=until)
        )
        if changed.rowcount == 1:
            taken.append(_command(row))
    return taken


async def anything_due(
    connection: AsyncConnection, *, now: int, looks: bool = True, busy: Collection[str] = ()
) -> bool:
    """Whether `lease` might find something: a look that locks nothing. `looks`: also of the kinds in `LOOKS`."""
    due = select(commands.c.seq).where(
        commands.c.due_at <= now, commands.c.lease_until < now, *_eligible(busy, looks=looks)
    )
    return (await connection.execute(due.limit(1))).first() is not None


async def renew(connection: AsyncConnection, command_ids: Collection[str], *, owner: str, until: int) -> None:
    """Keep what `owner` is working on."""
    await connection.execute(
        update(commands)
        .where(
            commands.c.command_id.in_(command_ids), commands.c.state == OPEN, commands.c.lease_owner == owner
        )
        .values(lease_until=until)
    )


async def release(connection: AsyncConnection, *, owner: str) -> None:
    """Let others take at once what `owner` will not finish."""
    await connection.execute(
        update(commands)
        .where(commands.c.state == OPEN, commands.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=0)
    )


async def next_due(
    connection: AsyncConnection, *, looks: bool = True, busy: Collection[str] = ()
) -> int | None:
    """When the next command that nobody holds and nothing holds up is due, in ms since 1970."""
    due: int | None = (
        await connection.execute(
            select(func.min(commands.c.due_at)).where(
                commands.c.lease_owner.is_(None), *_eligible(busy, looks=looks)
            )
        )
    ).scalar_one_or_none()
    return due


async def postpone(
    connection: AsyncConnection, command: Command, *, due_at: int, attempt: bool = True
) -> None:
    """Go on at `due_at`. `attempt`: this was one, and it counts."""
    await connection.execute(
        update(commands)
        .where(commands.c.command_id == command.command_id, commands.c.state == OPEN)
        .values(attempts=command.attempts + attempt, due_at=due_at, lease_owner=None, lease_until=0)
    )


async def finish(connection: AsyncConnection, command: Command, *, state: str, result: str, now: int) -> bool:
    """Close the command. False when it was closed already (by a process that took over)."""
    closed = await connection.execute(
        update(commands)
        .where(commands.c.command_id == command.command_id, commands.c.state == OPEN)
        .values(state=state, result=result, finished_at=now, lease_owner=None, lease_until=0)
    )
    return closed.rowcount == 1


async def fail(connection: AsyncConnection, command: Command, *, code: str, message: str, now: int) -> None:
    """Close the command and tell why; `message` is a sentence for people and holds no secret."""
    if not await finish(connection, command, state=FAILED, result=code, now=now):
        return
    account: str | None = None
    if command.told in ("transfer", "hangup"):  # an agent may order it for any run that his webhook named
        mine = select(configurations.c.account).where(configurations.c.id == command.data.configuration_id)
        account = (await connection.execute(mine)).scalar_one_or_none()
    failed = CommandFailed(
        workflow_run_id=command.run_id,
        command=command.told,
        command_id=command.command_id,
        provider=command.data.provider,
        account=account,
        code=code,
        message=message,
    )
    await tell(
        connection,
        failed,
        ("command-failed", command.command_id),
        traceparent=command.traceparent,
        now=now,
    )


async def hasten(connection: AsyncConnection, run_ids: Collection[str], *, now: int) -> None:
    """Something is known of these runs that their commands may be waiting for."""
    await connection.execute(
        update(commands)
        .where(commands.c.workflow_run_id.in_(run_ids), commands.c.state == OPEN, commands.c.due_at > now)
        .values(due_at=now)
    )


async def hang_up_waits(connection: AsyncConnection, run_id: str) -> bool:
    """Whether somebody has already asked to end this call."""
    waiting = await connection.execute(
        select(commands.c.seq).where(
            commands.c.workflow_run_id == run_id, commands.c.kind == "hangup", commands.c.state == OPEN
        )
    )
    return waiting.first() is not None


async def confirm_later(
    connection: AsyncConnection, hang_up: Command, *, provider_call_id: str, now: int, due_at: int
) -> None:
    """The provider took a hang-up. Look at the call at `due_at`, unless its end is told before (`confirmed`)."""
    look = Observe(
        workflow_run_id=hang_up.run_id,
        configuration_id=hang_up.data.configuration_id,
        provider=hang_up.data.provider,
        provider_call_id=provider_call_id,
        reason="hang-up",
    )
    await insert_if_absent(
        connection,
        commands,
        command_id=derived_id("confirm", hang_up.command_id),
        kind="confirm",
        workflow_run_id=hang_up.run_id,
        configuration_id=hang_up.data.configuration_id,
        data=look.model_dump(mode="json"),
        ordered_at=now,
        traceparent=hang_up.traceparent,
        state=OPEN,
        attempts=0,
        due_at=due_at,
        lease_until=0,
    )


async def give_back(connection: AsyncConnection, transfer_id: str, transfer: Transfer, *, now: int) -> None:
    """A caller waits in vain: send him back to an agent."""
    await insert_if_absent(
        connection,
        commands,
        command_id=derived_id("give-back", transfer_id),
        kind="give-back",
        workflow_run_id=transfer.workflow_run_id,
        configuration_id=transfer.configuration_id,
        data=transfer.model_dump(mode="json"),
        ordered_at=now,
        state=OPEN,
        attempts=0,
        due_at=now,
        lease_until=0,
    )


async def unconfirmed(connection: AsyncConnection, ended: Collection[tuple[str, str, str, str]]) -> list[str]:
    """The looks that are no longer needed: `ended` says which calls are over, by run, provider, account and the provider's
    id."""
    if not ended:
        return []
    rows = await connection.execute(
        select(
            commands.c.command_id,
            commands.c.workflow_run_id,
            commands.c.data,
            configurations.c.provider,
            configurations.c.account,
        )
        .join(configurations, configurations.c.id == commands.c.configuration_id)
        .where(
            commands.c.workflow_run_id.in_({run for run, *_ in ended}),
            commands.c.kind == "confirm",
            commands.c.state == OPEN,
        )
    )
    # Anybody's verified callback may name any run; whose call it is only its own provider knows.
    return [
        row.command_id
        for row in rows
        if (row.workflow_run_id, row.provider, row.account, row.data["provider_call_id"]) in ended
    ]


async def confirmed(connection: AsyncConnection, command_ids: Collection[str], *, now: int) -> None:
    """The provider has told the ends of these calls: nobody need look."""
    await connection.execute(
        update(commands)
        .where(commands.c.command_id.in_(command_ids), commands.c.state == OPEN)
        .values(state=DONE, result="confirmed", finished_at=now, lease_owner=None, lease_until=0)
    )


async def forget(connection: AsyncConnection, *, before: int) -> None:
    """Delete what was finished before `before` (ms since 1970)."""
    await connection.execute(
        delete(dials).where(
            exists().where(
                commands.c.command_id == dials.c.command_id,
                and_(commands.c.state != OPEN, commands.c.finished_at < before),
            )
        )
    )
    await connection.execute(
        delete(commands).where(commands.c.state != OPEN, commands.c.finished_at < before)
    )


def _eligible(busy: Collection[str], *, looks: bool = True) -> tuple[ColumnElement[bool], ...]:
    """Open, not of a `busy` configuration, and the oldest open command of its run: a call's commands are in order.

    Looks wait for what was ordered before them; nothing but looks waits for a look.
    """
    earlier = commands.alias()
    eligible = (
        commands.c.state == OPEN,
        commands.c.configuration_id.not_in(busy),
        ~exists().where(
            earlier.c.workflow_run_id == commands.c.workflow_run_id,
            earlier.c.state == OPEN,
            earlier.c.seq < commands.c.seq,
            or_(earlier.c.kind.not_in(LOOKS), commands.c.kind.in_(LOOKS)),
        ),
    )
    return eligible if looks else (*eligible, commands.c.kind.not_in(LOOKS))


async def _is_looked_at(connection: AsyncConnection, look: Observe) -> bool:
    """Whether the same look is still to be had: what it finds answers this one, too. While we are behind, call-tracker asks
    again and again."""
    rows = await connection.execute(
        select(commands.c.data).where(
            commands.c.workflow_run_id == look.workflow_run_id,
            commands.c.kind == "observe",
            commands.c.state == OPEN,
        )
    )
    wanted = look.model_dump(mode="json", exclude={"requested_at"})
    return any({**data, "requested_at": None} == {**wanted, "requested_at": None} for data in rows.scalars())


def _storable(command_id: str, data: Order) -> bool:
    return (
        len(command_id) <= 128
        and command_id.isprintable()
        and is_id(data.configuration_id)
        and len(data.provider) <= 32
        and data.provider.isprintable()
    )


def _command(row: Row[Any]) -> Command:
    order = KINDS[row.kind].model_validate(row.data)
    return Command(row.command_id, row.kind, order, row.ordered_at, row.attempts, row.traceparent)
