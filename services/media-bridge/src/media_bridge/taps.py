"""The audio of recorded calls on its way to Kafka. Never a call's concern: nothing here waits, memory is bounded, and what
cannot be told is dropped and counted (a gap in the recording).

It goes on a producer of its own: audio must not stand before a call's events.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Final

import structlog
from aiokafka.errors import KafkaError

from offhook.bus import Bus, BusError, BusUnavailable
from offhook.bus.producer import Acknowledgement
from offhook.events import AudioTap, Event, EventData, new_event
from offhook.identities import derived_id
from offhook.tasks import EndlessTasks
from offhook.telemetry import metrics
from offhook.topics import MEDIA_TAPS

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

RESTART_WHEN_EMPTY: Final = "end this process when its calls have ended"
_RETRY_S: Final = 1.0


class TapWriter:
    """Sends taps of all calls, in order. At most `max_bytes` of them wait for Kafka; what does not fit is dropped.

    You must call `start`, which starts the bus too, in its own time: no call waits for that. Call `stop` before the bus
    stops.
    """

    def __init__(self, bus: Bus, source: str, *, max_bytes: int) -> None:
        self._bus = bus
        self._source = source
        self._max_bytes = max_bytes
        self._waiting: deque[AudioTap] = deque()
        self._held = 0  # bytes that wait here, or for Kafka's acknowledgement
        self._filled = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._endless = EndlessTasks(RESTART_WHEN_EMPTY)

    def start(self) -> None:
        self._endless.start(self._send(), "tap writer")

    def problems(self) -> Iterable[str]:
        """Why no audio is told."""
        return self._endless.problems()

    async def stop(self, grace_s: float = 5.0) -> None:
        """What waits has so long to be taken."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        await self._endless.stop()

    def tell(self, tap: AudioTap) -> None:
        """Take it, or drop it; never wait."""
        size = _size(tap)
        if self._held + size > self._max_bytes:
            metrics.MEDIA_TAPS.labels("dropped").inc()
            return
        self._held += size
        self._idle.clear()
        self._waiting.append(tap)
        self._filled.set()

    async def _send(self) -> None:
        while not self._bus.started:
            try:
                await self._bus.start()
            except (BusError, KafkaError) as error:
                _log.warning("taps-wait", reason=str(error))
                await asyncio.sleep(_RETRY_S)
        while True:
            await self._filled.wait()
            while self._waiting:
                tap = self._waiting.popleft()
                try:
                    acknowledgement = await self._bus.send(self._bus.outgoing(MEDIA_TAPS, self._event(tap)))
                except BusUnavailable as error:
                    # Kafka is away: it waits here, as long as there is room.
                    _log.warning("taps-wait", reason=str(error))
                    self._waiting.appendleft(tap)
                    await asyncio.sleep(_RETRY_S)
                    continue
                except BusError as error:
                    _log.warning("tap-dropped", workflow_run_id=tap.workflow_run_id, error=str(error))
                    self._done(tap, "dropped")
                    continue
                acknowledgement.add_done_callback(partial(self._acknowledged, tap))
            self._filled.clear()

    def _event(self, tap: AudioTap) -> Event[EventData]:
        return new_event(
            tap,
            source=self._source,
            time=datetime.now(UTC),
            subject=tap.workflow_run_id,
            event_id=derived_id(
                "tap", tap.workflow_run_id, str(tap.epoch), tap.stream_id, tap.started_at.isoformat(), str(tap.index)
            ),
        )  # fmt: skip

    def _acknowledged(self, tap: AudioTap, done: Acknowledgement) -> None:
        failed = done.cancelled() or done.exception() is not None
        self._done(tap, "dropped" if failed else "sent")

    def _done(self, tap: AudioTap, outcome: str) -> None:
        metrics.MEDIA_TAPS.labels(outcome).inc()
        self._held -= _size(tap)
        if not self._held:
            self._idle.set()


def _size(tap: AudioTap) -> int:
    return len(tap.caller) + len(tap.agent)
