"""The kinds of orders, and one order that is being carried out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from offhook.events import Event, EventData, HangUp, Observe, Originate

Order = Originate | HangUp | Observe

Told = Literal["originate", "hangup", "observe"]
Kind = Literal[Told, "confirm"]

KINDS: Final[Mapping[Kind, type[Order]]] = {
    "originate": Originate,
    "hangup": HangUp,
    "observe": Observe,
    "confirm": Observe,
}
"""The names are the ledger's. `confirm` is nobody's order: it follows a hang-up, and looks whether the call has ended."""

LOOKS: Final[frozenset[Kind]] = frozenset({"observe", "confirm"})
"""Kinds that change nothing at the provider. They hold up no other order of their call, and leave most slots to others."""

_NAMES: Final[Mapping[type[EventData], Kind]] = {
    Originate: "originate",
    HangUp: "hangup",
    Observe: "observe",
}


@dataclass(frozen=True, slots=True)
class Command:
    """One command that is being carried out. `ordered_at` in ms since 1970; `attempts` counts the earlier ones."""

    command_id: str
    kind: Kind
    data: Order
    ordered_at: int
    attempts: int
    traceparent: str | None

    @property
    def run_id(self) -> str:
        return self.data.workflow_run_id

    @property
    def told(self) -> Told:
        """What `CommandFailed.command` says."""
        return "hangup" if self.kind == "confirm" else self.kind


def order_of(event: Event[EventData]) -> Order | None:
    """What is ordered by `event`; None when it is nothing number-sync carries out."""
    return event.data if isinstance(event.data, Order) else None


def kind_of(order: Order) -> Kind:
    return _NAMES[type(order)]
