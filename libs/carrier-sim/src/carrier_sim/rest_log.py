"""What was asked of the REST APIs: every request with its answer, counted by account; and the limit of requests a second."""

import math
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Requests that are remembered one by one; the counters go on.
_KEPT = 10_000
_MAX_PATH = 200


@dataclass(frozen=True, slots=True)
class RestRequest:
    """One request. `at`: seconds since the epoch, when it came. `path`: without the query, where Vonage takes secrets.

    `account`: Account SID or API key, empty when it is none of the simulation's. `status`: None when there was no answer.
    `fault`: what was done to it, if anything (`RestFault.do`, or `limit` for the account's own rate limit).
    """

    at: float
    provider: str
    account: str
    method: str
    path: str
    status: int | None
    fault: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "provider": self.provider,
            "account": self.account,
            "method": self.method,
            "path": self.path,
            "status": self.status,
            "fault": self.fault,
        }


class RestLog:
    """The last requests, oldest first, and the counts of all."""

    def __init__(self) -> None:
        self._requests: deque[RestRequest] = deque(maxlen=_KEPT)
        self._all: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()

    def enter(self, request: RestRequest) -> None:
        """Remember a request that was answered, or given up."""
        self._requests.append(request)
        self._all[request.account] += 1
        if request.status == 429:
            self._refused[request.account] += 1

    def forget(self) -> None:
        self._requests.clear()
        self._all.clear()
        self._refused.clear()

    def requests(self, account: str | None = None) -> Sequence[RestRequest]:
        return [r for r in self._requests if account in (None, r.account)]

    def count(self, account: str) -> int:
        """All requests of an account."""
        return self._all[account]

    def refused(self, account: str) -> int:
        """How many of them were answered with 429."""
        return self._refused[account]

    def to_dict(self, account: str | None = None) -> dict[str, Any]:
        accounts = [name for name in self._all if account in (None, name)]
        return {
            "accounts": {n: {"requests": self._all[n], "refused": self._refused[n]} for n in accounts},
            "requests": [request.to_dict() for request in self.requests(account)],
        }


def bounded(path: str) -> str:
    """A path as the log keeps it."""
    return path if len(path) <= _MAX_PATH else path[:_MAX_PATH] + "…"


@dataclass(slots=True)
class RateLimit:
    """At most `per_s` requests in any second; below one, one request in so many seconds. What is refused does not count."""

    per_s: float

    def __post_init__(self) -> None:
        if not 0.0 < self.per_s <= 10_000.0:
            raise ValueError(f"requests_per_s: more than 0 and at most 10000 expected, got {self.per_s}")


class RateLimits:
    """The limits by account, and when each was used."""

    def __init__(self) -> None:
        self._limits: dict[str, RateLimit] = {}
        self._accepted: dict[str, deque[float]] = {}

    def set(self, account: str, per_s: float | None) -> None:
        """Limit an account, or (None) no longer. Raises `ValueError`."""
        if per_s is None:
            self._limits.pop(account, None)
        else:
            self._limits[account] = RateLimit(per_s)
        self._accepted.pop(account, None)

    def get(self, account: str) -> float | None:
        limit = self._limits.get(account)
        return limit.per_s if limit else None

    def admits(self, account: str, now: float) -> bool:
        """Whether a request at `now` (monotonic seconds) is within the limit; it counts if it is."""
        limit = self._limits.get(account)
        if limit is None:
            return True
        most = max(1, math.floor(limit.per_s))
        accepted = self._accepted.setdefault(account, deque(maxlen=most))
        if len(accepted) == most and now - accepted[0] < most / limit.per_s:
            return False
        accepted.append(now)
        return True
