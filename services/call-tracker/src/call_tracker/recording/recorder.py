"""The recorder's work: taps in, files out, old ones away. See the package for the theory of operation."""

import asyncio
import hashlib
import os
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import structlog

from call_tracker.recording.assembly import (
    MAX_MS,
    Piece,
    Plan,
    Span,
    Stream,
    audio_bytes,
    is_complete,
    plan,
)
from call_tracker.recording.ledger import RECORDINGS_FOLDER, Due, Ledger
from call_tracker.recording.sound import Mixer
from call_tracker.recording.storage import NotStored, Storage, StorageError
from call_tracker.store import StoreError
from call_tracker.store.store import Clock
from offhook.bus import PoisonError
from offhook.events import AudioTap, Event, EventData, RecordingDeleted, RecordingStored, new_event
from offhook.identities import derived_id, is_id, new_id
from offhook.telemetry import metrics

log = structlog.get_logger(__name__)

SOURCE: Final = "/call-tracker/recorder"
SEGMENTS: Final = "segments"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = 1_000_000
# A call that has ended is told so before its last second has come, and the other way round.
_QUIET_US: Final = 1 * _SECOND
# So long after the end, streams that never said that they ended are taken for lost.
_LOST_US: Final = 10 * _SECOND
_LEASE_US: Final = 600 * _SECOND
_DUE_AT_ONCE: Final = 20
_LOOK_S: Final = 0.5
_KEEP_S: Final = 30.0
_SWEEP_S: Final = 3600.0
_MANY: Final = 200
_READ_AHEAD: Final = 16
# A batch of so many bytes is followed by the next one at once: there is work to catch up with.
_LARGE_BATCH: Final = 4 * 1024 * 1024
# Clocks differ; a stream that began long before or after now is a fault of whoever told it.
_OLDEST: Final = timedelta(days=2)
_NEWEST: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long things are waited for. `gather_s`: at most one segment is stored in that time, unless there is much to do.

    `silence_s`: an open recording nobody adds to for so long is closed although its call is not known to have ended.
    `settle_s`: for so long after that, late taps have it written anew; then its segments are let go, and what comes later is
    not added. Longer than the taps are kept on their topic, also after an outage no tap is late.
    """

    gather_s: float = 1.0
    silence_s: float = 120.0
    settle_s: float = 7200.0


class Manifest(msgspec.Struct, frozen=True):
    """What is stored beside a recording, as JSON. Levels of both channels are 0 to 100, one for every `bucket_ms`."""

    duration_ms: int
    sample_rate: int
    gaps_ms: list[tuple[int, int]]
    bucket_ms: int
    caller: list[int]
    agent: list[int]


def manifest_key(key: str) -> str:
    return key + ".json"


class Recorder:
    """Give `take` to the consumer of the taps and keep `run` running. `folder` is for files in the making."""

    def __init__(
        self,
        ledger: Ledger,
        storage: Storage,
        folder: Path,
        *,
        keep: timedelta,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        self._ledger = ledger
        self._storage = storage
        self._folder = folder
        self._keep = keep
        self._clock = clock
        self._patience = patience or Patience()
        self._started_us = _micros(clock())
        self._problems: dict[str, str] = {}
        self._stranded: str | None = None

    def problems(self) -> Iterable[str]:
        """What does not work right now, for health."""
        return tuple(self._problems.values())

    # --- taps in

    async def take(self, events: Sequence[Event[EventData]]) -> None:
        """Make a batch durable. Raises `PoisonError` for a tap that can never be stored, else to get the batch again."""
        began = time.monotonic()
        segment = f"{SEGMENTS}/{new_id()}.taps"
        audio = bytearray()
        pieces: list[tuple[str, Piece]] = []
        for event in events:
            tap, both = self._read(event)
            pieces.append((tap.workflow_run_id, _piece_of(tap, segment, len(audio))))
            audio += both
        if not pieces:
            return
        try:
            if self._stranded is not None:
                # The database was away. It is asked first: every try would leave a segment behind.
                await self._ledger.needed([self._stranded])
            await self._storage.put(segment, bytes(audio))
            self._stranded = segment
            taken = await self._ledger.take(pieces, _micros(self._clock()))
            self._stranded = None
            if not taken.new:
                await self._storage.delete(segment)
        except (StorageError, StoreError) as error:
            self._failed("taps", error)
            raise
        self._problems.pop("taps", None)
        metrics.RECORDER_TAPS.labels("stored").inc(taken.new)
        metrics.RECORDER_TAPS.labels("late").inc(taken.late)
        metrics.RECORDER_TAPS.labels("known").inc(len(pieces) - taken.new - taken.late)
        if len(audio) < _LARGE_BATCH:
            # What comes meanwhile shares the next segment.
            await asyncio.sleep(max(0.0, self._patience.gather_s - (time.monotonic() - began)))

    def _read(self, event: Event[EventData]) -> tuple[AudioTap, bytes]:
        tap = event.data
        if not isinstance(tap, AudioTap):
            raise PoisonError(event, "it is no audio of a call")
        if not is_id(tap.workflow_run_id):
            raise PoisonError(event, "its workflow_run_id cannot name a file")
        try:
            caller, agent = tap.caller_audio, tap.agent_audio
        except ValueError as error:
            raise PoisonError(event, "its audio is not base64") from error
        size = audio_bytes(tap.encoding, tap.sample_rate, tap.duration_ms)
        if len(caller) != size or len(agent) != size:
            raise PoisonError(event, f"its channels are not {tap.duration_ms} ms long")
        if tap.offset_ms > MAX_MS or (tap.encoding == "mulaw" and tap.sample_rate != 8000):
            raise PoisonError(event, "its offset or rate cannot be")
        if tap.started_at.tzinfo is None or not -_NEWEST < self._clock() - tap.started_at < _OLDEST:
            raise PoisonError(event, "its stream did not begin at that time")
        if not tap.stream_id.isprintable():
            raise PoisonError(event, "its stream_id has control characters")
        return tap, caller + agent

    # --- files out

    async def run(self) -> None:
        """Until cancelled: close what can be closed, and keep house."""
        loop = asyncio.get_running_loop()
        keep_at = sweep_at = loop.time()
        adopted = False
        while True:
            try:
                if not adopted:
                    await self.adopt()
                    adopted = True
                await self.close_due()
                self._problems.pop("closing", None)
                if loop.time() >= keep_at:
                    await self.keep_house()
                    keep_at = loop.time() + _KEEP_S
                if loop.time() >= sweep_at:
                    await self.sweep()
                    sweep_at = loop.time() + _SWEEP_S
                self._problems.pop("keeping", None)
            except (StorageError, StoreError) as error:
                self._failed("keeping", error)
                await asyncio.sleep(1.0)
            await asyncio.sleep(_LOOK_S)

    async def close_due(self) -> int:
        """Write the files of calls that are over; returns how many."""
        now = _micros(self._clock())
        silence_us = round(self._patience.silence_s * _SECOND)
        due = await self._ledger.due(
            ended_before_us=now - _QUIET_US,
            # What came before this process began may still be on its way to it.
            silent_before_us=now - silence_us if now - self._started_us >= silence_us else 0,
            now_us=now,
            limit=_DUE_AT_ONCE,
        )
        closed = 0
        for recording in due:
            closed += await self._close(recording)
        return closed

    async def _close(self, due: Due) -> bool:
        pieces = await self._ledger.pieces(due.run)
        now = _micros(self._clock())
        if not is_complete(pieces) and now - max(due.touched_us, self._started_us) < _LOST_US:
            return False
        if not pieces or not await self._ledger.lease(due, now, now + _LEASE_US):
            return False
        try:
            while True:
                try:
                    return await self._store(due, plan(pieces, due.ended_us))
                except SegmentLostError as lost:
                    log.error(
                        "a segment of a recording is lost", workflow_run_id=due.run, segment=lost.segment
                    )
                    pieces = [piece for piece in pieces if piece.segment != lost.segment]
                    if not pieces:
                        raise
        except (StorageError, StoreError, OSError) as error:
            self._failed("closing", error)
            with suppress(StoreError):  # then the lease ends by itself
                await self._ledger.release(due)
            return False

    async def _store(self, due: Due, made: Plan) -> bool:
        with self._work_file() as (path, file):
            digest = hashlib.sha256()
            mixer = Mixer(made)

            def write(data: bytes) -> None:
                file.write(data)
                digest.update(data)

            write(mixer.header)
            async for span, both in self._audio(made):
                await asyncio.to_thread(mixer.add, span, both, write)
            await asyncio.to_thread(file.flush)
            await self._storage.put_file(due.key, path)
            size = path.stat().st_size
        shape = mixer.waveform()
        manifest = Manifest(
            made.duration_ms,
            made.sample_rate,
            list(made.gaps_ms),
            shape.bucket_ms,
            shape.caller,
            shape.agent,
        )
        await self._storage.put(manifest_key(due.key), msgspec.json.encode(manifest))
        event = new_event(
            RecordingStored(
                workflow_run_id=due.run,
                key=due.key,
                duration_ms=made.duration_ms,
                sample_rate=made.sample_rate,
                size_bytes=size,
                gaps_ms=made.gaps_ms,
                delete_after=_EPOCH + timedelta(microseconds=made.began_us) + self._keep,
            ),
            source=SOURCE,
            time=self._clock(),
            subject=due.run,
            event_id=derived_id("recording-stored", due.run, digest.hexdigest()),
        )
        if not await self._ledger.stored(due, event, _micros(self._clock())):
            await self._ledger.release(due)
            return False
        metrics.RECORDINGS.labels("stored").inc()
        missing_ms = sum(end - start for start, end in made.gaps_ms)
        metrics.RECORDING_GAP_SECONDS.inc(missing_ms / 1000)
        log.info(
            "recording stored", workflow_run_id=due.run, duration_ms=made.duration_ms, missing_ms=missing_ms
        )
        return True

    async def _audio(self, made: Plan) -> AsyncIterator[tuple[Span, bytes]]:
        """The spans in order, each with both channels of its piece; some are read ahead."""
        ahead: deque[tuple[Span, asyncio.Task[bytes] | None]] = deque()
        waiting = iter(made.spans)
        try:
            while True:
                for span in islice(waiting, _READ_AHEAD - len(ahead)):
                    reading = None if span.piece is None else asyncio.create_task(self._fetch(span.piece))
                    ahead.append((span, reading))
                if not ahead:
                    return
                span, reading = ahead.popleft()
                yield span, b"" if reading is None else await reading
        finally:
            left = [reading for _, reading in ahead if reading is not None]
            for reading in left:
                reading.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _fetch(self, piece: Piece) -> bytes:
        size = 2 * piece.channel_bytes
        try:
            both = await self._storage.read(piece.segment, piece.at, size)
        except NotStored as error:
            raise SegmentLostError(piece.segment) from error
        if len(both) != size:
            raise SegmentLostError(piece.segment)
        return both

    def _work_file(self) -> "_WorkFile":
        return _WorkFile(self._folder)

    # --- old ones away

    async def keep_house(self) -> None:
        """Delete recordings whose time is over, and segments that nobody needs."""
        limit = _micros(self._clock() - self._keep)
        while expired := await self._ledger.expired(limit, _MANY):
            for run, key in expired:
                await self._storage.delete(key)
                await self._storage.delete(manifest_key(key))
                event = new_event(
                    RecordingDeleted(workflow_run_id=run, key=key),
                    source=SOURCE,
                    time=self._clock(),
                    subject=run,
                    event_id=derived_id("recording-deleted", run, key),
                )
                await self._ledger.deleted(run, event)
                metrics.RECORDINGS.labels("deleted").inc()
                log.info("recording deleted", workflow_run_id=run)
        settled = _micros(self._clock() - timedelta(seconds=self._patience.settle_s))
        while segments := await self._ledger.settle(settled, _MANY):
            for segment in segments:
                await self._storage.delete(segment)

    async def sweep(self) -> None:
        """Segments without pieces, which a crash between the storage and the database leaves, go."""
        old = self._clock() - timedelta(seconds=max(self._patience.settle_s, 600.0))
        orphans = []
        async for key, stored in self._storage.keys(SEGMENTS):
            if stored < old:
                orphans.append(key)
        for key in set(orphans) - await self._ledger.needed(orphans):
            await self._storage.delete(key)

    async def adopt(self) -> int:
        """Know files that the database has no row for, as after it was made anew: their time will be over too."""
        adopted, some = 0, []
        async for key, stored in self._storage.keys(RECORDINGS_FOLDER):
            run = key.rpartition("/")[2].removesuffix(".wav")
            if key.endswith(".wav") and is_id(run):
                some.append((run, key, _micros(stored)))
            if len(some) == _MANY:
                adopted += await self._ledger.adopt(some, _micros(self._clock()))
                some.clear()
        return adopted + await self._ledger.adopt(some, _micros(self._clock()))

    def _failed(self, what: str, error: Exception) -> None:
        self._problems[what] = f"recordings cannot be stored: {error}"
        metrics.STORE_ERRORS.labels("recording").inc()
        log.warning("recordings cannot be stored", what=what, reason=str(error))


class SegmentLostError(StorageError):
    """A segment is not in the storage although the database says so: somebody else deleted it. Its audio is a gap."""

    def __init__(self, segment: str) -> None:
        super().__init__(f"{segment} is not in the storage any more")
        self.segment = segment


class _WorkFile:
    """A file in the making, the owner's alone; gone at the end of the block."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix="recording-", suffix=".wav", dir=folder)
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")

    def __enter__(self) -> tuple[Path, BinaryIO]:
        return self._path, self._file

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a disk that is full: what was written is thrown away anyway
            self._file.close()
        self._path.unlink(missing_ok=True)


def _piece_of(tap: AudioTap, segment: str, at: int) -> Piece:
    stream = Stream(_micros(tap.started_at), tap.epoch, tap.stream_id)
    return Piece(
        stream, tap.index, tap.offset_ms, tap.duration_ms, tap.encoding, tap.sample_rate, tap.last, segment, at
    )  # fmt: skip


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
