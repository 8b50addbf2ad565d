"""The database: SQLite (embedded default) or PostgreSQL, through one code path.

`Database.write()` is one transaction; what it changes and what it publishes (`outbox`) become true together.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_S: Final = 30
_TRIES: Final = 4
# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization failure, deadlock detected.
_TRY_AGAIN: Final = frozenset({"40001", "40P01"})

T = TypeVar("T")
Clock = Callable[[], float]


def now_ms(clock: Clock = time.time) -> int:
    """`clock` in the unit the tables use: whole milliseconds since 1970, UTC."""
    return int(clock() * 1000)


class Database:
    """A pool of connections. You must `await migrate()` before use and `await close()` at the end."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        if self._sqlite:
            if parsed.database not in (None, "", ":memory:"):
                Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
            self.engine: AsyncEngine = create_async_engine(
                url, connect_args={"timeout": _BUSY_TIMEOUT_S}, hide_parameters=True
            )
            _prepare_sqlite(self.engine)
        else:
            # A connection that a firewall or a fail-over has cut is found before it is used, not by a request.
            self.engine = create_async_engine(
                url, pool_pre_ping=True, pool_size=10, max_overflow=10, hide_parameters=True
            )
        self._writer = asyncio.Lock()
        self._after_commit: list[Callable[[], None]] = []

    def after_commit(self, call: Callable[[], None]) -> None:
        """`call` whenever a write transaction of this process has been committed."""
        self._after_commit.append(call)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction; commits at the end, rolls back on any exception."""
        async with AsyncExitStack() as stack:
            if self._sqlite:
                # SQLite has one writer. Waiting here is fair and cheap; waiting inside SQLite is polling.
                await stack.enter_async_context(self._writer)
            connection = await stack.enter_async_context(self.engine.connect())
            if self._sqlite:
                await connection.execution_options(offhook_begin="IMMEDIATE")
            async with connection.begin():
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
                if not _was_in_the_way(error):
                    raise
        async with self.write() as connection:
            return await work(connection)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A consistent view, for reading only."""
        async with self.engine.connect() as connection:
            yield connection

    async def check(self) -> None:
        """Raises `sqlalchemy.exc.SQLAlchemyError` or `OSError` when the database cannot be reached."""
        async with self.read() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def migrate(self) -> None:
        """Bring the schema up to this version. Several processes may start at once: one migrates, the others wait."""
        async with self.write() as connection:
            await connection.run_sync(_upgrade)

    async def close(self) -> None:
        await self.engine.dispose()


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _was_in_the_way(error: DBAPIError) -> bool:
    return isinstance(error, IntegrityError) or getattr(error.orig, "sqlstate", None) in _TRY_AGAIN


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Held until the transaction ends; the number only has to be the same in every process of this service.
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(6662025001)")
    command.upgrade(alembic_config(connection), "head")


def _prepare_sqlite(engine: AsyncEngine) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver's own transaction handling begins too late (at the first write) and cannot begin a write
        # transaction at once; BEGIN is ours, below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # IMMEDIATE: a transaction that reads first and writes later would fail, not wait, when another one wrote
        # in between.
        mode = connection.get_execution_options().get("offhook_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")
