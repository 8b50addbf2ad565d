"""The kinds of orders, and one order that is being carried out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from offhook.events import Event, EventData, HangUp, Originate

Order = Originate | HangUp

Kind = Literal["originate", "hangup"]

KINDS: Final[Mapping[Kind, type[Order]]] = {"originate": Originate, "hangup": HangUp}
"""The names are the ledger's, and what `CommandFailed.command` says."""

_NAMES: Final[Mapping[type[EventData], Kind]] = {model: kind for kind, model in KINDS.items()}


@dataclass(frozen=True, slots=True)
class Command:
    """One command that is being carried out. `ordered_at` in ms since 1970; `attempts` counts the earlier ones."""

    command_id: str
    data: Order
    ordered_at: int
    attempts: int
    traceparent: str | None

    @property
    def run_id(self) -> str:
        return self.data.workflow_run_id

    @property
    def kind(self) -> Kind:
        return _NAMES[type(self.data)]


def order_of(event: Event[EventData]) -> Order | None:
    """What is ordered by `event`; None when it is nothing number-sync carries out."""
    return event.data if isinstance(event.data, Order) else None


def kind_of(order: Order) -> Kind:
    return _NAMES[type(order)]
