"""A service's database: SQLite (embedded default) or PostgreSQL, one code path. Transactions and migrations.

Where the two differ it is said here: how a transaction begins, and what keeps writers apart.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization failure, deadlock detected
_TRY_AGAIN_CODES: Final = frozenset({"40001", "40P01"})


class Database:
    """A pool of connections. You must `await migrate()` before use and `await close()` at the end.

    `migrations` is Alembic's folder. `migration_lock` is the key of PostgreSQL's advisory lock around them: any
    number, the same in every process of a service for ever. `busy_timeout_s` is how long SQLite waits for
    another process's transaction; `postgresql` are options of the engine for PostgreSQL.
    """

    def __init__(
        self, url: str, *, migrations: Path, migration_lock: int, busy_timeout_s: float, **postgresql: Any
    ) -> None:
        self._migrations = migrations
        self._migration_lock = migration_lock
        self._writer = asyncio.Lock()
        parsed = make_url(url)
        self.sqlite: Final = parsed.get_backend_name() == "sqlite"
        # hide_parameters: the values are people's, and an error's message ends up in a log.
        if self.sqlite:
            if parsed.database not in (None, "", ":memory:"):
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine: AsyncEngine = create_async_engine(
                url, connect_args={"timeout": busy_timeout_s}, hide_parameters=True
            )
            _prepare_sqlite(self.engine)
        else:
            # A connection that a firewall or a fail-over has cut is found before it is used, not by a request.
            self.engine = create_async_engine(url, pool_pre_ping=True, hide_parameters=True, **postgresql)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: commits at the end, rolls back on any exception."""
        async with AsyncExitStack() as stack:
            if self.sqlite:
                # SQLite has one writer. Waiting here is fair and cheap; waiting inside SQLite is polling.
                await stack.enter_async_context(self._writer)
            connection = await stack.enter_async_context(self.engine.connect())
            if self.sqlite:
                # A transaction that reads first and writes later fails when another one wrote in between.
                await connection.execution_options(offhook_begin="IMMEDIATE")
            async with connection.begin():
                yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading only."""
        async with self.engine.connect() as connection:
            yield connection

    async def check(self) -> None:
        """Raises what `read` raises when the database does not answer."""
        async with self.read() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def migrate(self) -> None:
        """Bring the schema up to date. Several processes may start at once: one migrates, the others wait."""
        async with self.write() as connection:
            await connection.run_sync(self._upgrade)

    async def close(self) -> None:
        await self.engine.dispose()

    def _upgrade(self, connection: Connection) -> None:
        if not self.sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._migration_lock})")
        config = Config()  # without an ini file
        config.set_main_option("script_location", str(self._migrations).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def stood_in_the_way(error: DBAPIError) -> bool:
    """Whether PostgreSQL ended the transaction because of another one: it may succeed when tried again."""
    return getattr(error.orig, "sqlstate", None) in _TRY_AGAIN_CODES


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver's own transactions begin at the first write, which is too late; BEGIN is ours, below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("offhook_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")
