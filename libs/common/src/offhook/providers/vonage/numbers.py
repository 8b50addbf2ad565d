"""Vonage writes phone numbers as digits only; everything else here is E.164 with a plus."""

import re
from typing import Final

# The pattern of the vendor's own libraries: 7 to 15 digits, no leading zero.
_DIGITS: Final = re.compile(r"[1-9]\d{6,14}", re.ASCII)


def to_e164(text: str) -> str:
    """`14155551234` becomes `+14155551234`; what is not a full number (`anonymous`, `unknown`, a URI) stays
    as it is."""
    return f"+{text}" if _DIGITS.fullmatch(text) else text


def from_e164(text: str) -> str:
    """`+14155551234` becomes `14155551234`; what does not start with a plus stays as it is."""
    return text.removeprefix("+")
