"""The transactional outbox: what becomes true in the database is told on Kafka, once it is true, in that order.

`append` writes into the transaction of the change itself. One `Relay` at a time (a lease) carries the rows to Kafka
and deletes what Kafka has acknowledged. A crash between the two repeats a record: events keep their ids, and a record
on a compacted topic is the whole truth about its key, so repetition is harmless.

Per key the order holds because whoever changes a thing first locks its row, and takes its place in the outbox while
holding that lock.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.database import Clock, Database, now_ms
from number_sync.schema import leases, outbox
from offhook.bus.errors import BusError
from offhook.events import Event, EventData, decode, encode
from offhook.telemetry import metrics
from offhook.topics import ALL_TOPICS, Topic

_TOPICS: Final = {topic.name: topic for topic in ALL_TOPICS}
_BATCH: Final = 500
_POLL_S: Final = 1.0
# How long after a process has died nothing is published: a number just entered would not be answered for so long.
_LEASE_MS: Final = 10_000
# Shorter than the lease, so that a relay never publishes after another one may have taken over.
_PUBLISH_TIMEOUT_S: Final = 6.0
_BACKOFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)

log = structlog.get_logger(__name__)


class Publisher(Protocol):
    """The part of `offhook.bus.Bus` that the relay needs."""

    async def publish(self, topic: Topic, event: Event[EventData], *, key: str | None = None) -> None: ...

    async def put(self, topic: Topic, key: str, event: Event[EventData] | None) -> None: ...


async def append(connection: AsyncConnection, topic: Topic, key: str, event: Event[EventData] | None) -> None:
    """Publish `event` (None: a tombstone) under `key` if, and only if, the transaction commits."""
    if event is None:
        if topic.cleanup != "compact":
            raise ValueError(f"{topic.name} is not compacted: it knows no tombstones")
        await connection.execute(insert(outbox).values(topic=topic.name, key=key, headers=None, value=None))
        return
    value, headers = encode(event)
    await connection.execute(
        insert(outbox).values(topic=topic.name, key=key, headers=headers, value=value.decode())
    )


async def backlog(connection: AsyncConnection) -> int:
    """How many records wait to be published."""
    return (await connection.execute(select(func.count()).select_from(outbox))).scalar_one()


class Relay:
    """Carries the outbox to Kafka. `wake` after a commit makes it look at once; it looks every second anyway."""

    def __init__(self, database: Database, publisher: Publisher, *, owner: str, clock: Clock) -> None:
        self._database = database
        self._publisher = publisher
        self._owner = owner
        self._clock = clock
        self._wake = asyncio.Event()
        self.problem: str | None = None

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A broker or a database that is away is waited for."""
        failures = 0
        while True:
            self._wake.clear()
            try:
                sent = await self.flush_once()
                failures = 0
                self.problem = None
            except (BusError, SQLAlchemyError, OSError, TimeoutError) as error:
                pause = _BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)]
                failures += 1
                self.problem = f"changes cannot be published: {type(error).__name__}"
                log.warning("outbox.waiting", reason=type(error).__name__, retry_in_s=pause)
                await asyncio.sleep(pause)
                continue
            if sent == 0:
                # Not `wait_for`: before Python 3.12 it forgets a cancellation that comes together with the event.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await self._wake.wait()

    async def flush_once(self) -> int:
        """Publish one batch and forget it. Returns how many records Kafka acknowledged; raises the first failure
        after forgetting those that were acknowledged."""
        async with self._database.read() as connection:
            waiting = await backlog(connection)
        metrics.OUTBOX_PENDING.set(waiting)
        if not waiting:
            return 0
        if not await self._take_lease():
            return 0
        async with self._database.read() as connection:
            rows = (await connection.execute(select(outbox).order_by(outbox.c.seq).limit(_BATCH))).all()
        lanes: dict[tuple[str, str], list[Row[Any]]] = {}
        for row in rows:
            lanes.setdefault((row.topic, row.key), []).append(row)
        sent: list[int] = []
        try:
            async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
                failed = await asyncio.gather(
                    *(self._publish(lane, sent) for lane in lanes.values()), return_exceptions=True
                )
        finally:
            if sent:
                async with self._database.write() as connection:
                    await connection.execute(delete(outbox).where(outbox.c.seq.in_(sent)))
        for outcome in failed:
            if outcome is not None:
                raise outcome
        return len(sent)

    async def _publish(self, lane: Iterable[Row[Any]], sent: list[int]) -> None:
        """The records of one key, in order; stops at the first that fails."""
        for row in lane:
            topic = _TOPICS[row.topic]
            event = None if row.value is None else decode(row.value.encode(), row.headers)
            if topic.cleanup == "compact":
                await self._publisher.put(topic, row.key, event)
            else:
                assert event is not None
                await self._publisher.publish(topic, event, key=row.key)
            sent.append(row.seq)

    async def _take_lease(self) -> bool:
        now = now_ms(self._clock)
        async with self._database.read() as connection:
            held = (await connection.execute(select(leases).where(leases.c.name == "outbox"))).one()
        if held.owner != self._owner and held.expires_at >= now:
            # Without writing: a commit wakes the relay, and it would never sleep.
            return False
        async with self._database.write() as connection:
            taken = await connection.execute(
                update(leases)
                .where(
                    leases.c.name == "outbox",
                    or_(leases.c.owner == self._owner, leases.c.expires_at < now),
                )
                .values(owner=self._owner, expires_at=now + _LEASE_MS)
            )
        return taken.rowcount == 1

    async def drain(self) -> None:
        """Wait until everything is published that waits now (bounded by the caller). What comes later may be another
        process's, and somebody will always have something to tell."""
        async with self._database.read() as connection:
            newest = (await connection.execute(select(func.max(outbox.c.seq)))).scalar_one() or 0
        waits = select(outbox.c.seq).where(outbox.c.seq <= newest).limit(1)
        while True:
            async with self._database.read() as connection:
                if (await connection.execute(waits)).first() is None:
                    return
            self.wake()
            await asyncio.sleep(0.05)

    async def release(self) -> None:
        """Let another process go on at once instead of after the lease has run out."""
        async with self._database.write() as connection:
            await connection.execute(
                update(leases)
                .where(leases.c.name == "outbox", leases.c.owner == self._owner)
                .values(expires_at=0)
            )


async def pending(connection: AsyncConnection) -> Sequence[Row[Any]]:
    """The records that wait, oldest first (for tests and for looking)."""
    return (await connection.execute(select(outbox).order_by(outbox.c.seq))).all()
