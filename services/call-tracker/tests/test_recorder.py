"""The recorder on a real database and a real folder: what was taken is kept, told once, and deleted in time."""

import base64
import io
import json
import stat
import wave
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from events_of_calls import NOON, Call
from sqlalchemy import select

from call_tracker.recording.assembly import Piece
from call_tracker.recording.folder import FolderStorage
from call_tracker.recording.ledger import Ledger
from call_tracker.recording.recorder import SEGMENTS, Patience, Recorder, manifest_key
from call_tracker.recording.storage import NotStored, StorageUnavailable
from call_tracker.store import Database, Store, StoreUnavailable
from call_tracker.store.tables import OUTBOX, RECORDING_PIECES
from offhook.bus import PoisonError
from offhook.events import AudioTap, Event, new_event
from offhook.telemetry import metrics

BEGAN = NOON
KEY = "calls/2026/11/01/run-1.wav"


class FullDisk(FolderStorage):
    """A folder that takes nothing while it is `full`."""

    full = False

    async def put(self, key: str, content: bytes) -> None:
        self._check()
        await super().put(key, content)

    async def put_file(self, key: str, file: Path) -> None:
        self._check()
        await super().put_file(key, file)

    def _check(self) -> None:
        if self.full:
            raise StorageUnavailable("the disk cannot be used: No space left on device")


class AbsentLedger(Ledger):
    """A ledger that cannot be asked while it is `away`."""

    away = False

    async def take(self, pieces: Sequence[tuple[str, Piece]], now_us: int) -> int:
        self._check()
        return await super().take(pieces, now_us)

    async def needed(self, segments: Iterable[str]) -> set[str]:
        self._check()
        return await super().needed(segments)

    def _check(self) -> None:
        if self.away:
            raise StoreUnavailable("the database does not answer")


def tap(index: int, *, run: str = "run-1", last: bool = False, **changes: Any) -> Event[AudioTap]:
    samples = np.full(8000, index + 1, np.int16)
    fields: dict[str, Any] = {
        "workflow_run_id": run,
        "epoch": 1,
        "stream_id": "s1",
        "index": index,
        "offset_ms": index * 1000,
        "duration_ms": 1000,
        "started_at": BEGAN,
        "encoding": "pcm_s16le",
        "sample_rate": 8000,
        "caller": base64.b64encode(samples.tobytes()).decode(),
        "agent": base64.b64encode((-samples).tobytes()).decode(),
        "last": last,
    }
    data = AudioTap(**fields | changes)
    return new_event(data, source="/media-bridge/b1", time=BEGAN, subject=run)


class Scene:
    """A recorder with its clock, its storage and its database; it can be started anew."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.now = BEGAN + timedelta(minutes=1)
        self.database = database
        self.folder = folder
        self.storage = FullDisk(folder / "recordings")
        self.store = Store(database, self.clock)
        self.recorder = self.restart()

    def clock(self) -> datetime:
        return self.now

    def restart(self) -> Recorder:
        self.ledger = AbsentLedger(self.database)
        self.recorder = Recorder(
            self.ledger,
            self.storage,
            self.folder / "making",
            keep=timedelta(days=30),
            clock=self.clock,
            patience=Patience(gather_s=0),
        )
        return self.recorder

    async def end_call(self) -> None:
        call = Call()
        await self.store.apply([call.requested(), call.status("completed")])

    async def later(self, **ago: float) -> None:
        self.now += timedelta(**ago)
        await self.recorder.close_due()

    async def seconds(self) -> list[int]:
        content = await self.storage.read(KEY, 0, 10**9)
        with wave.open(io.BytesIO(content)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2)
        assert np.array_equal(samples[:, 0], -samples[:, 1])
        return [int(value) for value in samples[4000::8000, 0]]

    async def told(self, kind: str) -> list[Any]:
        async with self.database.read() as connection:
            rows = await connection.execute(select(OUTBOX).order_by(OUTBOX.c.seq))
            return [
                json.loads(row.value) | {"id": json.loads(row.headers)["ce_id"]}
                for row in rows
                if json.loads(row.headers)["ce_type"] == f"offhook.{kind}"
            ]

    async def segments(self) -> list[str]:
        return [key async for key, _ in self.storage.keys(SEGMENTS)]


@pytest.fixture
async def scene(database_url: str, tmp_path: Path) -> AsyncIterator[Scene]:
    database = Database(database_url)
    await database.migrate()
    yield Scene(database, tmp_path)
    await database.close()


async def test_a_call_that_ended_becomes_one_file_and_is_told(scene: Scene) -> None:
    await scene.recorder.take([tap(1), tap(0)])
    await scene.recorder.take([tap(2, last=True), tap(1)])
    await scene.later(seconds=5)
    assert await scene.told("recording.stored.v1") == []  # the call goes on
    await scene.end_call()
    await scene.later(seconds=5)
    assert await scene.seconds() == [1, 2, 3]
    (told,) = await scene.told("recording.stored.v1")
    assert (told["key"], told["duration_ms"], told["gaps_ms"]) == (KEY, 3000, [])
    assert told["size_bytes"] == await scene.storage.size(KEY)
    assert told["delete_after"].startswith("2026-12-01T12:00:00")
    shape = json.loads(await scene.storage.read(manifest_key(KEY), 0, 10**6))
    assert len(shape["caller"]) == len(shape["agent"]) == 150


async def test_files_are_for_their_owner_alone(scene: Scene) -> None:
    await scene.recorder.take([tap(0, last=True)])
    await scene.end_call()
    await scene.later(seconds=5)
    modes = {
        stat.S_IMODE(path.stat().st_mode)
        for path in scene.folder.rglob("*")
        if path.is_file() and path.suffix in (".wav", ".json", ".taps")
    }
    assert modes == {0o600}


async def test_a_recorder_that_starts_anew_goes_on_and_what_comes_again_changes_nothing(scene: Scene) -> None:
    await scene.recorder.take([tap(0), tap(1)])
    scene.restart()
    await scene.recorder.take([tap(0), tap(1), tap(2, last=True)])
    await scene.end_call()
    await scene.later(seconds=5)
    assert await scene.seconds() == [1, 2, 3]
    await scene.recorder.take([tap(1), tap(2, last=True)])
    await scene.later(seconds=5)
    assert len(await scene.told("recording.stored.v1")) == 1


async def test_what_comes_late_is_written_into_the_file(scene: Scene) -> None:
    await scene.recorder.take([tap(0), tap(2, last=True)])
    await scene.end_call()
    await scene.later(seconds=15)
    assert await scene.seconds() == [1, 0, 3]
    await scene.recorder.take([tap(1)])
    await scene.later(seconds=15)
    assert await scene.seconds() == [1, 2, 3]
    first, second = await scene.told("recording.stored.v1")
    assert (first["gaps_ms"], second["gaps_ms"]) == ([[1000, 2000]], [])
    assert first["id"] != second["id"]


async def test_a_call_that_falls_silent_is_closed_although_nobody_told_its_end(scene: Scene) -> None:
    await scene.recorder.take([tap(0), tap(1)])
    await scene.later(seconds=60)
    assert await scene.told("recording.stored.v1") == []
    await scene.later(seconds=70)
    assert await scene.seconds() == [1, 2]


async def test_nothing_is_taken_while_the_disk_is_full_and_health_says_so(scene: Scene) -> None:
    scene.storage.full = True
    with pytest.raises(StorageUnavailable):
        await scene.recorder.take([tap(0, last=True)])
    assert "No space left" in next(iter(scene.recorder.problems()))
    scene.storage.full = False
    await scene.recorder.take([tap(0, last=True)])
    assert list(scene.recorder.problems()) == []
    await scene.end_call()
    scene.storage.full = True
    await scene.later(seconds=5)
    assert "No space left" in next(iter(scene.recorder.problems()))
    assert await scene.told("recording.stored.v1") == []
    scene.storage.full = False
    await scene.later(seconds=5)
    assert await scene.seconds() == [1]


async def test_while_the_database_is_away_tries_do_not_fill_the_storage(scene: Scene) -> None:
    scene.ledger.away = True
    for _ in range(5):
        with pytest.raises(StoreUnavailable):
            await scene.recorder.take([tap(0, last=True)])
    assert len([key async for key, _ in scene.storage.keys(SEGMENTS)]) == 1
    scene.ledger.away = False
    await scene.recorder.take([tap(0, last=True)])
    await scene.end_call()
    await scene.later(seconds=5)
    assert await scene.seconds() == [1]


async def test_segments_are_let_go_when_nothing_more_is_expected(scene: Scene) -> None:
    await scene.recorder.take([tap(0, last=True), tap(0, run="run-2")])
    await scene.end_call()
    await scene.later(seconds=5)
    scene.now += timedelta(minutes=121)
    await scene.recorder.take([tap(1, run="run-2")])
    await scene.recorder.keep_house()
    assert len(await scene.segments()) == 2  # the other call lies in both
    await scene.later(minutes=3)
    await scene.later(minutes=121)
    await scene.recorder.keep_house()
    assert await scene.segments() == []
    async with scene.database.read() as connection:
        runs = set((await connection.execute(select(RECORDING_PIECES.c.workflow_run_id))).scalars())
    assert runs == set()


async def test_what_comes_when_the_pieces_are_let_go_does_not_replace_the_file(scene: Scene) -> None:
    """A dead letter that is sent again the next day, or a group that reads from the beginning."""
    await scene.recorder.take([tap(0), tap(2, last=True)])
    await scene.end_call()
    await scene.later(seconds=15)
    assert await scene.seconds() == [1, 0, 3]
    await scene.later(minutes=121)
    await scene.recorder.keep_house()
    late = metrics.RECORDER_TAPS.labels("late")._value.get()
    await scene.recorder.take([tap(0), tap(1)])
    await scene.later(minutes=5)
    assert await scene.seconds() == [1, 0, 3]
    assert len(await scene.told("recording.stored.v1")) == 1
    assert await scene.segments() == []
    assert metrics.RECORDER_TAPS.labels("late")._value.get() == late + 2


async def test_after_an_outage_in_the_middle_of_a_call_the_whole_call_is_recorded(scene: Scene) -> None:
    """The first half was taken long ago; when the recorder is back, the call has ended and the rest is still on Kafka."""
    await scene.recorder.take([tap(0), tap(1)])
    scene.now += timedelta(minutes=50)
    scene.restart()
    await scene.end_call()
    await scene.later(seconds=15)
    assert await scene.seconds() == [1, 2]
    await scene.recorder.keep_house()
    await scene.later(minutes=20)
    await scene.recorder.keep_house()
    await scene.recorder.take([tap(2, last=True)])
    await scene.later(seconds=15)
    assert await scene.seconds() == [1, 2, 3]


async def test_a_segment_that_somebody_deleted_is_a_gap(scene: Scene) -> None:
    await scene.recorder.take([tap(0)])
    (gone,) = await scene.segments()
    await scene.recorder.take([tap(1, last=True)])
    await scene.storage.delete(gone)
    await scene.end_call()
    await scene.later(seconds=15)
    assert await scene.seconds() == [0, 2]
    (told,) = await scene.told("recording.stored.v1")
    assert told["gaps_ms"] == [[0, 1000]]


async def test_a_recording_is_deleted_when_its_time_is_over_also_after_a_restart(scene: Scene) -> None:
    await scene.recorder.take([tap(0, last=True)])
    await scene.end_call()
    await scene.later(seconds=5)
    scene.restart()
    await scene.later(days=29)
    await scene.recorder.keep_house()
    assert await scene.storage.size(KEY)
    await scene.later(days=2)
    await scene.recorder.keep_house()
    await scene.recorder.keep_house()
    for key in (KEY, manifest_key(KEY)):
        with pytest.raises(NotStored):
            await scene.storage.size(key)
    (told,) = await scene.told("recording.deleted.v1")
    assert told["key"] == KEY


async def test_a_file_that_a_new_database_does_not_know_is_deleted_in_time_too(scene: Scene) -> None:
    await scene.storage.put(KEY, b"RIFF")
    assert await scene.recorder.adopt() == 1
    assert await scene.recorder.adopt() == 0
    scene.now = datetime.now(UTC) + timedelta(days=31)
    await scene.recorder.keep_house()
    with pytest.raises(NotStored):
        await scene.storage.size(KEY)


@pytest.mark.parametrize(
    "wrong",
    [
        tap(0, caller=base64.b64encode(b"short").decode()),
        tap(0, caller="*" * 20),
        tap(0, started_at=datetime(2020, 1, 1, tzinfo=UTC)),
        tap(0, offset_ms=10**9),
    ],
    ids=["length", "base64", "time", "offset"],
)
async def test_what_can_be_no_audio_of_a_call_goes_to_the_dead_letters(
    scene: Scene, wrong: Event[AudioTap]
) -> None:
    with pytest.raises(PoisonError):
        await scene.recorder.take([tap(0), wrong])
