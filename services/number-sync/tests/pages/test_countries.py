"""Countries and readable numbers."""

import phonenumbers
import pytest

from number_sync.pages.countries import countries, readable


def test_every_region_that_completes_a_number_can_be_chosen_by_name() -> None:
    found = {country.region: country for country in countries()}
    assert set(found) == set(phonenumbers.SUPPORTED_REGIONS)
    assert (found["DE"].name, found["DE"].calling_code) == ("Germany", 49)
    assert not [country for country in found.values() if "*" in country.name]


@pytest.mark.parametrize(
    ("e164", "read"),
    [("+14155551234", "+1 415-555-1234"), ("+442079460000", "+44 20 7946 0000"), ("anonymous", "anonymous")],
)
def test_a_number_is_written_for_reading(e164: str, read: str) -> None:
    assert readable(e164) == read
