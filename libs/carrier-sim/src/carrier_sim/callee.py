"""Who answers when the simulator's network is asked to ring a number."""

from dataclasses import dataclass, field
from typing import Literal

from carrier_sim.caller import Beep, Caller, Say, StayUntilHungUp, Step
from carrier_sim.faults import Faults

AnsweredBy = Literal["human", "machine", "fax"]
Outcome = Literal["answer", "busy", "no-answer", "rejected", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class Callee:
    """The phone that rings. `answer_after_s`: seconds of ringing until the outcome; `no-answer` rings until the ring timeout.

    `canceled`: the network gives up while ringing. `answered_by`: what machine detection finds, if it was asked for;
    a machine speaks for `greeting_s` before its beep. `faults` are those of calls to this phone.
    """

    answer_after_s: float = 0.3
    outcome: Outcome = "answer"
    caller: Caller = field(default_factory=Caller)
    answered_by: AnsweredBy = "human"
    greeting_s: float = 0.0
    faults: Faults | None = None

    @classmethod
    def machine(
        cls, greeting_s: float = 1.5, records_s: float = 10.0, answer_after_s: float = 0.3
    ) -> "Callee":
        """An answering machine: a greeting, a beep, and so many seconds of tape."""
        steps = (Say(greeting_s), Beep(), StayUntilHungUp(records_s))
        return cls(answer_after_s, "answer", Caller(steps, at_once=True), "machine", greeting_s)

    @classmethod
    def fax(cls, patience_s: float = 10.0, answer_after_s: float = 0.3) -> "Callee":
        """A fax machine: its tone again and again, and then it gives up."""
        steps: list[Step] = [Beep(0.5, 2100.0)] * max(1, round(patience_s / 0.5))
        return cls(answer_after_s, "answer", Caller(steps, at_once=True), "fax")


class Callees:
    """Callees by number (E.164); `default` is everybody else."""

    def __init__(self) -> None:
        self.default = Callee()
        self._known: dict[str, Callee] = {}

    def __setitem__(self, number: str, callee: Callee) -> None:
        """Who answers `number`, with or without the leading `+`."""
        self._known[number.lstrip("+")] = callee

    def find(self, number: str) -> Callee:
        return self._known.get(number.lstrip("+"), self.default)
