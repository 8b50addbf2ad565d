"""The ledger: every command that came from Kafka, and the claims that make dialling *at most once*.

The consumer writes a command down and Kafka may forget it; the worker carries it out from here. Theory of operation:

    command   open ──────────────► done | failed          leased while a process works on it; a lease that is not
                                                          renewed (kill -9) runs out and another process goes on
    dial      unclaimed ─► claimed ─► accepted            CallOriginated
                  ▲           ├─────► refused             CommandFailed
                  └───────────┤  (surely not accepted: the claim is taken back, and made anew later)
                              └─────► unknown             CommandFailed "outcome-unknown"
                                        └─► accepted      the call showed life after all: CallOriginated

`claimed` is committed before the provider is asked. Whoever finds a claim that is not his own and has no outcome must
not dial: the provider may have accepted. He waits for the call to show life (a webhook of the provider that names its
call id), and then gives up. Outcomes and the events that tell them are one transaction.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Table, and_, delete, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import outbox
from number_sync.publishing import SOURCE
from number_sync.schema import commands, dials
from offhook.bus.errors import PoisonError
from offhook.events import CallOriginated, CommandFailed, Event, EventData, HangUp, Originate, new_event
from offhook.identities import derived_id, is_id
from offhook.topics import CALL_EVENTS

OPEN: Final = "open"
DONE: Final = "done"
FAILED: Final = "failed"
ACCEPTED: Final = "accepted"
REFUSED: Final = "refused"
UNKNOWN: Final = "unknown"

_KINDS: Final[Mapping[type[EventData], str]] = {Originate: "originate", HangUp: "hangup"}


@dataclass(frozen=True, slots=True)
class Command:
    """One command that is being carried out. `ordered_at` in ms since 1970; `attempts` counts the earlier ones."""

    command_id: str
    data: Originate | HangUp
    ordered_at: int
    attempts: int
    traceparent: str | None

    @property
    def run_id(self) -> str:
        return self.data.workflow_run_id

    @property
    def kind(self) -> str:
        return _KINDS[type(self.data)]


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


async def record(connection: AsyncConnection, events: Sequence[Event[EventData]], *, now: int) -> int:
    """Write down the commands among `events`; those that are already written down are left alone. Returns how many are new.

    The first Originate of a run makes its dial row; a second one finds it and will see that it has nothing to do.
    """
    new = 0
    for event in events:
        kind = _KINDS.get(type(event.data))
        if kind is None:
            continue
        assert isinstance(event.data, Originate | HangUp)
        if not _storable(event.id, event.data):
            raise PoisonError(event, "its event id, configuration id or provider is longer than any of ours")
        added = await _insert_if_absent(
            connection,
            commands,
            command_id=event.id,
            kind=kind,
            workflow_run_id=event.data.workflow_run_id,
            configuration_id=event.data.configuration_id,
            data=event.data.model_dump(mode="json"),
            ordered_at=int(event.time.timestamp() * 1000),
            traceparent=event.traceparent if len(event.traceparent or "") <= 64 else None,
            state=OPEN,
            attempts=0,
            due_at=now,
            lease_until=0,
        )
        new += added
        if added and isinstance(event.data, HangUp):
            # An order to dial that waits to be tried again need not be.
            await hasten(connection, (event.data.workflow_run_id,), now=now)
        if added and isinstance(event.data, Originate):
            await _insert_if_absent(
                connection,
                dials,
                workflow_run_id=event.data.workflow_run_id,
                command_id=event.id,
                configuration_id=event.data.configuration_id,
                provider=event.data.provider,
            )
    return new


async def lease(
    connection: AsyncConnection,
    *,
    owner: str,
    now: int,
    until: int,
    limit: int,
    busy: Collection[str] = (),
) -> list[Command]:
    """Take up to `limit` commands that are due, oldest first: at most one of each run, and only the run's oldest open one.

    `busy` are configurations to leave alone for now.
    """
    due = (
        select(commands)
        .where(commands.c.due_at <= now, commands.c.lease_until < now, *_eligible(busy))
        .order_by(commands.c.seq)
        .limit(limit)
    )
    taken = []
    for row in (await connection.execute(due)).all():
        changed = await connection.execute(
            update(commands)
            .where(commands.c.seq == row.seq, commands.c.state == OPEN, commands.c.lease_until < now)
            .values(lease_owner=owner, lease_until=until)
        )
        if changed.rowcount == 1:
            taken.append(_command(row))
    return taken


async def anything_due(connection: AsyncConnection, *, now: int, busy: Collection[str] = ()) -> bool:
    """Whether `lease` might find something: a look that locks nothing."""
    found = await connection.execute(
        select(commands.c.seq)
        .where(commands.c.due_at <= now, commands.c.lease_until < now, *_eligible(busy))
        .limit(1)
    )
    return found.first() is not None


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


async def next_due(connection: AsyncConnection, *, busy: Collection[str] = ()) -> int | None:
    """When the next command that nobody holds and nothing holds up is due, in ms since 1970."""
    due: int | None = (
        await connection.execute(
            select(func.min(commands.c.due_at)).where(commands.c.lease_owner.is_(None), *_eligible(busy))
        )
    ).scalar_one_or_none()
    return due


async def postpone(connection: AsyncConnection, command: Command, *, due_at: int) -> None:
    """Try again at `due_at`; counts as an attempt."""
    await connection.execute(
        update(commands)
        .where(commands.c.command_id == command.command_id, commands.c.state == OPEN)
        .values(attempts=command.attempts + 1, due_at=due_at, lease_owner=None, lease_until=0)
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
    failed = CommandFailed(
        workflow_run_id=command.run_id,
        command="originate" if isinstance(command.data, Originate) else "hangup",
        command_id=command.command_id,
        provider=command.data.provider,
        code=code,
        message=message,
    )
    await _tell(connection, failed, ("command-failed", command.command_id), command.traceparent, now)


# --- dials -------------------------------------------------------------------------------------------------------------


async def dial_of(connection: AsyncConnection, run_id: str) -> DialRow | None:
    row = (await connection.execute(select(dials).where(dials.c.workflow_run_id == run_id))).first()
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
    await _tell(connection, originated, ("call-originated", run_id), traceparent, now)
    return True


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


def _eligible(busy: Collection[str]) -> tuple[ColumnElement[bool], ...]:
    """Open, not of a `busy` configuration, and the oldest open command of its run: a call's commands are in order."""
    earlier = commands.alias()
    return (
        commands.c.state == OPEN,
        commands.c.configuration_id.not_in(busy),
        ~exists().where(
            earlier.c.workflow_run_id == commands.c.workflow_run_id,
            earlier.c.state == OPEN,
            earlier.c.seq < commands.c.seq,
        ),
    )


async def _tell(
    connection: AsyncConnection,
    data: CallOriginated | CommandFailed,
    identity: tuple[str, ...],
    traceparent: str | None,
    now: int,
) -> None:
    event: Event[EventData] = new_event(
        data,
        source=SOURCE,
        time=datetime.fromtimestamp(now / 1000, UTC),
        subject=data.workflow_run_id,
        event_id=derived_id("number-sync", *identity),
        traceparent=traceparent,
    )
    await outbox.append(connection, CALL_EVENTS, data.workflow_run_id, event)


async def _insert_if_absent(connection: AsyncConnection, table: Table, **values: Any) -> int:
    # "On conflict do nothing" is spelled the same in both dialects but belongs to neither's common ground.
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return (await connection.execute(make(table).values(**values).on_conflict_do_nothing())).rowcount


def _storable(command_id: str, data: Originate | HangUp) -> bool:
    return (
        len(command_id) <= 128
        and command_id.isprintable()
        and is_id(data.configuration_id)
        and len(data.provider) <= 32
        and data.provider.isprintable()
    )


def _command(row: Row[Any]) -> Command:
    model = Originate if row.kind == "originate" else HangUp
    return Command(
        row.command_id, model.model_validate(row.data), row.ordered_at, row.attempts, row.traceparent
    )


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
