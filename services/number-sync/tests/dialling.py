"""A worker with its store, as the tests of dialling run it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from running_number_sync import KEYRING, PUBLIC_URL, TWILIO
from sqlalchemy import select

from number_sync import outbox, publishing
from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.orders import CommandWorker, WorkerSettings
from number_sync.orders.places import Places
from number_sync.schema import commands, dials
from number_sync.sync.pacing import Pacer
from offhook.call_leases import CallLeases
from offhook.events import (
    CommandFailed,
    Event,
    EventData,
    HangUp,
    Observe,
    Originate,
    Party,
    decode,
    new_event,
)
from offhook.identities import new_id
from offhook.providers import registry
from offhook.security.keyring import Keyring
from offhook.shared_redis import SharedRedis
from offhook.topics import CALL_EVENTS

HASTY = WorkerSettings(
    concurrency=4,
    timeout_s=5,
    deadline_s=5,
    originate_max_age_s=60,
    outcome_grace_s=0.3,
    lease_s=30,
    haste=20,
)


class Desk:
    """Orders calls, and looks at what became of them."""

    def __init__(self, database: Database, *, provider: str = "twilio") -> None:
        self.database = database
        self.provider = provider
        self.configuration_id = ""

    async def open(
        self,
        name: str = "Main",
        credentials: dict[str, str] | None = None,
        *,
        public_url: str | None = PUBLIC_URL,
    ) -> "Desk":
        configurations = Configurations(
            self.database, Keyring.parse(KEYRING), registry.PROVIDERS, clock=lambda: 1.0
        )
        row = await configurations.create(
            "ada", name=name, provider=self.provider, credentials=credentials or TWILIO
        )
        self.configuration_id = row.id
        async with self.database.write() as connection:
            await publishing.set_public_url(connection, public_url, at=0)
        return self

    def originate(
        self, run_id: str | None = None, *, time: datetime | None = None, **more: Any
    ) -> Event[Originate]:
        run = run_id or new_id()
        values: dict[str, Any] = {
            "workflow_run_id": run,
            "workflow_id": "w1",
            "user_id": "ada",
            "configuration_id": self.configuration_id,
            "provider": self.provider,
            "from_number": "+14155551234",
            "to_number": "+442079460000",
        }
        data = Originate(**(values | more))
        return new_event(data, source="/test", time=time or datetime.now(UTC), subject=run)

    def hang_up(self, run_id: str, provider_call_id: str | None = None) -> Event[HangUp]:
        data = HangUp(
            workflow_run_id=run_id,
            configuration_id=self.configuration_id,
            provider=self.provider,
            provider_call_id=provider_call_id,
            requested_by=Party.AGENT,
        )
        return new_event(data, source="/test", time=datetime.now(UTC), subject=run_id)

    def observe(self, run_id: str, **more: Any) -> Event[Observe]:
        values: dict[str, Any] = {
            "workflow_run_id": run_id,
            "configuration_id": self.configuration_id,
            "provider": self.provider,
            "provider_call_id": None,
        }
        data = Observe(**(values | more))
        return new_event(data, source="/test", time=datetime.now(UTC), subject=run_id)

    async def told(self, run_id: str) -> list[EventData]:
        """What will be published of a run."""
        return [event.data for event in await self.told_events(run_id)]

    async def told_events(self, run_id: str) -> list[Event[EventData]]:
        """The call events of a run, as they will be published."""
        async with self.database.read() as connection:
            rows = await outbox.pending(connection)
        return [
            decode(row.value.encode(), row.headers)
            for row in rows
            if row.topic == CALL_EVENTS.name and row.key == run_id
        ]

    async def closed(self, *run_ids: str) -> None:
        """Wait until every command of these runs is done or has failed."""

        async def all_closed() -> bool:
            return not await self.open_commands(*run_ids)

        await until(all_closed)

    async def open_commands(self, *run_ids: str) -> list[str]:
        """The kinds of those that are neither done nor have failed."""
        async with self.database.read() as connection:
            open_ones = await connection.execute(
                select(commands.c.kind).where(
                    commands.c.workflow_run_id.in_(run_ids), commands.c.state == "open"
                )
            )
            return list(open_ones.scalars())

    async def dial(self, run_id: str) -> Any:
        async with self.database.read() as connection:
            return (await connection.execute(select(dials).where(dials.c.workflow_run_id == run_id))).one()


async def until(holds: Callable[[], Awaitable[bool]], within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while not await holds():
            await asyncio.sleep(0.02)


async def nobody_listens(order: Originate, account: str) -> None:
    """In place of Redis, for tests that are not about it."""


def no_redis() -> SharedRedis:
    """One that is away."""
    return SharedRedis("redis://127.0.0.1:1/0", loss="calls are not limited", timeout_s=0.2)


def make_worker(
    database: Database,
    url: str,
    settings: WorkerSettings = HASTY,
    keyring: str = KEYRING,
    redis: SharedRedis | None = None,
) -> CommandWorker:
    """A worker whose providers are all at `url`. Without `redis` nothing limits the calls."""
    return CommandWorker(
        database,
        Keyring.parse(keyring),
        rest_of=registry.rest,
        api_url=lambda provider: url,
        settings=settings,
        introduce=nobody_listens,
        places=Places(CallLeases(redis or no_redis()), now=lambda: int(time.time() * 1000)),
        pacer=Pacer(1000),
    )


@asynccontextmanager
async def working(*workers: CommandWorker) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def only_failure(told: list[Any]) -> CommandFailed:
    [failure] = told
    assert isinstance(failure, CommandFailed)
    return failure
