"""A call's recording for the browser of its owner: the audio in ranges, its waveform, and what the page shows of it."""

import hashlib
import time
from collections.abc import AsyncIterator
from importlib.resources import files
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from call_tracker.recording.ledger import DELETED, STORED, Ledger
from call_tracker.recording.player import LANE, WIDTH, RecordingView, gaps_of, lane_path, spoken
from call_tracker.recording.ranges import ByteRange, UnsatisfiableError, parse_range
from call_tracker.recording.recorder import Manifest, manifest_key
from call_tracker.recording.storage import NotStored, Storage, StorageUnavailable, check_key
from call_tracker.store import Database, Store
from offhook.http import Problem
from offhook.records import CallState
from offhook.web import PageUser, Site

_CHUNK: Final = 256 * 1024
_MANIFESTS: Final = 64
_MANIFEST_S: Final = 10.0
_MAX_MANIFEST: Final = 4 * 1024 * 1024
_ASSETS: Final = {
    "recording.js": "text/javascript; charset=utf-8",
    "recording.css": "text/css; charset=utf-8",
}
_HEADERS: Final = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}


class Recordings:
    """What is kept of calls, for those they belong to."""

    def __init__(self, database: Database, store: Store, storage: Storage) -> None:
        self._ledger = Ledger(database)
        self._store = store
        self._storage = storage
        self._manifests: dict[
            str, tuple[float, Manifest]
        ] = {}  # each with the time until when it is believed
        folder = files("call_tracker.recording") / "assets"
        self._assets = {name: (folder / name).read_bytes() for name in _ASSETS}
        self._version = hashlib.sha256(b"\0".join(self._assets.values())).hexdigest()[:12]

    async def view(self, record: CallState) -> RecordingView | None:
        """What the page of this call shows (macro `recording` of `recording.html`); None: nothing was recorded.

        A storage that does not answer raises a problem: catch `Problem` where the page shall come all the same.
        """
        state, key = await self._find(record)
        if key is None:
            return None
        if state == DELETED:
            return RecordingView("deleted")
        if state != STORED:
            return RecordingView("recording")
        manifest = await self._manifest(key)
        return RecordingView(
            "stored",
            audio_url=f"/calls/{record.workflow_run_id}/recording",
            duration_ms=manifest.duration_ms,
            caller=lane_path(manifest.caller, LANE / 2),
            agent=lane_path(manifest.agent, LANE * 3 / 2),
            bar=round(0.7 * WIDTH / max(1, len(manifest.caller)), 2),
            gaps=gaps_of(manifest),
            delete_after=record.recording.delete_after if record.recording else None,
        )

    def router(self, site: Site) -> APIRouter:
        """`/calls/{run}/recording`, `/calls/{run}/waveform.json` and the player's assets."""
        User = Annotated[PageUser, Depends(site.user)]  # noqa: N806 - a type
        router = APIRouter(include_in_schema=False)
        site.filters.update(
            {
                "spoken": spoken,
                "recording_asset": lambda name: f"/calls/assets/{self._version}/{name}",
            }
        )

        @router.api_route("/calls/{run}/recording", methods=["GET", "HEAD"])
        async def audio(request: Request, run: str, user: User) -> Response:
            return await self._audio(request, run, await self._key(user, run))

        @router.get("/calls/{run}/waveform.json")
        async def waveform(run: str, user: User) -> Response:
            manifest = await self._manifest(await self._key(user, run))
            return Response(msgspec.json.encode(manifest), media_type="application/json", headers=_HEADERS)

        @router.get("/calls/assets/{version}/{name}")
        async def asset(version: str, name: str) -> Response:
            content = self._assets.get(name)
            if content is None:
                raise Problem(404, "There is no such asset.")
            # A page of another release, during a deploy, gets what there is now and does not keep it.
            lasting = "public, max-age=31536000, immutable" if version == self._version else "no-cache"
            headers = {"Cache-Control": lasting, "X-Content-Type-Options": "nosniff"}
            return Response(content, media_type=_ASSETS[name], headers=headers)

        return router

    async def _find(self, record: CallState) -> tuple[str, str | None]:
        found = await self._ledger.find(record.workflow_run_id)
        if found is not None:
            return found
        # The database may have been made anew from the events, which name the file too.
        told = record.recording
        return (STORED, None) if told is None else (STORED, told.key)

    async def _key(self, user: PageUser, run: str) -> str:
        """The key of a stored recording of this user. Somebody else's calls do not exist."""
        record = await self._store.find(user.user_id, run)
        if record is None:
            raise Problem(404, "There is no such call.")
        state, key = await self._find(record)
        if key is None or state == DELETED:
            words = "was deleted when its time was over" if state == DELETED else "was not recorded"
            raise Problem(404, f"This call {words}.")
        if state != STORED:
            raise Problem(404, "The recording is not written yet. Try again when the call is over.")
        return check_key(key)

    async def _manifest(self, key: str) -> Manifest:
        # A page that follows its call asks once a second.
        known = self._manifests.get(key)
        now = time.monotonic()
        if known is not None and now < known[0]:
            return known[1]
        content = await self._ask(manifest_key(key), 0, _MAX_MANIFEST)
        manifest = msgspec.json.decode(content, type=Manifest)
        if len(self._manifests) >= _MANIFESTS:
            self._manifests.clear()
        self._manifests[key] = (now + _MANIFEST_S, manifest)
        return manifest

    async def _audio(self, request: Request, run: str, key: str) -> Response:
        try:
            size = await self._storage.size(key)
        except (NotStored, StorageUnavailable) as error:
            raise _problem(error) from error
        headers = {
            **_HEADERS,
            "Accept-Ranges": "bytes",
            "Content-Disposition": f'inline; filename="{run}.wav"',
        }
        try:
            wanted = parse_range(request.headers.get("range"), size)
        except UnsatisfiableError:
            headers["Content-Range"] = f"bytes */{size}"
            return Response(status_code=416, headers=headers)
        if wanted is not None:
            headers["Content-Range"] = wanted.content_range
        part = wanted or ByteRange(0, size, size)
        headers["Content-Length"] = str(part.end - part.start)
        status = 200 if wanted is None else 206
        if request.method == "HEAD":
            return Response(status_code=status, headers=headers, media_type="audio/wav")
        # The first piece before the answer: what fails then can still be said.
        first = await self._ask(key, part.start, min(_CHUNK, part.end - part.start))
        return StreamingResponse(
            self._pieces(key, part, first), status, headers=headers, media_type="audio/wav"
        )

    async def _pieces(self, key: str, part: ByteRange, first: bytes) -> AsyncIterator[bytes]:
        yield first
        for start in range(part.start + _CHUNK, part.end, _CHUNK):
            yield await self._storage.read(key, start, min(_CHUNK, part.end - start))

    async def _ask(self, key: str, start: int, size: int) -> bytes:
        try:
            return await self._storage.read(key, start, size)
        except (NotStored, StorageUnavailable) as error:
            raise _problem(error) from error


def _problem(error: NotStored | StorageUnavailable) -> Problem:
    if isinstance(error, NotStored):
        return Problem(404, "The recording is not in the storage any more: somebody deleted it there.")
    return Problem(503, "The storage of the recordings does not answer. Try again in a moment.")
