"""Questions to a provider that somebody waits for: a bound on how many at a time, and on how long each may take."""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from number_sync.blocking import Slots
from number_sync.sync.pacing import Pacer, RestingError
from offhook.providers.base import Rest, RestError, RestFactory
from offhook.telemetry import metrics

T = TypeVar("T")

_SILENCE_S: Final = 5.0
"""How long a provider may be silent during such a request: people wait for it."""


class Inquiries:
    """`rest_of` gives a provider's REST factory; `api_url` what replaces its base URL; `pacer` knows how often each account
    may be asked, whoever asks."""

    def __init__(
        self,
        *,
        rest_of: Callable[[str], RestFactory],
        api_url: Callable[[str], str | None],
        pacer: Pacer | None = None,
        concurrency: int = 8,
    ) -> None:
        self._rest_of = rest_of
        self._api_url = api_url
        self._pacer = pacer
        self._concurrency = concurrency
        self._slots: dict[str, Slots] = {}

    async def ask(
        self,
        provider: str,
        account: str,
        credentials: Mapping[str, str],
        operation: str,
        question: Callable[[Rest], T],
        *,
        within_s: float,
    ) -> T:
        """What `question` returns; it is run in a thread. `operation` names it in the metrics.

        Raises `RestError`, also when there is no answer within `within_s` seconds: the request is then left behind and
        keeps its slot until it ends. Slots are counted per provider, and one account gets half of them at most, so that
        what hangs or has to wait for its turn delays nobody else. `account`: see `pacing.paced_as`.
        """

        pacer = self._pacer

        def call() -> T:
            pace = None if pacer is None else pacer.hook(provider, account)
            return question(self._rest_of(provider)(credentials, self._api_url(provider), _SILENCE_S, pace))

        slots = self._slots.setdefault(provider, Slots(self._concurrency))
        began = time.perf_counter()
        outcome = "unanswered"
        try:
            async with asyncio.timeout(within_s):
                slot = await slots.reserve(account)
                answer = await slot.start(call)
            outcome = "ok"
            if pacer is not None:
                pacer.answered(provider, account)
            return answer
        except TimeoutError:
            raise RestError("unknown-outcome", "deadline", f"no answer within {within_s:g} s") from None
        except RestingError:
            outcome = "resting"
            raise
        except RestError as error:
            outcome = error.kind
            if error.kind == "busy" and pacer is not None:
                metrics.PROVIDER_THROTTLED.labels(provider).inc()
                pacer.throttled(provider, account, error.retry_after_s)
            raise
        finally:
            metrics.PROVIDER_REQUESTS.labels(provider, operation, outcome).inc()
            metrics.PROVIDER_REQUEST_SECONDS.labels(provider, operation).observe(time.perf_counter() - began)
