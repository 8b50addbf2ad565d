"""The database: one schema however it was made, several starts at once, one answer each for rivals."""

import asyncio
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, select

from number_sync.database import Database
from number_sync.schema import metadata, settings


async def test_the_migrations_make_the_schema(database: Database) -> None:
    def differences(connection: Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with database.read() as connection:
        assert await connection.run_sync(differences) == []


async def test_processes_that_start_at_once_all_find_the_schema(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(4)]
    await asyncio.gather(*(database.migrate() for database in databases))
    for database in databases:
        await database.migrate()
        await database.check()
        await database.close()


async def test_two_who_take_the_same_name_at_once_get_one_answer_each(database: Database) -> None:
    """The loser's work runs again and sees what the winner stored."""
    other = Database(database.engine.url.render_as_string(hide_password=False))
    told: list[str] = []

    async def take(own: Database, who: str) -> None:
        async def work(connection: Any) -> None:
            if (await connection.execute(select(settings).where(settings.c.key == "k"))).first():
                told.append(f"{who} was late")
                return
            await asyncio.sleep(0.05)
            await connection.execute(insert(settings).values(key="k", value=who))

        await own.transact(work)

    await asyncio.gather(take(database, "a"), take(other, "b"))
    assert len(told) == 1
    await other.close()
