"""What must be there before services start: the topics on Kafka, and the schema of each database. `offhook prepare`.

A service with a database offers it by an entry point of the group `offhook.databases`, named like the service:

[project.entry-points."offhook.databases"]
call-tracker = "call_tracker.store:Database"      # called with the URL, it gives an `offhook.database.Database`

Its URL is then read from `OFFHOOK_CALL_TRACKER_DATABASE_URL`.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, ClassVar, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from offhook.bus import BusError
from offhook.bus.connecting import why_not
from offhook.bus.provisioning import ensure_topics, missing_topics
from offhook.errors import OffhookError
from offhook.settings import PREFIX, ServiceSettings
from offhook.topics import ALL_TOPICS

if TYPE_CHECKING:
    from offhook.database import Database

GROUP: Final = "offhook.databases"
_RETRY_S: Final = 1.0
_REQUEST_MS: Final = 10_000

Say = Callable[[str], None]
_Work = Callable[[], Awaitable[str | None]]
"""Does its part, or gives the reason, in a sentence, why it cannot yet."""


class PrepareSettings(ServiceSettings):
    """Kafka's; the names of the databases' variables come from the services that have one."""

    SECRETS: ClassVar[frozenset[str]] = frozenset()


class PreparationError(OffhookError):
    """Something is still missing, or a setting is unusable: says what."""


async def prepare(
    settings: ServiceSettings, databases: Mapping[str, str], *, topics: bool, within_s: float, say: Say
) -> None:
    """Create the missing topics, unless `topics` is false, and migrate `databases` (URLs by service).

    What is not there yet is tried again for `within_s` seconds. `say` is told what was done, and what is waited for. Safe
    to repeat, and to run several times at once. Raises `PreparationError`.
    """
    # Alembic keeps the migration that runs in a variable of its module: one at a time in a process.
    alone = asyncio.Lock()
    works: dict[str, _Work] = {}
    opened: list[Database] = []
    waiting: dict[str, str] = {}

    async def until_done(name: str, work: _Work) -> None:
        waiting[name] = "not finished"
        while (reason := await work()) is not None:
            if reason != waiting[name]:
                say(f"{name}: waiting: {reason}")
                waiting[name] = reason
            await asyncio.sleep(_RETRY_S)
        del waiting[name]

    if topics:
        works["Kafka"] = lambda: _create_topics(settings, say)
    tasks: list[asyncio.Task[None]] = []
    try:
        for name, url in databases.items():
            opened.append(_open(name, url))
            works[name] = _migration(name, opened[-1], alone, say)
        tasks += [asyncio.create_task(until_done(name, work), name=name) for name, work in works.items()]
        async with asyncio.timeout(within_s):
            await asyncio.gather(*tasks)
    except TimeoutError:
        raise PreparationError("; ".join(f"{name}: {reason}" for name, reason in waiting.items())) from None
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for database in opened:
            await database.close()


def named_databases(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The databases that the environment names: URLs by service."""
    names = sorted(point.name for point in entry_points(group=GROUP))
    return {name: url for name in names if (url := environment.get(variable(name)))}


def named_variables() -> list[str]:
    """The environment variables that name databases."""
    return [variable(name) for name in sorted(point.name for point in entry_points(group=GROUP))]


def variable(service: str) -> str:
    """The environment variable that names a service's database to `offhook prepare`."""
    return f"{PREFIX}{service.upper().replace('-', '_')}_DATABASE_URL"


def _open(name: str, url: str) -> "Database":
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    (point,) = entry_points(group=GROUP, name=name)
    try:
        database: Database = point.load()(url)
    except (ArgumentError, NoSuchModuleError):
        # From None: the URL may hold a password.
        raise PreparationError(f"{variable(name)} is not the URL of a database that can be used") from None
    return database


def _migration(name: str, database: "Database", alone: asyncio.Lock, say: Say) -> _Work:
    from offhook.database import attempt

    async def migrate() -> None:
        async with alone:
            before, after = await database.migrate()
        if before == after:
            say(f"{name}: the schema is at {after}")
        else:
            say(f"{name}: migrated from {before or 'nothing'} to {after}")

    return lambda: attempt(migrate)


async def _create_topics(settings: ServiceSettings, say: Say) -> str | None:
    servers = settings.kafka_bootstrap.split(",")
    admin = AIOKafkaAdminClient(
        bootstrap_servers=servers,
        client_id="offhook-prepare",
        request_timeout_ms=_REQUEST_MS,
        **settings.kafka_security.client_options(),
    )
    try:
        await admin.start()
    except (KafkaError, OSError) as error:
        await admin.close()
        return await why_not(servers, settings.kafka_security, error)
    try:
        missing = await missing_topics(admin, ALL_TOPICS)
        problems = await ensure_topics(
            admin,
            ALL_TOPICS,
            partitions=settings.partitions,
            replication_factor=settings.replication_factor,
        )
    except (KafkaError, BusError, OSError) as error:
        return str(error) or type(error).__name__
    finally:
        await admin.close()
    for problem in problems:
        say(f"Kafka: {problem}")
    there = len(ALL_TOPICS) - len(missing)
    created = f"created {', '.join(missing)} with {settings.partitions} partitions" if missing else ""
    say(f"Kafka: {created or f'all {there} topics are there'}")
    return None
