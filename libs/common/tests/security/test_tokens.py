"""A media token opens one call, for minutes; everything else about it is refused with the reason."""

import base64
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from offhook.security.tokens import MediaToken, MediaTokens, TokenError, TokenFault

TOKENS = MediaTokens(b"k" * 32)
RUN, ACCOUNT, CALL, NONCE = "run-1", "AC" + "a" * 32, "CA" + "b" * 32, "nonce-0123456789"
TOKEN = TOKENS.mint(RUN, ACCOUNT, CALL, 2000, NONCE)


def verify(
    token: str = TOKEN,
    *,
    run: str = RUN,
    account: str | None = ACCOUNT,
    call: str | None = CALL,
    now: float = 1000.0,
    tokens: MediaTokens = TOKENS,
) -> MediaToken:
    return tokens.verify(token, workflow_run_id=run, account=account, provider_call_id=call, now=now)


def fault_of(**changed: object) -> TokenFault:
    with pytest.raises(TokenError) as caught:
        verify(**changed)  # type: ignore[arg-type]
    return caught.value.reason


def test_a_token_grants_what_it_was_minted_for() -> None:
    assert verify() == MediaToken(RUN, ACCOUNT, CALL, 2000, NONCE)


def test_what_the_socket_does_not_say_is_taken_from_the_token() -> None:
    granted = verify(account=None, call=None)
    assert (granted.account, granted.provider_call_id) == (ACCOUNT, CALL)


def test_it_is_short_enough_for_a_twilio_parameter_with_the_longest_ids() -> None:
    uuid4 = str(uuid.UUID(int=0))
    assert len(TOKENS.mint("r" * 64, uuid4, uuid4, 9_999_999_999, "n" * 32)) < 300


def test_it_is_made_of_characters_that_need_no_escaping_anywhere() -> None:
    assert set(TOKEN) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def test_a_token_of_another_run_account_or_call_is_refused() -> None:
    assert fault_of(run="run-2") is TokenFault.FOREIGN_RUN
    assert fault_of(account="AC" + "c" * 32) is TokenFault.FOREIGN_ACCOUNT
    assert fault_of(call="CA" + "c" * 32) is TokenFault.FOREIGN_CALL


def test_it_expires_to_the_second() -> None:
    assert verify(now=1999.9).expires_at == 2000
    assert fault_of(now=2000.0) is TokenFault.EXPIRED


def test_no_token_is_missing_rather_than_malformed() -> None:
    assert fault_of(token="") is TokenFault.MISSING


@pytest.mark.parametrize(
    "token", ["x", "m1.a.b", "m2" + TOKEN[2:], TOKEN + ".x", TOKEN + "x" * 300, "m1.é.1.n.w.m"]
)
def test_what_has_not_the_shape_of_a_token_is_malformed(token: str) -> None:
    assert fault_of(token=token) is TokenFault.MALFORMED


@given(st.integers(3, len(TOKEN) - 1), st.sampled_from("abcXYZ019_-"))
def test_any_change_is_noticed(at: int, replacement: str) -> None:
    changed = TOKEN[:at] + replacement + TOKEN[at + 1 :]
    if changed != TOKEN:
        assert fault_of(token=changed) in {TokenFault.FORGED, TokenFault.MALFORMED}


@given(st.text(max_size=400))
def test_whatever_comes_the_answer_is_a_token_error(token: str) -> None:
    assert fault_of(token=token) in set(TokenFault)


def test_another_key_mints_nothing_we_believe() -> None:
    foreign = MediaTokens(b"x" * 32).mint(RUN, ACCOUNT, CALL, 2000, NONCE)
    assert fault_of(token=foreign) is TokenFault.FORGED


def test_after_a_rotation_tokens_of_the_old_key_are_still_believed() -> None:
    rotated = MediaTokens(b"x" * 32, also=[b"k" * 32])
    assert verify(tokens=rotated).nonce == NONCE
    fresh = rotated.mint(RUN, ACCOUNT, CALL, 2000, NONCE)
    assert fault_of(token=fresh) is TokenFault.FORGED  # the old holder does not know the new key


def test_the_setting_holds_one_or_several_keys() -> None:
    keys = [base64.b64encode(byte * 32).decode() for byte in (b"x", b"k")]
    assert verify(tokens=MediaTokens.parse(SecretStr(",".join(keys)))).nonce == NONCE
    with pytest.raises(ValueError, match="at least 32 bytes"):
        MediaTokens.parse("c2hvcnQ=")


@pytest.mark.parametrize(
    ("run", "account", "nonce"),
    [("a/b", ACCOUNT, NONCE), (RUN, "a\0b", NONCE), (RUN, ACCOUNT, "short"), (RUN, "a" * 200, NONCE)],
)
def test_what_a_token_cannot_carry_is_not_minted(run: str, account: str, nonce: str) -> None:
    with pytest.raises(ValueError, match=r"run id|NUL|nonce|too long"):
        TOKENS.mint(run, account, CALL, 2000, nonce)


def test_the_error_does_not_repeat_the_token() -> None:
    with pytest.raises(TokenError) as caught:
        verify(run="run-2")
    assert TOKEN not in str(caught.value)
