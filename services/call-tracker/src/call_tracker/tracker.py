"""From the topic into the store: what the consumer of call events does with a batch, and what is told about it."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from call_tracker.causes import fault_of
from call_tracker.ends import Ends
from call_tracker.store import Advance, Outbox, Store, StoreRefusal, StoreUnavailable, objection
from offhook.bus.errors import PoisonError
from offhook.call_leases import CallLeases
from offhook.events import Event, EventData
from offhook.records import CallState
from offhook.telemetry import exemplars, metrics
from offhook.telemetry.tracing import Tracing

log = structlog.get_logger(__name__)

# What the store says of values it will never take, or what a record says that no rule foresaw: not a fault of the moment.
LASTING: Final = (StoreRefusal, ValueError, ArithmeticError)


class Tracker:
    """Takes batches of call events. Safe to repeat: known events are skipped."""

    def __init__(
        self,
        store: Store,
        outbox: Outbox,
        tracing: Tracing,
        leases: CallLeases,
        public_url: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.ends = Ends(tracing, public_url)
        self._store = store
        self._outbox = outbox
        self._leases = leases

    async def take(self, events: Sequence[Event[EventData]]) -> None:
        """Store a batch. Raises `PoisonError` for an event that can never be stored, `StoreUnavailable` to get it again."""
        for event in events:
            reason = objection(event)
            if reason is not None:
                raise PoisonError(event, reason)
        try:
            advance = await self._store.apply(events)
        except LASTING as error:
            log.warning(
                "a batch cannot be stored; trying its events one by one",
                events=len(events),
                error=repr(error),
            )
            await self._one_by_one(events)
            return
        except StoreUnavailable:
            metrics.STORE_ERRORS.labels("apply").inc()
            raise
        await self._tell(events, advance)

    async def _one_by_one(self, events: Sequence[Event[EventData]]) -> None:
        for event in events:
            try:
                advance = await self._store.apply([event])
            except LASTING as error:
                raise PoisonError(event, f"it cannot be stored: {type(error).__name__}") from error
            await self._tell([event], advance)

    async def _tell(self, events: Sequence[Event[EventData]], advance: Advance) -> None:
        if advance.changed:
            self._outbox.wake()
        counts = Counter(
            applied=advance.applied,
            recorded=advance.new - advance.applied,
            duplicate=len(events) - advance.new,
        )
        for outcome, count in counts.items():
            metrics.CALL_EVENTS.labels(outcome).inc(count)
        now = time.time()
        oldest = min(events, key=lambda event: event.time)
        for event in events:
            # Of a batch, only the slowest is worth a trace.
            exemplar = exemplars.of_call(event.subject) if event is oldest else None
            metrics.CALL_EVENT_AGE_SECONDS.observe(max(now - event.time.timestamp(), 0.0), exemplar)
        for record in advance.changed:
            self.ends.changed(record)
        await self.tell_ended(advance.ended)

    async def tell_ended(self, ended: Sequence[CallState]) -> None:
        """What follows from ends that are in the database now: leases become free, figures and traces are told.

        After a crash before this, the leases expire.
        """
        for record in ended:
            await self._leases.release(record.workflow_run_id)
            self.ends.ended(record)
            self._count_end(record)

    def _count_end(self, record: CallState) -> None:
        status, provider, direction = (
            record.status.value,
            record.provider or "unknown",
            record.direction or "unknown",
        )
        metrics.CALLS_ENDED.labels(provider, direction, status).inc()
        reason = record.end_reason or "unknown"
        fault = fault_of(reason, record.ended_by, record.end_detail)
        metrics.CALL_ENDS.labels(provider, reason, fault).inc()
