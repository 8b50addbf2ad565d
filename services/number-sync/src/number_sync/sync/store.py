"""Where numbers stand at their providers, in the database."""

from sqlalchemy import insert, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.schema import number_states


async def mark_due(
    connection: AsyncConnection,
    *,
    number_id: str | None = None,
    configuration_id: str | None = None,
    at: int,
) -> None:
    """Have a number, the numbers of a configuration, or (neither given) all numbers compared from `at` on, ms since
    1970.

    Call it in the transaction of every change that alters what is wanted at the provider. A round that is under way
    does not take it back: it began with an earlier `version`.
    """
    change = update(number_states).values(due_at=at, version=number_states.c.version + 1)
    if number_id is not None:
        change = change.where(number_states.c.number_id == number_id)
    if configuration_id is not None:
        change = change.where(number_states.c.configuration_id == configuration_id)
    await connection.execute(change)


async def begin(connection: AsyncConnection, *, number_id: str, configuration_id: str, at: int) -> None:
    """A number that was just added: pending, and due at once."""
    await connection.execute(
        insert(number_states).values(
            number_id=number_id,
            configuration_id=configuration_id,
            state="pending",
            differs=[],
            compared=[],
            ours={},
            attempts=0,
            changed_at=at,
            due_at=at,
            version=0,
        )
    )
