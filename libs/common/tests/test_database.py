"""Transactions of a database that two processes share, of either kind."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from offhook.database import Database, SchemaMissing, attempt, until_prepared


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


_ENV = """
from alembic import context
context.configure(connection=context.config.attributes["connection"])
with context.begin_transaction():
    context.run_migrations()
"""
_VERSION = """
import time
from alembic import op
revision = "{revision}"
down_revision = {before}
def upgrade():
    time.sleep(0.1)
    op.execute("CREATE TABLE made_by_{revision} (x INTEGER)")
"""


@pytest.fixture
def versions(tmp_path: Path) -> Path:
    """A folder of migrations with two versions, `one` and `two`."""
    (tmp_path / "versions").mkdir()
    (tmp_path / "env.py").write_text(_ENV)
    for revision, before in (("one", None), ("two", "one")):
        text = _VERSION.format(revision=revision, before=repr(before))
        (tmp_path / "versions" / f"{revision}.py").write_text(text)
    return tmp_path / "versions"


async def test_two_processes_that_migrate_an_empty_database_at_once_do_it_once(
    databases: list[Database], versions: Path
) -> None:
    done = await asyncio.gather(*(database.migrate() for database in databases))
    assert sorted(done, key=str) == [("two", "two"), (None, "two")]


async def test_a_schema_that_is_missing_is_told_and_waited_for(
    databases: list[Database], versions: Path
) -> None:
    for database in databases:
        with pytest.raises(
            SchemaMissing, match=r"has no schema, this version needs two: run `offhook prepare`"
        ):
            await database.check_schema()
    told: list[str | None] = []
    waiting = asyncio.create_task(
        until_prepared(databases[0], migrate=False, waiting=told.append, retry_s=0.01)
    )
    while not told:
        await asyncio.sleep(0.01)
    (versions / "two.py").rename(versions / "two.later")
    await databases[1].migrate()
    (versions / "two.later").rename(versions / "two.py")
    while told[-1] != "the database has schema one, this version needs two: run `offhook prepare`":
        await asyncio.sleep(0.01)
    await databases[1].migrate()
    await waiting
    assert told[-1] is None


async def test_a_schema_of_a_newer_version_is_left_as_it_is(
    databases: list[Database], versions: Path
) -> None:
    await databases[0].migrate()
    (versions / "two.py").unlink()
    assert await databases[1].migrate() == ("two", "two")
    await databases[1].check_schema()


@pytest.mark.real
async def test_what_is_wrong_with_a_connection_is_a_sentence_without_its_password(postgres_url: str) -> None:
    wrong = postgres_url.rpartition("/")[0] + "/not-there"
    for url, reason in (
        (wrong, "InvalidCatalogNameError"),
        ("postgresql+asyncpg://somebody:hunter2@127.0.0.1:1/x", "ConnectionRefusedError"),
    ):
        database = Database(url, migrations=Path(), migration_lock=1, busy_timeout_s=1)
        said = await attempt(database.check)
        await database.close()
        assert said is not None
        assert reason in said
        assert "hunter2" not in said


async def test_a_migration_that_is_wrong_fails_and_is_not_waited_for(
    databases: list[Database], versions: Path
) -> None:
    (versions / "one.py").write_text(
        _VERSION.format(revision="one", before=None).replace("CREATE TABLE", "CREATE TABEL")
    )
    with pytest.raises(DBAPIError, match="TABEL"):
        await until_prepared(databases[0], migrate=True, waiting=lambda reason: None, retry_s=0.01)


async def test_a_sqlite_file_that_cannot_be_opened_fails_and_is_not_waited_for(tmp_path: Path) -> None:
    database = Database(
        f"sqlite+aiosqlite:///{tmp_path}", migrations=tmp_path, migration_lock=1, busy_timeout_s=1
    )
    before = set(threading.enumerate())
    with pytest.raises(OperationalError, match="unable to open"):
        await attempt(database.check)
    await database.close()
    for thread in set(threading.enumerate()) - before:
        await asyncio.to_thread(thread.join)  # the driver's, which has a last word for this event loop


async def test_what_will_pass_on_sqlite_is_named(tmp_path: Path, versions: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"
    one, two = (Database(url, migrations=tmp_path, migration_lock=1, busy_timeout_s=0.01) for _ in range(2))
    async with one.write():
        assert await attempt(two.migrate) == "the database cannot work now (SQLITE_BUSY)"
    # The file may not grow any more, as on a full disk.
    text = (versions / "one.py").read_text()
    (versions / "one.py").write_text(
        text.replace("    op.execute", '    op.execute("PRAGMA max_page_count = 1")\n    op.execute')
    )
    assert await attempt(two.migrate) == "the database cannot work now (SQLITE_FULL)"
    for database in (one, two):
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
