"""What a page says about a configuration's credentials: what the provider said to them, and what to do. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from number_sync.pages.sync_view import Kind
from number_sync.verification import Verification

_STATES: Final[Mapping[str, tuple[Kind, str]]] = {
    "verified": ("good", "The provider accepts these credentials."),
    "refused": ("bad", "The provider refuses these credentials. Edit them, then test again."),
    "not-verified": ("warning", "The provider has not been asked yet. Test the credentials."),
}


@dataclass(frozen=True, slots=True)
class VerificationView:
    """`kind` is how the box with the sentence looks. `at`: when the provider was last asked, ms since 1970; None: never."""

    state: str
    kind: Kind
    sentence: str
    at: int | None


def verification_view(known: Verification) -> VerificationView:
    kind, sentence = _STATES[known.state]
    return VerificationView(known.state, kind, known.sentence or sentence, known.at)
