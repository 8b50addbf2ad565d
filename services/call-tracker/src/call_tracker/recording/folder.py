"""Recordings in a folder of this machine, or on a volume."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from call_tracker.recording.storage import NotStored, StorageUnavailable, check_key

T = TypeVar("T")

_UNFINISHED: Final = ".unfinished-"


class FolderStorage:
    """Implements `Storage`. Files are the owner's alone (0600); one is there whole, or not at all."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    async def put(self, key: str, content: bytes) -> None:
        await self._on_disk(lambda path: self._write(path, lambda file: file.write(content)), key)

    async def put_file(self, key: str, file: Path) -> None:
        def copy(target: BinaryIO) -> None:
            with file.open("rb") as source:
                shutil.copyfileobj(source, target, 1024 * 1024)

        await self._on_disk(lambda path: self._write(path, copy), key)

    async def read(self, key: str, start: int, size: int) -> bytes:
        def read(path: Path) -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(size)

        return await self._on_disk(read, key)

    async def size(self, key: str) -> int:
        return await self._on_disk(lambda path: path.stat().st_size, key)

    async def delete(self, key: str) -> None:
        with suppress(NotStored):
            await self._on_disk(self._remove, key)

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        for key, modified in await self._on_disk(self._list, prefix):
            yield key, datetime.fromtimestamp(modified, UTC)

    async def _on_disk(self, work: Callable[[Path], T], key: str) -> T:
        path = self._root / check_key(key)
        try:
            return await asyncio.to_thread(work, path)
        except FileNotFoundError as error:
            raise NotStored(f"there is no {key} in {self._root}") from error
        except OSError as error:
            raise StorageUnavailable(f"{self._root} cannot be used: {error.strerror or error}") from error

    def _write(self, path: Path, fill: Callable[[BinaryIO], object]) -> None:
        self._make(path.parent)
        # mkstemp makes it 0600.
        descriptor, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync(path.parent)

    def _make(self, folder: Path) -> None:
        """A folder and those above it, each durable in the one above."""
        if folder.is_dir():
            return
        if folder.parent != folder:
            self._make(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync(folder.parent)

    def _remove(self, path: Path) -> None:
        path.unlink()
        _sync(path.parent)
        # Days without recordings leave no empty folders.
        folder = path.parent
        with suppress(OSError):
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _list(self, folder: Path) -> list[tuple[str, float]]:
        found = []
        for path in folder.rglob("*"):
            with suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith(_UNFINISHED):
                    found.append((path.relative_to(self._root).as_posix(), path.stat().st_mtime))
        return sorted(found)


def _sync(folder: Path) -> None:
    """Make a folder's entries durable, not only its files' contents."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
