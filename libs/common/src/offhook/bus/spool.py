"""A queue of byte strings on disk that survives `kill -9` and power loss. Synchronous, for one process, no
clock.

A directory of segments `0000000001.spool`, read from the oldest. A segment is a magic word and records:

    length (4 bytes, little endian) ‖ CRC-32 of the payload (4 bytes) ‖ payload

`append` returns when the records are on the disk (fsync). A process may die in the middle of a write, so the
newest segment may end in a torn record; it was never acknowledged and `open` cuts it off. The file `cursor`
remembers how far the oldest segment has been read; when it is lost, that segment is read again from its
beginning. Segments of a lower number than the cursor's have been read, so a number is never given twice, also
after the spool was empty and its process ended.
"""

import fcntl
import logging
import os
import struct
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Final

log = logging.getLogger(__name__)

_MAGIC: Final = b"offhook\x01"
_HEAD: Final = struct.Struct("<II")
_LARGEST_RECORD: Final = 16 * 1024 * 1024
_SUFFIX: Final = ".spool"


class SpoolFull(Exception):  # noqa: N818
    """The records would exceed the limit in bytes; nothing of them was written."""


class SpoolInUse(Exception):  # noqa: N818
    """Another process has this directory open."""


@dataclass(slots=True)
class _Segment:
    number: int
    path: Path
    size: int
    records: int


class Spool:
    """See the module. Not thread-safe: call it from one thread at a time."""

    def __init__(self, directory: Path, *, max_bytes: int, segment_bytes: int = 4 * 1024 * 1024) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(1, max_bytes // 8))
        self._segments: deque[_Segment] = deque()
        self._writer: FileIO | None = None
        self._read_at = len(_MAGIC)
        self._read_records = 0  # of the oldest segment
        self._next_number = 1
        self._lock: BinaryIO | None = None
        # Kept as plain numbers, so that another thread may look at them.
        self.count = 0
        """Records not yet advanced over."""
        self.size = 0
        """Bytes on the disk; the read part of the oldest segment counts until all of it is read."""

    def open(self) -> None:
        """Take the directory and find what an earlier process left. Raises `SpoolInUse`, `OSError`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        lock = (self._directory / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise SpoolInUse(f"{self._directory} is used by another process") from error
        self._lock = lock
        paths = sorted(self._directory.glob("*" + _SUFFIX))
        for path in paths:
            self._segments.append(self._recover(path, newest=path == paths[-1]))
        if self._segments:
            self._next_number = self._segments[-1].number + 1
        self._restore_cursor()
        self._drop_read_segments()
        self.count = sum(segment.records for segment in self._segments) - self._read_records
        self.size = sum(segment.size for segment in self._segments)

    def append(self, payloads: Sequence[bytes]) -> None:
        """Add records, all or none, and wait for the disk. Raises `SpoolFull`, `OSError`."""
        block = b"".join(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload for payload in payloads)
        if self.size + len(block) + len(_MAGIC) > self._max_bytes:
            raise SpoolFull(f"{self._directory} has reached {self._max_bytes} bytes")
        if self._writer is not None and self._segments[-1].size >= self._segment_bytes:
            self._close_writer()
        if self._writer is None:
            self._new_segment()
        assert self._writer is not None
        segment = self._segments[-1]
        try:
            _write_all(self._writer, block)
            os.fsync(self._writer.fileno())
        except OSError:
            # Whether and what the disk holds of it is unknown: cut it off, and never append behind it.
            self._abandon_write(segment)
            raise
        segment.size += len(block)
        segment.records += len(payloads)
        self.size += len(block)
        self.count += len(payloads)

    def peek(self, limit: int) -> list[bytes]:
        """Up to `limit` of the oldest records, of one segment; they stay until `advance`. A segment whose next
        record is damaged is set aside, as `open` does."""
        found: list[bytes] = []
        while self._segments and not found:
            segment = self._segments[0]
            for payload, _ in _scan(segment.path, self._read_at, segment.size):
                found.append(payload)
                if len(found) == limit:
                    break
            if not found:
                self._set_aside(segment)
        return found

    def advance(self, records: int) -> None:
        """Forget the `records` oldest records, which `peek` has given."""
        if records == 0:
            return
        segment = self._segments[0]
        for _, end in _scan(segment.path, self._read_at, segment.size):
            self._read_at = end
            self._read_records += 1
            self.count -= 1
            records -= 1
            if records == 0:
                break
        self._drop_read_segments()
        self._save_cursor()

    def close(self) -> None:
        if self._writer is not None:
            self._close_writer()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _set_aside(self, segment: _Segment) -> None:
        unread = segment.records - self._read_records
        log.error(
            "%s is damaged behind byte %s: %s records cannot be read", segment.path, self._read_at, unread
        )
        if len(self._segments) == 1 and self._writer is not None:
            self._close_writer()
        self._segments.popleft()
        segment.path.rename(segment.path.with_suffix(".damaged"))
        self.count -= unread
        self.size -= segment.size
        self._read_at, self._read_records = len(_MAGIC), 0
        self._save_cursor()

    def _recover(self, path: Path, *, newest: bool) -> _Segment:
        size = path.stat().st_size
        good = min(size, len(_MAGIC))
        records = 0
        with path.open("rb") as file:
            known = file.read(len(_MAGIC)) == _MAGIC
        if known:
            for _, end in _scan(path, len(_MAGIC), size):
                good = end
                records += 1
        if good < size:
            if newest:
                log.warning("%s ends in a torn record: %s bytes cut off", path, size - good)
                os.truncate(path, good)
            else:
                log.error("%s is damaged behind byte %s: %s bytes cannot be read", path, good, size - good)
                damaged = path.with_suffix(".damaged")
                damaged.write_bytes(path.read_bytes())
                os.truncate(path, good)
        return _Segment(int(path.stem), path, good, records)

    def _restore_cursor(self) -> None:
        try:
            number, offset, records = (int(word) for word in self._cursor.read_text().split())
        except (FileNotFoundError, ValueError):
            return
        self._next_number = max(self._next_number, number)
        while self._segments and self._segments[0].number < number:
            self._segments.popleft().path.unlink()
        if not self._segments or self._segments[0].number != number:
            return
        boundaries = [end for _, end in _scan(self._segments[0].path, len(_MAGIC), self._segments[0].size)]
        if 0 < records <= len(boundaries) and boundaries[records - 1] == offset:
            self._read_at, self._read_records = offset, records

    def _save_cursor(self) -> None:
        number = self._segments[0].number if self._segments else self._next_number
        temporary = self._directory / "cursor.new"
        temporary.write_text(f"{number} {self._read_at} {self._read_records}")
        temporary.replace(self._cursor)

    @property
    def _cursor(self) -> Path:
        return self._directory / "cursor"

    def _drop_read_segments(self) -> None:
        while self._segments and self._read_records >= self._segments[0].records:
            if len(self._segments) == 1 and self._writer is not None:
                self._close_writer()
            segment = self._segments.popleft()
            segment.path.unlink()
            self.size -= segment.size
            self._read_at, self._read_records = len(_MAGIC), 0

    def _new_segment(self) -> None:
        path = self._directory / f"{self._next_number:010d}{_SUFFIX}"
        writer = path.open("xb", buffering=0)
        try:
            _write_all(writer, _MAGIC)
            directory = os.open(self._directory, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError:
            writer.close()
            path.unlink(missing_ok=True)
            raise
        self._writer = writer
        self._segments.append(_Segment(self._next_number, path, len(_MAGIC), 0))
        self.size += len(_MAGIC)
        self._next_number += 1

    def _abandon_write(self, segment: _Segment) -> None:
        self._close_writer()
        try:
            os.truncate(segment.path, segment.size)
        except OSError:
            log.exception("%s could not be cut back after a failed write", segment.path)
        if segment.records == 0:
            self._segments.pop()
            self.size -= segment.size
            segment.path.unlink(missing_ok=True)

    def _close_writer(self) -> None:
        assert self._writer is not None
        self._writer.close()
        self._writer = None


def _write_all(file: FileIO, block: bytes) -> None:
    """A raw write may take only a part, for instance when the disk fills up in the middle."""
    rest = memoryview(block)
    while rest:
        rest = rest[file.write(rest) :]


def _scan(path: Path, start: int, end: int) -> Iterator[tuple[bytes, int]]:
    """The payloads between two offsets with the offset behind each; stops before the first that is not whole."""
    with path.open("rb") as file:
        file.seek(start)
        at = start
        while at + _HEAD.size <= end:
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                return
            length, checksum = _HEAD.unpack(head)
            if length > _LARGEST_RECORD or at + _HEAD.size + length > end:
                return
            payload = file.read(length)
            if len(payload) < length or zlib.crc32(payload) != checksum:
                return
            at += _HEAD.size + length
            yield payload, at
