"""Byte ranges of RFC 9110, section 14, as players ask for them: one range at a time. Pure."""

import re
from dataclasses import dataclass
from typing import Final

_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class UnsatisfiableError(ValueError):
    """The range lies behind the end: 416."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `start` to `end` (not included) of a whole of `size`."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """None: send the whole; so it is for what is no range of bytes, or several (a server may ignore those).

    Raises `UnsatisfiableError`.
    """
    found = _RANGE.fullmatch((header or "").strip())
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        start = int(found[1])
        end = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    else:
        start, end = max(0, size - int(found[2])), size
    if start >= end:
        raise UnsatisfiableError(f"{header} of {size} bytes")
    return ByteRange(start, end, size)
