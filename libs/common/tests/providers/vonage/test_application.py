"""The voice settings within a Vonage application."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from offhook.providers.vonage.application import changed, settings_of

NAMES = [
    "answer_url", "answer_method", "fallback_answer_url", "fallback_answer_method",
    "event_url", "event_method", "signed_callbacks",
]  # fmt: skip
OURS = {
    "answer_url": "https://v.example.com/in",
    "answer_method": "POST",
    "fallback_answer_url": "https://v.example.com/fallback",
    "fallback_answer_method": "POST",
    "event_url": "https://v.example.com/status",
    "event_method": "POST",
    "signed_callbacks": "true",
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
webhook = st.fixed_dictionaries(
    {"address": st.sampled_from(["https://c.example.com/a", "https://c.example.com/b"])},
    optional={
        "http_method": st.sampled_from(["GET", "POST"]),
        "connection_timeout": st.integers(300, 1000),
        "socket_timeout": st.integers(1000, 5000),
    },
)
voice = st.fixed_dictionaries(
    {},
    optional={
        "webhooks": st.fixed_dictionaries(
            {}, optional={"answer_url": webhook, "fallback_answer_url": webhook, "event_url": webhook}
        ),
        "signed_callbacks": st.booleans(),
        "region": st.just("eu-west"),
        "conversations_ttl": st.integers(1, 48),
    },
)
applications = st.fixed_dictionaries(
    {"id": st.just("app-1"), "name": st.text(min_size=1, max_size=8)},
    optional={
        "capabilities": st.fixed_dictionaries({}, optional={"voice": voice, "messages": json_values}),
        "keys": st.just({"public_key": "PEM"}),
        "privacy": json_values,
        "unheard_of": json_values,
    },
)


def without_ours(application):
    rest = copy.deepcopy(application)
    found = rest.get("capabilities", {}).get("voice", {})
    found.pop("signed_callbacks", None)
    for entry in found.get("webhooks", {}).values():
        entry.pop("address", None)
        entry.pop("http_method", None)
    # An empty object and none at all are the same here.
    found["webhooks"] = {name: entry for name, entry in found.get("webhooks", {}).items() if entry}
    rest.setdefault("capabilities", {})["voice"] = found
    return rest


@given(applications)
def test_our_settings_are_there_afterwards_and_nothing_else_has_changed(application):
    kept = copy.deepcopy(application)
    after = changed(application, OURS)
    assert settings_of(after) == OURS
    assert without_ours(after) == without_ours(application)
    assert application == kept


@given(applications)
def test_what_was_there_can_be_put_back(application):
    before = settings_of(application)
    restored = changed(changed(application, OURS), before)
    assert settings_of(restored) == before


@given(applications, st.sampled_from(NAMES))
def test_one_setting_alone_leaves_the_others(application, name):
    full = changed(application, OURS)
    value = {"answer_method": "GET", "fallback_answer_method": "GET", "event_method": "GET"}.get(name, "")
    after = settings_of(changed(full, {name: value}))
    # A webhook without an address is none, and has no method.
    gone = {name.replace("_url", "_method")} if name.endswith("_url") else set()
    assert after == {**OURS, **dict.fromkeys(gone, ""), name: value}


@given(json_values)
def test_an_application_of_any_shape_can_be_read_and_set_up(found):
    for application in (
        {"capabilities": found},
        {"capabilities": {"voice": found}},
        {"capabilities": {"voice": {"webhooks": found, "signed_callbacks": found}}},
        {"capabilities": {"voice": {"webhooks": {"answer_url": found}}}},
        {"capabilities": {"voice": {"webhooks": {"answer_url": {"address": found}}}}},
    ):
        assert settings_of(application).keys() == set(NAMES)
        assert settings_of(changed(application, OURS)) == OURS
