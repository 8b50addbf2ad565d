"""Keeps secrets and phone numbers out of what is written down.

Two nets. By name: the value of a field called `auth_token` is a secret whatever it looks like (a Twilio auth
token looks like any id). By shape: keys, bearer tokens, JWTs and URL passwords are found inside any text, and
so are phone numbers: with a plus, and without one (Vonage sends them so) where 10 to 15 digits stand alone.
Shorter runs of digits are masked where the field's name says that it is a number. SIP addresses go as a whole.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import SecretBytes, SecretStr

REDACTED: Final = "[redacted]"
_MASK: Final = "•••"
_MAX_TEXT: Final = 8192
_MAX_DEPTH: Final = 6
_MAX_ITEMS: Final = 100

_SECRET_NAMES: Final = frozenset(
    {
        "api_keys", "apikey", "authorization", "cookie", "cookies", "credential", "credentials", "jwt",
        "keyring", "passphrase", "passwd", "password", "pwd", "secret", "secrets", "signature", "token",
        "token_key",
    }
)  # fmt: skip
_SECRET_TAILS: Final = ("api_key", "private_key", "secret_key", "signing_key", "auth_token")
_NUMBER_NAMES: Final = frozenset(
    {
        "called", "callee", "caller", "caller_id", "e164", "forwarded_from", "from", "from_number", "msisdn",
        "number", "phone", "phone_number", "to", "to_number",
    }
)  # fmt: skip

_TIME_TAILS: Final = ("_s", "_ms", "_us", "_ns")

# Bounded or possessive where a pattern could begin at every word of a long text: time is linear, or nearly so.
_SECRET_SHAPES: Final = (
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.S),
        REDACTED,
    ),
    (re.compile(r"\beyJ[\w-]{5,}+\.[\w-]{5,}+\.[\w-]*+"), REDACTED),
    (re.compile(r"\bohk_[\w-]{20,}"), REDACTED),
    (re.compile(r"\bm1\.[\w-]{1,64}\.\d{1,12}\.[\w-]+\.[\w-]+\.[\w-]+"), REDACTED),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"), rf"\1 {REDACTED}"),
    (re.compile(r"(?i)(\b[a-z][a-z0-9+.-]{0,30}://)[^\s/@:]*:[^\s/@]+@"), rf"\1{REDACTED}@"),
    (
        re.compile(
            r"(?i)\b((?:[a-z0-9_]*(?:auth|access|media)_?)?(?:token|password|passwd|secret|api_?key|api_?secret"
            r"|signature)[\"']?\s*[=:]\s*[\"']?)[^\s\"'&,;]{4,}"
        ),
        rf"\1{REDACTED}",
    ),
)
_PLUS_NUMBER: Final = re.compile(r"(?<![\w+])(\+|%2[Bb])([1-9]\d{6,14})(?!\d)")
# As people write them: +1 (415) 555-1234.
_GROUPED_NUMBER: Final = re.compile(r"(?<![\w+])\+[1-9](?:[ ().-]{0,2}\d){6,14}(?!\d)")
_BARE_NUMBER: Final = re.compile(r"\d{7,15}")
# Alone: a part of an id, of a version or of a decimal fraction is none.
_LONE_NUMBER: Final = re.compile(r"(?<![\w.+-])[1-9]\d{9,14}(?![\w-]|\.\d)")
_SIP_ADDRESS: Final = re.compile(r"(?i)\bsips?:[^\s\"'<>;,)]+")


def mask_number(text: str) -> str:
    """A phone number but for its end: `+14155551234` becomes `+•••1234`; what is no number stays.

    The last four digits show, of a number with fewer than 11 digits the last two.
    """
    sign, digits = ("+", text[1:]) if text.startswith("+") else ("", text)
    if not (digits.isascii() and digits.isdecimal() and 7 <= len(digits) <= 15):
        return text
    tail = 4 if len(digits) >= 11 else 2
    return f"{sign}{_MASK}{digits[-tail:]}"


def mask_numbers(text: str) -> str:
    """`text` with every phone number masked that has a plus or 10 to 15 digits, and without SIP addresses."""
    text = _SIP_ADDRESS.sub(f"sip:{REDACTED}", text)
    text = _PLUS_NUMBER.sub(lambda match: match[1] + mask_number(match[2]), text)
    text = _GROUPED_NUMBER.sub(lambda match: mask_number("+" + re.sub(r"\D", "", match[0])), text)
    return _LONE_NUMBER.sub(lambda match: mask_number(match[0]), text)


def redact_text(text: str, *, numbers: bool = True) -> str:
    """`text` without anything shaped like a secret and, with `numbers`, without whole phone numbers. At most
    8 KiB.
    """
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}… ({len(text)} characters)"
    for shape, replacement in _SECRET_SHAPES:
        text = shape.sub(replacement, text)
    return mask_numbers(text) if numbers else text


def is_secret_name(name: str) -> bool:
    """Whether a field of this name (any case, `-` or `_`, camelCase) holds a secret."""
    snake = _snake(name)
    return (
        snake in _SECRET_NAMES or snake.rpartition("_")[2] in _SECRET_NAMES or snake.endswith(_SECRET_TAILS)
    )


def redact(name: str, value: Any, *, numbers: bool = True, _depth: int = 0) -> Any:
    """The value of the field `name` as it may be written down. Mappings and sequences are gone through."""
    if isinstance(value, SecretStr | SecretBytes):
        return REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if is_secret_name(name):
        return REDACTED
    if isinstance(value, str):
        if numbers and _snake(name) in _NUMBER_NAMES and _BARE_NUMBER.fullmatch(value):
            return mask_number(value)
        if value.isdecimal() and _snake(name).endswith(_TIME_TAILS):
            return value
        return redact_text(value, numbers=numbers)
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} bytes]"
    if _depth >= _MAX_DEPTH:
        return "…"
    if isinstance(value, Mapping):
        some = list(value.items())[:_MAX_ITEMS]
        return {
            redact_text(str(key), numbers=numbers): redact(str(key), item, numbers=numbers, _depth=_depth + 1)
            for key, item in some
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [redact(name, item, numbers=numbers, _depth=_depth + 1) for item in list(value)[:_MAX_ITEMS]]
    return redact_text(str(value), numbers=numbers)


def _snake(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return spaced.replace("-", "_").lower()
