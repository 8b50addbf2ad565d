"""What every kind of order is carried out with: the store, the provider, the clock, and how to try again."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

import structlog
from opentelemetry.trace import SpanKind
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import credentials as creds
from number_sync import retries
from number_sync.blocking import Slot, Slots
from number_sync.database import Clock, Database, now_ms
from number_sync.orders import ledger
from number_sync.orders.command import Command
from number_sync.orders.places import Places
from number_sync.schema import configurations
from number_sync.sync.pacing import Pacer, RestingError, paced_as
from offhook.errors import KeyringError
from offhook.events import Originate
from offhook.providers.base import Rest, RestError, RestFactory
from offhook.providers.rest_transport import answers
from offhook.security.keyring import Keyring
from offhook.telemetry import exemplars, metrics
from offhook.telemetry.logging import bind_user
from offhook.telemetry.tracing import call_span, current_in_call, failed

T = TypeVar("T")

_LONGEST_SENTENCE: Final = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """See `settings.NumberSyncSettings` for the meaning of each."""

    concurrency: int = 16
    timeout_s: float = 10.0
    deadline_s: float = 25.0
    originate_max_age_s: float = 120.0
    outcome_grace_s: float = 45.0
    lease_s: float = 15.0  # how long after a process has died another one waits before it goes on
    haste: float = 1.0  # the waits between attempts are divided by it


class GiveUpError(Exception):
    """The command cannot be carried out, and the provider was not asked (or has surely not accepted).

    `message` is a sentence for people and holds no secret.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True)
class Account:
    """A configuration with its credentials opened."""

    configuration: Row[Any]
    credentials: Mapping[str, str]

    @property
    def paced_as(self) -> str:
        return paced_as(self.configuration.user_id, self.configuration.account)

    def without_secrets(self, text: str) -> str:
        return creds.without(text, self.credentials.values())


@dataclass(frozen=True, slots=True)
class Context:
    """`rest_of` gives a provider's REST factory; `api_url` what replaces its base URL; `introduce` is told of each order to
    dial (with the account that dials) before the provider is; `places` are those under the limits; `pacer` knows how often
    each account may be asked, whoever asks. `slot` is reserved for one command's first request.
    """

    database: Database
    keyring: Keyring
    rest_of: Callable[[str], RestFactory]
    api_url: Callable[[str], str | None]
    settings: WorkerSettings
    introduce: Callable[[Originate, str], Awaitable[None]]
    places: Places
    slots: Slots
    pacer: Pacer
    clock: Clock = time.time
    slot: Slot | None = None
    background: set[asyncio.Task[None]] = field(default_factory=set)
    statuses: WeakKeyDictionary["asyncio.Future[Any]", list[int]] = field(default_factory=WeakKeyDictionary)

    def now(self) -> int:
        """Milliseconds since 1970."""
        return now_ms(self.clock)

    # --- the provider ------------------------------------------------------------------------------------------------

    def open(self, configuration: Row[Any] | None, provider: str) -> Account:
        """Raises `GiveUpError` when the configuration is gone or its credentials cannot be opened."""
        if configuration is None or configuration.provider != provider:
            raise GiveUpError("no-configuration", "The telephony configuration does not exist any more.")
        try:
            opened = creds.unseal(self.keyring, configuration.sealed_credentials, context=configuration.id)
        except KeyringError:
            raise GiveUpError(
                "credentials-unreadable",
                "The credentials cannot be opened: the key ring no longer has their key. Enter them again.",
            ) from None
        bind_user(configuration.user_id)
        return Account(configuration, opened)

    def open_account(self, configuration: Row[Any] | None, provider: str, account: str | None) -> Account:
        """The same for a call that was dialled by `account`: another one knows nothing of it."""
        opened = self.open(configuration, provider)
        if account not in (None, opened.configuration.account):
            raise GiveUpError(
                "no-configuration",
                "The call runs at another account: the configuration's credentials were exchanged since.",
            )
        return opened

    async def start(
        self, account: Account, request: Callable[[Rest], T], *, paced: bool = False
    ) -> "asyncio.Future[T]":
        """Run `request` in a thread, in the command's slot; in one of its own when that is used."""
        provider = account.configuration.provider
        pace = self.pacer.hook(provider, account.paced_as) if paced else None
        slot = self.slot if self.slot is not None and self.slot.free else await self.slots.reserve()

        def ask() -> T:
            with answers() as heard:
                try:
                    return request(
                        self.rest_of(provider)(
                            account.credentials, self.api_url(provider), self.settings.timeout_s, pace
                        )
                    )
                finally:
                    status.extend(heard[-1:])

        status: list[int] = []
        answer = slot.start(ask)
        self.statuses[answer] = status
        return answer

    async def answer(self, command: Command, operation: str, answer: "asyncio.Future[T]") -> T:
        """The provider's answer. Raises `RestError`, and `TimeoutError` when it did not come in time: it is then left
        behind, and may still come."""
        provider = command.data.provider
        began = time.perf_counter()
        outcome = "unanswered"
        try:
            with call_span(
                operation,
                command.run_id,
                kind=SpanKind.CLIENT,
                attributes={"offhook.provider": provider, "offhook.attempt": command.attempts + 1},
                traceparent=None if current_in_call(command.run_id) else command.traceparent,
            ) as span:
                try:
                    done, _ = await asyncio.wait({answer}, timeout=self.settings.deadline_s)
                    if not done:
                        raise TimeoutError
                    result = answer.result()
                    outcome = "ok"
                    return result
                except RestError as error:
                    span.set_attribute("error.type", error.kind)
                    failed(span, error.kind)
                    raise
                finally:
                    for status in self.statuses.get(answer, ()):
                        span.set_attribute("http.response.status_code", status)
        except RestError as error:
            outcome = error.kind
            raise
        finally:
            metrics.PROVIDER_REQUESTS.labels(provider, operation, outcome).inc()
            seconds = metrics.PROVIDER_REQUEST_SECONDS.labels(provider, operation)
            seconds.observe(time.perf_counter() - began, exemplars.of_call(command.run_id))

    async def ask(
        self,
        command: Command,
        operation: str,
        account: Account,
        request: Callable[[Rest], T],
        *,
        paced: bool = False,
    ) -> T:
        """What `request` returns. `operation` names it in metrics and traces. `paced`: at the pace that all look-ups and
        settings of this account share. Raises `RestError`, also when there is no answer within the deadline."""
        provider, paced_account = account.configuration.provider, account.paced_as
        try:
            result = await self.answer(command, operation, await self.start(account, request, paced=paced))
        except TimeoutError:
            raise RestError(
                "unknown-outcome", "deadline", f"no answer within {self.settings.deadline_s:.0f} s"
            ) from None
        except RestingError:
            raise
        except RestError as error:
            if error.kind == "busy":
                metrics.PROVIDER_THROTTLED.labels(provider).inc()
                self.pacer.throttled(provider, paced_account, error.retry_after_s)
            raise
        if paced:
            self.pacer.answered(provider, paced_account)
        return result

    # --- closing, and trying again -----------------------------------------------------------------------------------

    async def finish(self, command: Command, result: str) -> None:
        async with self.database.write() as connection:
            await ledger.finish(connection, command, state=ledger.DONE, result=result, now=self.now())

    async def try_again(self, command: Command, error: RestError, account: Account) -> None:
        """Put the command off as `retries` says; raises `GiveUpError` when it says no more."""
        wait_s = retries.delay_s(command.kind, error.kind, command.attempts, error.retry_after_s)
        if isinstance(error, RestingError):
            # It was not asked.
            async with self.database.write() as connection:
                due_at = self.now() + self.wait_ms(error.retry_after_s or 1.0)
                await ledger.postpone(connection, command, due_at=due_at, attempt=False)
            return
        log.warning("command.refused", kind=error.kind, code=error.code, again_in_s=wait_s)
        if wait_s is None:
            raise self.refused(error, account) from None
        async with self.database.write() as connection:
            await ledger.postpone(connection, command, due_at=self.now() + self.wait_ms(wait_s))

    def refused(self, error: RestError, account: Account) -> GiveUpError:
        """What is told when the provider's refusal is final."""
        message = f"The provider refused ({error.code}): {account.without_secrets(str(error))}"
        return GiveUpError(error.kind, message[:_LONGEST_SENTENCE])

    def wait_ms(self, wait_s: float) -> int:
        """Up to a quarter more: what was refused together should not come again together."""
        return int(wait_s * 1000 * random.uniform(1.0, 1.25) / self.settings.haste)  # noqa: S311 - not a secret

    def later(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Let `work` go on after the command was put off; it ends with the worker."""
        task = asyncio.create_task(work, name=name)
        self.background.add(task)
        task.add_done_callback(self.background.discard)


async def configuration_of(connection: AsyncConnection, configuration_id: str) -> Row[Any] | None:
    return (
        await connection.execute(select(configurations).where(configurations.c.id == configuration_id))
    ).first()
