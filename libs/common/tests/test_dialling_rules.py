"""Which numbers a configuration may call."""

import pytest

from offhook.dialling_rules import country_of, objection_to
from offhook.records import DiallingRules

US, GUERNSEY, LONDON, PREMIUM = "+14155550199", "+441481256789", "+442079460000", "+449098790000"


def refused(number: str, **rules: tuple[str, ...]) -> str | None:
    objection = objection_to(DiallingRules(**rules), number)
    assert objection is None or objection.sentence.endswith(".")
    return None if objection is None else objection.reason


def test_without_rules_every_number_may_be_called() -> None:
    assert refused(US) is None


def test_only_numbers_of_the_countries_may_be_called() -> None:
    assert refused(LONDON, countries=("GB",)) is None
    assert refused(LONDON, countries=("us", "gb")) is None
    assert refused(US, countries=("GB",)) == "country-not-allowed"


def test_a_country_is_more_than_its_calling_code() -> None:
    assert refused(GUERNSEY, countries=("GB",)) == "country-not-allowed"
    assert refused(GUERNSEY, countries=("GG",)) is None


def test_an_allowed_prefix_goes_before_the_countries_and_a_denied_one_before_both() -> None:
    assert refused(US, countries=("GB",), allowed_prefixes=("+1415",)) is None
    assert refused(PREMIUM, countries=("GB",), denied_prefixes=("+449",)) == "number-not-allowed"
    assert refused(US, allowed_prefixes=("+1415",), denied_prefixes=("+1415555",)) == "number-not-allowed"


def test_an_allowed_prefix_alone_restricts_nothing() -> None:
    assert refused(LONDON, allowed_prefixes=("+1415",)) is None


@pytest.mark.parametrize(
    ("number", "country"), [(US, "US"), (GUERNSEY, "GG"), ("+870773111632", None), ("nonsense", None)]
)
def test_the_country_of_a_number(number: str, country: str | None) -> None:
    assert country_of(number) == country


@pytest.mark.parametrize(("written", "denied"), [("+4409098790000", "+44909"), ("+4909001234567", "+49900")])
def test_a_number_that_carriers_would_correct_does_not_get_around_a_rule(written: str, denied: str) -> None:
    assert refused(written, denied_prefixes=(denied,)) == "number-not-allowed"
    assert refused(written, countries=("US",), allowed_prefixes=(written[:4],)) == "country-not-allowed"
