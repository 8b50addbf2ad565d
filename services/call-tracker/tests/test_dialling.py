"""Which outbound calls may be dialled, and as whom."""

from collections.abc import Iterable
from typing import Any

import pytest

from call_tracker.dialling import DialPlan, Refusal, e164, plan
from offhook.records import ConfigurationRecord, DiallingRules, NumberRecord, WorkflowRecord


class Held:
    def __init__(self) -> None:
        self.configurations: dict[str, ConfigurationRecord] = {}
        self.numbers: list[NumberRecord] = []

    def workflow(self, workflow_id: str) -> WorkflowRecord | None:
        owner = {"workflow-1": "user-1", "foreign": "user-2"}.get(workflow_id)
        if owner is None:
            return None
        return WorkflowRecord(workflow_id=workflow_id, user_id=owner, name="w", agent_url="ws://agent")

    def configuration(self, configuration_id: str) -> ConfigurationRecord | None:
        return self.configurations.get(configuration_id)

    def configurations_of(self, user_id: str) -> Iterable[ConfigurationRecord]:
        return [one for one in self.configurations.values() if one.user_id == user_id]

    def numbers_of(self, configuration_id: str) -> Iterable[NumberRecord]:
        return [one for one in self.numbers if one.configuration_id == configuration_id]

    def having(self, configuration_id: str, *numbers: str, user_id: str = "user-1", **more: Any) -> "Held":
        """A configuration with numbers; `*` marks the default caller ID, `-` an inactive number."""
        self.configurations[configuration_id] = ConfigurationRecord(
            configuration_id=configuration_id, user_id=user_id, provider="twilio", name="c",
            account=f"AC-{configuration_id}", sealed_credentials="", **{"verification": "verified", **more},
        )  # fmt: skip
        for number in numbers:
            self.numbers.append(
                NumberRecord(
                    number_id=f"n{len(self.numbers)}", configuration_id=configuration_id, user_id=user_id,
                    e164=number.strip("*-"), active="-" not in number, default_caller_id="*" in number,
                )
            )  # fmt: skip
        return self


A, B = "+14155550100", "+14155550101"


def planned(held: Held, **more: Any) -> DialPlan:
    asked = {"user_id": "user-1", "workflow_id": "workflow-1", "to": "+442079460000"}
    return plan(held, **{"from_number": None, "configuration_id": None, **asked, **more})


def refused(held: Held, **more: Any) -> str:
    with pytest.raises(Refusal) as caught:
        planned(held, **more)
    assert str(caught.value).endswith(".")
    return caught.value.reason


def test_the_only_number_of_the_only_configuration_is_the_caller_id() -> None:
    call = planned(Held().having("c1", A))
    assert (call.configuration.configuration_id, call.from_number, call.to_number) == (
        "c1",
        A,
        "+442079460000",
    )


def test_the_default_caller_id_goes_before_other_numbers() -> None:
    assert planned(Held().having("c1", B, A + "*")).from_number == A


def test_a_number_asked_for_goes_before_the_default_and_finds_its_configuration() -> None:
    held = Held().having("c1", A + "*", default_for_outbound=True).having("c2", B)
    call = planned(held, from_number=B)
    assert (call.configuration.configuration_id, call.from_number) == ("c2", B)


def test_the_default_configuration_for_outbound_calls_is_used() -> None:
    held = Held().having("c1", A).having("c2", B, default_for_outbound=True)
    assert planned(held).configuration.configuration_id == "c2"
    assert planned(held, configuration_id="c1").configuration.configuration_id == "c1"


def test_a_paused_configuration_is_passed_over_unless_it_was_named() -> None:
    held = Held().having("c1", A, paused=True).having("c2", B)
    assert planned(held).configuration.configuration_id == "c2"
    assert refused(held, configuration_id="c1") == "configuration-paused"
    assert refused(Held().having("c1", A, paused=True)) == "configuration-paused"


def test_numbers_written_with_spaces_are_understood() -> None:
    assert planned(Held().having("c1", A), to="+44 20 7946 0000").to_number == "+442079460000"


@pytest.mark.parametrize(
    "text", ["", "4155550100", "+", "+1", "+999123456789", "+1415555010099999", "+14155550100x12", "+abc"]
)
def test_what_is_no_international_number_is_refused(text: str) -> None:
    with pytest.raises(Refusal, match=r"`to` is not an E\.164 number"):
        e164("to", text)


def test_every_refusal_has_its_reason() -> None:
    one = Held().having("c1", A)
    assert refused(one, workflow_id="nobody's") == "unknown-workflow"
    assert refused(one, workflow_id="foreign") == "unknown-workflow"
    assert refused(one, configuration_id="c9") == "unknown-configuration"
    assert refused(Held().having("c1", A, user_id="user-2"), configuration_id="c1") == "unknown-configuration"
    assert refused(Held()) == "no-configuration"
    assert refused(Held().having("c1", A).having("c2", B)) == "ambiguous-configuration"
    assert refused(Held().having("c1")) == "no-active-number"
    assert refused(Held().having("c1", A + "-")) == "no-active-number"
    assert refused(Held().having("c1", A, B)) == "no-default-caller-id"
    assert refused(one, from_number=B) == "not-your-number"
    assert refused(one, from_number=B, configuration_id="c1") == "not-your-number"
    assert refused(Held().having("c1", A + "-"), from_number=A) == "not-your-number"
    assert refused(Held().having("c1", A, verification="refused")) == "configuration-unverified"
    assert refused(Held().having("c1", A, verification="not-verified")) == "configuration-unverified"
    rules = DiallingRules(countries=("US",), denied_prefixes=("+1900",))
    assert refused(Held().having("c1", A, dialling_rules=rules)) == "country-not-allowed"
    assert refused(Held().having("c1", A, dialling_rules=rules), to="+19005550199") == "number-not-allowed"
    assert refused(one, to="0123") == "not-e164"
    assert refused(one, from_number="0123") == "not-e164"
