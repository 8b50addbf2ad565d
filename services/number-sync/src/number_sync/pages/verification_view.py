"""What a page says about a configuration's credentials: a badge, and what the provider said to them. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from number_sync.pages.sync_view import Tone

_STATES: Final[Mapping[str, tuple[str, Tone, str]]] = {
    "verified": ("Verified", "good", "The provider accepts these credentials."),
    "refused": ("Refused", "bad", "The provider refuses these credentials. Edit them, then test again."),
    "not-verified": ("Not verified", "warning", "The provider has not been asked yet. Test the credentials."),
}


@dataclass(frozen=True, slots=True)
class VerificationView:
    """`at`: when the provider was last asked, ms since 1970; None: never."""

    state: str
    word: str
    tone: Tone
    sentence: str
    at: int | None


def verification_view(configuration: Any) -> VerificationView:
    """`configuration` is a row of `configurations`."""
    state = configuration.verification
    word, tone, sentence = _STATES.get(state, _STATES["not-verified"])
    return VerificationView(
        state, word, tone, configuration.verification_text or sentence, configuration.verified_at
    )
