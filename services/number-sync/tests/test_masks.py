"""Masks hide secrets, and are not taken for new ones when they come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from number_sync.masks import MASK, is_mask, mask

SECRET = "0123456789abcdef0123456789abcdef"


@given(secret=st.text(min_size=1, max_size=200))
def test_a_mask_shows_at_most_the_last_four_characters(secret: str) -> None:
    shown = mask(secret)
    assert shown.startswith(MASK)
    assert len(shown) <= len(MASK) + 4
    assert shown[len(MASK) :] in ("", secret[-4:])


@given(secret=st.text(min_size=1, max_size=15))
def test_short_secrets_show_nothing(secret: str) -> None:
    assert mask(secret) == MASK


@pytest.mark.parametrize(
    "text",
    [
        mask(SECRET),
        "••••",
        "****",
        "********",
        "****cdef",
        "0123****cdef",
        "*****************cdef",
        "xxxxxxxx",
        "…cdef",
        "●●●●cdef",
    ],
)
def test_whatever_mask_comes_back_is_known_as_one(text: str) -> None:
    assert is_mask(text, SECRET)


@pytest.mark.parametrize("text", ["new-secret", "pass***word", "a*b", "fedcba9876543210", "****9999"])
def test_a_new_secret_is_not_taken_for_a_mask(text: str) -> None:
    assert not is_mask(text, SECRET)


def test_a_secret_of_asterisks_stays_itself() -> None:
    assert not is_mask("xxxxxxxx", "xxxxxxxx")
