"""The loop that keeps numbers in sync: finds what is due, and has it done, many accounts at a time, each by one process.

Accounts that fail have at most half of the rounds, and come again later each time; numbers that are let go have at most
half, too. An account that rests is left alone until it may be asked. Nothing is remembered here that the database does
not know, but for holding off a round that crashed.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from number_sync.database import Clock, Database, now_ms
from number_sync.sync import detaching, store
from number_sync.sync.farewell import Farewell
from number_sync.sync.leases import Lease, lease_name
from number_sync.sync.pacing import Account, paced_as
from number_sync.sync.requests import Requests
from number_sync.sync.round import Round
from number_sync.sync.state import STATES, Schedule
from offhook.identities import new_id
from offhook.providers.base import ProviderAdapter
from offhook.security.keyring import Keyring
from offhook.telemetry import metrics

_POLL_S: Final = 1.0
_GATHER_S: Final = 0.1  # every commit wakes the loop: several are looked at together
_FAREWELL_S: Final = 3600.0  # a number that could not be let go is tried again at least so often
_COUNT_EVERY_S: Final = 15.0
_FORGET_EVERY_S: Final = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """See `settings.NumberSyncSettings`. `rounds`: accounts that are worked on at a time."""

    interval_s: float = 180.0
    retry_s: float = 5.0
    rounds: int = 8
    lease_s: float = 15.0


class Reconciler:
    """`run` works until cancelled; call `drain` first. `wake` after a change makes it look at once. `doubt`: see `Round`."""

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        requests: Requests,
        providers: Mapping[str, ProviderAdapter],
        *,
        settings: SyncSettings,
        doubt: Callable[[str], None] = lambda configuration_id: None,
        clock: Clock = time.time,
        owner: str | None = None,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._requests = requests
        self._providers = providers
        self._settings = settings
        self._doubt = doubt
        self._clock = clock
        self._owner = owner or new_id()
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Account] = {}
        self._failing: set[Account] = set()
        self._leaving: set[Account] = set()
        self._share = max(1, settings.rounds // 2)  # of those that fail, and of those that let numbers go
        self._leases: set[Lease] = set()
        self._held_off: dict[Account, float] = {}
        self._crashed: dict[str, float] = {}
        self._draining = False
        self._counted = -_COUNT_EVERY_S
        self._forgot = -_FORGET_EVERY_S
        self.problem: str | None = None

    def wake(self) -> None:
        self._wake.set()

    @property
    def busy(self) -> bool:
        """Whether a round is under way in this process."""
        return bool(self._running)

    async def check_now(self, number_id: str | None = None, *, configuration_id: str | None = None) -> None:
        """Have a number, or all numbers of a configuration, compared at once."""
        async with self._database.write() as connection:
            await store.mark_due(
                connection, number_id=number_id, configuration_id=configuration_id, at=self._now()
            )
        self.wake()

    async def run(self) -> None:
        """Until cancelled. A round that is under way then is left to the next process, which finds out where it got."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._keep_house()
                    await self._begin_rounds()
                    wait_s = await self._until_due()
                    self.problem = None
                except (SQLAlchemyError, OSError) as error:
                    self.problem = f"numbers cannot be read from the store: {type(error).__name__}"
                    metrics.STORE_ERRORS.labels("sync").inc()
                    log.warning("sync.store_unavailable", reason=type(error).__name__)
                    await asyncio.sleep(_POLL_S)
                    continue
                # Not `wait_for`: before Python 3.12 it forgets a cancellation that comes together with the event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                        await asyncio.sleep(_GATHER_S)
        finally:
            for task in self._running:
                task.cancel()
            if self._running:
                await asyncio.wait(list(self._running))

    async def drain(self) -> None:
        """Begin nothing more. Rounds that are under way finish the number they are at; the rest is still due."""
        self._draining = True
        for lease in self._leases:
            lease.end()
        while self._running:
            await asyncio.wait(list(self._running))

    # --- what is due

    async def _begin_rounds(self) -> None:
        free = self._settings.rounds - len(self._running)
        if free <= 0 or self._draining:
            return
        now = self._now()
        busy = [account for _, account in (*self._running.values(), *self._held_off)]
        resting = [paced for _, paced in self._requests.pacer.resting()]
        limit = 4 * self._settings.rounds  # more than are free: several may be of one account
        failing = len(self._failing) < self._share
        async with self._database.read() as connection:
            due = await store.due_configurations(
                connection, now=now, limit=limit, busy=busy, resting=resting, failing=failing
            )
            groups = await detaching.due_groups(
                connection, now=now, limit=limit, busy=busy, resting=resting, failing=failing
            )
        # First, and not all places: what is to be let go must not wait until nothing is left to compare, which may be never.
        for group in groups:
            account = (group.provider, group.account)
            if group.configuration_id in self._crashed:
                continue
            if len(self._leaving) < self._share and self._may_begin(
                account, group.user_id, failing=group.failing
            ):
                self._begin(
                    account, group.configuration_id, self._let_go(account, group), failing=group.failing
                )
                self._leaving.add(account)
        for configuration in due:
            account = (configuration.provider, configuration.account)
            if configuration.configuration_id in self._crashed:
                continue
            if self._may_begin(account, configuration.user_id, failing=configuration.failing):
                self._begin(
                    account,
                    configuration.configuration_id,
                    self._compare(account, configuration.configuration_id),
                    failing=configuration.failing,
                )

    def _may_begin(self, account: Account, user_id: str, *, failing: bool) -> bool:
        provider, name = account
        return (
            len(self._running) < self._settings.rounds
            and account not in self._running.values()
            and not (failing and len(self._failing) >= self._share)
            and self._held_off.get(account, 0.0) <= time.monotonic()
            and self._requests.pacer.rests_for(provider, paced_as(user_id, name)) == 0
        )

    def _begin(
        self, account: Account, configuration_id: str, work: Awaitable[None], *, failing: bool
    ) -> None:
        async def round_() -> None:
            await work

        task = asyncio.create_task(round_(), name=f"sync {account[0]}")
        self._running[task] = account
        if failing:
            self._failing.add(account)
        task.add_done_callback(partial(self._finished, configuration_id))

    def _finished(self, configuration_id: str, task: asyncio.Task[None]) -> None:
        account = self._running.pop(task)
        self._failing.discard(account)
        self._leaving.discard(account)
        self._wake.set()
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            # What was committed holds; the rest is still due. Not at once: it might crash for ever, all the time. Others
            # who have the account are not to suffer for it.
            self._crashed[configuration_id] = time.monotonic() + self._settings.retry_s
            log.error("sync.crashed", provider=account[0], configuration_id=configuration_id, exc_info=error)

    def _hold_off(self, account: Account) -> None:
        self._held_off[account] = time.monotonic() + self._settings.retry_s

    async def _until_due(self) -> float:
        """Seconds to wait. Other processes' changes are seen by looking."""
        async with self._database.read() as connection:
            moments = [await store.next_due(connection), await detaching.next_due(connection)]
        now = self._now()
        waits = [(moment - now) / 1000 for moment in moments if moment is not None and moment > now]
        return min([_POLL_S, *(max(0.01, wait) for wait in waits)])

    # --- one account

    async def _compare(self, account: Account, configuration_id: str) -> None:
        await self._leased(
            account,
            lambda lease: Round(
                self._database,
                self._keyring,
                self._requests,
                self._providers,
                lease,
                schedule=self.schedule,
                doubt=self._doubt,
                clock=self._clock,
            ).run(configuration_id),
        )

    async def _let_go(self, account: Account, group: detaching.Group) -> None:
        await self._leased(
            account,
            lambda lease: Farewell(
                self._database,
                self._keyring,
                self._requests,
                self._providers,
                lease,
                schedule=replace(self.schedule(group.configuration_id), interval=int(_FAREWELL_S * 1000)),
                clock=self._clock,
            ).run(group),
        )

    async def _leased(self, account: Account, work: Callable[[Lease], Awaitable[None]]) -> None:
        lease = Lease(
            self._database,
            lease_name(*account),
            self._owner,
            lasts_s=self._settings.lease_s,
            clock=self._clock,
        )
        if not await lease.take():
            self._hold_off(account)  # another process is at it
            return
        self._leases.add(lease)
        renewal = asyncio.create_task(self._renew(lease), name="sync-lease")
        try:
            await work(lease)
        finally:
            renewal.cancel()
            self._leases.discard(lease)
            await asyncio.wait([renewal])
            await lease.release()

    async def _renew(self, lease: Lease) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_s / 4)
            try:
                await lease.renew()
            except (SQLAlchemyError, OSError) as error:
                # Until it has run out the round goes on; then it stops by itself.
                metrics.STORE_ERRORS.labels("renew").inc()
                log.warning("sync.store_unavailable", reason=type(error).__name__)

    def schedule(self, configuration_id: str) -> Schedule:
        """Configurations are spread over the interval, the same way in every process."""
        interval = int(self._settings.interval_s * 1000)
        spread = int.from_bytes(hashlib.sha256(configuration_id.encode()).digest()[:6], "big")
        return Schedule(interval, int(self._settings.retry_s * 1000), spread % interval)

    async def _keep_house(self) -> None:
        for account in [each for each, until in self._held_off.items() if until <= time.monotonic()]:
            del self._held_off[account]
        for crashed in [each for each, until in self._crashed.items() if until <= time.monotonic()]:
            del self._crashed[crashed]
        if time.monotonic() - self._counted >= _COUNT_EVERY_S:
            async with self._database.read() as connection:
                counts = await store.counts(connection)
            for state in STATES:
                metrics.NUMBERS.labels(state).set(counts.get(state, 0))
            self._counted = time.monotonic()
        if time.monotonic() - self._forgot >= _FORGET_EVERY_S:
            async with self._database.write() as connection:
                await detaching.forget(connection, now=self._now())
            self._forgot = time.monotonic()

    def _now(self) -> int:
        return now_ms(self._clock)
