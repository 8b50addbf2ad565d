"""The outbox: what became true in the database is told on Kafka afterwards, in that order.

Rows are written in the transaction of the change itself, and deleted when Kafka has acknowledged them. A crash between
the two repeats records: at least once, each with the id it had. Only one process publishes at a time
(`Database.publishing_lock`), so a record is never followed by an older one of the same call that another process
still had in hand.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, Protocol

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy import Row, delete, func, select

from call_tracker.store.database import Database
from call_tracker.store.errors import StoreError
from call_tracker.store.tables import OUTBOX
from offhook.bus.errors import BusError
from offhook.events import Event, EventData, decode, encode
from offhook.telemetry import metrics
from offhook.telemetry.tracing import current_in_call
from offhook.topics import (
    ALL_TOPICS,
    CALL_COMMANDS,
    CALL_EVENTS,
    CALL_STATES,
    WEBHOOK_REPLAYS,
    Topic,
)

_TOPICS: Final = {topic.name: topic for topic in ALL_TOPICS}
# Within a page, what was asked is told before it is ordered: nobody shall hear of the dialling of a call unknown to them.
_TELLING_ORDER: Final = (CALL_EVENTS, CALL_STATES, CALL_COMMANDS, WEBHOOK_REPLAYS)
_TOMBSTONE: Final = "tombstone"
_PAGE: Final = 500
_POLL_S: Final = 0.5
# Longer than the producer's own patience. A record that is given up here and goes out later all the same could overtake what
# another process publishes after the lock is free.
_PUBLISH_TIMEOUT_S: Final = 90.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0

log = structlog.get_logger(__name__)


class Publisher(Protocol):
    """The part of `offhook.bus.Bus` that the outbox needs."""

    async def publish_many(self, topic: Topic, events: Sequence[Event[EventData]]) -> None: ...

    async def put(self, topic: Topic, key: str, event: Event[EventData] | None) -> None: ...


def outbox_row(topic: Topic, event: Event[EventData]) -> dict[str, str]:
    """The row that publishes `event` on `topic`, keyed by its subject, once the transaction has committed. What was told in an
    open span of the call goes on below it."""
    if event.traceparent is None and (traceparent := current_in_call(event.subject)) is not None:
        event = replace(event, traceparent=traceparent)
    value, headers = encode(event)
    return {"topic": topic.name, "headers": json.dumps(headers), "value": value.decode()}


def tombstone_row(topic: Topic, key: str) -> dict[str, str]:
    """The row that deletes what a compacted topic says about `key`, once the transaction has committed."""
    return {"topic": topic.name, "headers": json.dumps({_TOMBSTONE: key}), "value": ""}


class Outbox:
    """Carries the rows to Kafka. `wake` after a commit makes it look at once; it looks twice a second anyway."""

    def __init__(self, database: Database, publisher: Publisher) -> None:
        self._database = database
        self._publisher = publisher
        self._wake = asyncio.Event()
        self.problem: str | None = None

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A broker or a database that is away is waited for."""
        pause = _FIRST_PAUSE_S
        while True:
            self._wake.clear()
            try:
                await self.drain()
            except (BusError, KafkaError, StoreError, TimeoutError) as error:
                self.problem = f"the outbox cannot be published: {type(error).__name__}: {error}"
                log.warning("outbox waits", reason=self.problem, again_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
                continue
            self.problem = None
            pause = _FIRST_PAUSE_S
            # Not `wait_for`: before Python 3.12 it can swallow a cancellation that comes with the wake-up.
            with suppress(TimeoutError):
                async with asyncio.timeout(_POLL_S):
                    await self._wake.wait()

    async def drain(self) -> int:
        """Publish all there is; returns how many rows Kafka has acknowledged. 0 also while another process publishes."""
        published = 0
        if not await self._page(1):
            metrics.OUTBOX_PENDING.set(0)
            return 0
        async with self._database.publishing_lock() as held:
            # A connection that is cut takes the lock with it, and somebody else may be ahead of us then.
            while await held() and (page := await self._page(_PAGE)):
                await self._publish(page)
                if await held():
                    await self._delete(page)
                    published += len(page)
        metrics.OUTBOX_PENDING.set(await self.pending())
        return published

    async def pending(self) -> int:
        """How many rows wait."""
        async with self._database.read() as connection:
            return (await connection.execute(select(func.count()).select_from(OUTBOX))).scalar_one()

    async def _page(self, limit: int) -> Sequence[Row[Any]]:
        async with self._database.read() as connection:
            return (await connection.execute(select(OUTBOX).order_by(OUTBOX.c.seq).limit(limit))).all()

    async def _publish(self, page: Sequence[Row[Any]]) -> None:
        for topic in _TELLING_ORDER:
            events = [
                decode(row.value.encode(), json.loads(row.headers))
                for row in page
                if row.topic == topic.name and row.value
            ]
            if events:
                async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                    await self._publisher.publish_many(topic, events)
        for row in page:
            if not row.value:
                async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                    await self._publisher.put(_TOPICS[row.topic], json.loads(row.headers)[_TOMBSTONE], None)

    async def _delete(self, page: Sequence[Row[Any]]) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(OUTBOX).where(OUTBOX.c.seq.in_([row.seq for row in page])))
