"""Where recordings are kept. A key is a path of plain names, such as `2026/11/22/a1b2.wav`; everything else is refused.

StorageError
├── StorageUnavailable    it does not answer, refuses, or is full: try again
└── NotStored             there is no such key
"""

import re
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol

# ruff: noqa: N818 - the names say the state, as callers read them: except NotStored

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)*(\.[a-z0-9]{1,8}){0,2}")
_MAX_KEY: Final = 300


class StorageError(Exception):
    """Base of what a storage raises; a sentence for people."""


class StorageUnavailable(StorageError):
    """It does not answer, refuses, or is full. What was asked may or may not have been done; it can be asked again."""


class NotStored(StorageError):
    """There is no such key."""


class Storage(Protocol):
    """Every method raises `StorageUnavailable`; what returns is durable."""

    async def put(self, key: str, content: bytes) -> None:
        """Store, in place of what was there."""

    async def put_file(self, key: str, file: Path) -> None:
        """Store a file's content, in place of what was there."""

    async def read(self, key: str, start: int, size: int) -> bytes:
        """`size` bytes from `start`, fewer at the end. Raises `NotStored`."""

    async def size(self, key: str) -> int:
        """In bytes. Raises `NotStored`."""

    async def delete(self, key: str) -> None:
        """Afterwards it is not there, whether it was or not."""

    def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Keys under `prefix` (a folder), each with when it was stored."""


def check_key(key: str) -> str:
    """`key`. Raises `ValueError` for what could be anything but a name below the storage's root."""
    if len(key) > _MAX_KEY or _KEY.fullmatch(key) is None:
        raise ValueError(f"{key[:80]!r} is no key of a recording")
    return key
