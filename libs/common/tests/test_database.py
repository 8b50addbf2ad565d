"""Transactions of a database that two processes share, of either kind."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from offhook.database import Database


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.real)])
async def databases(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """One database twice, as two processes have it: they share nothing but the file or the server."""
    if request.param == "sqlite":
        url = f"sqlite+aiosqlite:///{tmp_path / 'made' / 'store.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    made = [
        Database(url, migrations=tmp_path, migration_lock=1, busy_timeout_s=30, pool_size=10)
        for _ in range(2)
    ]
    async with made[0].write() as connection:
        await connection.execute(text("CREATE TABLE facts (name TEXT PRIMARY KEY)"))
    yield made
    for database in made:
        await database.close()


async def names(database: Database) -> list[str]:
    async with database.read() as connection:
        return list((await connection.execute(text("SELECT name FROM facts ORDER BY name"))).scalars())


async def add(database: Database, name: str) -> None:
    async with database.write() as connection:
        await connection.execute(text("SELECT name FROM facts"))
        await asyncio.sleep(0.01)
        await connection.execute(text("INSERT INTO facts VALUES (:name)"), {"name": name})


async def test_a_transaction_that_reads_first_and_writes_later_does_not_fail_another(
    databases: list[Database],
) -> None:
    await asyncio.gather(*(add(databases[index % 2], f"f{index}") for index in range(10)))
    assert await names(databases[0]) == [f"f{index}" for index in range(10)]


async def test_a_transaction_that_fails_leaves_nothing_and_the_next_one_begins(
    databases: list[Database],
) -> None:
    async def half() -> None:
        async with databases[0].write() as connection:
            await connection.execute(text("INSERT INTO facts VALUES ('half')"))
            raise KeyError

    with pytest.raises(KeyError):
        await half()
    await add(databases[0], "whole")
    assert await names(databases[1]) == ["whole"]


async def test_the_message_of_an_error_does_not_list_the_statements_parameters(
    databases: list[Database],
) -> None:
    await add(databases[0], "+14155550100")
    with pytest.raises(IntegrityError, match="parameters hidden"):
        await add(databases[0], "+14155550100")
