"""Sealed texts open with the right key and context, and with nothing else."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.security.keyring import Keyring, KeyringError, new_key

OLD = "old:" + base64.b64encode(b"o" * 32).decode()
NEW = "new:" + base64.b64encode(b"n" * 32).decode()


@given(st.text(max_size=300), st.text(min_size=1, max_size=50))
def test_what_was_sealed_opens_in_its_context(plaintext: str, context: str) -> None:
    ring = Keyring.parse(NEW)
    assert ring.open(ring.seal(plaintext, context=context), context=context) == plaintext


def test_bytes_come_back_as_they_were() -> None:
    ring = Keyring.parse(NEW)
    assert ring.open_bytes(ring.seal(b"\xff\x00", context="c"), context="c") == b"\xff\x00"


def test_after_a_rotation_the_old_key_opens_and_the_new_one_seals() -> None:
    before = Keyring.parse(OLD)
    sealed = before.seal("secret", context="c1")
    after = Keyring.parse(f"{NEW},{OLD}")
    assert after.open(sealed, context="c1") == "secret"
    assert not after.is_current(sealed)
    again = after.seal("secret", context="c1")
    assert after.is_current(again)
    assert again.startswith("v1.new.")
    with pytest.raises(KeyringError, match="sealed with key 'new', but the keyring has only: old"):
        before.open(again, context="c1")


def test_a_text_sealed_for_one_record_does_not_open_as_anothers() -> None:
    ring = Keyring.parse(NEW)
    with pytest.raises(KeyringError, match="changed, or belongs to another record"):
        ring.open(ring.seal("secret", context="c1"), context="c2")


@given(st.data())
def test_a_changed_text_does_not_open(data: st.DataObject) -> None:
    ring = Keyring.parse(f"{NEW},{OLD}")
    sealed = ring.seal("some secret", context="c")
    at = data.draw(st.integers(0, len(sealed) - 2))  # the last character has bits that base64 ignores
    replacement = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    changed = sealed[:at] + replacement + sealed[at + 1 :]
    alike = changed.translate(str.maketrans("+/", "-_")) == sealed  # both alphabets are read
    if not alike:
        with pytest.raises(KeyringError):
            ring.open(changed, context="c")


@pytest.mark.parametrize(
    "text", ["", "secret", "v1", "v1.new", "v1.new.", "v1.new.!!!", "v2.new.AAAA", "v1..AAAA"]
)
def test_what_is_no_sealed_text_is_refused(text: str) -> None:
    with pytest.raises(KeyringError):
        Keyring.parse(NEW).open(text, context="c")


def test_two_seals_of_the_same_text_differ() -> None:
    ring = Keyring.parse(NEW)
    assert ring.seal("same", context="c") != ring.seal("same", context="c")


def test_a_seal_needs_a_context() -> None:
    with pytest.raises(ValueError, match="needs a context"):
        Keyring.parse(NEW).seal("text", context="")


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("", "entry 1 of the keyring is not id:base64key"),
        (f"{NEW},", "entry 2 of the keyring is not id:base64key"),
        ("a:c2hvcnQ=", "key 'a' has 5 bytes, expected 32"),
        ("a:%%%", "entry 1 of the keyring is not base64"),
        (f"{NEW},{NEW}", "two keys named 'new'"),
        ("bad id:" + "A" * 43, "a key id must be"),
    ],
)
def test_a_bad_keyring_is_explained_without_its_keys(setting: str, sentence: str) -> None:
    with pytest.raises(KeyringError, match=sentence) as caught:
        Keyring.parse(setting)
    assert base64.b64encode(b"n" * 32).decode() not in str(caught.value)


def test_a_fresh_key_is_a_usable_ring_and_the_repr_shows_ids_only() -> None:
    text = new_key("k1")
    assert repr(Keyring.parse(text)) == "Keyring(k1)"
    assert Keyring.parse(text).current == "k1"
