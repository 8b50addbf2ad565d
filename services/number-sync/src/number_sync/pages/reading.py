"""What pages read beside the domain objects' own lists: numbers with where they stand, and first use.

Every function sees only what belongs to `user_id`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.pages.guide import GuideNumber, Step, guide
from number_sync.pages.sync_view import SyncView, sync_view
from number_sync.schema import (
    configurations,
    number_calls,
    number_states,
    phone_numbers,
    shared_states,
    workflows,
)

NUMBERS_PER_PAGE: Final = 50
_MOST_WORKFLOWS: Final = 1000

# Every column of a number's state, under a name that is not one of the number's own.
_SYNC_COLUMNS: Final = [column.label(f"sync_{column.name}") for column in number_states.c]


@dataclass(frozen=True, slots=True)
class NumberRow:
    """A number, how its workflow is called (None: it has none), and where it stands at its provider."""

    row: Any
    workflow_name: str | None
    sync: SyncView


@dataclass(frozen=True, slots=True)
class NumbersPage:
    """`next`: what to give as `after` for the following page; None: this is the last one."""

    numbers: tuple[NumberRow, ...]
    next: str | None


async def page_of_numbers(
    connection: AsyncConnection,
    user_id: str,
    configuration_id: str,
    *,
    state: str | None = None,
    after: str | None = None,
    limit: int = NUMBERS_PER_PAGE,
) -> NumbersPage:
    """By number, ascending. `after` is an E.164 number; `state` shows only the numbers in this state."""
    query = _numbers(
        phone_numbers.c.user_id == user_id, phone_numbers.c.configuration_id == configuration_id
    ).order_by(phone_numbers.c.e164)
    if state is not None:
        query = query.where(_state() == state)
    if after is not None:
        query = query.where(phone_numbers.c.e164 > after)
    rows = (await connection.execute(query.limit(limit + 1))).all()
    return NumbersPage(
        tuple(_number_row(row) for row in rows[:limit]), rows[limit - 1].e164 if len(rows) > limit else None
    )


async def numbers_by_id(
    connection: AsyncConnection, user_id: str, number_ids: Sequence[str]
) -> tuple[NumberRow, ...]:
    """Those that (still) exist."""
    query = _numbers(phone_numbers.c.user_id == user_id, phone_numbers.c.id.in_(number_ids))
    return tuple(_number_row(row) for row in (await connection.execute(query)).all())


async def sync_detail(connection: AsyncConnection, configuration_id: str, number_id: str) -> SyncView:
    """Where one number stands, with what its configuration's numbers share at the provider."""
    found = await connection.execute(select(number_states).where(number_states.c.number_id == number_id))
    shared = await connection.execute(
        select(shared_states).where(shared_states.c.configuration_id == configuration_id)
    )
    of_number, of_all = found.mappings().first(), shared.mappings().first()
    return sync_view(
        {} if of_number is None else {str(name): value for name, value in of_number.items()},
        {} if of_all is None else {str(name): value for name, value in of_all.items()},
    )


async def numbers_of_workflow(
    connection: AsyncConnection, user_id: str, workflow_id: str, *, limit: int = 100
) -> tuple[Sequence[Any], int]:
    """The numbers a workflow answers (id, configuration_id, e164, label, active, configuration_name), and how many
    there are."""
    mine = and_(phone_numbers.c.user_id == user_id, phone_numbers.c.workflow_id == workflow_id)
    total = (
        await connection.execute(select(func.count()).select_from(phone_numbers).where(mine))
    ).scalar_one()
    rows = await connection.execute(
        select(
            phone_numbers.c.id,
            phone_numbers.c.configuration_id,
            phone_numbers.c.e164,
            phone_numbers.c.label,
            phone_numbers.c.active,
            configurations.c.name.label("configuration_name"),
        )
        .join(configurations, configurations.c.id == phone_numbers.c.configuration_id)
        .where(mine)
        .order_by(phone_numbers.c.e164)
        .limit(limit)
    )
    return rows.all(), total


async def numbers_without_workflow(
    connection: AsyncConnection, user_id: str, *, limit: int = 200
) -> Sequence[Any]:
    """Numbers that nobody answers (id, configuration_id, e164, label)."""
    rows = await connection.execute(
        select(
            phone_numbers.c.id, phone_numbers.c.configuration_id, phone_numbers.c.e164, phone_numbers.c.label
        )
        .where(phone_numbers.c.user_id == user_id, phone_numbers.c.workflow_id.is_(None))
        .order_by(phone_numbers.c.e164)
        .limit(limit)
    )
    return rows.all()


async def active_numbers(connection: AsyncConnection, user_id: str, *, limit: int = 200) -> Sequence[Any]:
    """Numbers that can be called from (id, e164, label)."""
    rows = await connection.execute(
        select(phone_numbers.c.id, phone_numbers.c.e164, phone_numbers.c.label)
        .where(phone_numbers.c.user_id == user_id, phone_numbers.c.active)
        .order_by(phone_numbers.c.e164)
        .limit(limit)
    )
    return rows.all()


async def count_by_workflow(connection: AsyncConnection, user_id: str) -> Mapping[str, int]:
    """Workflow → how many numbers it answers; those that answer none are left out."""
    rows = await connection.execute(
        select(phone_numbers.c.workflow_id, func.count())
        .where(phone_numbers.c.user_id == user_id, phone_numbers.c.workflow_id.is_not(None))
        .group_by(phone_numbers.c.workflow_id)
    )
    return {row[0]: row[1] for row in rows}


async def workflow_choices(connection: AsyncConnection, user_id: str) -> Sequence[Any]:
    """All of the user's workflows (id, name), by name."""
    rows = await connection.execute(
        select(workflows.c.id, workflows.c.name)
        .where(workflows.c.user_id == user_id)
        .order_by(func.lower(workflows.c.name), workflows.c.id)
        .limit(_MOST_WORKFLOWS)
    )
    return rows.all()


async def first_use(connection: AsyncConnection, user_id: str) -> tuple[Step, ...]:
    """The guide for a user who has not had a call answered yet; empty afterwards."""
    mine = phone_numbers.c.user_id == user_id
    answered = (
        select(number_calls.c.number_id)
        .join(phone_numbers, phone_numbers.c.id == number_calls.c.number_id)
        .where(mine, number_calls.c.answered_at.is_not(None))
        .limit(1)
    )
    if (await connection.execute(answered)).first() is not None:
        return ()
    usable = configurations.c.verification != "refused"
    configuration = (
        await connection.execute(
            select(configurations.c.id, usable.label("usable"))
            .where(configurations.c.user_id == user_id)
            .order_by(usable.desc(), configurations.c.created_at, configurations.c.id)
            .limit(1)
        )
    ).first()
    workflow_ids = (
        await connection.execute(select(workflows.c.id).where(workflows.c.user_id == user_id).limit(1))
    ).scalars()
    answers = and_(phone_numbers.c.active, phone_numbers.c.workflow_id.is_not(None))
    rank = case(
        (and_(answers, number_calls.c.number_id.is_not(None)), 0),
        (and_(answers, configurations.c.paused.is_(False)), 1),
        (answers, 2),
        else_=3,
    )
    candidate = (
        await connection.execute(
            _numbers(mine)
            .add_columns(configurations.c.paused, number_calls.c.status.label("call_status"))
            .add_columns(number_calls.c.at.label("call_at"))
            .join(configurations, configurations.c.id == phone_numbers.c.configuration_id)
            .outerjoin(number_calls, number_calls.c.number_id == phone_numbers.c.id)
            .order_by(rank, number_calls.c.at.desc(), phone_numbers.c.created_at, phone_numbers.c.id)
            .limit(1)
        )
    ).first()
    numbers = []
    if candidate is not None:
        numbers.append(
            GuideNumber(
                number_id=candidate.id,
                configuration_id=candidate.configuration_id,
                e164=candidate.e164,
                answers=candidate.active and candidate.workflow_id is not None,
                paused=candidate.paused,
                sync=_number_row(candidate).sync,
                call_status=candidate.call_status,
                call_at=candidate.call_at,
            )
        )
    return guide(
        configuration_ids=[] if configuration is None else [configuration.id],
        refused=configuration is not None and not configuration.usable,
        numbers=numbers,
        workflow_ids=list(workflow_ids),
    )


def _state() -> ColumnElement[str]:
    return func.coalesce(number_states.c.state, "pending")


def _numbers(*conditions: ColumnElement[bool]) -> Any:
    return (
        select(phone_numbers, workflows.c.name.label("workflow_name"), *_SYNC_COLUMNS)
        .select_from(
            phone_numbers.outerjoin(number_states, number_states.c.number_id == phone_numbers.c.id).outerjoin(
                workflows, workflows.c.id == phone_numbers.c.workflow_id
            )
        )
        .where(*conditions)
    )


def _number_row(row: Row[Any]) -> NumberRow:
    fields = row._mapping
    known = fields["sync_number_id"] is not None
    sync = {name.removeprefix("sync_"): value for name, value in fields.items() if name.startswith("sync_")}
    return NumberRow(row, row.workflow_name, sync_view(sync if known else None))
