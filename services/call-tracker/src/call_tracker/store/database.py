"""call-tracker's database: its errors in the store's words, and the lock of the one process that publishes."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection

import offhook.database
from call_tracker.store.errors import LostRace, StoreRefusal, StoreUnavailable

_ATTEMPTS: Final = 10
_CONNECT_TIMEOUT_S: Final = 5.0
# Every number of rows is a statement of its own that PostgreSQL keeps prepared, per connection: with 1000 of them, and of any
# size, a connection grew by hundreds of megabytes. Up to 32 rows cost no speed.
_ROWS_PER_STATEMENT: Final = 32
_COMMAND_TIMEOUT_S: Final = 30.0

# Keys of PostgreSQL's advisory locks; any numbers, the same in every process for ever.
_MIGRATION_LOCK: Final = 6662025101
_PUBLISHING_LOCK: Final = 6662025102

# Classes of conditions that pass: connection, resources, operator intervention (shutdown, start-up), read-only standby.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_AWAY_CLASSES: Final = ("08", "53", "57", "25006")

T = TypeVar("T")

Held = Callable[[], Awaitable[bool]]
"""Whether the lock is held, now."""


class Database(offhook.database.Database):
    """A pool of connections. You must `await migrate()` before use and `await close()` at the end.

    All methods raise `StoreUnavailable` when the database does not answer.
    """

    def __init__(self, url: str) -> None:
        super().__init__(
            url,
            migrations=Path(__file__).parent / "migrations",
            migration_lock=_MIGRATION_LOCK,
            busy_timeout_s=15,
            pool_size=8,
            max_overflow=4,
            pool_timeout=_CONNECT_TIMEOUT_S,
            insertmanyvalues_page_size=_ROWS_PER_STATEMENT,
            connect_args={"timeout": _CONNECT_TIMEOUT_S, "command_timeout": _COMMAND_TIMEOUT_S},
        )

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction: commits at the end, rolls back on any exception.

        Raises `StoreUnavailable`, and `LostRace` where the database found that two transactions stood in each other's way.
        """
        with _translated():
            async with super().write() as connection:
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
            async with super().read() as connection:
                yield connection

    @asynccontextmanager
    async def publishing_lock(self) -> AsyncIterator[Held]:
        """Whether this process may publish, to be asked before each step; held until the block ends, released by the death of
        the process. Asking raises `StoreUnavailable` when the lock has gone with its connection."""
        if self.sqlite:
            file = Path(self.engine.url.database or "")
            with _file_lock(file.with_name(file.name + ".publishing")) as locked:

                async def file_held() -> bool:
                    return locked

                yield file_held
            return
        with _translated():  # not around the caller's block: its troubles are not the database's
            connection = await self.engine.connect()

        async def held() -> bool:
            # Of the transaction, not of the session: a pooled connection must not carry it on. Who has it gets it again.
            query = f"SELECT pg_try_advisory_xact_lock({_PUBLISHING_LOCK})"
            with _translated():
                return bool((await connection.exec_driver_sql(query)).scalar_one())

        try:
            yield held
        finally:
            with _translated():
                await connection.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (PoolTimeout, OSError) as error:
        raise StoreUnavailable(f"the database does not answer: {type(error).__name__}") from error
    except DBAPIError as error:
        if offhook.database.stood_in_the_way(error):
            raise LostRace("the database found a deadlock") from error
        code = str(getattr(error.orig, "sqlstate", None) or "")
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
