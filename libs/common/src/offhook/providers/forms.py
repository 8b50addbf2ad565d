"""Form bodies and query strings, as bytes: what a provider signed, before anybody interprets it.

The same result as `urllib.parse.parse_qsl(..., keep_blank_values=True)`, several times faster, and bounded.
Empty values stay: providers sign them (Twilio sends about ten of them with every call).
"""

from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

MAX_FIELDS: Final = 500


class FormError(ValueError):
    """A form has more than `MAX_FIELDS` fields."""


def parse_form(data: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of `application/x-www-form-urlencoded` data, decoded, in order. Raises `FormError`."""
    return list(_parse(data))


# A webhook's form is read three times on its way: for the account, for the signature, for what it says.
@lru_cache(maxsize=8)
def _parse(data: bytes) -> tuple[tuple[bytes, bytes], ...]:
    if data.count(b"&") >= MAX_FIELDS:
        raise FormError(f"a form of more than {MAX_FIELDS} fields")
    # Most escapes are the plus of phone numbers. A plus is no hexadecimal digit and no delimiter, so replacing it
    # in the whole body can neither make a new escape nor move a field's border.
    data = data.replace(b"+", b" ").replace(b"%2B", b"+")
    pairs = [
        (name, value)
        for part in data.split(b"&")
        for name, equals, value in (part.partition(b"="),)
        if name or equals
    ]
    if b"%" in data:
        pairs = [
            (
                unquote_to_bytes(name) if b"%" in name else name,
                unquote_to_bytes(value) if b"%" in value else value,
            )
            for name, value in pairs
        ]
    return tuple(pairs)


def first_values(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Field to its first value, as text; broken UTF-8 becomes U+FFFD."""
    return {
        name.decode("utf-8", "replace"): value.decode("utf-8", "replace") for name, value in reversed(pairs)
    }
