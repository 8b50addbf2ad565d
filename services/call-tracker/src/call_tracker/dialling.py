"""Whether an outbound call may be dialled, through which configuration, and under which caller ID. Pure.

Caller ID: the number asked for (an active number of the configuration), else the configuration's default, else its only
active number. Every refusal says why, before anything is dialled. Whether limits allow it, `actions` asks afterwards.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import phonenumbers
from phonenumbers import NumberParseException, ValidationResult

from offhook.dialling_rules import objection_to
from offhook.records import ConfigurationRecord, NumberRecord, WorkflowRecord

_LENGTHS: Final = {
    ValidationResult.INVALID_COUNTRY_CODE: "its country code does not exist",
    ValidationResult.TOO_SHORT: "it has too few digits",
    ValidationResult.TOO_LONG: "it has too many digits",
    ValidationResult.INVALID_LENGTH: "no number of that country has that many digits",
    ValidationResult.IS_POSSIBLE_LOCAL_ONLY: "the area code is missing",
}


class Refusal(Exception):  # noqa: N818 - nobody erred; the call is not wanted
    """What was asked for is not done. `reason` is one word for programs, the message a sentence for people.

    `conflict`: the request is well-formed, but the state of the account or the call stands against it. `retry_after_s`:
    a limit stands against it, which may be free again then.
    """

    def __init__(
        self, reason: str, sentence: str, *, conflict: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.conflict = conflict
        self.retry_after_s = retry_after_s


class Holdings(Protocol):
    """What a user has, by the directories."""

    def workflow(self, workflow_id: str) -> WorkflowRecord | None: ...

    def configuration(self, configuration_id: str) -> ConfigurationRecord | None: ...

    def configurations_of(self, user_id: str) -> Iterable[ConfigurationRecord]: ...

    def numbers_of(self, configuration_id: str) -> Iterable[NumberRecord]: ...


@dataclass(frozen=True, slots=True)
class DialPlan:
    """A call that may be dialled."""

    configuration: ConfigurationRecord
    from_number: str
    to_number: str


def plan(
    holdings: Holdings,
    *,
    user_id: str,
    workflow_id: str,
    to: str,
    from_number: str | None,
    configuration_id: str | None,
) -> DialPlan:
    """The plan of a call. Raises `Refusal`."""
    to_number = e164("to", to)
    caller_id = None if from_number is None else e164("from", from_number)
    workflow = holdings.workflow(workflow_id)
    if workflow is None or workflow.user_id != user_id:
        raise Refusal("unknown-workflow", "There is no workflow with this workflow_id.")
    configuration = _configuration(holdings, user_id, configuration_id, caller_id)
    check_usable(configuration)
    from_own = _caller_id(holdings, configuration, caller_id)
    check_allowed(configuration, to_number)
    return DialPlan(configuration, from_own, to_number)


def check_usable(configuration: ConfigurationRecord) -> None:
    """Raises `Refusal` while nothing can be dialled through the configuration, whatever the number."""
    if configuration.paused:
        raise Refusal(
            "configuration-paused", "The configuration is paused: resume it to dial.", conflict=True
        )
    if configuration.verification == "refused":
        raise Refusal(
            "configuration-unverified",
            "The provider refused the configuration's credentials: correct them and try them again.",
            conflict=True,
        )
    if configuration.verification != "verified":
        raise Refusal(
            "configuration-unverified",
            "The provider has not accepted the configuration's credentials yet: try them, then dial.",
            conflict=True,
        )


def check_allowed(configuration: ConfigurationRecord, number: str) -> None:
    """Raises `Refusal` when the configuration's dialling rules forbid to call `number` (E.164)."""
    objection = objection_to(configuration.dialling_rules, number)
    if objection is not None:
        raise Refusal(objection.reason, objection.sentence, conflict=True)


def e164(field: str, text: str) -> str:
    """`text` in E.164. It must be international and possible; whether it is in use, the provider will say."""
    reason = "it does not begin with + and the country code"
    if text.strip().startswith("+"):
        try:
            number = phonenumbers.parse(text, None)
        except NumberParseException:
            reason = "it is not a phone number"
        else:
            possible = phonenumbers.is_possible_number_with_reason(number)
            if possible == ValidationResult.IS_POSSIBLE and not number.extension:
                return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
            reason = _LENGTHS.get(possible, "it has an extension")
    raise Refusal(
        "not-e164", f"`{field}` is not an E.164 number: {reason}. Such a number looks like +14155550123."
    )


def _configuration(
    holdings: Holdings, user_id: str, configuration_id: str | None, caller_id: str | None
) -> ConfigurationRecord:
    if configuration_id is not None:
        found = holdings.configuration(configuration_id)
        if found is None or found.user_id != user_id:
            raise Refusal("unknown-configuration", "There is no configuration with this configuration_id.")
        return found
    own = sorted(
        holdings.configurations_of(user_id), key=lambda one: (one.paused, not one.default_for_outbound)
    )
    if not own:
        raise Refusal(
            "no-configuration",
            "There is no configuration: connect an account of a provider first.",
            conflict=True,
        )
    if caller_id is not None:
        for one in own:
            if caller_id in _active(holdings, one):
                return one
        raise _unknown_caller_id(caller_id)
    usable = [one for one in own if not one.paused]
    if not usable or usable[0].default_for_outbound or len(usable) == 1:
        return own[0]
    raise Refusal(
        "ambiguous-configuration",
        "There are several configurations and none is the default for outbound calls: give configuration_id.",
    )


def _caller_id(holdings: Holdings, configuration: ConfigurationRecord, wanted: str | None) -> str:
    active = _active(holdings, configuration)
    if wanted is not None:
        if wanted not in active:
            raise _unknown_caller_id(wanted)
        return wanted
    if not active:
        raise Refusal(
            "no-active-number",
            "The configuration has no active number to call from: add or activate one.",
            conflict=True,
        )
    defaults = [number for number, is_default in active.items() if is_default]
    if defaults:
        return defaults[0]
    if len(active) == 1:
        return next(iter(active))
    raise Refusal(
        "no-default-caller-id",
        "The configuration has several active numbers and no default caller ID: set one, or give `from`.",
        conflict=True,
    )


def _active(holdings: Holdings, configuration: ConfigurationRecord) -> dict[str, bool]:
    """Active numbers, and whether each is the default caller ID."""
    return {
        number.e164: number.default_caller_id
        for number in holdings.numbers_of(configuration.configuration_id)
        if number.active and number.user_id == configuration.user_id
    }


def _unknown_caller_id(number: str) -> Refusal:
    return Refusal(
        "not-your-number", f"`from` must be an active number of the configuration; {number} is not."
    )
