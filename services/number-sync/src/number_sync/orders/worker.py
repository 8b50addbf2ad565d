"""The loop: takes what is due in the ledger, leases it, and has it carried out.

Many commands at a time, one per call at a time, and never more than half of the slots for one configuration, so that a
provider that does not answer delays its own calls only. See `dials` for why nobody is dialled twice.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.blocking import Slots
from number_sync.database import Clock, Database
from number_sync.orders import (
    consultations,
    dial,
    digits,
    hang_up,
    ledger,
    life,
    observe,
    transfer,
    transfers,
)
from number_sync.orders.command import LOOKS, Command, Kind
from number_sync.orders.context import Context, GiveUpError, WorkerSettings
from number_sync.orders.places import Places
from number_sync.sync.pacing import Pacer
from offhook.events import Event, EventData, Originate
from offhook.identities import new_id
from offhook.providers.base import RestFactory
from offhook.security.keyring import Keyring
from offhook.telemetry import metrics
from offhook.telemetry.logging import bind_call
from offhook.telemetry.tracing import call_span, failed

_RENEW_S: Final = 4.0
_POLL_S: Final = 1.0
_FORGET_EVERY_S: Final = 3600.0
_KEEP_MS: Final = (
    31 * 24 * 3600 * 1000
)  # longer than dead letters are kept: what is replayed must still be known

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Handler:
    """How one kind of order is carried out; `failed` is called in the transaction that tells it has failed for good."""

    carry_out: Callable[[Context, Command, Any], Awaitable[str | None]]
    failed: Callable[[AsyncConnection, Command, GiveUpError, int], Awaitable[None]] | None = None


HANDLERS: Final[Mapping[Kind, Handler]] = {
    "originate": Handler(dial.carry_out, dial.failed),
    "hangup": Handler(hang_up.carry_out, hang_up.failed),
    "observe": Handler(observe.carry_out),
    "confirm": Handler(hang_up.confirm),
    "transfer": Handler(transfer.carry_out, transfer.failed),
    "give-back": Handler(transfer.give_back, transfer.not_given_back),
    "dtmf": Handler(digits.carry_out, digits.failed),
}


class CommandWorker:
    """`record_commands` and `observe_life` are the bus's handlers; `run` does the work until cancelled.

    `rest_of` gives a provider's REST factory; `api_url` what replaces its base URL; `introduce` is told of each order
    (with the account that dials) before the provider is; `places` are those under the limits; `pacer` knows how often each
    account may be asked, whoever asks.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        *,
        rest_of: Callable[[str], RestFactory],
        api_url: Callable[[str], str | None],
        settings: WorkerSettings,
        introduce: Callable[[Originate, str], Awaitable[None]],
        places: Places,
        pacer: Pacer,
        clock: Clock = time.time,
        owner: str | None = None,
    ) -> None:
        self._database = database
        self._settings = settings
        self._context = Context(
            database=database,
            keyring=keyring,
            rest_of=rest_of,
            api_url=api_url,
            settings=settings,
            introduce=introduce,
            places=places,
            slots=Slots(settings.concurrency),
            pacer=pacer,
            clock=clock,
        )
        self._owner = owner or new_id()
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Command] = {}
        self._draining = False
        self.problem: str | None = None

    # --- in from the bus ---------------------------------------------------------------------------------------------

    async def record_commands(self, events: Sequence[Event[EventData]]) -> None:
        """Write the commands of one batch into the ledger; Kafka may then forget them."""
        async with self._database.write() as connection:
            new = await ledger.record(connection, events, now=self._context.now())
        if new:
            self._wake.set()

    async def observe_life(self, events: Sequence[Event[EventData]]) -> None:
        """A provider that speaks of a call has accepted it, whatever became of its answer to us; and what becomes of
        transfers shows in their calls."""
        alive = await life.observe(self._database, events, self._context.clock)
        if await consultations.observe(self._database, events, self._context.clock) or alive:
            self._wake.set()

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. What is being carried out then is left to its lease; call `drain` first."""
        housekeeping = asyncio.create_task(self._keep_house(), name="ledger-housekeeping")
        try:
            while True:
                self._wake.clear()
                try:
                    if not await self._take():
                        await self._pause()
                    self.problem = None
                except (SQLAlchemyError, OSError) as error:
                    self.problem = f"commands cannot be read from the store: {type(error).__name__}"
                    metrics.STORE_ERRORS.labels("lease").inc()
                    log.warning("ledger.unavailable", reason=type(error).__name__)
                    await asyncio.sleep(_POLL_S)
                    continue
        finally:
            housekeeping.cancel()
            for task in (*self._running, *self._context.background):
                task.cancel()

    async def drain(self) -> None:
        """Take nothing more, finish what is being carried out, and leave the rest to others."""
        self._draining = True
        while self._running:
            await asyncio.wait(list(self._running))
        async with self._database.write() as connection:
            await ledger.release(connection, owner=self._owner)

    async def _take(self) -> int:
        free = self._settings.concurrency - len(self._running)
        if free <= 0 or self._draining:
            return 0
        held, busy = self._held()
        looks = self._room_for_looks
        share = self._share
        room = min([free, share, *(share - count for count in held.values() if count < share)])
        now = self._context.now()
        async with self._database.read() as connection:
            if not await ledger.anything_due(connection, now=now, looks=looks > 0, busy=busy):
                return 0
        async with self._database.write() as connection:
            taken = await ledger.lease(
                connection,
                owner=self._owner,
                now=now,
                until=now + int(self._settings.lease_s * 1000),
                limit=room,
                looks=looks,
                busy=busy,
            )
        for command in taken:
            task = asyncio.create_task(self._carry_out(command), name=f"{command.kind} {command.run_id}")
            self._running[task] = command
            task.add_done_callback(self._finished)
        return len(taken)

    def _finished(self, task: asyncio.Task[None]) -> None:
        command = self._running.pop(task)
        self._wake.set()
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            # The lease runs out, and the command is taken up again from what the ledger knows.
            log.error("command.crashed", command=command.kind, workflow_run_id=command.run_id, exc_info=error)

    def _held(self) -> tuple[Counter[str], list[str]]:
        """How many commands of each configuration are in hand, and which configurations have their share."""
        held = Counter(command.data.configuration_id for command in self._running.values())
        return held, [configuration for configuration, count in held.items() if count >= self._share]

    @property
    def _share(self) -> int:
        return max(1, self._settings.concurrency // 2)

    @property
    def _room_for_looks(self) -> int:
        """Looks come by the hundred when a service starts, and nobody waits for one as for a call."""
        held = sum(command.kind in LOOKS for command in self._running.values())
        return max(1, self._share // 2) - held

    async def _pause(self) -> None:
        wait_s = _POLL_S
        if len(self._running) < self._settings.concurrency and not self._draining:
            async with self._database.read() as connection:
                due = await ledger.next_due(connection, looks=self._room_for_looks > 0, busy=self._held()[1])
            if due is not None:
                wait_s = min(_POLL_S, max(0.01, (due - self._context.now()) / 1000))
        # Not `wait_for`: before Python 3.12 it forgets a cancellation that comes together with the event.
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()

    async def _keep_house(self) -> None:
        """Keeps the leases of what is being carried out, and forgets what is long done."""
        forgot = -_FORGET_EVERY_S
        while True:
            try:
                held = [command.command_id for command in self._running.values()]
                if held:
                    until = self._context.now() + int(self._settings.lease_s * 1000)
                    async with self._database.write() as connection:
                        await ledger.renew(connection, held, owner=self._owner, until=until)
                if time.monotonic() - forgot >= _FORGET_EVERY_S:
                    async with self._database.write() as connection:
                        await ledger.forget(connection, before=self._context.now() - _KEEP_MS)
                        await transfers.forget(connection, before=self._context.now() - _KEEP_MS)
                    forgot = time.monotonic()
            except (SQLAlchemyError, OSError) as error:
                metrics.STORE_ERRORS.labels("renew").inc()
                log.warning("ledger.unavailable", reason=type(error).__name__)
            await asyncio.sleep(min(_RENEW_S, self._settings.lease_s / 4))

    # --- one command -------------------------------------------------------------------------------------------------

    async def _carry_out(self, command: Command) -> None:
        slot = await self._context.slots.reserve()
        handler = HANDLERS[command.kind]
        try:
            with (
                # Not every order says whose it is; with the account's credentials that is learned too.
                bind_call(command.run_id, getattr(command.data, "user_id", None), command=command.kind),
                call_span(
                    f"order {command.kind}",
                    command.run_id,
                    attributes={
                        "offhook.provider": command.data.provider,
                        "offhook.attempt": command.attempts + 1,
                    },
                    traceparent=command.traceparent,
                ) as span,
            ):
                try:
                    outcome = await handler.carry_out(
                        replace(self._context, slot=slot), command, command.data
                    )
                except GiveUpError as reason:
                    await self._give_up(command, handler, reason)
                    outcome = "failed"
                    failed(span, reason.code)
                span.set_attribute("offhook.outcome", outcome or "again")
        finally:
            slot.release()
        if outcome is not None:
            metrics.COMMANDS.labels(command.data.provider, command.kind, outcome).inc()

    async def _give_up(self, command: Command, handler: Handler, reason: GiveUpError) -> None:
        log.warning("command.failed", code=reason.code)
        now = self._context.now()
        async with self._database.write() as connection:
            if handler.failed is not None:
                await handler.failed(connection, command, reason, now)
            await ledger.fail(connection, command, code=reason.code, message=reason.message, now=now)
