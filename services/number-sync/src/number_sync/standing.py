"""Where numbers stand: their sync states and the last calls that came in, read for many numbers at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.schema import number_calls, number_states, phone_numbers

STATES: Final = ("pending", "synced", "drifted", "failed", "detached")
_NOT_YET: Final = "pending"  # a number whose row of states has not been written

# Databases bound the parameters of one statement.
_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Standing:
    """Rows of `number_states` and `number_calls`; None where there is none yet."""

    sync: Row[Any] | None = None
    last_call: Row[Any] | None = None


async def standings(connection: AsyncConnection, number_ids: Sequence[str]) -> Mapping[str, Standing]:
    """The standing of each of these numbers."""
    states: dict[str, Row[Any]] = {}
    calls: dict[str, Row[Any]] = {}
    for start in range(0, len(number_ids), _AT_ONCE):
        ids = number_ids[start : start + _AT_ONCE]
        for table, found in ((number_states, states), (number_calls, calls)):
            rows = await connection.execute(select(table).where(table.c.number_id.in_(ids)))
            found.update({row.number_id: row for row in rows})
    return {one: Standing(states.get(one), calls.get(one)) for one in number_ids}


async def counts(
    connection: AsyncConnection, configuration_ids: Sequence[str]
) -> Mapping[str, Mapping[str, int]]:
    """How many numbers of each configuration are in which state: every one of `STATES`, and `total`."""
    found = {one: {"total": 0} | dict.fromkeys(STATES, 0) for one in configuration_ids}
    state = func.coalesce(number_states.c.state, _NOT_YET)
    for start in range(0, len(configuration_ids), _AT_ONCE):
        ids = configuration_ids[start : start + _AT_ONCE]
        rows = await connection.execute(
            select(phone_numbers.c.configuration_id, state.label("state"), func.count().label("held"))
            .select_from(
                phone_numbers.outerjoin(number_states, number_states.c.number_id == phone_numbers.c.id)
            )
            .where(phone_numbers.c.configuration_id.in_(ids))
            .group_by(phone_numbers.c.configuration_id, state)
        )
        for row in rows:
            of_one = found[row.configuration_id]
            of_one[row.state] = of_one.get(row.state, 0) + row.held
            of_one["total"] += row.held
    return found
