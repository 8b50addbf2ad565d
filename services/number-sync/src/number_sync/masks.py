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

_BULLETS: Final = re.compile("[•●∙⬤▪·…]")
_STARS: Final = re.compile(r"(?P<head>[^*]{0,12})\*{3,}(?P<tail>[^*]{0,12})")
_ALL_X: Final = re.compile(r"[xX]{4,}")


def mask(secret: str) -> str:
    """What may be shown of a secret: bullets, and the last four characters of a long one-line secret."""
    if len(secret) < _SHORTEST_WITH_TAIL or not secret.isalnum():
        return MASK
    return MASK + secret[-_TAIL:]


def is_mask(text: str, stored: str | None) -> bool:
    """Whether `text` stands for a secret that is not being told.

    Bullets and ellipses are in no credential of any provider. Asterisks and x's may be: they count as a mask only
    when what they leave visible fits the stored secret.
    """
    if _BULLETS.search(text):
        return True
    if stored is not None and text == stored:
        return False
    if _ALL_X.fullmatch(text):
        return True
    match = _STARS.fullmatch(text)
    if match is None:
        return False
    if not match["head"] and not match["tail"]:
        return True
    return stored is not None and stored.startswith(match["head"]) and stored.endswith(match["tail"])
