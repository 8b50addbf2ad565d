"""A recording as its owner meets it: over HTTP in ranges, and in a real browser."""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from events_of_calls import NOON, SESSION_KEY, Call
from fastapi import Depends, FastAPI
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from call_tracker.pages import TEMPLATES
from call_tracker.recording.folder import FolderStorage
from call_tracker.recording.ledger import Ledger
from call_tracker.recording.recorder import Patience, Recorder
from call_tracker.recording.serving import Recordings
from call_tracker.store import Database, Store
from offhook.audio import tone
from offhook.audio.g711 import pcm16_to_mulaw
from offhook.bus.testing import memory_bus
from offhook.events import AudioTap, new_event
from offhook.http import create_app, serve
from offhook.records import ApiKeyRecord
from offhook.security.api_keys import ApiKeys, setting_entry
from offhook.security.sessions import Sessions
from offhook.settings import ServiceSettings, read_settings
from offhook.topics import API_KEYS
from offhook.web import PageUser, Site
from offhook_dev.chromium import launched

SILENT = bytes([0xFF]) * 8000
LOUD = pcm16_to_mulaw(tone.sine(440, 1000, 8000, level_dbfs=-6, fade_ms=0))
OWNER = {"Authorization": "Bearer key-1"}


class Settings(ServiceSettings):
    SECRETS = frozenset()


def tap(index: int, caller: bytes, agent: bytes, last: bool = False) -> Any:
    data = AudioTap(
        workflow_run_id="run-1",
        epoch=1,
        stream_id="s1",
        index=index,
        offset_ms=index * 1000,
        duration_ms=1000,
        started_at=NOON,
        encoding="mulaw",
        sample_rate=8000,
        caller=base64.b64encode(caller).decode(),
        agent=base64.b64encode(agent).decode(),
        last=last,
    )
    return new_event(data, source="/media-bridge/b1", time=NOON, subject="run-1")


@dataclass
class Served:
    origin: str
    recorder: Recorder
    client: httpx.AsyncClient


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    """A call of four seconds, the third one missing: the caller speaks in the first, the agent in the last."""
    database = Database(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    await database.migrate()
    now = NOON + timedelta(minutes=1)
    store = Store(database, lambda: now)
    storage = FolderStorage(tmp_path / "recordings")
    recorder = Recorder(
        Ledger(database),
        storage,
        tmp_path / "making",
        keep=timedelta(days=30),
        clock=lambda: now,
        patience=Patience(gather_s=0),
    )
    call = Call()
    await store.apply([call.requested(), call.status("completed")])
    await recorder.take([tap(0, LOUD, SILENT), tap(1, SILENT, SILENT), tap(3, SILENT, LOUD, last=True)])
    now += timedelta(seconds=30)
    assert await recorder.close_due() == 1

    templates = tmp_path / "templates"
    shutil.copytree(TEMPLATES, templates)
    (templates / "page.html").write_text(
        '{% extends "base.html" %}{% from "recording.html" import recording %}'
        "{% block content %}{{ recording(view) }}{% endblock %}"
    )
    async with memory_bus() as bus:
        api_keys = ApiKeys(
            SecretStr(f"{setting_entry('user-1', 'key-1')},{setting_entry('user-2', 'key-2')}"),
            bus.directory(API_KEYS, ApiKeyRecord),
        )
        site = Site(
            api_keys=api_keys,
            sessions=Sessions(SecretStr(SESSION_KEY), api_keys),
            templates=templates,
        )
        recordings = Recordings(database, store, storage)
        app: FastAPI = create_app("call-tracker")
        app.include_router(recordings.router(site))

        @app.get("/page")
        async def page_of_the_call(
            request: Request, user: Annotated[PageUser, Depends(site.user)]
        ) -> Response:
            record = await store.find(user.user_id, "run-1")
            assert record is not None
            return site.render(request, "page.html", user, view=await recordings.view(record))

        site.install(app)
        stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
        settings = read_settings(Settings, listen_port=0, state_dir=tmp_path)
        serving = asyncio.create_task(serve(app, settings, stop=stop, on_listening=port.set_result))
        origin = f"http://127.0.0.1:{await port}"
        async with httpx.AsyncClient(base_url=origin, headers=OWNER, trust_env=False) as client:
            yield Served(origin, recorder, client)
        stop.set()
        await serving
    await database.close()


@pytest.fixture
async def browser(chromium: Path) -> AsyncIterator[Any]:
    async with launched() as found:
        yield found


async def until(audio: Any, condition: str) -> None:
    """Wait until `condition` is true of the audio element. Not by Playwright's own waiting: the page allows no eval."""
    async with asyncio.timeout(15):
        while not await audio.evaluate(f"audio => {condition}"):
            await asyncio.sleep(0.05)


async def test_audio_is_sent_whole_and_in_ranges(served: Served) -> None:
    path = "/calls/run-1/recording"
    whole = await served.client.get(path)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/wav")
    assert len(whole.content) == int(whole.headers["content-length"]) == 64_000 + 58
    part = await served.client.get(path, headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, whole.content[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(whole.content)}"
    behind = await served.client.get(path, headers={"Range": "bytes=99999999-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{len(whole.content)}")
    head = await served.client.head(path)
    assert (head.content, head.headers["content-length"]) == (b"", whole.headers["content-length"])


async def test_recordings_of_others_do_not_exist(served: Served) -> None:
    for path in ("/calls/run-1/recording", "/calls/run-1/waveform.json"):
        stranger = await served.client.get(path, headers={"Authorization": "Bearer key-2"})
        assert stranger.status_code == 404
        assert (await served.client.get(path, headers={"Authorization": "Bearer wrong"})).status_code == 401
        assert (await served.client.get(path.replace("run-1", "..%2F..%2Fetc"))).status_code == 404


async def test_the_waveform_tells_levels_and_gaps(served: Served) -> None:
    shape = (await served.client.get("/calls/run-1/waveform.json")).json()
    assert (shape["duration_ms"], shape["gaps_ms"]) == (4000, [[2000, 3000]])
    each = 1000 // shape["bucket_ms"]
    assert min(shape["caller"][:each]) > 40 > 1 > max(shape["caller"][each:])
    assert min(shape["agent"][3 * each :]) > 40 > 1 > max(shape["agent"][: 3 * each])


@pytest.mark.real
async def test_a_person_sees_the_gap_hears_the_call_and_seeks_by_clicking(
    served: Served, browser: Any
) -> None:
    context = await browser.new_context(extra_http_headers=OWNER)
    page = await context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    await page.goto(f"{served.origin}/page")
    assert await page.locator(".recording-wave .gap").count() == 1
    audio = page.locator("audio")
    await until(audio, "audio.readyState >= 1")
    assert await audio.evaluate("audio => audio.duration") == 4
    await page.locator("[data-recording-wave]").click(position={"x": 200, "y": 40})
    width = (await page.locator("[data-recording-wave]").bounding_box())["width"]
    await until(audio, "audio.currentTime > 0")
    assert await audio.evaluate("audio => audio.currentTime") >= 200 / width * 4 - 0.01
    await page.get_by_role("button", name="Agent alone").click()
    assert await page.get_by_role("button", name="Agent alone").get_attribute("aria-pressed") == "true"
    assert await page.get_by_role("button", name="Both").get_attribute("aria-pressed") == "false"
    await until(audio, "audio.ended || audio.currentTime > 1.2")
    assert said == []
    await context.close()


@pytest.mark.real
async def test_without_script_the_recording_is_plain_audio(served: Served, browser: Any) -> None:
    context = await browser.new_context(extra_http_headers=OWNER, java_script_enabled=False)
    page = await context.new_page()
    await page.goto(f"{served.origin}/page")
    assert await page.locator("audio[controls]").is_visible()
    assert not await page.get_by_role("button", name="Agent alone").is_visible()
    await context.close()
