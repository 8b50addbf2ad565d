"""How often this process looks closer at what it refused: whoever sends forged requests shall pay more than we do."""

import time
from collections.abc import Callable
from typing import Final

_MAX_ACCOUNTS: Final = 1000


class _Bucket:
    """A token bucket: `burst` at once, `per_s` a second."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: int, now: float) -> None:
        self._per_s, self._burst = per_s, burst
        self._left, self._at = float(burst), now

    def has(self, now: float) -> bool:
        self._left = min(float(self._burst), self._left + (now - self._at) * self._per_s)
        self._at = now
        return self._left >= 1.0

    def take(self) -> None:
        self._left -= 1.0


class Budget:
    """For each account that is configured 2 a second (20 at once), for all that are not 1 a second (10 at once), for all
    together 8 a second (60 at once). So nobody who invents accounts, or floods one, hides another's trouble for long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        now = clock()
        self._all = _Bucket(8.0, 60, now)
        self._unknown = _Bucket(1.0, 10, now)
        self._accounts: dict[str, _Bucket] = {}

    def take(self, account: str | None) -> bool:
        """Whether one more refused request may be looked at. `account`: the configured one it names, if any."""
        now = self._clock()
        bucket = self._unknown if account is None else self._bucket(account, now)
        if not (bucket.has(now) and self._all.has(now)):
            return False
        bucket.take()
        self._all.take()
        return True

    def _bucket(self, account: str, now: float) -> _Bucket:
        bucket = self._accounts.pop(account, None) or _Bucket(2.0, 20, now)
        if len(self._accounts) >= _MAX_ACCOUNTS:
            del self._accounts[next(iter(self._accounts))]
        self._accounts[account] = bucket
        return bucket
