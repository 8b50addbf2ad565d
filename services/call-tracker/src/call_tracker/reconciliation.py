"""Asks about calls that are silent for too long, and keeps the leases of those that live."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from call_tracker.actions import observe
from call_tracker.dialling import Refusal
from call_tracker.store import Outbox, Store, StoreError
from call_tracker.store.store import Clock
from call_tracker.tracker import Tracker
from offhook.call_leases import ORPHANED_S, RENEW_S, CallLeases, Scope
from offhook.events import Observe
from offhook.records import CallState
from offhook.telemetry import metrics

log = structlog.get_logger(__name__)

BATCH: Final = 20
"""Calls asked about in one round: with one round a second, no provider is flooded after an outage."""

_ROUND_S: Final = 1.0
_SHORTEST_ROUND_S: Final = 0.05
_PAGE: Final = 500


class Reconciliation:
    """The loop that looks. Any number of processes may run it: each call is asked about by one of them."""

    def __init__(self, store: Store, outbox: Outbox, tracker: Tracker, *, factor: float = 1.0) -> None:
        self._store = store
        self._outbox = outbox
        self._tracker = tracker
        self._round_s = max(_SHORTEST_ROUND_S, min(_ROUND_S, _ROUND_S * factor * 10))
        self._problem: str | None = None

    def problems(self) -> Iterable[str]:
        if self._problem is not None:
            yield self._problem

    async def run(self) -> None:
        """Until cancelled. You must have migrated the database."""
        begun = False
        while True:
            try:
                if not begun:
                    log.info("asking about calls that live", calls=await self._store.look_at_all_that_lives())
                    begun = True
                await self.look()
                self._problem = None
            except StoreError as error:
                metrics.STORE_ERRORS.labels("look").inc()
                self._problem = f"silent calls are not looked up: {error}"
            await asyncio.sleep(self._round_s)

    async def look(self) -> int:
        """One round; returns how many calls were due."""
        looked = await self._store.look(ask_about, limit=BATCH)
        for reason in looked.asked:
            metrics.CALL_LOOKS.labels(reason).inc()
        if looked.asked or looked.given_up.changed:
            self._outbox.wake()
        if looked.given_up.ended:
            metrics.CALL_LOOKS.labels("given-up").inc(len(looked.given_up.ended))
            await self._tracker.tell_ended(looked.given_up.ended)
        return looked.due


def ask_about(record: CallState, reason: str) -> Observe | None:
    """The question about a call; None when nobody knows through which configuration it runs."""
    try:
        return observe(record, reason)
    except Refusal:
        return None


class LeaseKeeper:
    """Renews the leases of all live calls, in both directions, and frees those that crashes left behind."""

    def __init__(
        self,
        store: Store,
        leases: CallLeases,
        clock: Clock,
        reads_all: Callable[[], bool],
        *,
        factor: float = 1.0,
    ) -> None:
        """`reads_all`: whether nothing that was told to this process has waited for long to be read."""
        self._store = store
        self._leases = leases
        self._clock = clock
        self._reads_all = reads_all
        self._factor = factor
        self._knows = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self.renew()
            except StoreError as error:
                metrics.STORE_ERRORS.labels("leases").inc()
                log.warning("leases are not renewed", reason=str(error))
            await asyncio.sleep(RENEW_S * self._factor)

    async def renew(self) -> int:
        """Renew once; returns how many calls live. While events wait for this process to tell, read or store them it frees
        nothing, nor the first time after that: they may tell whose a lease is. Of the partitions that another process reads it
        knows nothing. What nobody frees expires."""
        knew, self._knows = self._knows, False
        kept: set[str] = set()
        after = ""
        while page := await self._store.live_calls(after=after, limit=_PAGE):
            live = {call.workflow_run_id: _scopes(call.user_id, call.configuration_id) for call in page}
            await self._leases.renew(live, self._clock())
            kept |= live.keys()
            after = page[-1].workflow_run_id
        self._knows = self._reads_all()
        if not (knew and self._knows):
            return len(kept)
        if dropped := await self._leases.drop_idle(kept, self._clock(), ORPHANED_S * self._factor):
            log.info("leases of nobody were freed", runs=dropped)
        return len(kept)


def _scopes(user_id: str, configuration_id: str | None) -> Sequence[Scope]:
    scopes = [Scope("user", user_id)]
    return scopes if configuration_id is None else [*scopes, Scope("configuration", configuration_id)]
