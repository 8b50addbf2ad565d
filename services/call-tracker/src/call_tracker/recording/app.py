"""The recorder's process: `python -m call_tracker record`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, ClassVar, Final

from fastapi import FastAPI
from pydantic import Field

from call_tracker.recording.ledger import Ledger
from call_tracker.recording.recorder import Patience, Recorder
from call_tracker.settings import TrackerSettings
from call_tracker.store import Database
from call_tracker.store.store import Clock
from offhook.bus import Bus
from offhook.database import until_prepared
from offhook.http import Readiness, create_app
from offhook.tasks import EndlessTasks
from offhook.topics import MEDIA_TAPS

SERVICE: Final = "recorder"


class RecorderSettings(TrackerSettings):
    """call-tracker's database and storage, and how recordings are made and kept."""

    SECRETS: ClassVar[frozenset[str]] = frozenset()

    listen_port: int = Field(
        8083, ge=0, le=65535, description="the port of health and metrics; 0 takes a free one"
    )
    recordings_keep_days: Annotated[float, Field(gt=0, le=3650)] = Field(
        30.0, description="days after which a recording is deleted"
    )
    recordings_gather_s: Annotated[float, Field(ge=0, le=30)] = Field(
        1.0,
        description="at most one segment of audio is stored in that time; longer means fewer, larger ones",
    )
    recordings_silence_s: Annotated[float, Field(ge=5, le=3600)] = Field(
        120.0, description="after so long without audio a recording is closed although its call has not ended"
    )
    recordings_settle_s: Annotated[float, Field(ge=0, le=172800)] = Field(
        7200.0,
        description="how long the pieces of a closed recording are kept for audio that comes late; longer than audio is kept"
        " on Kafka",
    )


def build(settings: RecorderSettings, bus: Bus, clock: Clock) -> FastAPI:
    """Health and metrics; the lifespan starts and stops everything, `bus` included."""
    database = Database(settings.database)
    recorder = Recorder(
        Ledger(database),
        settings.recordings(),
        settings.state_dir / "recordings-in-the-making",
        keep=timedelta(days=settings.recordings_keep_days),
        clock=clock,
        patience=Patience(
            settings.recordings_gather_s, settings.recordings_silence_s, settings.recordings_settle_s
        ),
    )
    bus.consume(
        MEDIA_TAPS,
        group=SERVICE,
        handler=recorder.take,
        batch_size=2000,
        longest_retry_s=5.0,  # a storage that is back is caught up with before the topic forgets
        session_timeout_s=6.0,
    )
    endless = EndlessTasks()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        readiness: Readiness = app.state.readiness
        await until_prepared(database, migrate=settings.auto_prepare, waiting=readiness.wait_for)
        try:
            await bus.start()
            endless.start(recorder.run(), "recorder")
            yield
        finally:
            await endless.stop()
            await bus.stop()
            await database.close()

    bus.add_check(recorder.problems)
    return create_app(SERVICE, bus, endless=endless, lifespan=lifespan, docs_url=None, openapi_url=None)
