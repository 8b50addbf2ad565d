"""Masks hide secrets, and are not taken for new ones when they come back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from number_sync.masks import MASK, MaskError, keeps, mask

SECRET = "0123456789abcdef0123456789abcdef"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIB....xxxx####____\n-----END PRIVATE KEY-----\n"


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
        mask(SECRET), "••••", "**", "***", "****", "********", "****cdef", "0123****cdef", "*****************cdef", "xxxxxxxx",
        "…cdef", "●●●●cdef", "xxxxxxxxxxxxcdef", "XXXXcdef", "0123456789abcd****", "...cdef", "0123...cdef", "[redacted]",
        "<hidden>", "(Masked)", "[REDACTED]", "########", "--------", "____cdef", "*" * 32, "0" + "*" * 30 + "f",
    ],
)  # fmt: skip
def test_whatever_mask_comes_back_keeps_what_is_stored(text: str) -> None:
    assert keeps(text, SECRET)


@pytest.mark.parametrize(
    "text",
    ["********", "****cdef", "[redacted]", mask(SECRET), "xxxxxxxx", "xxxxxxxxxxxx9999", "0123...cdef"],
)
def test_a_mask_of_nothing_is_refused(text: str) -> None:
    with pytest.raises(MaskError):
        keeps(text, None)


@pytest.mark.parametrize("text", [
    "****9999", "********1234", "feed****beef", "xxxxxxxxxxxx9999", "...9999", "0123...9999", "####9999",
    "••••••••9999", "…9999", "********************9999999999999", "xxxx-new",
])  # fmt: skip
def test_a_mask_of_an_older_secret_is_refused_and_never_stored(text: str) -> None:
    with pytest.raises(MaskError, match="another value"):
        keeps(text, SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "new-secret",
        "pass***word",
        "a*b",
        "fedcba9876543210",
        "a--b__c..d",
        "xxx-new",
        "-----BEGIN KEY-----",
        "***9",
        "key____abc",
        "Bearer a.b.c",
        PEM,
    ],
)
def test_a_new_secret_is_not_taken_for_a_mask(text: str) -> None:
    assert not keeps(text, SECRET)


@pytest.mark.parametrize("run", ["•", "…", "•••• ••••", "***", "****", "********", "xxxx", "..."])
def test_the_answers_to_masks_tell_of_a_secret_at_most_four_characters_at_each_end(run: str) -> None:
    """Whoever may save can try masks without end."""

    def answer(text: str) -> bool | None:
        try:
            return keeps(text, SECRET)
        except MaskError:
            return None

    for visible in range(5, len(SECRET)):
        head, tail = SECRET[:visible], SECRET[-visible:]
        assert answer(head + run) == answer(head[:-1] + "Z" + run)
        assert answer(run + tail) == answer(run + "Z" + tail[1:])
    short = SECRET[:15]
    with pytest.raises(MaskError):
        keeps(short[:4] + "••••", short)


def test_a_new_private_key_is_no_mask_of_another_whatever_runs_it_has() -> None:
    assert not keeps(PEM, PEM.replace("MIIB", "MIIC"))


@given(old=st.binary(min_size=16, max_size=16), new=st.binary(min_size=16, max_size=16))
def test_no_token_of_a_provider_is_taken_for_a_mask_of_another(old: bytes, new: bytes) -> None:
    assert keeps(new.hex(), old.hex()) == (old == new)


def test_a_secret_that_looks_like_a_mask_stays_itself() -> None:
    assert keeps("xxxxxxxx", "xxxxxxxx")


def test_half_of_a_private_key_is_no_mask_of_a_whole_one() -> None:
    assert not keeps("-----BEGIN PRIVATE KEY-----", PEM)
    assert keeps(mask(PEM), PEM)
