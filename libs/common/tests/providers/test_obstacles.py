"""Every error of a provider's REST API has a documented code, a sentence and a remedy."""

from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offhook.providers.base import RestError
from offhook.providers.obstacles import ObstacleCode, no_public_url
from offhook.providers.registry import PROVIDERS

KINDS = get_args(get_type_hints(RestError.__init__)["kind"])
CODES = {code.value for code in ObstacleCode}
own_codes = st.sampled_from(
    ["answer-unreadable", "no-answer", "unreadable", "private-key", "auth-token", "api-key", *sorted(CODES)]
)


@given(st.sampled_from(KINDS), own_codes | st.integers(200, 599).map(str) | st.text(max_size=80), st.text())
def test_whatever_went_wrong_is_told_as_one_of_the_documented_codes(kind, code, message):
    for adapter in PROVIDERS.values():
        told = adapter.lines.explain(RestError(kind, code, message))
        assert type(told.code) is str
        assert told.code in CODES
        assert told.sentence.endswith((".", "!", "?"))
        assert told.remedy.endswith(".")


@pytest.mark.parametrize("provider", ["twilio", "vonage"])
@pytest.mark.parametrize(
    ("kind", "code", "expected"),
    [
        ("busy", "429", "rate-limited"),
        ("too-early", "400", "rate-limited"),
        ("unavailable", "503", "provider-unavailable"),
        ("unavailable", "no-answer", "no-answer"),
        ("unknown-outcome", "no-answer", "no-answer"),
        ("unknown-outcome", "ReadTimeout", "no-answer"),
        ("unknown-outcome", "500", "provider-unavailable"),
        ("unavailable", "answer-unreadable", "answer-unreadable"),
        ("unknown-outcome", "answer-unreadable", "answer-unreadable"),
        ("unknown-outcome", "unreadable", "answer-unreadable"),
        ("rejected", "whatever", "rejected"),
    ],
)
def test_trouble_is_told_apart(provider, kind, code, expected):
    assert PROVIDERS[provider].lines.explain(RestError(kind, code, "words")).code == expected


def test_a_missing_public_address_has_a_remedy_as_well():
    assert no_public_url().code == "no-public-url"
    assert "OFFHOOK_PUBLIC_URL" in no_public_url().remedy
