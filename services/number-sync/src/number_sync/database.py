"""number-sync's database.

`Database.write()` is one transaction; what it changes and what it publishes (`outbox`) become true together.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

import offhook.database

_TRIES: Final = 4

T = TypeVar("T")
Clock = Callable[[], float]


def now_ms(clock: Clock = time.time) -> int:
    """`clock` in the unit the tables use: whole milliseconds since 1970, UTC."""
    return int(clock() * 1000)


class Database(offhook.database.Database):
    """Its methods raise `sqlalchemy.exc.SQLAlchemyError` or `OSError` when the database cannot be reached."""

    def __init__(self, url: str) -> None:
        super().__init__(
            url,
            migrations=Path(__file__).parent / "migrations",
            migration_lock=6662025001,
            busy_timeout_s=30,
            pool_size=10,
            max_overflow=10,
        )
        self._after_commit: list[Callable[[], None]] = []

    def after_commit(self, call: Callable[[], None]) -> None:
        """`call` whenever a write transaction of this process has been committed."""
        self._after_commit.append(call)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction; commits at the end, rolls back on any exception."""
        async with super().write() as connection:
            yield connection
        for call in self._after_commit:
            call()

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """`work` in one write transaction, and again when somebody else was in the way at the same time.

        A unique key may have been taken: the next time `work` sees what the other has stored, and can say so. Or two
        transactions waited for each other's rows, and PostgreSQL ended one of them.
        """
        for _ in range(_TRIES - 1):
            try:
                async with self.write() as connection:
                    return await work(connection)
            except DBAPIError as error:
                if not (isinstance(error, IntegrityError) or offhook.database.stood_in_the_way(error)):
                    raise
        async with self.write() as connection:
            return await work(connection)


async def insert_if_absent(connection: AsyncConnection, table: Table, **values: Any) -> int:
    """Insert the row unless its key is taken. Returns how many were inserted."""
    # "On conflict do nothing" is spelled the same in both dialects but belongs to neither's common ground.
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return (await connection.execute(make(table).values(**values).on_conflict_do_nothing())).rowcount
