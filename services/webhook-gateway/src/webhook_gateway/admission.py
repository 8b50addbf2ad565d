"""How many inbound calls a configuration and a user may have: leases that are shared with calls out."""

from datetime import datetime

from offhook.call_leases import CallLeases, Full, Scope
from offhook.records import ConfigurationRecord


class CallAdmission:
    """`leases` of all calls; the limits of each user. A configuration's limits stand in its record."""

    def __init__(
        self,
        leases: CallLeases,
        *,
        user_max_concurrent: int | None = None,
        user_max_per_s: float | None = None,
    ) -> None:
        self._leases = leases
        self._user_max_concurrent = user_max_concurrent
        self._user_max_per_s = user_max_per_s

    async def admit(self, run: str, configuration: ConfigurationRecord, now: datetime) -> Full | None:
        """Take the leases of a call that begins; what is full, when there is no place. A retry takes nothing more.

        Without limits it is counted all the same: one that is set later counts it then."""
        scopes = (
            Scope("user", configuration.user_id, self._user_max_concurrent, self._user_max_per_s),
            Scope(
                "configuration",
                configuration.configuration_id,
                configuration.max_concurrent_calls,
                configuration.max_calls_per_s,
            ),
        )
        answer = await self._leases.acquire(run, scopes, now)
        return answer if isinstance(answer, Full) else None
