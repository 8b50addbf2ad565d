"""Nothing secret and no whole phone number is written down; what operators need still is."""

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from offhook.security.redaction import REDACTED, is_secret_name, mask_number, redact, redact_text
from offhook.security.tokens import MediaTokens


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("+14155551234", "+•••1234"),
        ("14155551234", "•••1234"),
        ("+4930123456", "+•••56"),
        ("+4912345", "+•••45"),
        ("anonymous", "anonymous"),
        ("client:anna", "client:anna"),
        ("12345", "12345"),
        ("", ""),
    ],
)
def test_of_a_number_only_the_end_shows(number: str, masked: str) -> None:
    assert mask_number(number) == masked


@given(st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_at_most_four_digits_of_any_number_show_and_never_more_than_are_hidden(number: str) -> None:
    shown = mask_number(number).removeprefix("+•••")
    assert number.endswith(shown)
    assert len(shown) <= min(4, (len(number) - 1) / 2)


def test_numbers_inside_a_sentence_are_masked() -> None:
    assert redact_text("call from +14155551234 to %2B442071234567 failed") == (
        "call from +•••1234 to %2B•••4567 failed"
    )


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("14155551234", "•••1234"),
        ("calls 14155551234, then hangs up", "calls •••1234, then hangs up"),
        ("from=4155551234&to=442071234567", "from=•••34&to=•••4567"),
        ("tel:+14155551234;ext=1", "tel:+•••1234;ext=1"),
        ("+1 (415) 555-1234 or +44 20 7946 0958", "+•••1234 or +•••0958"),
        ("<sip:+14155551234@pbx.example.com;transport=tls>", f"<sip:{REDACTED};transport=tls>"),
        ("SIPS:anna@192.0.2.1:5061 answered", f"sip:{REDACTED} answered"),
    ],
)
def test_numbers_without_a_plus_and_sip_addresses_do_not_stand_in_a_text(text: str, masked: str) -> None:
    assert redact_text(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "run 0f0e1d2c3b4a59687766554433221100 at offset 12345678",
        "application aaaaaaaa-0000-4000-8000-000000000002",
        "took 0.1234567890123 s",
        "call CA14155551234f00d",
        "signed at 1763766243.123",
        "since 2026-11-22 10:00:00+00:00",
    ],
)
def test_ids_and_fractions_are_no_numbers(text: str) -> None:
    assert redact_text(text) == text


def test_a_number_without_a_plus_is_masked_where_the_name_says_that_it_is_one() -> None:
    assert redact("from_number", "14155551234") == "•••1234"
    assert redact("to", "14155551234") == "•••1234"
    assert redact("ended_at_ms", "1763766243000") == "1763766243000"


@pytest.mark.parametrize(
    "name",
    [
        "auth_token", "authToken", "AuthToken", "token", "api_key", "apiKey", "X-Twilio-Signature", "Authorization", "cookie",
        "private_key", "password", "db_password", "keyring", "token_key", "credentials", "client_secret",
        "signature_secret", "api_secret", "sealed_credentials",
    ],
)  # fmt: skip
def test_the_value_of_a_secret_field_is_never_shown(name: str) -> None:
    assert is_secret_name(name)
    assert redact(name, "0123456789abcdef0123456789abcdef") == REDACTED
    assert redact(name, b"bytes") == REDACTED
    assert redact("outer", {name: {"inner": "x"}}) == {name: REDACTED}


@pytest.mark.parametrize("name", ["key", "workflow_run_id", "account", "tokenizer", "stream_id", "reason"])
def test_other_fields_are_shown(name: str) -> None:
    assert redact(name, "0123456789abcdef0123456789abcdef") == "0123456789abcdef0123456789abcdef"


def test_a_secret_number_of_things_is_just_a_number() -> None:
    assert redact("tokens", 7) == 7
    assert redact("token", None) is None


def test_secrets_are_found_inside_text_by_their_shape() -> None:
    token = MediaTokens(b"k" * 32).mint("run-1", "AC1", "CA1", 2000, "nonce-0123456789")
    bearer = jwt.encode({"sub": "x"}, "k" * 32, algorithm="HS256")
    pem = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END PRIVATE KEY-----"
    secrets = [
        token, bearer, "MIIEvQIBADANBgkq", "ohk_" + "a" * 43, "hunter2hunter2", "s3cr3tpw", "dXNlcjpwYXNz", "abcdef123456",
    ]  # fmt: skip
    text = (
        f"token {token} and jwt {bearer} and {pem} and {secrets[3]} and password={secrets[4]} at"
        f" postgresql://user:{secrets[5]}@db:5432/x with Authorization: Basic {secrets[6]} and"
        f' {{"auth_token": "{secrets[7]}"}}'
    )
    cleaned = redact_text(text)
    for secret in secrets:
        assert secret not in cleaned
    assert "postgresql://[redacted]@db:5432/x" in cleaned


def test_secret_types_are_never_shown() -> None:
    assert redact("anything", SecretStr("x")) == REDACTED
    assert redact("anything", [SecretStr("x"), {"y": SecretStr("z")}]) == [REDACTED, {"y": REDACTED}]


def test_what_is_written_down_has_a_bound() -> None:
    assert len(redact_text("x" * 1_000_000)) < 10_000
    assert len(redact("many", list(range(10_000)))) == 100
    deep: dict[str, object] = {}
    inner = deep
    for _ in range(50):
        inner["a"] = inner = {}
    assert "…" in str(redact("deep", deep))
    assert redact("audio", b"\0" * 320) == "[320 bytes]"


@given(st.text(max_size=500))
def test_any_text_can_be_redacted(text: str) -> None:
    assert isinstance(redact_text(text), str)
