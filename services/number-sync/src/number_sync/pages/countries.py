"""Countries a phone number can be written in, for completing national input, and numbers as people read them."""

from dataclasses import dataclass
from functools import cache

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat
from phonenumbers.geodata.locale import LOCALE_DATA


@dataclass(frozen=True, slots=True)
class Country:
    """`region` is ISO 3166-1 alpha-2; `calling_code` without its plus sign."""

    region: str
    name: str
    calling_code: int


@cache
def countries() -> tuple[Country, ...]:
    """All of them, by their English names."""
    found = [
        Country(region, _name_of(region), phonenumbers.country_code_for_region(region))
        for region in phonenumbers.SUPPORTED_REGIONS
    ]
    return tuple(sorted(found, key=lambda country: country.name))


def readable(e164: str) -> str:
    """The number in international format: `+1 415-555-1234`. What is no number comes back as it is."""
    try:
        number = phonenumbers.parse(e164, None)
    except NumberParseException:
        return e164
    return phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)


def _name_of(region: str) -> str:
    names = LOCALE_DATA.get(region, {})
    name: str = names.get("en", region)
    # The table writes "*xx" where the name is the same as in language xx.
    return names.get(name[1:], region) if name.startswith("*") else name
