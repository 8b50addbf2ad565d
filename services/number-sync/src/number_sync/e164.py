"""Phone numbers as people type them, turned into E.164 (ITU-T E.164: `+`, country code, at most 15 digits).

Pure; the numbering plans come from `phonenumbers`, the port of Google's libphonenumber.
"""

from typing import Final

import phonenumbers
from phonenumbers import (
    NumberParseException,
    PhoneNumber,
    PhoneNumberFormat,
    PhoneNumberType,
    ValidationResult,
)

MAX_INPUT: Final = 64
_MAX_DIGITS: Final = 15

_REASONS: Final = {
    ValidationResult.INVALID_COUNTRY_CODE: "its country code does not exist",
    ValidationResult.TOO_SHORT: "it has too few digits",
    ValidationResult.TOO_LONG: "it has too many digits",
    ValidationResult.INVALID_LENGTH: "no number there has that many digits",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "the area code is missing",
}
_PARSE_REASONS: Final = {
    NumberParseException.INVALID_COUNTRY_CODE: "its country code is missing or does not exist",
    NumberParseException.NOT_A_NUMBER: "it is not a phone number",
    NumberParseException.TOO_SHORT_AFTER_IDD: "it has too few digits",
    NumberParseException.TOO_SHORT_NSN: "it has too few digits",
    NumberParseException.TOO_LONG: "it has too many digits",
}


class PhoneNumberError(ValueError):
    """The text is no phone number. `reason` completes the sentence "it cannot be used: …"; `example` is a good one."""

    def __init__(self, reason: str, example: str) -> None:
        super().__init__(f"{reason}; a number looks like {example}")
        self.reason = reason
        self.example = example


def to_e164(text: str, country: str | None = None) -> str:
    """E.164 of `text`. `country` (ISO 3166-1 alpha-2) completes national input and is ignored when `text` starts with `+`.

    International input must be *possible* (country code and length). Whether it is in use is for the provider to say:
    numbering plans grow faster than any table, and the numbers set aside for tests and fiction are in none. National
    input must be valid in its country, because completing it is a guess. Raises `PhoneNumberError`.
    """
    region = country.strip().upper() if country else None
    if region is not None and region not in phonenumbers.SUPPORTED_REGIONS:
        raise PhoneNumberError(
            f"{country!r:.12} is not a two-letter country code such as US or GB", example_of("US")
        )
    text = text.strip()
    if len(text) > MAX_INPUT:
        raise PhoneNumberError("it has too many digits", example_of(region))
    # Full-width plus signs come from East Asian keyboards.
    international = text.startswith(("+", "\uff0b"))
    try:
        number = phonenumbers.parse(text, None if international else region)
    except NumberParseException as error:
        reason = _PARSE_REASONS.get(error.error_type, "it is not a phone number")
        if (
            region is None
            and not international
            and error.error_type == NumberParseException.INVALID_COUNTRY_CODE
        ):
            reason = "it does not start with + and its country code, and no country was given to complete it"
        raise PhoneNumberError(reason, example_of(region)) from None
    own_region = phonenumbers.region_code_for_country_code(number.country_code or 0)
    if number.extension:
        raise PhoneNumberError(
            "it has an extension; calls can only reach the number itself", example_of(own_region)
        )
    possible = phonenumbers.is_possible_number_with_reason(number)
    if possible != ValidationResult.IS_POSSIBLE:
        reason = _REASONS.get(possible, "it is not a phone number")
        raise PhoneNumberError(reason + _hint(text, international), example_of(own_region))
    if not international and not phonenumbers.is_valid_number(number):
        raise PhoneNumberError(
            f"it is not a number of {region}" + _hint(text, international), example_of(own_region)
        )
    e164 = _format(number)
    if len(e164) > 1 + _MAX_DIGITS:  # possible in some plans all the same
        raise PhoneNumberError(_REASONS[ValidationResult.TOO_LONG], example_of(own_region))
    return e164


def example_of(region: str | None) -> str:
    """A well-formed number of the region, in E.164."""
    example = phonenumbers.example_number_for_type(region or "US", PhoneNumberType.FIXED_LINE)
    return _format(example) if example is not None else "+12015550123"


def _hint(text: str, international: bool) -> str:
    """Numbers are often pasted without their plus sign."""
    if international:
        return ""
    try:
        number = phonenumbers.parse("+" + text.lstrip(), None)
    except NumberParseException:
        return ""
    return f" (did you mean {_format(number)}?)" if phonenumbers.is_valid_number(number) else ""


def _format(number: PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)
