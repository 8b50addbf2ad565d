"""The place that the second call of a warm transfer takes under the limits, like any call, before anybody is sent to wait."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row

from offhook.call_leases import CallLeases, Full, Scope


class Places:
    """`leases` of all calls; the limits of each user. A configuration's limits stand in its row. `now`: ms since 1970.

    From the call's record on call-tracker keeps the place, and gives it back at the call's end.
    """

    def __init__(
        self,
        leases: CallLeases,
        *,
        now: Callable[[], int],
        user_max_concurrent: int | None = None,
        user_max_per_s: float | None = None,
    ) -> None:
        self._leases = leases
        self._now = now
        self._user_limits = (user_max_concurrent, user_max_per_s)

    async def take(self, run_id: str, configuration: Row[Any]) -> Full | None:
        """What is full, when there is no place. Taken again by the same run, it is one place."""
        scopes = (
            Scope("user", configuration.user_id, *self._user_limits),
            Scope(
                "configuration",
                configuration.id,
                configuration.max_concurrent_calls,
                configuration.max_calls_per_s,
            ),
        )
        answer = await self._leases.acquire(run_id, scopes, datetime.fromtimestamp(self._now() / 1000, UTC))
        return answer if isinstance(answer, Full) else None

    async def leave(self, run_id: str) -> None:
        """The call is not begun after all."""
        await self._leases.release(run_id, ended=False)
