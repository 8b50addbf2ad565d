"""The store, made anew from the event log into an empty database.

Records follow from events alone, whatever the order and the batches they came in; so what is built here is what was there,
but for what is no fact of a call: how often a row was written (`revision`), and when the provider is asked next.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from sqlalchemy import Connection, column, delete, func, inspect, select, table
from sqlalchemy.exc import SQLAlchemyError

from call_tracker.store import Database, Store, StoreError, objection
from call_tracker.store.log_tables import DEAD_LETTERS, WEBHOOKS
from call_tracker.store.store import Clock
from call_tracker.store.tables import METADATA, OUTBOX
from call_tracker.tracker import LASTING
from offhook.bus.connecting import why_not
from offhook.errors import OffhookError
from offhook.events import Event, EventData, EventDecodeError, decode
from offhook.kafka_security import KafkaSecurity
from offhook.topics import CALL_EVENTS

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_AT_ONCE: Final = 1000
_POLL_MS: Final = 1000
_SILENT_POLLS: Final = 30

Batch = Sequence[Event[EventData]]


class RebuildError(OffhookError):
    """The store cannot be rebuilt: says from what, or into what, and why."""


@dataclass(slots=True)
class Progress:
    """How far it is. `total` is None where it is not known; `skipped` are records that are no events of calls."""

    events: int = 0
    total: int | None = None
    skipped: int = 0
    calls: int = 0


async def rebuild(
    source: AsyncIterator[Batch],
    target: Database,
    progress: Progress,
    *,
    clock: Clock,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Store all events of `source` in `target`, which must be empty. Raises `RebuildError`, `StoreError`."""
    await prepare(target)
    store = Store(target, clock)
    async for batch in source:
        good = [event for event in batch if objection(event) is None]
        stored = await _apply(store, good)
        progress.skipped += len(batch) - stored
        async with target.write() as connection:
            # Nothing of this is news to anybody.
            await connection.execute(delete(OUTBOX))
        progress.events += stored
        tell(progress)
    async with target.read() as connection:
        counted = select(func.count()).select_from(METADATA.tables["calls"])
        progress.calls = (await connection.execute(counted)).scalar_one()
    return progress


async def _apply(store: Store, events: Batch) -> int:
    """Store events; returns how many. What the tracker would have put into the dead letters is left out."""
    try:
        await store.apply(events)
        return len(events)
    except LASTING:
        if len(events) == 1:
            return 0
    return sum([await _apply(store, [event]) for event in events])


async def prepare(target: Database) -> None:
    """Make the tables. Raises `RebuildError` when the database is not empty."""
    async with target.read() as connection:
        filled = await connection.run_sync(_filled)
    if filled:
        raise RebuildError(
            f"the target is not empty (it has {', '.join(filled[:5])}): give an empty database, nothing was changed"
        )
    await target.migrate()


def _filled(connection: Connection) -> list[str]:
    """What the database holds already: tables that are not ours, and ours that have rows."""
    found = []
    ours = {*METADATA.tables, WEBHOOKS.name, DEAD_LETTERS.name, "alembic_version"}
    for name in sorted(inspect(connection).get_table_names()):
        if name not in ours:
            found.append(f"a table {name[:60]}")
        elif name != "alembic_version":
            rows = METADATA.tables[name]
            if connection.execute(select(1).select_from(rows).limit(1)).first() is not None:
                found.append(f"rows in {name}")
    return found


async def events_of_database(database: Database, progress: Progress) -> AsyncIterator[Batch]:
    """The events of a store, in order of arrival. It is only read, whatever version wrote it. Raises `RebuildError`."""
    log = table(
        "call_events",
        *(column(name) for name in ("seq", "ce_id", "workflow_run_id", "type", "source", "time_us", "data")),
    )
    try:
        async with database.read() as connection:
            counted = await connection.execute(select(func.count(), func.max(log.c.seq)).select_from(log))
            progress.total, last = counted.one()
        seq = -1
        while last is not None and seq < last:
            # What comes in meanwhile is left out: the log that was there at the beginning.
            query = select(log).where(log.c.seq > seq, log.c.seq <= last).order_by(log.c.seq).limit(_AT_ONCE)
            async with database.read() as connection:
                rows = (await connection.execute(query)).all()
            if not rows:
                return
            seq = rows[-1].seq
            yield [_event(row) for row in rows]
    except (SQLAlchemyError, StoreError) as error:
        # Without the driver's message: it may hold the URL.
        raise RebuildError(f"the event log cannot be read ({type(error).__name__})") from error


def _event(row: Any) -> Event[EventData]:
    headers = {
        "ce_id": row.ce_id,
        "ce_type": row.type,
        "ce_source": row.source,
        "ce_time": (_EPOCH + timedelta(microseconds=row.time_us)).isoformat(),
        "ce_subject": row.workflow_run_id,
    }
    try:
        return decode(row.data.encode(), headers)
    except EventDecodeError as error:
        raise RebuildError(f"event {row.seq} of the log cannot be read: {error}") from error


async def events_of_kafka(
    bootstrap: str, progress: Progress, security: KafkaSecurity | None = None
) -> AsyncIterator[Batch]:
    """The events of the topic, from its beginning to what is its end now; those of a call in their order. Raises
    `RebuildError`."""
    security = security or KafkaSecurity()
    # Without a group it is assigned every partition, and commits nothing.
    consumer = AIOKafkaConsumer(
        CALL_EVENTS.name,
        bootstrap_servers=bootstrap.split(","),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        **security.client_options(),
    )
    try:
        await consumer.start()
        partitions = sorted(consumer.assignment())
        if not partitions:
            raise RebuildError(f"Kafka has no topic {CALL_EVENTS.name}")
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        progress.total = sum(ends[one] - begins[one] for one in partitions)
        left = {one for one in partitions if ends[one] > begins[one]}
        for partition in partitions:
            if partition in left:
                consumer.seek(partition, begins[partition])
            else:
                consumer.pause(partition)
        silent = 0
        while left:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_AT_ONCE)
            silent = 0 if fetched else silent + 1
            if silent > _SILENT_POLLS:
                raise RebuildError("Kafka gives no more records, although the topic has more")
            batch: list[Event[EventData]] = []
            for partition, records in fetched.items():
                for record in records:
                    if record.offset >= ends[partition]:
                        break
                    try:
                        batch.append(decode(record.value, record.headers))
                    except EventDecodeError:
                        progress.skipped += 1  # its consumer has put it into the dead letters
                if await consumer.position(partition) >= ends[partition]:
                    left.discard(partition)
                    consumer.pause(partition)
            if batch:
                yield batch
    except (KafkaError, OSError) as error:
        raise RebuildError(await why_not(bootstrap.split(","), security, error)) from error
    finally:
        await consumer.stop()


async def rebuild_from(
    source: str,
    into: str,
    *,
    clock: Clock,
    tell: Callable[[Progress], None] = lambda _: None,
    security: KafkaSecurity | None = None,
) -> Progress:
    """Rebuild from a database's URL or `kafka://host:port`. Raises `RebuildError`, `StoreError`."""
    progress = Progress()
    target = Database(into)
    old: Database | None = None
    try:
        if source.startswith("kafka://"):
            address = source.removeprefix("kafka://").rstrip("/")
            events = events_of_kafka(address, progress, security)
        else:
            old = Database(source)
            events = events_of_database(old, progress)
        return await rebuild(events, target, progress, clock=clock, tell=tell)
    except StoreError as error:
        raise RebuildError(str(error)) from error
    finally:
        await asyncio.gather(*(one.close() for one in (old, target) if one is not None))
