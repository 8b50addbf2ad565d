"""A service's database: SQLite (embedded default) or PostgreSQL, one code path. Transactions and migrations.

Where the two differ it is said here: how a transaction begins, and what keeps writers apart.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from offhook.errors import OffhookError

log = logging.getLogger(__name__)

# https://www.postgresql.org/docs/current/errcodes-appendix.html: serialization failure, deadlock detected
_TRY_AGAIN_CODES: Final = frozenset({"40001", "40P01"})
# Classes of conditions that somebody can end: connection, resources, operator intervention (shutdown, start-up), read-only
# standby; and at connecting: no such database, no such user or a wrong password. https://sqlite.org/rescode.html: of
# SQLite's codes those that another process, or somebody with room on the disk, can end.
_AWAY_CLASSES: Final = ("08", "53", "57", "25006", "SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL")
_REFUSED_CLASSES: Final = ("28", "3D")
_RETRY_S: Final = 1.0


class SchemaMissing(OffhookError):  # noqa: N818 - a state of the database
    """The database is not at the schema that this version needs: says at which it is, and what to do."""


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

    async def migrate(self) -> tuple[str | None, str | None]:
        """Bring the schema up to date; returns its revision before and after. Several processes may start at once: one
        migrates, the others wait. A schema that a newer version has made is left alone: this version can work with it.
        """
        async with self.write() as connection:
            return await connection.run_sync(self._upgrade)

    async def check_schema(self) -> None:
        """Raises `SchemaMissing` where `migrate` would have something to do."""
        async with self.read() as connection:
            found = await connection.run_sync(_revision)
        script = self._script()
        head = script.get_current_head()
        if found != head and (found is None or _knows(script, found)):
            raise SchemaMissing(
                f"the database has {'no schema' if found is None else f'schema {found}'}, this version needs {head}: run"
                " `offhook prepare`"
            )

    async def close(self) -> None:
        await self.engine.dispose()

    def _upgrade(self, connection: Connection) -> tuple[str | None, str | None]:
        if not self.sqlite:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({self._migration_lock})")
        before = _revision(connection)
        if before is not None and not _knows(self._script(), before):
            log.warning("the schema is at %s, which a newer version has made: left as it is", before)
            return before, before
        config = self._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        return before, _revision(connection)

    def _config(self) -> Config:
        config = Config()  # without an ini file
        config.set_main_option("script_location", str(self._migrations).replace("%", "%%"))
        return config

    def _script(self) -> ScriptDirectory:
        return ScriptDirectory.from_config(self._config())


async def until_prepared(
    database: Database, *, migrate: bool, waiting: Callable[[str | None], None], retry_s: float = _RETRY_S
) -> None:
    """Migrate the database as soon as it answers; or without `migrate`, wait until somebody else has.

    Without end: a restart of this process would change nothing. `waiting` is told the reason in a sentence, and None at
    last.
    """
    work: Callable[[], Awaitable[object]] = database.migrate if migrate else database.check_schema
    told: str | None = None
    while True:
        reason = await attempt(work)
        if reason is None:
            waiting(None)
            return
        if reason != told:
            log.warning("waiting for the database: %s", reason)
            told = reason
        waiting(reason)
        await asyncio.sleep(retry_s)


async def attempt(work: Callable[[], Awaitable[object]]) -> str | None:
    """Do `work`; a sentence when the database cannot be used now, but may be later. What will not pass is raised."""
    try:
        await work()
    except OffhookError as error:
        return str(error)
    except (PoolTimeout, OSError, TimeoutError) as error:
        return (
            f"the database does not answer ({type(error).__name__}): check the server and the database's URL"
        )
    except DBAPIError as error:
        # Without the driver's message, which may repeat values; its cause has a name that says more than its own.
        name = type(error.orig.__cause__ or error.orig).__name__ if error.orig is not None else "unknown"
        sqlite = getattr(error.orig, "sqlite_errorname", "")
        code = str(getattr(error.orig, "sqlstate", None) or sqlite)
        if code.startswith(_REFUSED_CLASSES):
            return f"the database refuses the connection ({name}): check the database's URL"
        away = error.connection_invalidated or code.startswith(_AWAY_CLASSES)
        if not away and (code or not isinstance(error, OperationalError | InterfaceError)):
            raise
        return f"the database cannot work now ({sqlite or name})"
    return None


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _knows(script: ScriptDirectory, revision: str) -> bool:
    return any(one.revision == revision for one in script.walk_revisions())


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
