"""A session is believed while it is ours, not over, and its key is still one."""

import base64
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.security.api_keys import ApiKeys, KeyHolder, digest_of, new_api_key, setting_entry
from offhook.security.sessions import LIFETIME_S, Session, Sessions, parse_session_key

KEY, OTHER_KEY = (base64.b64encode(one * 32).decode() for one in (b"a", b"b"))
ADA, BOB = new_api_key(), new_api_key()
API_KEYS = ApiKeys(f"{setting_entry('ada', ADA)},{setting_entry('bob', BOB)}")
NONCE = "n" * 24


def sessions(key: str = KEY, now: float = 1000.0, api_keys: ApiKeys = API_KEYS) -> Sessions:
    return Sessions(key, api_keys, clock=lambda: now)


def holder(key: str) -> KeyHolder:
    found = API_KEYS.holder_of(key)
    assert found is not None
    return found


def cookie(key: str = ADA, **of: Any) -> str:
    return sessions(**of).open(holder(key), nonce=NONCE)


def test_a_session_names_its_user_until_it_is_over() -> None:
    session = sessions().read(cookie())
    assert session == Session(holder(ADA), 1000, 1000 + LIFETIME_S, NONCE)
    assert sessions(now=1000 + LIFETIME_S - 1).read(cookie()) == session
    assert sessions(now=1000 + LIFETIME_S).read(cookie()) is None


def test_the_cookie_holds_nothing_that_opens_anything() -> None:
    assert ADA not in cookie()
    assert digest_of(ADA) not in cookie()


def test_a_session_from_the_future_is_none() -> None:
    assert sessions(now=900).read(cookie()) is None
    assert sessions(now=990).read(cookie()) is not None  # clocks of two machines differ by seconds


@given(st.data())
def test_whatever_is_changed_makes_it_worthless(data: st.DataObject) -> None:
    good = cookie()
    at = data.draw(st.integers(0, len(good) - 1))
    changed = good[:at] + data.draw(st.characters()) + good[at + 1 :]
    found = sessions().read(changed)
    assert found is None or changed == good
    assert sessions().read(data.draw(st.text(max_size=500))) is None


def test_the_last_character_counts_too() -> None:
    good = cookie()
    for one in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        if one != good[-1]:
            assert sessions().read(good[:-1] + one) is None


def test_another_key_s_session_is_none_and_keys_can_be_exchanged() -> None:
    assert sessions(OTHER_KEY).read(cookie()) is None
    assert sessions(f"{OTHER_KEY},{KEY}").read(cookie()) is not None
    assert sessions(KEY).read(sessions(f"{OTHER_KEY},{KEY}").open(holder(ADA), nonce=NONCE)) is None


def test_a_session_ends_with_its_key_and_only_with_its_own() -> None:
    only_bob = ApiKeys(setting_entry("bob", BOB))
    assert sessions(api_keys=only_bob).read(cookie(ADA)) is None
    assert sessions(api_keys=only_bob).read(cookie(BOB)) is not None
    handed_on = ApiKeys(setting_entry("eve", ADA))
    assert sessions(api_keys=handed_on).read(cookie(ADA)) is None


def test_a_session_s_csrf_token_is_its_own() -> None:
    all_of_them = sessions()
    read = all_of_them.read(cookie())
    other = all_of_them.read(all_of_them.open(holder(ADA), nonce="m" * 24))
    assert read is not None
    assert other is not None
    assert all_of_them.csrf_matches(read, all_of_them.csrf(read))
    assert not all_of_them.csrf_matches(read, all_of_them.csrf(other))
    assert not all_of_them.csrf_matches(read, cookie().rpartition(".")[2])
    assert not all_of_them.csrf_matches(read, "é")


def test_what_is_signed_for_one_purpose_is_not_believed_for_another() -> None:
    all_of_them = sessions()
    read = all_of_them.read(cookie())
    assert read is not None
    assert all_of_them.read(f"{read.statement}.{all_of_them.csrf(read)}") is None
    assert all_of_them.signed(cookie()) is None
    assert all_of_them.signed(all_of_them.sign("Grüße")) == "Grüße"


@pytest.mark.parametrize("setting", ["", "short", base64.b64encode(b"x" * 31).decode(), f"{KEY},x", "ö" * 50])
def test_a_bad_session_key_is_refused_without_being_repeated(setting: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - what it may not say is looked at
        parse_session_key(setting)
    assert not setting or setting not in str(caught.value)


def test_only_a_key_s_holder_gets_a_session() -> None:
    for bad in (KeyHolder("a.b", "0" * 32), KeyHolder("ada", "x"), KeyHolder("", "0" * 32)):
        with pytest.raises(ValueError, match="holder"):
            sessions().open(bad, nonce=NONCE)
    with pytest.raises(ValueError, match="nonce"):
        sessions().open(holder(ADA), nonce="a.b")
    assert sessions().of_request(SimpleNamespace(cookies={})) is None  # type: ignore[arg-type]
