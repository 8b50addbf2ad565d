"""The database: SQLite (embedded default) or PostgreSQL, one code path. Transactions, migrations, one lock.

Where the two differ it is said here: how a transaction begins, and what holds the lock.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from call_tracker.store.errors import LostRace, StoreRefusal, StoreUnavailable

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_S: Final = 15.0
_ATTEMPTS: Final = 10
_CONNECT_TIMEOUT_S: Final = 5.0
# Every number of rows is a statement of its own that PostgreSQL keeps prepared, per connection: with 1000 of them, and of any
# size, a connection grew by hundreds of megabytes. Up to 32 rows cost no speed.
_ROWS_PER_STATEMENT: Final = 32
_COMMAND_TIMEOUT_S: Final = 30.0

# Keys of PostgreSQL's advisory locks; any numbers, the same in every process for ever.
_MIGRATION_LOCK: Final = 6662025101
_PUBLISHING_LOCK: Final = 6662025102

# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization failure, deadlock
_TRY_AGAIN_CODES: Final = frozenset({"40001", "40P01"})
# Classes of conditions that pass: connection, resources, operator intervention (shutdown, start-up), read-only standby.
_AWAY_CLASSES: Final = ("08", "53", "57", "25006")

T = TypeVar("T")


class Database:
    """A pool of connections. You must `await migrate()` before use and `await close()` at the end."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        self.sqlite = parsed.get_backend_name() == "sqlite"
        if self.sqlite:
            self._file = Path(parsed.database or "")
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_async_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})
            _prepare_sqlite(self.engine.sync_engine)
        else:
            self.engine = create_async_engine(
                url,
                # A connection that a firewall or a fail-over has cut is found before it is used.
                pool_pre_ping=True,
                pool_size=8,
                max_overflow=4,
                pool_timeout=_CONNECT_TIMEOUT_S,
                insertmanyvalues_page_size=_ROWS_PER_STATEMENT,
                connect_args={"timeout": _CONNECT_TIMEOUT_S, "command_timeout": _COMMAND_TIMEOUT_S},
            )
        self._writer = asyncio.Lock()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: commits at the end, rolls back on any exception.

        Raises `StoreUnavailable`, and `LostRace` where the database found that two transactions stood in each other's way.
        """
        async with AsyncExitStack() as stack:
            if self.sqlite:
                # SQLite has one writer. Waiting here is fair; waiting inside SQLite is polling.
                await stack.enter_async_context(self._writer)
            with _translated():
                connection = await stack.enter_async_context(self.engine.connect())
                if self.sqlite:
                    # A transaction that reads first and writes later fails when another one wrote in between.
                    await connection.execution_options(offhook_begin="IMMEDIATE")
                async with connection.begin():
                    yield connection

    async def transact(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """`work` in one transaction, and again while another one was faster. `work` must be repeatable."""
        for attempt in range(_ATTEMPTS):
            try:
                async with self.write() as connection:
                    return await work(connection)
            except LostRace:
                await asyncio.sleep(0.005 * attempt)
        raise StoreUnavailable(f"{_ATTEMPTS} transactions in a row lost a race for the same calls")

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading. Raises `StoreUnavailable`."""
        with _translated():
            async with self.engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def publishing_lock(self) -> AsyncIterator[bool]:
        """Whether this process may publish now; held until the block ends, released by the death of the process."""
        if self.sqlite:
            with _file_lock(self._file.with_name(self._file.name + ".publishing")) as held:
                yield held
            return
        async with AsyncExitStack() as stack:
            with _translated():  # not around the caller's block: its troubles are not the database's
                connection = await stack.enter_async_context(self.engine.connect())
                # Of the transaction, not of the session: a pooled connection must not carry it on.
                query = f"SELECT pg_try_advisory_xact_lock({_PUBLISHING_LOCK})"
                held = bool((await connection.exec_driver_sql(query)).scalar_one())
            yield held

    async def check(self) -> None:
        """Raises `StoreUnavailable` when the database does not answer."""
        async with self.read() as connection:
            await connection.exec_driver_sql("SELECT 1")

    async def migrate(self) -> None:
        """Bring the schema up to date. Several processes may start at once: one migrates, the others wait."""
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


def _upgrade(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
    command.upgrade(alembic_config(connection), "head")


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (PoolTimeout, OSError) as error:
        raise StoreUnavailable(f"the database does not answer: {type(error).__name__}") from error
    except DBAPIError as error:
        code = str(getattr(error.orig, "sqlstate", None) or "")
        if code in _TRY_AGAIN_CODES:
            raise LostRace("the database found a deadlock") from error
        away = error.connection_invalidated or code.startswith(_AWAY_CLASSES)
        if away or (not code and isinstance(error, (OperationalError, InterfaceError))):
            raise StoreUnavailable(f"the database cannot work: {type(error.orig).__name__}") from error
        if isinstance(error, (DataError, IntegrityError)):
            # Without the driver's message: it repeats the values.
            raise StoreRefusal(f"the database refused a value: {type(error.orig).__name__}") from error
        raise


@contextmanager
def _file_lock(path: Path) -> Iterator[bool]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _prepare_sqlite(engine: Any) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        # The driver begins transactions at the first write, which is too late; BEGIN is ours, below.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        mode = connection.get_execution_options().get("offhook_begin", "DEFERRED")
        connection.exec_driver_sql(f"BEGIN {mode}")
