"""Who answers when the simulator's network is asked to ring a number."""

from dataclasses import dataclass, field
from typing import Literal

from carrier_sim.caller import Caller

Outcome = Literal["answer", "busy", "no-answer", "rejected", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class Callee:
    """The phone that rings. `answer_after_s`: seconds of ringing until the outcome; `no-answer` rings until the ring timeout.

    `canceled`: the network gives up while ringing. `answered_by`: what machine detection finds, if it was asked for.
    """

    answer_after_s: float = 0.3
    outcome: Outcome = "answer"
    caller: Caller = field(default_factory=Caller)
    answered_by: Literal["human", "machine"] = "human"


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
