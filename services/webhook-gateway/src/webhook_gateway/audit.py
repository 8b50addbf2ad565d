"""The audit trail: one event for every request, told in the background and never at the cost of an answer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from offhook.bus import Bus, BusError, BusUnavailable
from offhook.events import Event, EventData, NearMiss, WebhookAudited, near_miss, new_event
from offhook.tasks import EndlessTasks
from offhook.telemetry import metrics
from offhook.topics import WEBHOOK_AUDIT
from webhook_gateway.facts import SOURCE
from webhook_gateway.refusals import Refusal, Refusals

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SeenBefore = Callable[[str, str, str], Awaitable[bool]]

_QUEUE: Final = 10_000
_BATCH: Final = 500
_PUBLISH_S: Final = 10.0
_RETRY_S: Final = 1.0
_LAST_WORDS_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Entry:
    """`refusal` is None when there is nothing to look closer at, or no budget for it. By `retry_key` the provider's retry
    of the same delivery would be known."""

    time: datetime
    data: WebhookAudited
    refusal: Refusal | None
    retry_key: str | None


class AuditTrail:
    """A bounded queue and the task that empties it to Kafka. What does not fit, or cannot be published, is
    counted and dropped: the audit explains, it proves nothing. You must call `start`, and `stop` before the
    bus stops."""

    def __init__(
        self, bus: Bus, refusals: Refusals | None = None, seen_before: SeenBefore | None = None
    ) -> None:
        self._bus = bus
        self._seen_before = seen_before
        self._refusals = refusals
        self._queue: asyncio.Queue[_Entry] = asyncio.Queue(_QUEUE)
        self._endless = EndlessTasks()

    def note(
        self, data: WebhookAudited, refusal: Refusal | None = None, retry_key: str | None = None
    ) -> None:
        """Remember one request, and look closer at it, in the background, if it was refused. Never waits, never
        raises."""
        if refusal is not None and (self._refusals is None or not self._refusals.may_look(refusal)):
            # Not even kept in memory: whoever floods us would fill it.
            refusal, data = None, _not_looked(data)
        try:
            self._queue.put_nowait(_Entry(datetime.now(UTC), data, refusal, retry_key))
        except asyncio.QueueFull:
            metrics.WEBHOOK_AUDITS_DROPPED.inc()

    async def start(self) -> None:
        self._endless.start(self._publish(), "webhook audit")

    def problems(self) -> Iterable[str]:
        """Why requests are not told."""
        return self._endless.problems()

    async def stop(self) -> None:
        """Publish what is left, for a moment, then give up."""
        try:
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._queue.join()
        except TimeoutError:
            _log.warning("audit-cut-short", left=self._queue.qsize())
        await self._endless.stop()

    async def _publish(self) -> None:
        while True:
            batch = [await self._queue.get()]
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                events = [await self._event(entry) for entry in batch]
                await self._tell(events)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one batch, the next ones are told
                metrics.WEBHOOK_AUDITS_DROPPED.inc(len(batch))
                unforeseen = not isinstance(error, BusError)
                _log.warning(
                    "audit-not-published", error=type(error).__name__, dropped=len(batch), exc_info=unforeseen
                )
            finally:
                for _ in batch:
                    self._queue.task_done()

    async def _tell(self, events: Sequence[Event[EventData]]) -> None:
        """While Kafka is away they wait, and so do the next ones as long as the queue has room."""
        waits = False
        while True:
            try:
                async with asyncio.timeout(_PUBLISH_S):
                    await self._bus.publish_many(WEBHOOK_AUDIT, events)
            except (BusUnavailable, TimeoutError) as error:
                if not waits:
                    _log.warning("audit-waits", error=type(error).__name__)
                waits = True
                await asyncio.sleep(_RETRY_S)
            else:
                return

    async def _event(self, entry: _Entry) -> Event[EventData]:
        data = entry.data
        if entry.refusal is not None and self._refusals is not None:
            try:
                data = await self._refusals.look(data, entry.refusal)
            except Exception:  # noqa: BLE001 - anybody made what is looked at: he shall not take others' entries with him
                _log.exception("refusal-not-looked-at", provider=data.provider, reason=data.reason)
                data = _not_looked(data)
        if entry.retry_key is not None and self._seen_before is not None:
            # Here and not on the call's way: nobody waits for it.
            known = await self._seen_before(data.provider, data.account or "", entry.retry_key)
            data = data.model_copy(update={"repeated": data.repeated or known})
        return new_event(data, source=SOURCE, time=entry.time, subject=data.account or "unknown")


def _not_looked(data: WebhookAudited) -> WebhookAudited:
    return data.model_copy(update={"near_misses": (near_miss(NearMiss.NOT_LOOKED),)})
