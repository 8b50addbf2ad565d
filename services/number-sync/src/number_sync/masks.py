"""Masks: how a secret is shown, and how a shown secret is told from a new one when it comes back.

A form that was loaded with masks and saved again must not turn a mask into the secret. The mask that comes back may
be ours or another client's, so anything that cannot be a new value is taken for a mask.
"""

import re
from typing import Final

MASK: Final = "••••••••"
_TAIL: Final = 4
# Secrets shorter than this would give too much of themselves away with their last characters.
_SHORTEST_WITH_TAIL: Final = 16
# Beside a run of a character that may stand in a secret, on either side.
_MOST_VISIBLE: Final = 16

_BULLETS: Final = re.compile("[•●∙⬤▪·…]")
_WORDS: Final = re.compile(
    r"[\[<(]\s*(redacted|hidden|masked|secret|filtered|removed|encrypted)\s*[\]>)]|redacted", re.IGNORECASE
)
_RUN: Final = re.compile(r"([*xX#._])\1{2,}")
_ONLY: Final = re.compile(r"\*{2,}|([xX#._-])\1{2,}")
# With so little visible beside so many of one character nobody has chosen it for a secret.
_LITTLE_VISIBLE: Final = re.compile(r".{0,12}?(([*xX#])\2{3,}|\.{3,}).{0,12}|[^*]{0,64}\*{8,}[^*]{0,64}")


class MaskError(ValueError):
    """The text is a mask, and of nothing that is stored. Its words are for people."""


def mask(secret: str) -> str:
    """What may be shown of a secret: bullets, and the last four characters of a long one-line secret."""
    if len(secret) < _SHORTEST_WITH_TAIL or not secret.isalnum():
        return MASK
    return MASK + secret[-_TAIL:]


def keeps(text: str, stored: str | None) -> bool:
    """Whether `text` is a mask of the stored secret, which then stays. False: it is a new one. Raises `MaskError`."""
    if text == stored:
        return True
    if _is_mask(text, stored):
        if stored is None:
            raise MaskError("this is a mask, and no value is stored: give the value")
        return True
    if _BULLETS.search(text) or _LITTLE_VISIBLE.fullmatch(text):
        raise MaskError("this looks like a mask of another value than the stored one: give the value")
    return False


def _is_mask(text: str, stored: str | None) -> bool:
    """Bracketed words, and nothing but one character, stand for any secret. Beside what bullets, an ellipsis or a run of one
    character leave visible they count as a mask only when that fits the stored secret."""
    if _WORDS.fullmatch(text) or _ONLY.fullmatch(text) or not _BULLETS.sub("", text):
        return True
    if bullets := list(_BULLETS.finditer(text)):
        return _fits(text[: bullets[0].start()], text[bullets[-1].end() :], stored)
    around = [(text[: run.start()], text[run.end() :]) for run in _RUN.finditer(text)]
    # Where more is visible than that, it is a value with a run in it, such as a private key.
    return any(
        max(len(head), len(tail)) <= _MOST_VISIBLE and _fits(head, tail, stored) for head, tail in around
    )


def _fits(head: str, tail: str, stored: str | None) -> bool:
    """The answer gives away what is compared, to whoever tries one mask after the other: that is at most the first and
    the last four characters, and nothing of a short secret."""
    return (
        stored is not None
        and len(stored) >= _SHORTEST_WITH_TAIL
        and len(head) + len(tail) < len(stored)
        and stored.startswith(head[:_TAIL])
        and stored.endswith(tail[-_TAIL:])
    )
