"""How often a provider is asked on behalf of one account.

A token bucket per account keeps a steady pace. When the provider says 429 all the same, the account rests as long as
it was told to, goes on at half the pace, and is back at its full pace two minutes later.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from offhook.providers.errors import RestError

_RECOVERY_S: Final = 120.0
_SLOWEST: Final = 1 / 16  # of the full pace
_REST_S: Final = 2.0  # after a 429 without Retry-After; doubled for each further one in a row
_LONGEST_REST_S: Final = 3600.0
_LONGEST_GUESS_S: Final = 60.0
_WORTH_WAITING_S: Final = 10.0
_MOST_ACCOUNTS: Final = 10_000

Account = tuple[str, str]
"""Provider and account; at a pace, the account as it is one user's: see `paced_as`."""


def paced_as(user_id: str, account: str) -> str:
    """Each user has a pace of his own: anybody can name an account, and have himself throttled on its behalf."""
    return f"{user_id}/{account}"


class RestingError(RestError):
    """The account's turn is too far away for a thread to wait for it: the provider was not asked."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("busy", "429", f"the account has to rest for {wait_s:.0f} s", wait_s)


class Bucket:
    """One account's tokens. Pure: `now` is given, in seconds, and never goes back.

    `rate` is requests per second, `burst` how many may leave together after a quiet time.
    """

    def __init__(self, rate: float, *, burst: float = 1.0, now: float = 0.0) -> None:
        self._full = rate
        self._burst = burst
        self._tokens = burst
        self._filled_at = now
        self._slowed = rate  # the pace right after the last 429
        self._slowed_at = now - _RECOVERY_S
        self._rest_until = now
        self._in_a_row = 0
        self.used_at = now

    def rate(self, now: float) -> float:
        """Requests per second at the moment."""
        gained = (now - self._slowed_at) / _RECOVERY_S * self._full
        return min(self._full, self._slowed + gained)

    def rests_for(self, now: float) -> float:
        """Seconds until the account may be asked again at all; 0 when it may."""
        return max(0.0, self._rest_until - now)

    def reserve(self, now: float) -> float:
        """Take the next free turn. Returns the seconds until then; who takes it must wait so long, then ask."""
        self._fill(now)
        self.used_at = now
        self._tokens -= 1
        wait = 0.0 if self._tokens >= 0 else -self._tokens / self.rate(now)
        return max(wait, self.rests_for(now))

    def waits_for(self, now: float) -> float:
        """What `reserve` would return."""
        self._fill(now)
        short = 1 - self._tokens
        return max(0.0 if short <= 0 else short / self.rate(now), self.rests_for(now))

    def throttled(self, now: float, retry_after_s: float | None) -> None:
        """The provider answered 429."""
        if now >= self._rest_until:  # else: one of several that were under way together
            self._slowed = max(self._full * _SLOWEST, self.rate(now) / 2)
            self._slowed_at = now
            self._in_a_row += 1
        guess = min(_LONGEST_GUESS_S, _REST_S * 2 ** (min(self._in_a_row, 10) - 1))
        rest = guess if retry_after_s is None else min(retry_after_s, _LONGEST_REST_S)
        self._rest_until = max(self._rest_until, now + rest)
        self._tokens = min(self._tokens, 0.0)
        self._filled_at = max(self._filled_at, self._rest_until)

    def answered(self, now: float) -> None:
        """The provider answered otherwise."""
        if now >= self._rest_until:
            self._in_a_row = 0

    def _fill(self, now: float) -> None:
        if now > self._filled_at:
            self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self.rate(now))
            self._filled_at = now


class Pacer:
    """The buckets of all accounts; safe to use from any thread."""

    def __init__(self, rate_per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate_per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[Account, Bucket] = {}

    def hook(
        self, provider: str, account: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> Callable[[], None]:
        """For `RestFactory`: called in the request's thread before each request, it waits for the account's turn.

        When the turn is too far away for a thread to wait, it raises `RestingError`.
        """

        def pace() -> None:
            with self._lock:
                bucket, now = self._bucket((provider, account)), self._clock()
                wait = bucket.waits_for(now)
                if wait <= _WORTH_WAITING_S:
                    bucket.reserve(now)
            if wait > _WORTH_WAITING_S:
                raise RestingError(wait)
            if wait > 0:
                sleep(wait)

        return pace

    def rests_for(self, provider: str, account: str) -> float:
        """Seconds until the account may be asked again at all."""
        with self._lock:
            bucket = self._buckets.get((provider, account))
            return 0.0 if bucket is None else bucket.rests_for(self._clock())

    def resting(self) -> set[Account]:
        """The accounts that may not be asked at the moment."""
        with self._lock:
            now = self._clock()
            return {account for account, bucket in self._buckets.items() if bucket.rests_for(now) > 0}

    def throttled(self, provider: str, account: str, retry_after_s: float | None) -> float:
        """The provider answered 429. Returns the seconds the account has to rest."""
        with self._lock:
            bucket, now = self._bucket((provider, account)), self._clock()
            bucket.throttled(now, retry_after_s)
            return bucket.rests_for(now)

    def answered(self, provider: str, account: str) -> None:
        """The provider answered otherwise."""
        with self._lock:
            self._bucket((provider, account)).answered(self._clock())

    def _bucket(self, key: Account) -> Bucket:
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _MOST_ACCOUNTS:
                idle = min(self._buckets, key=lambda each: self._buckets[each].used_at)
                del self._buckets[idle]
            bucket = self._buckets[key] = Bucket(self._rate, now=self._clock())
        return bucket
