"""What bridges and gateways share about a call, in Redis. None of it may stop a call.

| key | written by | meaning |
|---|---|---|
| `offhook:session:{run}` | bridge | hash: who has the call's audio (`owner`), how many sessions it has had
(`epoch`), since when |
| `offhook:token:{nonce}` | bridge | this media token was used |
| `offhook:ended:{run}` | bridge | the run was ended on purpose: instructions are to hang up |
| `offhook:fallback:{run}` | bridge | no agent took the call: instructions are to speak the workflow's
fallback |
| `offhook:join:{run}` | bridge | the agent puts the caller who waits through: instructions are to join him |
| `offhook:call:{run}` | gateway, number-sync | hash: `direction`, `from`, `to`, `metadata` (JSON), `answered_by`,
`message_end`, for the agent; `configuration`: the id of the one it runs through;
`transfer_of`: the run whose caller waits to be put through |

While Redis is away tokens are still verified (their signature needs no Redis), and sessions are not counted
(epoch 0) and not fenced.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from offhook.identities import new_id
from offhook.shared_redis import SharedRedis

MARK_S: Final = 6 * 3600
"""How long a run stays marked as ended or without agent: longer than providers ask again."""

_SESSION_S: Final = 24 * 3600  # the longest call a provider allows

# One more session of the run; returns what the one before left. Asked again, because the answer was lost, it is the same
# one. KEYS: session. ARGV: owner, now in ms, expiry in s, id of this claim.
_CLAIM: Final = """
if redis.call('HGET', KEYS[1], 'claim') ~= ARGV[4] then
  redis.call('HINCRBY', KEYS[1], 'epoch', 1)
  redis.call('HSET', KEYS[1], 'claim', ARGV[4])
end
local epoch = redis.call('HGET', KEYS[1], 'epoch')
redis.call('HSETNX', KEYS[1], 'began_ms', ARGV[2])
local before = redis.call('HMGET', KEYS[1], 'began_ms', 'heard_ms')
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'state', 'live', 'renewed_ms', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return {epoch, before[1], before[2]}
"""

# 0: a later session has the run. KEYS: session. ARGV: epoch, owner, now in ms, expiry in s, state, heard ms.
_RENEW: Final = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch > tonumber(ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'owner', ARGV[2], 'state', ARGV[5], 'renewed_ms', ARGV[3],
           'heard_ms', ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""


@dataclass(frozen=True, slots=True)
class Prior:
    """What is known about a call before its stream is accepted."""

    token_used: bool = False
    ended: bool = False
    direction: str = ""
    from_number: str = ""
    to_number: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    answered_by: str = ""
    message_end: str = ""
    transfer_of: str = ""
    configuration_id: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """A session of a call. `epoch` counts from 1, 0 while Redis is away. The rest is what the session before
    left: `elapsed_ms` since the first one began, and how much the caller had heard of what was being said."""

    epoch: int = 0
    elapsed_ms: int = 0
    heard_ms: int = 0


class SharedState:
    """The bridge's view of Redis. You must call `start` before use and `stop` after it."""

    def __init__(
        self,
        url: str,
        bridge_id: str,
        *,
        timeout_s: float = 0.5,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._shared = SharedRedis(
            url, loss="used tokens are not refused and sessions are not fenced", timeout_s=timeout_s
        )
        self._redis = self._shared.client
        self._bridge_id = bridge_id
        self._clock = clock
        self._claim = self._redis.register_script(_CLAIM)
        self._renew = self._redis.register_script(_RENEW)

    @property
    def problem(self) -> str | None:
        """Why Redis cannot be used, as a sentence for the operator; None when it can."""
        return self._shared.problem

    async def start(self) -> None:
        await self._shared.start()

    async def stop(self) -> None:
        await self._shared.stop()

    async def introduce(self, workflow_run_id: str, nonce: str, expires_at: int) -> Prior:
        """Use up a media token, and read what is known about the call."""
        ttl = max(60, int(expires_at - self._clock()) + 60)

        # A value of this one use: should the answer be lost and the question repeated, we meet ourselves.
        use = f"{self._bridge_id}:{new_id()}"

        async def ask() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.set(f"offhook:token:{nonce}", use, nx=True, get=True, ex=ttl)
                pipe.exists(f"offhook:ended:{workflow_run_id}")
                pipe.hgetall(f"offhook:call:{workflow_run_id}")
                return list(await pipe.execute())

        answer = await self._shared.ask("introduce", ask)
        if answer is None:
            return Prior()
        earlier_use, ended, call = answer
        try:
            metadata = msgspec.json.decode(call.get("metadata", "{}"), type=dict[str, Any])
        except msgspec.DecodeError:
            metadata = {}
        return Prior(
            token_used=earlier_use not in (None, use),
            ended=bool(ended),
            direction=call.get("direction", ""),
            from_number=call.get("from", ""),
            to_number=call.get("to", ""),
            metadata=metadata,
            answered_by=call.get("answered_by", ""),
            message_end=call.get("message_end", ""),
            transfer_of=call.get("transfer_of", ""),
            configuration_id=call.get("configuration", ""),
        )

    async def claim(self, workflow_run_id: str) -> Claim:
        """Begin one more session of the run; the one before, if it lives, will find out when it renews."""
        now_ms = int(self._clock() * 1000)
        key, claim = f"offhook:session:{workflow_run_id}", new_id()
        answer = await self._shared.ask(
            "claim", lambda: self._claim(keys=[key], args=[self._bridge_id, now_ms, _SESSION_S, claim])
        )
        if answer is None:
            return Claim()
        epoch, began_ms, heard_ms = answer
        return Claim(
            epoch=int(epoch),
            elapsed_ms=max(0, now_ms - int(began_ms or now_ms)),
            heard_ms=int(heard_ms or 0),
        )

    async def renew(self, sessions: Sequence[tuple[str, int, int]]) -> list[bool]:
        """Say that these sessions (run, epoch, heard ms) live. False for each whose run a later session
        has.
        """
        counted = [session for session in sessions if session[1]]

        async def ask() -> list[Any]:
            async with self._redis.pipeline(transaction=False) as pipe:
                for run, epoch, heard_ms in counted:
                    await self._renew(**self._renewal(run, epoch, heard_ms, "live"), client=pipe)
                return list(await pipe.execute())

        answers = (await self._shared.ask("renew", ask) if counted else None) or [1] * len(counted)
        held = dict(zip(counted, answers, strict=True))
        return [bool(held.get(session, 1)) for session in sessions]

    async def release(self, workflow_run_id: str, epoch: int, heard_ms: int) -> None:
        """The session ended here, in order."""
        if epoch:
            renewal = self._renewal(workflow_run_id, epoch, heard_ms, "closed")
            await self._shared.ask("release", lambda: self._renew(**renewal))

    def _renewal(self, run: str, epoch: int, heard_ms: int, state: str) -> dict[str, Any]:
        now_ms = int(self._clock() * 1000)
        return {
            "keys": [f"offhook:session:{run}"],
            "args": [epoch, self._bridge_id, now_ms, _SESSION_S, state, heard_ms],
        }

    async def mark_ended(self, workflow_run_id: str) -> bool:
        """The run is ended on purpose: whoever asks for instructions gets the hang-up. False while Redis is away."""
        return await self._mark("ended", workflow_run_id)

    async def mark_join(self, workflow_run_id: str) -> bool:
        """The agent puts the caller who waits through to this call: its next instructions are to join him. False while
        Redis is away."""
        return await self._mark("join", workflow_run_id)

    async def mark_fallback(self, workflow_run_id: str) -> None:
        """No agent took the call: whoever asks for instructions gets the workflow's words for that."""
        await self._mark("fallback", workflow_run_id)

    async def _mark(self, name: str, workflow_run_id: str) -> bool:
        marked = await self._shared.ask(
            f"mark-{name}", lambda: self._redis.set(f"offhook:{name}:{workflow_run_id}", "1", ex=MARK_S)
        )
        return marked is not None
