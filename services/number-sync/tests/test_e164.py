"""Phone numbers: what people type becomes E.164, or a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from number_sync.e164 import PhoneNumberError, to_e164


@pytest.mark.parametrize(
    ("text", "country", "expected"),
    [
        ("+14155551234", None, "+14155551234"),
        ("+14155551234", "GB", "+14155551234"),
        (" +1 (415) 555-1234 ", None, "+14155551234"),
        ("+44 20 7946 0000", "US", "+442079460000"),
        ("020 7946 0000", "GB", "+442079460000"),
        ("020 7946 0000", "gb", "+442079460000"),
        ("415-555-1234", "US", "+14155551234"),
        ("030 123456", "DE", "+4930123456"),
        ("0014155551234", "GB", "+14155551234"),
        ("＋14155551234", "GB", "+14155551234"),
        (
            "+15550001111",
            None,
            "+15550001111",
        ),  # set aside for fiction: in no numbering plan, used in every test
    ],
)
def test_a_number_is_completed_to_e164(text: str, country: str | None, expected: str) -> None:
    assert to_e164(text, country) == expected


@pytest.mark.parametrize(
    ("text", "country", "reason"),
    [
        ("", None, "not a phone number"),
        ("4155551234", None, "no country was given"),
        ("hello", "US", "not a phone number"),
        ("+1415555123", None, "too few digits"),
        ("+141555512345", None, "too many digits"),
        ("+49 30 1234567890123", None, "too many digits"),  # libphonenumber knows longer ones than E.164
        ("+999123456789", None, "country code"),
        ("5551234", "US", "area code"),
        ("0000000000", "US", "not a number of US"),
        ("14155551234", "GB", "did you mean +14155551234"),
        ("+14155551234 ext 12", None, "extension"),
        ("4155551234", "XX", "not a two-letter country code"),
        ("1" * 200, "US", "too many digits"),
    ],
)
def test_what_is_no_number_gets_the_reason_and_an_example(
    text: str, country: str | None, reason: str
) -> None:
    with pytest.raises(PhoneNumberError) as refused:
        to_e164(text, country)
    assert reason in refused.value.reason
    assert to_e164(refused.value.example) == refused.value.example


@given(text=st.text(max_size=80), country=st.sampled_from([None, "US", "GB", "DE", "JP"]))
def test_any_text_gives_e164_or_a_reason(text: str, country: str | None) -> None:
    try:
        number = to_e164(text, country)
    except PhoneNumberError:
        return
    assert number.startswith("+")
    assert number[1:].isascii()
    assert number[1:].isdigit()
    assert 4 <= len(number) <= 16
    assert to_e164(number) == number
