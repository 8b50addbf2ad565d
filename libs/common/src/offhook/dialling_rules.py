"""Whether a configuration may call a number, by its `DiallingRules`. Pure.

A denied prefix is never called, an allowed one always is; else the number's country decides.
"""

from collections.abc import Sequence
from typing import NamedTuple

import phonenumbers
from phonenumbers import NumberParseException

from offhook.records import DiallingRules


class Objection(NamedTuple):
    """Why a number is not called: one word for programs, a sentence for people."""

    reason: str
    sentence: str


def country_of(number: str) -> str | None:
    """The ISO 3166 code of an E.164 number's country; None where it has none (satellite, freephone of no country)."""
    try:
        region = phonenumbers.region_code_for_number(phonenumbers.parse(number, None))
    except NumberParseException:
        return None
    return None if region in (None, "001") else region


def objection_to(rules: DiallingRules, number: str) -> Objection | None:
    """Why `number` (E.164) may not be called; None when it may."""
    meant = _meant(number)
    denied = _prefix_of(number, rules.denied_prefixes) or _prefix_of(meant, rules.denied_prefixes)
    if denied is not None:
        return Objection(
            "number-not-allowed", f"The configuration never calls numbers that begin with {denied}."
        )
    if not rules.countries or _prefix_of(meant, rules.allowed_prefixes) is not None:
        return None
    country = country_of(number)
    if country in {code.upper() for code in rules.countries}:
        return None
    where = "this number belongs to no country" if country is None else f"this number is in {country}"
    allowed = ", ".join(sorted(code.upper() for code in rules.countries))
    return Objection("country-not-allowed", f"The configuration calls only {allowed}; {where}.")


def _meant(number: str) -> str:
    """The number that carriers dial for this one: +44 0909… is +44 909…, and must not get around a rule about that."""
    try:
        return phonenumbers.format_number(
            phonenumbers.parse(number, None), phonenumbers.PhoneNumberFormat.E164
        )
    except NumberParseException:
        return number


def _prefix_of(number: str, prefixes: Sequence[str]) -> str | None:
    return next((prefix for prefix in prefixes if prefix and number.startswith(prefix)), None)
