"""The database: one schema however it was made, several starts at once, one answer each for rivals."""

import asyncio
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, select

import number_sync
from number_sync.database import Database
from number_sync.schema import configurations, metadata, settings
from number_sync.sync import store


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


async def test_numbers_that_were_there_before_are_compared_at_once(database_url: str) -> None:
    """A database of the first release becomes one of this: nothing is lost, and every number is due."""

    def first_release(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(number_sync.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for statement in (
            "INSERT INTO configurations VALUES ('c', 'ada', 'twilio', 'Main', 'AC1', 'sealed', false, false, 1, 1)",
            "INSERT INTO phone_numbers VALUES ('n', 'c', 'ada', '+14155551234', '', true, NULL, false, 1, 2)",
        ):
            connection.exec_driver_sql(statement)

    database = Database(database_url)
    async with database.write() as connection:
        await connection.run_sync(first_release)
    await database.migrate()
    async with database.read() as connection:
        configuration = (await connection.execute(select(configurations))).one()
        due = await store.due_configurations(connection, now=1, limit=9, busy=[], resting=[], failing=True)
        work = await store.work_of(connection, "c", now=1)
    await database.close()
    assert (configuration.repair_drift, configuration.verification) == (True, "not-verified")
    assert [each.configuration_id for each in due] == ["c"]
    assert work is not None
    assert [(number.e164, number.standing.state) for number in work.numbers] == [("+14155551234", "pending")]
