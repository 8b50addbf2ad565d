"""Rotation of the key ring: everything sealed with an older key is sealed again with the current one.

Safe while the services run, and to be repeated: each row is locked, opened and sealed again in a transaction of a few
rows, which publishes what it changed. The older key may leave the ring when nothing was lost and every service has
read the new records.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Column, Row, Table, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import publishing
from number_sync.database import Database
from number_sync.schema import configurations, detachments, workflows
from offhook.errors import KeyringError
from offhook.security.keyring import Keyring

_BATCH: Final = 100
_MAX_NAMED: Final = 100


@dataclass(slots=True)
class Rotation:
    """What was done. `lost` counts what could not be opened, because its key has left the ring or the text was changed:
    it stays as it is, and is named in `lost_ones` (the first 100)."""

    sealed: int = 0
    lost: int = 0
    lost_ones: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sealed:
    """A column of sealed texts; `context` is the column with the id they were sealed for."""

    noun: str
    table: Table
    key: Column[Any]
    column: Column[Any]
    context: Column[Any]
    publish: Callable[[AsyncConnection, Row[Any]], Awaitable[None]] | None


_COLUMNS: Final = (
    _Sealed(
        "configuration",
        configurations,
        configurations.c.id,
        configurations.c.sealed_credentials,
        configurations.c.id,
        publishing.publish_configuration,
    ),
    _Sealed(
        "workflow",
        workflows,
        workflows.c.id,
        workflows.c.sealed_headers,
        workflows.c.id,
        publishing.publish_workflow,
    ),
    _Sealed(
        "detachment",
        detachments,
        detachments.c.seq,
        detachments.c.sealed_credentials,
        detachments.c.configuration_id,
        None,
    ),
)


@dataclass(frozen=True, slots=True)
class _Batch:
    last_key: Any
    sealed: int
    lost: tuple[str, ...]


async def rotate(database: Database, keyring: Keyring, *, batch: int = _BATCH) -> Rotation:
    """Seal everything with the ring's current key. What already is, is left alone."""
    done = Rotation()
    for sealed in _COLUMNS:
        after: Any = None
        while True:
            one = await _seal_again(database, keyring, sealed, after=after, batch=batch)
            if one is None:
                break
            after = one.last_key
            done.sealed += one.sealed
            done.lost += len(one.lost)
            done.lost_ones = (*done.lost_ones, *one.lost)[:_MAX_NAMED]
    return done


async def _seal_again(
    database: Database, keyring: Keyring, sealed: _Sealed, *, after: Any, batch: int
) -> _Batch | None:
    """The next rows after the key `after`; None when there are no more."""
    query = (
        select(sealed.table)
        .where(
            sealed.column.is_not(None),
            # Not LIKE: SQLite's does not tell upper from lower case.
            func.substr(sealed.column, 1, len(keyring.current_prefix)) != keyring.current_prefix,
        )
        .order_by(sealed.key)
        .limit(batch)
        .with_for_update()
    )
    if after is not None:
        query = query.where(sealed.key > after)

    async def work(connection: AsyncConnection) -> _Batch | None:
        rows = (await connection.execute(query)).all()
        lost: list[str] = []
        for row in rows:
            key, text, context = (
                row._mapping[column] for column in (sealed.key, sealed.column, sealed.context)
            )
            try:
                clear = keyring.open(text, context=context)
            except KeyringError:
                lost.append(f"{sealed.noun} {key}")
                continue
            change = update(sealed.table).where(sealed.key == key)
            change = change.values({sealed.column: keyring.seal(clear, context=context)})
            changed = (await connection.execute(change.returning(sealed.table))).one()
            if sealed.publish is not None:
                await sealed.publish(connection, changed)
        return _Batch(rows[-1]._mapping[sealed.key], len(rows) - len(lost), tuple(lost)) if rows else None

    return await database.transact(work)
