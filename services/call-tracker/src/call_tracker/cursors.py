"""Places in lists, newest first, as clients are given them: behind the entry of this time and id."""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from offhook.http import Problem

_TEXT: Final = re.compile(r"(\d{1,19}):([\x21-\x7e]{1,200})")


@dataclass(frozen=True, slots=True)
class Place:
    """Behind the entry of this time (microseconds since 1970) and id."""

    at_us: int
    id: str


def cursor(place: Place | None) -> str | None:
    """The place as opaque text."""
    if place is None:
        return None
    return base64.urlsafe_b64encode(f"{place.at_us}:{place.id}".encode()).decode()


def place_of(text: str | None) -> Place | None:
    """Read it back. Raises a problem: 422."""
    if not text:
        return None
    try:
        found = _TEXT.fullmatch(base64.urlsafe_b64decode(text.encode("ascii")).decode("ascii"))
    except (UnicodeError, binascii.Error):
        found = None
    if found is None or int(found[1]) >= 2**63:
        detail = "This cursor was not given by this API: start again without it."
        raise Problem(422, detail, reason="bad-cursor")
    return Place(int(found[1]), found[2])
