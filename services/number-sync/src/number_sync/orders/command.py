"""The kinds of orders, and one order that is being carried out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from offhook.events import Event, EventData, HangUp, Observe, Originate, SendDigits, Transfer

Order = Originate | HangUp | Observe | Transfer | SendDigits

Told = Literal["originate", "hangup", "observe", "transfer", "dtmf"]
Kind = Literal[Told, "confirm", "give-back"]

KINDS: Final[Mapping[Kind, type[Order]]] = {
    "originate": Originate,
    "hangup": HangUp,
    "observe": Observe,
    "confirm": Observe,
    "transfer": Transfer,
    "give-back": Transfer,
    "dtmf": SendDigits,
}
"""The names are the ledger's. Two are nobody's order: `confirm` follows a hang-up, and looks whether the call has ended;
`give-back` follows a warm transfer that came to nothing, and sends the caller back to an agent."""

LOOKS: Final[frozenset[Kind]] = frozenset({"observe", "confirm"})
"""Kinds that change nothing at the provider. They hold up no other order of their call, and leave most slots to others."""

_NAMES: Final[Mapping[type[EventData], Kind]] = {
    Originate: "originate",
    HangUp: "hangup",
    Observe: "observe",
    Transfer: "transfer",
    SendDigits: "dtmf",
}

_TOLD: Final[Mapping[Kind, Told]] = {"confirm": "hangup", "give-back": "transfer"}


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
        return _TOLD.get(self.kind) or cast(Told, self.kind)


def order_of(event: Event[EventData]) -> Order | None:
    """What is ordered by `event`; None when it is nothing number-sync carries out."""
    return event.data if isinstance(event.data, Order) else None


def kind_of(order: Order) -> Kind:
    return _NAMES[type(order)]
