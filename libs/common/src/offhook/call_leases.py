"""How many calls may be live, and begin within a second: leases in Redis, with owner and expiry.

A lease belongs to a run, not to a process: whoever begins the call takes it (`acquire`), call-tracker keeps it while the call
is live (`renew`) and gives it back when the record has ended (`release`). What a crash left behind call-tracker frees after
`ORPHANED_S` (`drop_idle`); without it, it expires after `LEASE_S`.

| key | meaning |
|---|---|
| `offhook:leases:{kind}:{id}` | sorted set: the runs that are live there, by the expiry of their lease (ms since 1970) |
| `offhook:leases:of:{run}` | set: where the run has leases |
| `offhook:leases-over:{run}` | the run has ended; it takes and keeps nothing any more, however late somebody asks |
| `offhook:call-rate:{kind}:{id}` | hash: the bucket of calls that may begin (`tokens`, `at_ms`) |

While Redis is away calls are not counted and not limited: `Granted(counted=False)`.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from offhook.shared_redis import SharedRedis
from offhook.telemetry import metrics

LEASE_S: Final = 600
"""How long a lease lives that nobody renews."""

RENEW_S: Final = 60
"""How often the leases of live calls should be renewed: often enough that a lost Redis is filled again soon."""

ORPHANED_S: Final = 180
"""How long a lease must have been idle to be nobody's, if no live call has it: long enough for a call to become known."""

FULL_RETRY_S: Final = 5.0
"""When to try again while all calls that may be live are: nobody knows when one of them ends."""

_OVER_S: Final = 3600
_LEASES: Final = "offhook:leases:"

ScopeKind = Literal["user", "configuration"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Who is counted, and how much is allowed; None: no limit. A second's worth of `max_per_s` (at least one call) may
    begin at once."""

    kind: ScopeKind
    id: str
    max_concurrent: int | None = None
    max_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class Granted:
    """The call may begin. `counted` is False when Redis is away: nobody knows how many there are."""

    counted: bool = True


@dataclass(frozen=True, slots=True)
class Full:
    """The call may not begin: `scope` has reached `limit`, of calls at a time or of calls per second (`per`)."""

    scope: Scope
    per: Literal["time", "second"]
    limit: float
    retry_after_s: float

    @property
    def sentence(self) -> str:
        """For people: what is full and when to try again."""
        what = "calls at a time" if self.per == "time" else "calls per second"
        return f"The {self.scope.kind} may have {self.limit:g} {what}, and has them: try again later."


# KEYS: leases of the run, mark of the end, then for each scope its leases and its bucket.
# ARGV: run, now (ms), lease (ms), then for each scope the most at a time and per second, -1 for no limit.
# Answers 0, or {number of the scope, 1 (time) or 2 (second), ms to wait}. Nothing is taken unless all of it can be.
_ACQUIRE: Final = """
local run, now, lease = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('EXISTS', KEYS[1]) == 1 or redis.call('EXISTS', KEYS[2]) == 1 then return {0, 0, 0} end
local scopes = (#KEYS - 2) / 2
local buckets = {}
for i = 1, scopes do
  local leases, bucket = KEYS[1 + 2 * i], KEYS[2 + 2 * i]
  local most, rate = tonumber(ARGV[2 + 2 * i]), tonumber(ARGV[3 + 2 * i])
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', now)
  if most >= 0 and redis.call('ZCARD', leases) >= most then return {i, 1, 0} end
  if rate >= 0 then
    local size = math.max(rate, 1)
    local held = redis.call('HMGET', bucket, 'tokens', 'at_ms')
    local tokens = size
    if held[1] then
      local passed = math.max(now - tonumber(held[2]), 0)
      tokens = math.min(size, tonumber(held[1]) + passed * rate / 1000)
    end
    if tokens < 1 or rate == 0 then
      local wait = 1000
      if rate > 0 then wait = math.ceil((1 - tokens) * 1000 / rate) end
      return {i, 2, wait}
    end
    buckets[i] = {tokens - 1, size, rate}
  end
end
for i = 1, scopes do
  local leases, bucket = KEYS[1 + 2 * i], KEYS[2 + 2 * i]
  redis.call('ZADD', leases, now + lease, run)
  redis.call('PEXPIRE', leases, lease)
  redis.call('SADD', KEYS[1], leases)
  local paid = buckets[i]
  if paid then
    redis.call('HSET', bucket, 'tokens', tostring(paid[1]), 'at_ms', ARGV[2])
    redis.call('PEXPIRE', bucket, math.ceil(paid[2] * 1000 / paid[3]) + 1000)
  end
end
if scopes > 0 then redis.call('PEXPIRE', KEYS[1], lease) end
return {0, 0, 0}
"""

# KEYS: leases of the run, mark of the end. ARGV: run, how long the end is remembered (s, 0: not at all).
_RELEASE: Final = """
for _, leases in ipairs(redis.call('SMEMBERS', KEYS[1])) do redis.call('ZREM', leases, ARGV[1]) end
redis.call('DEL', KEYS[1])
if ARGV[2] ~= '0' then redis.call('SET', KEYS[2], '1', 'EX', ARGV[2]) end
"""

# KEYS: leases of the run, mark of the end, then the leases of each scope. ARGV: run, now (ms), lease (ms).
_RENEW: Final = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
for i = 3, #KEYS do
  redis.call('ZADD', KEYS[i], ARGV[2] + ARGV[3], ARGV[1])
  redis.call('PEXPIRE', KEYS[i], ARGV[3])
  redis.call('SADD', KEYS[1], KEYS[i])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
"""


class CallLeases:
    """The leases of all calls. `redis` is the caller's: it starts and stops it, and shows its `problem`."""

    def __init__(self, redis: SharedRedis) -> None:
        self._shared = redis
        self._acquire = redis.client.register_script(_ACQUIRE)
        self._release = redis.client.register_script(_RELEASE)
        self._renew = redis.client.register_script(_RENEW)

    async def acquire(self, run: str, scopes: Sequence[Scope], now: datetime) -> Granted | Full:
        """Take one lease in each scope for a call that begins, or none. A run that has its leases is granted again, and
        counts once."""
        keys = _keys(run)
        limits: list[str | int | float] = []
        for scope in scopes:
            keys += [_leases(scope), f"offhook:call-rate:{scope.kind}:{scope.id}"]
            limits += [-1 if limit is None else limit for limit in (scope.max_concurrent, scope.max_per_s)]
        arguments = [run, _ms(now), LEASE_S * 1000, *limits]
        answer = await self._shared.ask("acquire-lease", lambda: self._acquire(keys, arguments))
        if answer is None:
            metrics.CALL_LEASES.labels("uncounted").inc()
            return Granted(counted=False)
        number, which, wait_ms = (int(part) for part in answer)
        if number == 0:
            metrics.CALL_LEASES.labels("granted").inc()
            return Granted()
        metrics.CALL_LEASES.labels("full").inc()
        scope = scopes[number - 1]
        if which == 1:
            return Full(scope, "time", scope.max_concurrent or 0, FULL_RETRY_S)
        return Full(scope, "second", scope.max_per_s or 0.0, wait_ms / 1000)

    async def release(self, run: str, *, ended: bool = True) -> bool:
        """The call is over: its leases are free, for good (`ended=False`: it did not begin after all, as far as is known).

        False while Redis is away: they expire.
        """

        async def ask() -> bool:
            await self._release(_keys(run), [run, _OVER_S if ended else 0])
            return True

        return await self._shared.ask("release-lease", ask) or False

    async def renew(self, live: Mapping[str, Sequence[Scope]], now: datetime) -> bool:
        """Keep the leases of live calls, and give them again to those that lost them (Redis was empty, a lease expired).

        `live`: of each run the scopes it counts in; limits do not matter. False while Redis is away.
        """

        async def ask() -> bool:
            for run, scopes in live.items():
                keys = _keys(run) + [_leases(scope) for scope in scopes]
                await self._renew(keys, [run, _ms(now), LEASE_S * 1000])
            return True

        return await self._shared.ask("renew-leases", ask) or False

    async def drop_idle(self, live: Container[str], now: datetime, idle_s: float) -> int | None:
        """Free what crashes left behind: leases of runs that are not `live` and that nobody took or renewed for `idle_s`.
        Returns how many runs had some; None while Redis is away."""
        client, newest = self._shared.client, _ms(now) + round((LEASE_S - idle_s) * 1000)

        async def ask() -> int:
            dropped = 0
            async for key in client.scan_iter(f"{_LEASES}of:*", count=500):
                name = key.decode() if isinstance(key, bytes) else str(key)
                run = name.removeprefix(f"{_LEASES}of:")
                if run in live:
                    continue
                expiries = [await client.zscore(leases, run) for leases in await client.smembers(key)]
                if all(expiry is None or expiry <= newest for expiry in expiries):
                    await self._release(_keys(run), [run, 0])
                    dropped += 1
            return dropped

        return await self._shared.ask("drop-leases", ask)

    async def held(self, scope: Scope, now: datetime) -> int | None:
        """How many calls are live in a scope; None while Redis is away."""
        return await self._shared.ask(
            "count-leases", lambda: self._shared.client.zcount(_leases(scope), f"({_ms(now)}", "+inf")
        )


def _keys(run: str) -> list[str]:
    return [f"{_LEASES}of:{run}", f"offhook:leases-over:{run}"]


def _leases(scope: Scope) -> str:
    return f"{_LEASES}{scope.kind}:{scope.id}"


def _ms(now: datetime) -> int:
    return int(now.timestamp() * 1000)
