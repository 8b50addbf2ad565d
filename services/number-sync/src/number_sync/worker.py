"""Carries out what is in the ledger: dials, and hangs up, at the provider, through its official SDK.

Many commands at a time, one per call at a time, and never more than half of the slots for one configuration, so that a
provider that does not answer delays its own calls only. See `ledger` for why nobody is dialled twice.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy import Row, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import credentials as creds
from number_sync import ledger, publishing, retries
from number_sync.blocking import Slot, Slots
from number_sync.database import Clock, Database, now_ms
from number_sync.ledger import Command, DialRow
from number_sync.schema import configurations
from offhook.errors import KeyringError
from offhook.events import (
    Event,
    EventData,
    HangUp,
    InstructionsServed,
    Originate,
    StatusReported,
)
from offhook.identities import INBOUND_FALLBACK_PATH, new_id, status_path, webhook_path
from offhook.providers.base import Dial, Dialled, Rest, RestError, RestFactory
from offhook.security.keyring import Keyring
from offhook.telemetry import metrics
from offhook.telemetry.logging import bind_call
from offhook.telemetry.tracing import call_span

T = TypeVar("T")

LEASE_S: Final = 15.0
"""How long after a process has died another one waits before it goes on with its commands."""
_RENEW_S: Final = 4.0
_POLL_S: Final = 1.0
_FORGET_EVERY_S: Final = 3600.0
_KEEP_MS: Final = (
    31 * 24 * 3600 * 1000
)  # longer than dead letters are kept: what is replayed must still be known
_HANG_UP_MAX_AGE_S: Final = 3600.0
_LONGEST_CALL_ID: Final = 128  # characters, as the ledger stores them

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """See `settings.NumberSyncSettings` for the meaning of each."""

    concurrency: int = 16
    timeout_s: float = 10.0
    deadline_s: float = 25.0
    originate_max_age_s: float = 120.0
    outcome_grace_s: float = 20.0
    lease_s: float = LEASE_S
    haste: float = 1.0  # the waits between attempts are divided by it


class _GiveUpError(Exception):
    """The command cannot be carried out, and the provider was not asked (or has surely not accepted)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class CommandWorker:
    """`record_commands` and `observe_life` are the bus's handlers; `run` does the work until cancelled.

    `rest_of` gives a provider's REST factory; `api_url` what replaces its base URL; `introduce` is told of each order
    (with the account that dials) before the provider is.
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
        clock: Clock = time.time,
        owner: str | None = None,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._rest_of = rest_of
        self._api_url = api_url
        self._settings = settings
        self._introduce = introduce
        self._clock = clock
        self._owner = owner or new_id()
        self._slots = Slots(settings.concurrency)
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Command] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._draining = False
        self.problem: str | None = None

    # --- in from the bus ---------------------------------------------------------------------------------------------

    async def record_commands(self, events: Sequence[Event[EventData]]) -> None:
        """Write the commands of one batch into the ledger; Kafka may then forget them."""
        async with self._database.write() as connection:
            new = await ledger.record(connection, events, now=self._now())
        if new:
            self._wake.set()

    async def observe_life(self, events: Sequence[Event[EventData]]) -> None:
        """A provider that speaks of a call has accepted it, whatever became of its answer to us."""
        signs: dict[tuple[str, str, str], tuple[str, str | None]] = {}
        for event in events:
            sign = _sign_of_life(event.data)
            if sign is not None and all(map(_storable, sign[1])):
                signs.setdefault(*sign)
        async with self._database.read() as connection:
            dialled = await ledger.unsettled_runs(connection, {run_id for run_id, _, _ in signs})
        # Anybody's verified callback may name any run: only the account that was to dial can show its life.
        news = {
            run_id: signs[run_id, provider, account]
            for run_id, (provider, account) in dialled.items()
            if (run_id, provider, account) in signs
        }
        if not news:
            return
        async with self._database.write() as connection:
            now = self._now()
            for run_id in sorted(news):
                provider_call_id, conversation_id = news[run_id]
                await ledger.settle_accepted(
                    connection,
                    run_id,
                    provider_call_id=provider_call_id,
                    conversation_id=conversation_id,
                    traceparent=None,
                    now=now,
                )
            await ledger.hasten(connection, news, now=now)
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
            for task in (*self._running, *self._late):
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
        share = self._share
        room = min([free, share, *(share - count for count in held.values() if count < share)])
        now = self._now()
        async with self._database.read() as connection:
            if not await ledger.anything_due(connection, now=now, busy=busy):
                return 0
        async with self._database.write() as connection:
            taken = await ledger.lease(
                connection,
                owner=self._owner,
                now=now,
                until=now + int(self._settings.lease_s * 1000),
                limit=room,
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

    async def _pause(self) -> None:
        wait_s = _POLL_S
        if len(self._running) < self._settings.concurrency and not self._draining:
            async with self._database.read() as connection:
                due = await ledger.next_due(connection, busy=self._held()[1])
            if due is not None:
                wait_s = min(_POLL_S, max(0.01, (due - self._now()) / 1000))
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
                    until = self._now() + int(self._settings.lease_s * 1000)
                    async with self._database.write() as connection:
                        await ledger.renew(connection, held, owner=self._owner, until=until)
                if time.monotonic() - forgot >= _FORGET_EVERY_S:
                    async with self._database.write() as connection:
                        await ledger.forget(connection, before=self._now() - _KEEP_MS)
                    forgot = time.monotonic()
            except (SQLAlchemyError, OSError) as error:
                metrics.STORE_ERRORS.labels("renew").inc()
                log.warning("ledger.unavailable", reason=type(error).__name__)
            await asyncio.sleep(min(_RENEW_S, self._settings.lease_s / 4))

    # --- one command -------------------------------------------------------------------------------------------------

    async def _carry_out(self, command: Command) -> None:
        slot = await self._slots.reserve()
        data = command.data
        try:
            with bind_call(command.run_id, command=command.kind):
                try:
                    if isinstance(data, Originate):
                        outcome = await self._originate(command, data, slot)
                    else:
                        outcome = await self._hang_up(command, data, slot)
                except _GiveUpError as reason:
                    await self._give_up(command, reason.code, reason.message)
                    outcome = "failed"
        finally:
            slot.release()
        if outcome is not None:
            metrics.COMMANDS.labels(data.provider, command.kind, outcome).inc()

    async def _originate(self, command: Command, data: Originate, slot: Slot) -> str | None:
        async with self._database.read() as connection:
            first = await ledger.belongs(connection, command)
            dial = await ledger.dial_of(connection, command.run_id)
            hang_up_waits = await ledger.hang_up_waits(connection, command.run_id)
            url = await publishing.public_url(connection)
            configuration = await _configuration(connection, data.configuration_id)
        if not first or dial is None:
            await self._finish(command, "repeated")
            return "repeated"
        if dial.outcome is not None:  # the call showed life before the answer came
            await self._finish(command, "dialled")
            return "done"
        if dial.claimed_at is not None:
            return await self._resolve(command, dial.claimed_at)
        age_s = (self._now() - command.ordered_at) / 1000
        if hang_up_waits:
            raise _GiveUpError("canceled", "The call was ended before it was dialled.")
        if age_s > self._settings.originate_max_age_s:
            raise _GiveUpError(
                "expired", f"The order to dial is {age_s:.0f} s old; nobody waits for the call any more."
            )
        if (
            configuration is None
            or configuration.user_id != data.user_id
            or configuration.provider != data.provider
        ):
            raise _GiveUpError("no-configuration", "The telephony configuration does not exist any more.")
        if configuration.paused:
            raise _GiveUpError("configuration-paused", f"The configuration {configuration.name!r} is paused.")
        if url is None:
            raise _GiveUpError("no-public-url", "The installation has no public URL; set OFFHOOK_PUBLIC_URL.")
        credentials = self._open(configuration)
        request = Dial(
            from_number=data.from_number,
            to_number=data.to_number,
            answer_url=url + webhook_path(data.workflow_id, data.user_id, command.run_id),
            status_url=url + status_path(command.run_id),
            fallback_url=url + INBOUND_FALLBACK_PATH,
            ring_timeout_s=data.ring_timeout_s,
        )
        claim = new_id()
        async with self._database.write() as connection:
            if not await ledger.claim(
                connection, command, token=claim, account=configuration.account, now=self._now()
            ):
                return None  # somebody else was faster; the command comes again when its lease has run out
        await self._introduce(data, configuration.account)
        # Committed: from here on nobody else will dial this call, whatever becomes of this process.
        answer = slot.start(lambda: self._rest(data.provider, credentials).dial(request))
        try:
            dialled = await self._answer(command, "dial", answer)
        except RestError as error:
            return await self._not_dialled(command, claim, error, credentials)
        if dialled is None:
            self._listen(command, answer)
            log.warning("dial.unanswered", provider=data.provider, after_s=self._settings.deadline_s)
            await self._wait_for_life(command)
            return None
        await self._dialled(command, dialled)
        return "done"

    async def _not_dialled(
        self, command: Command, claim: str, error: RestError, credentials: dict[str, str]
    ) -> str | None:
        message = creds.without(str(error), credentials.values())
        log.warning("dial.refused", provider=command.data.provider, kind=error.kind, code=error.code)
        if error.kind == "unknown-outcome":
            await self._wait_for_life(command)
            return None
        wait_s = retries.delay_s("originate", error.kind, command.attempts, error.retry_after_s)
        now = self._now()
        async with self._database.write() as connection:
            if wait_s is not None:
                if await ledger.unclaim(connection, command.run_id, token=claim):
                    await ledger.postpone(connection, command, due_at=now + self._wait_ms(wait_s))
                else:
                    await ledger.finish(connection, command, state=ledger.DONE, result="settled", now=now)
                return None
            await ledger.settle(connection, command.run_id, outcome=ledger.REFUSED, now=now)
            await ledger.fail(
                connection, command, code=error.kind, message=_sentence(message, error.code), now=now
            )
        return "failed"

    async def _wait_for_life(self, command: Command) -> None:
        """The provider may have the call. Leave the claim, and look again when it had time to show life."""
        now = self._now()
        async with self._database.write() as connection:
            dial = await ledger.dial_of(connection, command.run_id)
            claimed_at = now if dial is None or dial.claimed_at is None else dial.claimed_at
            due_at = max(now, claimed_at + int(self._settings.outcome_grace_s * 1000))
            await ledger.postpone(connection, command, due_at=due_at)

    async def _resolve(self, command: Command, claimed_at: int) -> str | None:
        """A claim without an outcome: its holder was killed, or the provider's answer was lost. Never dial again."""
        now = self._now()
        if now < claimed_at + int(self._settings.outcome_grace_s * 1000):
            await self._wait_for_life(command)
            return None
        found = await self._look_up(command)
        if found is not None:
            await self._dialled(command, found)
            return "done"
        async with self._database.write() as connection:
            await ledger.settle(connection, command.run_id, outcome=ledger.UNKNOWN, now=now)
            await ledger.fail(
                connection,
                command,
                code="outcome-unknown",
                message="The provider's answer to the dial was lost and the call has shown no life since; "
                "it was not dialled again.",
                now=now,
            )
        return "failed"

    async def _look_up(self, command: Command) -> Dialled | None:
        """Where a call whose dial was left without an answer is looked for at the provider (by numbers and time).

        Providers' adapters cannot list calls yet, so nothing is found.
        """
        return None

    async def _dialled(self, command: Command, dialled: Dialled) -> None:
        while True:
            try:
                await self._store_dialled(command, dialled)
                break
            except (SQLAlchemyError, OSError) as error:
                # Nobody but this process knows the provider's answer.
                metrics.STORE_ERRORS.labels("dialled").inc()
                log.error("dial.not-stored", reason=type(error).__name__)
                await asyncio.sleep(_POLL_S)
        log.info("dial.accepted", provider=command.data.provider, provider_call_id=dialled.provider_call_id)

    async def _store_dialled(self, command: Command, dialled: Dialled) -> None:
        now = self._now()
        async with self._database.write() as connection:
            await ledger.settle_accepted(
                connection,
                command.run_id,
                provider_call_id=dialled.provider_call_id,
                conversation_id=dialled.conversation_id,
                traceparent=command.traceparent,
                now=now,
            )
            await ledger.finish(connection, command, state=ledger.DONE, result="dialled", now=now)

    async def _hang_up(self, command: Command, data: HangUp, slot: Slot) -> str | None:
        async with self._database.read() as connection:
            dial = await ledger.dial_of(connection, command.run_id)
            configuration = await _configuration(connection, data.configuration_id)
        age_s = (self._now() - command.ordered_at) / 1000
        provider_call_id = data.provider_call_id or (dial.provider_call_id if dial else None)
        if provider_call_id is None:
            return await self._nothing_to_end(command, dial)
        if configuration is None or configuration.provider != data.provider:
            raise _GiveUpError("no-configuration", "The telephony configuration does not exist any more.")
        if age_s > _HANG_UP_MAX_AGE_S:
            raise _GiveUpError("expired", f"The order to hang up is {age_s:.0f} s old.")
        credentials = self._open(configuration)
        call_id = provider_call_id

        def end() -> bool:
            self._rest(data.provider, credentials).hang_up(call_id)
            return True

        answer = slot.start(end)
        try:
            if await self._answer(command, "hang-up", answer) is None:
                raise RestError(
                    "unknown-outcome", "deadline", f"no answer within {self._settings.deadline_s:.0f} s"
                )
        except RestError as error:
            if error.kind == "gone":
                await self._finish(command, "gone")
                return "gone"
            wait_s = retries.delay_s("hangup", error.kind, command.attempts, error.retry_after_s)
            log.warning("hang-up.refused", kind=error.kind, code=error.code, again_in_s=wait_s)
            if wait_s is None:
                message = creds.without(str(error), credentials.values())
                raise _GiveUpError(error.kind, _sentence(message, error.code)) from None
            async with self._database.write() as connection:
                await ledger.postpone(connection, command, due_at=self._now() + self._wait_ms(wait_s))
            return None
        await self._finish(command, "ended")
        return "done"

    async def _nothing_to_end(self, command: Command, dial: DialRow | None) -> str | None:
        if dial is None:
            raise _GiveUpError("unknown-call", "The provider's id of the call is not known here.")
        # Not dialled, refused, or lost without a sign of life: the provider has no call that could be named.
        await self._finish(command, "nothing-to-end")
        return "gone"

    # --- the provider ------------------------------------------------------------------------------------------------

    def _rest(self, provider: str, credentials: dict[str, str]) -> Rest:
        return self._rest_of(provider)(credentials, self._api_url(provider), self._settings.timeout_s)

    def _open(self, configuration: Row[Any]) -> dict[str, str]:
        try:
            return creds.unseal(self._keyring, configuration.sealed_credentials, context=configuration.id)
        except KeyringError:
            raise _GiveUpError(
                "credentials-unreadable",
                "The credentials cannot be opened: the key ring no longer has their key. Enter them again.",
            ) from None

    async def _answer(self, command: Command, operation: str, answer: "asyncio.Future[T]") -> T | None:
        """The provider's answer, or None when it did not come in time. Raises `RestError`."""
        provider = command.data.provider
        began = time.perf_counter()
        outcome = "unanswered"
        try:
            with call_span(
                operation,
                command.run_id,
                kind=SpanKind.CLIENT,
                attributes={"offhook.provider": provider},
                traceparent=command.traceparent,
            ):
                done, _ = await asyncio.wait({answer}, timeout=self._settings.deadline_s)
                if not done:
                    return None
                result = answer.result()
                outcome = "ok"
                return result
        except RestError as error:
            outcome = error.kind
            raise
        finally:
            metrics.PROVIDER_REQUESTS.labels(provider, operation, outcome).inc()
            metrics.PROVIDER_REQUEST_SECONDS.labels(provider, operation).observe(time.perf_counter() - began)

    def _listen(self, command: Command, answer: "asyncio.Future[Dialled]") -> None:
        """An answer after the deadline is still the truth."""

        async def late() -> None:
            try:
                dialled = await answer
            except RestError:
                return  # the grace period decides
            await self._dialled(command, dialled)

        task = asyncio.create_task(late(), name=f"late answer {command.run_id}")
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # --- closing -----------------------------------------------------------------------------------------------------

    async def _finish(self, command: Command, result: str) -> None:
        async with self._database.write() as connection:
            await ledger.finish(connection, command, state=ledger.DONE, result=result, now=self._now())

    async def _give_up(self, command: Command, code: str, message: str) -> None:
        log.warning("command.failed", code=code)
        now = self._now()
        async with self._database.write() as connection:
            if isinstance(command.data, Originate):
                await ledger.settle(connection, command.run_id, outcome=ledger.REFUSED, now=now)
            await ledger.fail(connection, command, code=code, message=message, now=now)

    def _wait_ms(self, wait_s: float) -> int:
        """Up to a quarter more: what was refused together should not come again together."""
        return int(wait_s * 1000 * random.uniform(1.0, 1.25) / self._settings.haste)  # noqa: S311 - not a secret

    def _now(self) -> int:
        return now_ms(self._clock)


async def _configuration(connection: AsyncConnection, configuration_id: str) -> Row[Any] | None:
    return (
        await connection.execute(select(configurations).where(configurations.c.id == configuration_id))
    ).first()


def _sign_of_life(data: EventData) -> tuple[tuple[str, str, str], tuple[str, str | None]] | None:
    """Whose it is (run, provider, account) and the call (its id and conversation), of an event that only a call
    the provider has can cause."""
    match data:
        case StatusReported(leg="phone") if data.provider_call_id:
            call = data.provider_call_id, data.conversation_id
            return (data.workflow_run_id, data.provider, data.account), call
        case InstructionsServed(account=str(account)) if data.provider_call_id:
            return (data.workflow_run_id, data.provider, account), (data.provider_call_id, None)
    return None


def _storable(provider_id: str | None) -> bool:
    """Whether an id is what a provider sends, and nothing a database refuses (NUL) or cuts off."""
    return provider_id is None or (len(provider_id) <= _LONGEST_CALL_ID and provider_id.isprintable())


def _sentence(message: str, code: str) -> str:
    return f"The provider refused ({code}): {message}"[:500]
