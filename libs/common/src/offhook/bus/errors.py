"""What can go wrong on the bus.

BusError
├── BusUnavailable      Kafka did not answer in time, or the bus is not started
├── EventTooLarge       the event is bigger than a Kafka record may be; sending it again will not help
└── OutletError         the local spool cannot be written (disk), or belongs to another process
    └── OutletFull      the local spool has reached its limit in bytes
PoisonError             raised by a consumer's handler: this one event can never be handled
"""

# ruff: noqa: N818 - the names say the state, as callers read them: except OutletFull

from offhook.events import Event, EventData


class BusError(Exception):
    """Base of what the bus raises."""


class BusUnavailable(BusError):
    """Kafka did not answer in time, or the bus is not started."""


class EventTooLarge(BusError):
    """The event is bigger than a Kafka record may be. Sending it again will not help."""


class OutletError(BusError):
    """The event is neither in Kafka nor in the local spool: do not acknowledge what caused it."""


class OutletFull(OutletError):
    """Kafka is away and the local spool has reached its limit in bytes."""


class PoisonError(Exception):
    """Raise it in a consumer's handler for an event that can never be handled, with a reason for people.

    The event goes to the dead letters and the handler is called again with the rest of the batch. So whatever
    the handler did before it raised must be undone or harmless to repeat, as with any other redelivery.
    """

    def __init__(self, event: Event[EventData], reason: str) -> None:
        super().__init__(f"{event.type} {event.id}: {reason}")
        self.event = event
        self.reason = reason
