"""Asking providers: in threads, boundedly many, at the account's pace, and none waited for longer than is agreed."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from number_sync import credentials as creds
from number_sync.blocking import Slots
from number_sync.sync.pacing import Pacer, RestingError
from number_sync.sync.state import NO_ANSWER
from offhook.providers.base import Obstacle, ProviderAdapter, Rest, RestError, RestFactory
from offhook.telemetry import metrics

T = TypeVar("T")

_LONGEST_SENTENCE: Final = 1000
_WORTH_WAITING_S: Final = 2.0  # for an account that rests; longer, somebody else has the turn


class TroubleError(Exception):
    """The provider refused, or gave no usable answer. What it has done is not known.

    `resting`: it was not asked at all, because the account has to rest for `retry_after_s`.
    """

    def __init__(
        self, obstacle: Obstacle, retry_after_s: float | None = None, *, resting: bool = False
    ) -> None:
        super().__init__(obstacle.sentence)
        self.obstacle = obstacle
        self.retry_after_s = retry_after_s
        self.resting = resting


@dataclass(frozen=True, slots=True)
class RequestSettings:
    """See `settings.NumberSyncSettings`. `concurrency` is per provider: one that hangs delays nobody else."""

    concurrency: int = 8
    timeout_s: float = 10.0
    deadline_s: float = 25.0


class Requests:
    """`rest_of` gives a provider's REST factory; `api_url` what replaces its base URL."""

    def __init__(
        self,
        pacer: Pacer,
        *,
        rest_of: Callable[[str], RestFactory],
        api_url: Callable[[str], str | None],
        settings: RequestSettings,
    ) -> None:
        self.pacer = pacer
        self._rest_of = rest_of
        self._api_url = api_url
        self._settings = settings
        self._slots: dict[str, Slots] = {}

    def account(
        self, adapter: ProviderAdapter, account: str, credentials: Mapping[str, str]
    ) -> "AccountRequests":
        """For one round: its requests share connections. `account`: see `pacing.paced_as`."""
        return AccountRequests(self, adapter, account, credentials)

    def rest(self, provider: str, account: str, credentials: Mapping[str, str]) -> Rest:
        return self._rest_of(provider)(
            credentials,
            self._api_url(provider),
            self._settings.timeout_s,
            self.pacer.hook(provider, account),
        )

    @property
    def deadline_s(self) -> float:
        return self._settings.deadline_s

    def slots(self, provider: str) -> Slots:
        return self._slots.setdefault(provider, Slots(self._settings.concurrency))


class AccountRequests:
    """One account's requests, one after the other."""

    def __init__(
        self, requests: Requests, adapter: ProviderAdapter, account: str, credentials: Mapping[str, str]
    ) -> None:
        self._requests = requests
        self.adapter = adapter
        self._account = account
        self.credentials = credentials
        self._rest: Rest | None = None

    async def ask(self, operation: str, question: Callable[[Rest], T], *, deadlines: int = 1) -> T:
        """What `question` returns; it runs in a thread. `operation` names it in the metrics; `deadlines`: how many
        requests' worth of time it may take. Raises `TroubleError`."""
        provider = self.adapter.name
        pacer = self._requests.pacer
        rest_s = pacer.rests_for(provider, self._account)
        if rest_s > _WORTH_WAITING_S:
            raise self._trouble(RestingError(rest_s), rest_s, resting=True)
        await asyncio.sleep(rest_s)

        def call() -> T:
            if self._rest is None:
                self._rest = self._requests.rest(provider, self._account, self.credentials)
            return question(self._rest)

        slot = await self._requests.slots(provider).reserve()
        began = time.perf_counter()
        outcome = "unanswered"
        try:
            answer = slot.start(call)
            done, _ = await asyncio.wait({answer}, timeout=self._requests.deadline_s * deadlines)
            if not done:
                self._rest = None  # the thread that was left behind still uses it
                raise TroubleError(NO_ANSWER)
            result = answer.result()
            outcome = "ok"
        except RestingError as error:
            outcome = "resting"
            raise self._trouble(error, error.retry_after_s, resting=True) from None
        except RestError as error:
            outcome = error.kind
            retry_after_s = error.retry_after_s
            if error.kind == "busy":
                metrics.PROVIDER_THROTTLED.labels(provider).inc()
                retry_after_s = pacer.throttled(provider, self._account, error.retry_after_s)
            raise self._trouble(error, retry_after_s) from None
        finally:
            slot.release()
            metrics.PROVIDER_REQUESTS.labels(provider, operation, outcome).inc()
            metrics.PROVIDER_REQUEST_SECONDS.labels(provider, operation).observe(time.perf_counter() - began)
        pacer.answered(provider, self._account)
        return result

    def _trouble(
        self, error: RestError, retry_after_s: float | None, *, resting: bool = False
    ) -> TroubleError:
        why = self.adapter.lines.explain(error)
        secrets = creds.secrets_in(self.adapter.credentials_model, self.credentials)
        return TroubleError(
            Obstacle(
                why.code[:64],
                creds.without(why.sentence, secrets)[:_LONGEST_SENTENCE],
                creds.without(why.remedy, secrets)[:_LONGEST_SENTENCE],
            ),
            retry_after_s,
            resting=resting,
        )
