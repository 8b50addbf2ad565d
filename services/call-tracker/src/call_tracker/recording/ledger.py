"""What the database knows of recordings: which are open, stored and deleted, and where their pieces lie."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

import msgspec
from sqlalchemy import CursorResult, Select, and_, delete, exists, false, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.recording.assembly import Piece, Stream
from call_tracker.store import Database
from call_tracker.store.calls import upsert
from call_tracker.store.outbox import outbox_row
from call_tracker.store.tables import CALLS, OUTBOX, RECORDING_PIECES, RECORDINGS
from offhook.audio import Encoding
from offhook.events import Event, EventData
from offhook.topics import CALL_EVENTS

OPEN: Final = "open"
STORED: Final = "stored"
DELETED: Final = "deleted"
RECORDINGS_FOLDER: Final = "calls"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ROW = RECORDINGS.c
_PIECE = RECORDING_PIECES.c
_SEGMENTS_AT_ONCE: Final = 500


class _Ended(msgspec.Struct):
    ended_at: str | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """An open recording that may be closed: its call has ended, or nothing came for long. `revision` counts its changes."""

    run: str
    key: str
    revision: int
    touched_us: int
    ended_us: int | None


class Taken(NamedTuple):
    """How many pieces are `new`, and how many came too `late` to be wanted."""

    new: int
    late: int


class Ledger:
    """Every method raises what `Database` raises. Times are microseconds since 1970."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, pieces: Sequence[tuple[str, Piece]], now_us: int) -> Taken:
        """Know these pieces, each of a run. Pieces of deleted recordings are not wanted, and those of a stored one whose own
        are let go neither: written from them alone, its file would lose what it has."""

        async def work(connection: AsyncConnection) -> Taken:
            runs = sorted({run for run, _ in pieces})
            await _hold(connection, select(_ROW.workflow_run_id).where(_ROW.workflow_run_id.in_(runs)))
            settled = ~exists().where(_PIECE.workflow_run_id == _ROW.workflow_run_id)
            query = (
                select(_ROW.workflow_run_id)
                .where(_ROW.workflow_run_id.in_(runs))
                .where(or_(_ROW.state == DELETED, and_(_ROW.state == STORED, settled)))
            )
            gone = set((await connection.execute(query)).scalars())
            rows = [_piece_row(run, piece) for run, piece in pieces if run not in gone]
            late = len(pieces) - len(rows)
            if not rows:
                return Taken(0, late)
            statement = upsert(connection, RECORDING_PIECES).on_conflict_do_nothing()
            returning = statement.returning(_PIECE.workflow_run_id, _PIECE.started_us)
            fresh = (await connection.execute(returning, rows)).all()
            began: dict[str, int] = {}
            for run, started_us in fresh:
                began[run] = min(started_us, began.get(run, started_us))
            for run in sorted(began):
                await self._touch(connection, run, began[run], now_us)
            return Taken(len(fresh), late)

        return await self._database.transact(work)

    async def _touch(self, connection: AsyncConnection, run: str, began_us: int, now_us: int) -> None:
        row = {
            "workflow_run_id": run,
            "state": OPEN,
            "key": _key(run, began_us),
            "began_us": began_us,
            "touched_us": now_us,
            "revision": 1,
            "leased_until_us": 0,
        }
        statement = upsert(connection, RECORDINGS).values(row)
        # What is stored already is written once more, with the pieces that came late.
        changed = {"state": OPEN, "touched_us": now_us, "revision": _ROW.revision + 1}
        await connection.execute(
            statement.on_conflict_do_update(index_elements=["workflow_run_id"], set_=changed)
        )

    async def due(self, *, ended_before_us: int, silent_before_us: int, now_us: int, limit: int) -> list[Due]:
        """Open recordings of ended calls that were last touched before the one moment, and others before the other."""
        ended = and_(CALLS.c.active == false(), _ROW.touched_us <= ended_before_us)
        query = (
            select(_ROW.workflow_run_id, _ROW.key, _ROW.revision, _ROW.touched_us, CALLS.c.record)
            .select_from(RECORDINGS.outerjoin(CALLS, CALLS.c.workflow_run_id == _ROW.workflow_run_id))
            .where(_ROW.state == OPEN, _ROW.leased_until_us <= now_us)
            .where(or_(ended, _ROW.touched_us <= silent_before_us))
            .order_by(_ROW.touched_us)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Due(row.workflow_run_id, row.key, row.revision, row.touched_us, _ended_us(row.record))
            for row in rows
        ]

    async def lease(self, due: Due, now_us: int, until_us: int) -> bool:
        """Whether it is this process's to write, until then."""
        mine = (
            update(RECORDINGS)
            .where(_ROW.workflow_run_id == due.run, _ROW.revision == due.revision)
            .where(_ROW.state == OPEN, _ROW.leased_until_us <= now_us)
            .values(leased_until_us=until_us)
        )
        async with self._database.write() as connection:
            return _count(await connection.execute(mine)) == 1

    async def release(self, due: Due) -> None:
        """Let it be written by whoever comes."""
        async with self._database.write() as connection:
            await connection.execute(
                update(RECORDINGS).where(_ROW.workflow_run_id == due.run).values(leased_until_us=0)
            )

    async def pieces(self, run: str) -> list[Piece]:
        query = select(RECORDING_PIECES).where(_PIECE.workflow_run_id == run)
        async with self._database.read() as connection:
            return [_piece(row) for row in await connection.execute(query)]

    async def stored(self, due: Due, event: Event[EventData], now_us: int) -> bool:
        """The file is there; tell it. From now on what comes late is waited for. False: pieces have come meanwhile, and it has
        to be written again."""

        async def work(connection: AsyncConnection) -> bool:
            same = (_ROW.workflow_run_id == due.run, _ROW.revision == due.revision, _ROW.state == OPEN)
            done = update(RECORDINGS).where(*same).values(state=STORED, leased_until_us=0, touched_us=now_us)
            if _count(await connection.execute(done)) != 1:
                return False
            await connection.execute(insert(OUTBOX), [outbox_row(CALL_EVENTS, event)])
            return True

        return await self._database.transact(work)

    async def expired(self, began_before_us: int, limit: int) -> list[tuple[str, str]]:
        """Run and key of stored recordings from before that moment."""
        query = select(_ROW.workflow_run_id, _ROW.key).where(
            _ROW.state == STORED, _ROW.began_us < began_before_us
        )
        async with self._database.read() as connection:
            return [(row.workflow_run_id, row.key) for row in await connection.execute(query.limit(limit))]

    async def deleted(self, run: str, event: Event[EventData]) -> None:
        """Its file is gone; tell it. Its pieces are not wanted any more."""

        async def work(connection: AsyncConnection) -> None:
            gone = update(RECORDINGS).where(_ROW.workflow_run_id == run, _ROW.state != DELETED)
            if _count(await connection.execute(gone.values(state=DELETED))):
                await connection.execute(insert(OUTBOX), [outbox_row(CALL_EVENTS, event)])

        await self._database.transact(work)

    async def settle(self, touched_before_us: int, limit: int) -> list[str]:
        """Forget the pieces of recordings that nothing more is expected for; returns segments that nobody needs now."""

        async def work(connection: AsyncConnection) -> list[str]:
            settled = (
                select(_ROW.workflow_run_id)
                .where(_ROW.state != OPEN, _ROW.touched_us < touched_before_us)
                .where(exists().where(_PIECE.workflow_run_id == _ROW.workflow_run_id))
                .limit(limit)
            )
            runs = await _hold(connection, settled)
            if not runs:
                return []
            gone = delete(RECORDING_PIECES).where(_PIECE.workflow_run_id.in_(runs)).returning(_PIECE.segment)
            segments = set((await connection.execute(gone)).scalars())
            return sorted(segments - await _needed(connection, segments))

        return await self._database.transact(work)

    async def needed(self, segments: Iterable[str]) -> set[str]:
        """Those of these segments in which pieces lie."""
        async with self._database.read() as connection:
            return await _needed(connection, segments)

    async def find(self, run: str) -> tuple[str, str] | None:
        """State and key of a recording."""
        query = select(_ROW.state, _ROW.key).where(_ROW.workflow_run_id == run)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else (row.state, row.key)

    async def adopt(self, keys: Iterable[tuple[str, str, int]], now_us: int) -> int:
        """Know files that are stored and unknown here (run, key, when stored), as after the database was made anew."""
        rows = [
            {
                "workflow_run_id": run,
                "state": STORED,
                "key": key,
                "began_us": stored_us,
                "touched_us": now_us,
                "revision": 1,
                "leased_until_us": 0,
            }
            for run, key, stored_us in keys
        ]
        if not rows:
            return 0
        async with self._database.write() as connection:
            statement = upsert(connection, RECORDINGS).on_conflict_do_nothing()
            fresh = await connection.execute(statement.returning(_ROW.workflow_run_id), rows)
            return len(fresh.all())


async def _hold(connection: AsyncConnection, runs: Select[Any]) -> list[str]:
    """Keep others from changing these recordings until the transaction ends: pieces are not taken of one whose own are being
    let go, nor the other way round. On SQLite there is one writer anyway."""
    return list((await connection.execute(runs.order_by(_ROW.workflow_run_id).with_for_update())).scalars())


async def _needed(connection: AsyncConnection, segments: Iterable[str]) -> set[str]:
    wanted, found = sorted(segments), set[str]()
    for start in range(0, len(wanted), _SEGMENTS_AT_ONCE):
        some = wanted[start : start + _SEGMENTS_AT_ONCE]
        query = select(_PIECE.segment).where(_PIECE.segment.in_(some)).distinct()
        found |= set((await connection.execute(query)).scalars())
    return found


def _key(run: str, began_us: int) -> str:
    """Where a recording is kept: by the day it began, so that no folder grows without end."""
    return f"{RECORDINGS_FOLDER}/{_EPOCH + timedelta(microseconds=began_us):%Y/%m/%d}/{run}.wav"


def _ended_us(record: str | None) -> int | None:
    if record is None:
        return None
    ended_at = msgspec.json.decode(record, type=_Ended).ended_at
    if ended_at is None:
        return None
    return (datetime.fromisoformat(ended_at) - _EPOCH) // timedelta(microseconds=1)


def _piece_row(run: str, piece: Piece) -> dict[str, Any]:
    return {
        "workflow_run_id": run,
        "started_us": piece.stream.started_us,
        "epoch": piece.stream.epoch,
        "stream_id": piece.stream.stream_id,
        "piece": piece.index,
        "offset_ms": piece.offset_ms,
        "duration_ms": piece.duration_ms,
        "encoding": piece.encoding,
        "sample_rate": piece.sample_rate,
        "last": piece.last,
        "segment": piece.segment,
        "at": piece.at,
    }


def _piece(row: Any) -> Piece:
    return Piece(
        Stream(row.started_us, row.epoch, row.stream_id),
        row.piece,
        row.offset_ms,
        row.duration_ms,
        cast(Encoding, row.encoding),
        row.sample_rate,
        row.last,
        row.segment,
        row.at,
    )


def _count(result: Any) -> int:
    return cast(CursorResult[Any], result).rowcount
