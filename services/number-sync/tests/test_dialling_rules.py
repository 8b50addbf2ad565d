"""Calling rules: kept as people write them, published as the other services need them."""

import pytest
from running_number_sync import TWILIO, Service

from number_sync import dialling_rules
from number_sync.errors import InvalidError
from offhook.records import ConfigurationRecord, DiallingRules
from offhook.topics import CONFIGURATIONS

C = "/telephony-configurations"


def test_what_people_write_becomes_codes_and_prefixes() -> None:
    assert dialling_rules.accept(
        {"countries": ["us", " GB", "US"], "allowed_prefixes": ["+44 20"], "denied_prefixes": ["+1 (900)"]}
    ) == {"countries": ["GB", "US"], "allowed_prefixes": ["+4420"], "denied_prefixes": ["+1900"]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("countries", "England"),
        ("countries", "ZZ"),
        ("allowed_prefixes", "020"),
        ("denied_prefixes", "+"),
        ("denied_prefixes", "+44x"),
        ("denied_prefixes", "+" + "1" * 16),
    ],
)
def test_what_is_no_country_or_prefix_is_refused_by_field(field: str, value: str) -> None:
    with pytest.raises(InvalidError) as refused:
        dialling_rules.accept({field: [value]})
    assert refused.value.field == f"dialling_rules.{field}"


def test_a_prefix_cannot_be_always_and_never_allowed() -> None:
    with pytest.raises(InvalidError, match="also among those always allowed"):
        dialling_rules.accept({"allowed_prefixes": ["+4420"], "denied_prefixes": ["+44 20"]})


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_rules_and_limits_are_kept_and_published(service: Service) -> None:
    made = await service.api.post(
        C,
        json={
            "name": "Main",
            "provider": "twilio",
            "credentials": TWILIO,
            "dialling_rules": {"countries": ["gb"]},
            "max_concurrent_calls": 5,
        },
    )
    assert made.status_code == 201, made.text
    url = f"{C}/{made.json()['configuration_id']}"
    changed = await service.api.patch(
        url,
        json={
            "dialling_rules": {"denied_prefixes": ["+44 900"]},
            "max_concurrent_calls": None,
            "max_calls_per_s": 0.5,
        },
    )
    rules = {"countries": [], "allowed_prefixes": [], "denied_prefixes": ["+44900"]}
    assert changed.json()["dialling_rules"] == rules
    refused = await service.api.patch(url, json={"dialling_rules": {"countries": ["England"]}})
    assert refused.status_code == 422
    assert "dialling_rules.countries" in refused.text
    for limits in ({"max_concurrent_calls": 0}, {"max_calls_per_s": 0}, {"max_calls_per_s": 1e9}):
        assert (await service.api.patch(url, json=limits)).status_code == 422
    [record] = (await service.newest(CONFIGURATIONS)).values()
    assert isinstance(record, ConfigurationRecord)
    assert record.dialling_rules == DiallingRules(denied_prefixes=("+44900",))
    assert (record.max_concurrent_calls, record.max_calls_per_s) == (None, 0.5)
