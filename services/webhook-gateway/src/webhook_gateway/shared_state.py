"""What the services share about a call for a short time, in Redis: marks, replay guard, connect counter.

None of it may stop a call. While Redis is away everything is answered as if nothing had been marked, and
connects are counted in this process alone.

| key | written by | meaning |
|---|---|---|
| `offhook:ended:{run}` | bridge, number-sync | the run was ended on purpose |
| `offhook:fallback:{run}` | bridge | no agent could be reached: the caller gets the fallback words |
| `offhook:join:{run}` | bridge | the agent puts the caller who waits through to this call |
| `offhook:over:{provider}:{account}:{call}` | gateway | the provider said that the call has ended |
| `offhook:call-of:{run}` | gateway | the only call that may act for the run |
| `offhook:call:{run}` | number-sync (dialled), gateway | hash: `direction`, `from`, `to`, `metadata`, `answered_by`,
`message_end`, for the bridge to tell the agent; `configuration`: the id of the one it runs through;
of a dialled call `provider` and `account`, and `transfer_of`: the run that waits to be joined |
| `offhook:connects:{run}` | gateway | connects in the running window |
| `offhook:delivery:{digest}` | gateway | a delivery whose retry would be known by it (provider, account, key) |
| `offhook:jti:{provider}:{jti}` | gateway | first use of a signed token: when, and the digest of the request
|
"""

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, Final

from offhook.providers.base import HttpRequest
from offhook.shared_redis import SharedRedis
from webhook_gateway.policy import CallMarks

RETRY_WINDOW_S: Final = 60
"""A second use of a signed token within this time is the carrier's own retry, if it is the same request."""

_TOKEN_MEMORY_S: Final = 900  # longer than any provider's token is believed (Vonage: 300 s old, 60 s ahead)
_DELIVERY_MEMORY_S: Final = 3600
_CALL_MEMORY_S: Final = 24 * 3600  # the longest call a provider allows
_LOCAL_COUNTERS: Final = 10_000


class Use(Enum):
    """What a signed token's use is."""

    FIRST = "first"
    RETRY = "retry"
    REPLAY = "replay"


def digest(request: HttpRequest) -> str:
    """What makes two requests the same: method, raw path, raw query and body (SHA-256, hex)."""
    head = f"{request.method}\n{request.path}\n{request.query}\n".encode("latin-1", "replace")
    return hashlib.sha256(head + request.body).hexdigest()


class SharedState:
    """The gateway's view of Redis. You must call `start` before use and `stop` after it."""

    def __init__(
        self,
        url: str,
        *,
        window_s: int = 60,
        timeout_s: float = 0.25,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._shared = SharedRedis(
            url,
            loss="replays are not refused and marks are not seen",
            timeout_s=timeout_s,
            monotonic=monotonic,
        )
        self._redis = self._shared.client
        self._window_s = window_s
        self._clock = clock
        self._monotonic = monotonic
        self._local: dict[str, tuple[int, int]] = {}

    @property
    def redis(self) -> SharedRedis:
        """The connection, for what else shares it."""
        return self._shared

    @property
    def problem(self) -> str | None:
        """Why Redis cannot be used, as a sentence for the operator; None when it can."""
        return self._shared.problem

    async def start(self) -> None:
        await self._shared.start()

    async def stop(self) -> None:
        await self._shared.stop()

    async def use_token(
        self, provider: str, replay_key: str, request_digest: str, *, window_s: float = RETRY_WINDOW_S
    ) -> Use:
        """Remember the use of a signed token, and say whether it is the first. FIRST while Redis is away. The same request
        within `window_s` seconds is a RETRY."""
        name = replay_key if len(replay_key) <= 128 else hashlib.sha256(replay_key.encode()).hexdigest()
        key = f"offhook:jti:{provider}:{name}"
        now = self._clock()
        value = f"{now:.3f} {request_digest}"
        before = await self._shared.ask(
            "use-token", lambda: self._redis.set(key, value, nx=True, get=True, ex=_TOKEN_MEMORY_S)
        )
        if not isinstance(before, str):
            return Use.FIRST
        first_used, _, first_digest = before.partition(" ")
        if first_digest == request_digest and now - float(first_used) <= window_s:
            return Use.RETRY
        return Use.REPLAY

    async def seen_before(self, provider: str, account: str, retry_key: str) -> bool:
        """Remember a delivery, and say whether the provider had made it before. False while Redis is away."""
        key = hashlib.sha256(f"{provider}\n{account}\n{retry_key}".encode()).hexdigest()
        before = await self._shared.ask(
            "seen-before",
            lambda: self._redis.set(f"offhook:delivery:{key}", "1", nx=True, get=True, ex=_DELIVERY_MEMORY_S),
        )
        return before is not None

    async def marks(
        self,
        workflow_run_id: str,
        call: tuple[str, str, str],
        *,
        own: bool,
        party: Mapping[str, str] | None = None,
    ) -> CallMarks:
        """The marks of a run that is about to get instructions; counts this connect.

        `call` is (provider, account, provider call id). With `own` the run is derived from this call and can
        be no other's. A run that was dialled belongs to a call of the account that dialled; of those, and of
        runs nobody introduced, the first call that comes is the owner. A call that does not own the run
        leaves no trace there.
        """
        call_name = ":".join(call)
        owner = f"offhook:call-of:{workflow_run_id}"
        counter = f"offhook:connects:{workflow_run_id}"
        known = f"offhook:call:{workflow_run_id}"

        async def ask() -> list[Any]:
            if not own:
                dialled_by = await self._redis.hmget(known, "provider", "account")
                if dialled_by[1] is not None and dialled_by != [call[0], call[1]]:
                    return []
                holder = await self._redis.set(owner, call_name, nx=True, get=True, ex=_CALL_MEMORY_S)
                if holder not in (None, call_name):
                    return []
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.mget(
                    f"offhook:ended:{workflow_run_id}",
                    f"offhook:fallback:{workflow_run_id}",
                    f"offhook:over:{call_name}",
                    f"offhook:join:{workflow_run_id}",
                )
                pipe.incr(counter)
                pipe.expire(counter, self._window_s, nx=True)
                if own:
                    pipe.set(owner, call_name, ex=_CALL_MEMORY_S)
                if party:
                    for name, value in party.items():
                        pipe.hsetnx(known, name, value)
                    pipe.expire(known, _CALL_MEMORY_S)
                return list(await pipe.execute())

        answer = await self._shared.ask("marks", ask)
        if answer is None:
            return CallMarks(connects=self._count_locally(workflow_run_id))
        if not answer:
            return CallMarks(foreign=True)
        ended, no_agent, over, joined = (mark is not None for mark in answer[0])
        marks = CallMarks(ended, no_agent, over, connects=int(answer[1]))
        return await self._joined(marks, workflow_run_id) if joined else marks

    async def _joined(self, marks: CallMarks, workflow_run_id: str) -> CallMarks:
        async def ask() -> tuple[str | None, bool]:
            found: list[Any] = await self._redis.hmget(f"offhook:call:{workflow_run_id}", "transfer_of")
            waiting = found[0]
            if waiting is None:
                return None, False
            names: list[Any] = await self._redis.mget(f"offhook:call-of:{waiting}")
            call_name = names[0]
            return waiting, call_name is not None and bool(
                await self._redis.exists(f"offhook:over:{call_name}")
            )

        room, over = await self._shared.ask("marks", ask) or (None, False)
        return replace(marks, join=room or "", join_over=over)

    async def note_answered_by(
        self, workflow_run_id: str, account: tuple[str, str], result: str, message_end: str | None
    ) -> None:
        """Who answered a call, and whether a machine's greeting is over, for an agent that is not there yet. Only the
        account that dialled can say it."""
        key = f"offhook:call:{workflow_run_id}"

        async def ask() -> None:
            if await self._redis.hmget(key, "provider", "account") == list(account):
                known: dict[Any, Any] = {"answered_by": result}
                if message_end is not None:
                    known["message_end"] = message_end
                await self._redis.hset(key, mapping=known)

        await self._shared.ask("note-answered-by", ask)

    async def mark_over(self, call: tuple[str, str, str]) -> None:
        """The provider said that the call has ended: it gets no more instructions to connect."""
        await self._shared.ask(
            "mark-over", lambda: self._redis.set(f"offhook:over:{':'.join(call)}", "1", ex=_CALL_MEMORY_S)
        )

    def _count_locally(self, workflow_run_id: str) -> int:
        window = int(self._monotonic() // self._window_s)
        known_window, count = self._local.pop(workflow_run_id, (window, 0))
        count = count + 1 if known_window == window else 1
        if len(self._local) >= _LOCAL_COUNTERS:
            del self._local[next(iter(self._local))]
        self._local[workflow_run_id] = (window, count)
        return count
