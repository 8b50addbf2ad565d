"""A reconciler with its store, as the tests of syncing run it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any

from running_number_sync import KEYRING, PUBLIC_URL, TWILIO
from scripted_accounts import Account, Accounts
from sqlalchemy import Row, select

from number_sync.configurations import Configurations
from number_sync.database import Database
from number_sync.numbers import Numbers
from number_sync.schema import detachments, number_states, shared_states
from number_sync.sync import public_url, store
from number_sync.sync.pacing import Pacer
from number_sync.sync.reconciler import Reconciler, SyncSettings
from number_sync.sync.requests import Requests, RequestSettings
from number_sync.workflows import Workflows
from offhook.providers import registry
from offhook.security.keyring import Keyring

HASTY = SyncSettings(interval_s=3600, retry_s=0.05, rounds=4, lease_s=2)
PATIENT = RequestSettings(concurrency=4, timeout_s=5, deadline_s=5)
WORKFLOW = {
    "name": "Agent",
    "agent_url": "wss://agent.example/call",
    "agent_protocol": "pcm",
    "sample_rate": 16000,
    "headers": {},
    "record_audio": False,
    "fallback": {},
    "metadata": {},
}
SID = TWILIO["account_sid"]
VONAGE_APP = "aaaaaaaa-bbbb-cccc-dddd-0123456789ab"


def vonage(private_key: str, application_id: str = VONAGE_APP) -> dict[str, str]:
    return {
        "application_id": application_id,
        "private_key": private_key,
        "api_key": "abcd1234",
        "api_secret": "canary-vonage-secret",
        "signature_secret": "canary-signature-secret-0123456789",
    }


class Board:
    """What an operator does, and what the pages would show."""

    def __init__(self, database: Database, accounts: Accounts | None = None) -> None:
        keyring = Keyring.parse(KEYRING)
        self.database = database
        self.accounts = accounts or Accounts()
        self.configurations = Configurations(database, keyring, registry.PROVIDERS, clock=self.clock)
        self.numbers = Numbers(database, clock=self.clock)
        self._workflows = Workflows(database, keyring, clock=self.clock)
        self.workflow_id = ""
        self._later = 0.0
        self.doubted: list[str] = []

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + 1_700_000_000 + self._later

    def pass_time(self, seconds: float) -> None:
        self._later += seconds

    async def open(self, url: str | None = PUBLIC_URL) -> "Board":
        self.workflow_id = await self.add_workflow("ada")
        await self.set_public_url(url)
        return self

    async def set_public_url(self, url: str | None) -> None:
        async with self.database.write() as connection:
            await public_url.adopt(connection, url, at=int(self.clock() * 1000))

    async def configure(
        self,
        name: str = "Main",
        credentials: Mapping[str, str] = TWILIO,
        *,
        provider: str = "twilio",
        user: str = "ada",
        **more: Any,
    ) -> str:
        row = await self.configurations.create(
            user, name=name, provider=provider, credentials=dict(credentials), **more
        )
        return str(row.id)

    async def add_as(self, user: str, configuration_id: str, number: str) -> str:
        """Another user's number, with a workflow of his own."""
        workflow_id = await self.add_workflow(user)
        row = await self.numbers.create(user, configuration_id, number=number, workflow_id=workflow_id)
        return str(row.id)

    async def add_workflow(self, user: str) -> str:
        row = await self._workflows.create(user, WORKFLOW)
        return str(row.id)

    def once(self, account: Account, operation: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """While the account is asked for `operation` the first time, somebody does `work`."""
        loop = asyncio.get_running_loop()
        left = [work]

        def before(asked: str) -> None:
            if asked == operation and left:
                asyncio.run_coroutine_threadsafe(left.pop()(), loop).result(10)

        account.before = before

    async def add(self, configuration_id: str, number: str, **more: Any) -> str:
        values = {"workflow_id": self.workflow_id} | more
        row = await self.numbers.create("ada", configuration_id, number=number, **values)
        return str(row.id)

    async def change(self, configuration_id: str, number_id: str, **changes: Any) -> None:
        await self.numbers.update("ada", configuration_id, number_id, changes)

    async def check(self, number_id: str | None = None) -> None:
        async with self.database.write() as connection:
            await store.mark_due(connection, number_id=number_id, at=int(self.clock() * 1000))

    async def state(self, number_id: str) -> Row[Any]:
        async with self.database.read() as connection:
            return (
                await connection.execute(select(number_states).where(number_states.c.number_id == number_id))
            ).one()

    async def states(self) -> list[str]:
        async with self.database.read() as connection:
            return [row.state for row in await connection.execute(select(number_states.c.state))]

    async def detachments(self) -> list[Row[Any]]:
        async with self.database.read() as connection:
            return list(await connection.execute(select(detachments).order_by(detachments.c.seq)))

    async def shared(self) -> list[Row[Any]]:
        async with self.database.read() as connection:
            return list(await connection.execute(select(shared_states)))

    def reconciler(
        self,
        settings: SyncSettings = HASTY,
        *,
        rate_per_s: float = 10_000,
        requests: RequestSettings = PATIENT,
        rest_of: Callable[[str], Any] | None = None,
        url: str | None = None,
    ) -> Reconciler:
        asking = Requests(
            Pacer(rate_per_s),
            rest_of=rest_of or self.accounts.rest_of,
            api_url=lambda provider: url or "http://127.0.0.1:9",
            settings=requests,
        )
        return Reconciler(
            self.database,
            Keyring.parse(KEYRING),
            asking,
            registry.PROVIDERS,
            settings=settings,
            doubt=self.doubted.append,
            clock=self.clock,
        )

    async def settle(self, reconciler: Reconciler | None = None) -> None:
        """Let everything that is due now be done."""
        async with running(reconciler or self.reconciler()) as working:
            await self.at_rest(working)

    async def at_rest(self, reconciler: Reconciler) -> None:
        async with asyncio.timeout(60):
            while True:
                now = int(self.clock() * 1000)
                async with self.database.read() as connection:
                    number = await store.next_due(connection)
                    row = (
                        await connection.execute(
                            select(detachments.c.due_at).where(
                                detachments.c.state == "open", detachments.c.due_at <= now
                            )
                        )
                    ).first()
                if (number is None or number > now) and row is None and not reconciler.busy:
                    return
                reconciler.wake()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(*reconcilers: Reconciler) -> AsyncIterator[Reconciler]:
    tasks = [asyncio.create_task(each.run()) for each in reconcilers]
    try:
        yield reconcilers[0]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
