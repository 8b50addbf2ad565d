"""The first-use guide: configuration → number → workflow → test call. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from number_sync.pages.countries import readable
from number_sync.pages.sync_view import SyncView

StepState = Literal["done", "current", "later"]

CONFIGURATIONS: Final = "/telephony-configurations"
WORKFLOWS: Final = "/workflows"


@dataclass(frozen=True, slots=True)
class GuideNumber:
    """One of the user's numbers. `answers`: it is active and has a workflow; `paused`: its configuration is.

    `call_status` is of the last call that came in on it, None before the first; `call_at` in ms since 1970.
    """

    number_id: str
    configuration_id: str
    e164: str
    answers: bool
    paused: bool
    sync: SyncView
    call_status: str | None = None
    call_at: int | None = None

    @property
    def configuration_url(self) -> str:
        return f"{CONFIGURATIONS}/{self.configuration_id}"

    @property
    def url(self) -> str:
        return f"{self.configuration_url}/phone-numbers/{self.number_id}"


@dataclass(frozen=True, slots=True)
class Link:
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Tick:
    """Something of a step that has happened, or not yet. `at`: ms since 1970."""

    text: str
    done: bool
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    text: str
    state: StepState
    links: tuple[Link, ...] = ()
    ticks: tuple[Tick, ...] = ()
    trouble: SyncView | None = None


def guide(
    *,
    configuration_ids: Sequence[str],
    refused: bool = False,
    numbers: Sequence[GuideNumber],
    workflow_ids: Sequence[str],
) -> tuple[Step, ...]:
    """The steps, for a user whose agents have not taken a call yet. `numbers`: the one to be called comes first.

    `refused`: the provider refuses the credentials of all configurations.
    """
    configured = bool(configuration_ids) and not refused
    answering = next((number for number in numbers if number.answers), None)
    done = (configured, bool(numbers), bool(workflow_ids) and answering is not None)
    current = done.index(False) if False in done else len(done)

    def state(position: int) -> StepState:
        if position < len(done) and done[position]:
            return "done"
        return "current" if position == current else "later"

    first = configuration_ids[0] if configuration_ids else None
    return (
        Step(
            "Add a configuration",
            "The provider refuses the credentials. Correct them, and they are tried again."
            if refused
            else "Your account at a telephony provider, with its credentials.",
            state(0),
            (Link("Correct the credentials", f"{CONFIGURATIONS}/{first}/edit"),)
            if refused
            else (Link("Add configuration", f"{CONFIGURATIONS}/new"),),
        ),
        Step(
            "Add a phone number",
            "A number that this account owns at the provider.",
            state(1),
            (
                Link("Import numbers", f"{CONFIGURATIONS}/{first}/import"),
                Link("Add number", f"{CONFIGURATIONS}/{first}/phone-numbers/new"),
            )
            if first
            else (),
        ),
        _workflow_step(state(2), numbers, workflow_ids),
        _call_step(state(3), answering),
    )


def _workflow_step(state: StepState, numbers: Sequence[GuideNumber], workflow_ids: Sequence[str]) -> Step:
    title = "Say which workflow answers"
    if not workflow_ids:
        text = "A workflow says how your agent is reached."
        return Step(title, text, state, (Link("Add workflow", f"{WORKFLOWS}/new"),))
    text = "An active number needs a workflow, or nobody answers its calls."
    links = tuple(Link(f"Choose for {readable(number.e164)}", number.url) for number in numbers[:1])
    return Step(title, text, state, links)


def _call_step(state: StepState, number: GuideNumber | None) -> Step:
    title = "Make a test call"
    if number is None:
        return Step(title, "Call your number from any phone and talk to your agent.", state)
    came_in = number.call_status is not None
    if number.paused:
        text = "The configuration is paused and refuses calls. Resume it first."
        return Step(title, text, state, (Link("Open the configuration", number.configuration_url),))
    return Step(
        title,
        f"Call {readable(number.e164)} from any phone. This page notices by itself.",
        state,
        ticks=(
            Tick("The number is set up at the provider", number.sync.state == "synced"),
            Tick(_came_in(number), came_in, number.call_at),
            Tick("An agent answered it", False),
        ),
        # A call that came in proves more than any comparison.
        trouble=number.sync
        if number.sync.state in ("failed", "drifted", "pending") and not came_in
        else None,
    )


def _came_in(number: GuideNumber) -> str:
    match number.call_status:
        case None:
            return "The call came in"
        case "initiated" | "ringing":
            return "The call came in and rings"
        case status:
            return f"A call came in, and ended unanswered ({status})"
