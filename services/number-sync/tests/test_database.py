"""The database: one schema however it was made, transactions that do not fail each other, several starts at once."""

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


async def test_a_transaction_that_reads_first_and_writes_later_does_not_fail_another(
    database: Database,
) -> None:
    """Also between processes: two `Database` objects share nothing but the file."""
    other = Database(database.engine.url.render_as_string(hide_password=False))

    async def read_then_write(own: Database, key: str) -> None:
        async with own.write() as connection:
            await connection.execute(select(settings))
            await asyncio.sleep(0.01)
            await connection.execute(insert(settings).values(key=key, value=""))

    await asyncio.gather(
        *(read_then_write(database, f"a{index}") for index in range(5)),
        *(read_then_write(other, f"b{index}") for index in range(5)),
    )
    async with database.read() as connection:
        assert len((await connection.execute(select(settings))).all()) == 10
    await other.close()


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
