"""The form that places a test call. The browser gives the order to call-tracker's API, and follows the call there. Pure."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from number_sync.pages.countries import readable
from offhook.events import CallStatus

# Which input an objection of call-tracker belongs to, by its `reason`; any other is of the form as a whole.
_FIELDS: Final[Mapping[str, str]] = {
    "not-e164": "to",
    "number-not-allowed": "to",
    "country-not-allowed": "to",
    "not-your-number": "from",
    "no-active-number": "from",
    "no-default-caller-id": "from",
    "no-configuration": "from",
    "ambiguous-configuration": "from",
    "configuration-paused": "from",
    "configuration-unverified": "from",
    "unknown-workflow": "workflow_id",
}
REASONS: Final = json.dumps(_FIELDS)

DETECTIONS: Final = (
    ("off", "No"),
    ("detect", "Yes, as soon as somebody answers"),
    ("detect-message-end", "Yes, and wait for a machine's beep"),
)

# Status → what its state looks like (`parts.state`), and what is said of it.
STATUS_WORDS: Final[Mapping[CallStatus, tuple[str, str]]] = {
    CallStatus.INITIATED: ("pending", "Dialling"),
    CallStatus.RINGING: ("pending", "Ringing"),
    CallStatus.ANSWERED: ("active", "Answered: the agent is on the phone"),
    CallStatus.COMPLETED: ("synced", "Ended: it was answered"),
    CallStatus.BUSY: ("drifted", "Ended: busy"),
    CallStatus.NO_ANSWER: ("drifted", "Ended: nobody answered"),
    CallStatus.FAILED: ("failed", "Ended: it failed"),
    CallStatus.CANCELED: ("detached", "Ended: canceled before an answer"),
}


@dataclass(frozen=True, slots=True)
class CallForm:
    """`workflows` and `numbers` are pairs of value and text; one of each is not asked about. `objection`: why no call can
    be placed from here."""

    workflows: tuple[tuple[str, str], ...]
    workflow_id: str
    numbers: tuple[tuple[str, str], ...]
    from_number: str
    objection: str | None = None

    detections = DETECTIONS
    reasons = REASONS
    words = tuple((status.value, *words) for status, words in STATUS_WORDS.items())


def from_workflow(workflow_id: str, name: str, active: Iterable[Any], answers: Iterable[Any]) -> CallForm:
    """`active`: the user's active numbers; `answers`: those that the workflow answers, one of which is proposed."""
    numbers = tuple((one.e164, _described(one)) for one in active)
    own = {one.e164 for one in answers}
    proposed = next((e164 for e164, _ in numbers if e164 in own), "")
    if not numbers:
        return CallForm(
            (), workflow_id, (), "", "A call needs an active phone number to call from: add one first."
        )
    choices = (("", "The configuration's caller ID"), *numbers) if len(numbers) > 1 else numbers
    return CallForm(((workflow_id, name),), workflow_id, choices, proposed or choices[0][0])


def from_number(number: Any, workflows: Iterable[Any]) -> CallForm:
    choices = tuple((one.id, one.name) for one in workflows)
    own = ((number.e164, readable(number.e164)),)
    if not number.active:
        return CallForm(
            (), "", own, number.e164, "This number is not active: make it active, then call from it."
        )
    if not choices:
        return CallForm((), "", own, number.e164, "There is no workflow yet: add one, then call.")
    return CallForm(choices, number.workflow_id or choices[0][0], own, number.e164)


def _described(number: Any) -> str:
    return f"{readable(number.e164)} {number.label}".strip()
