"""Kafka, for all services: publish, consume, directories of compacted topics, dead letters, the durable
outlet.
"""

from offhook.bus.broker import BusSettings, PlainBusSettings
from offhook.bus.bus import Bus, OutgoingRecord
from offhook.bus.dead_letters import DeadLetter
from offhook.bus.directory import Directory
from offhook.bus.errors import BusError, BusUnavailable, EventTooLarge, OutletError, OutletFull, PoisonError
from offhook.bus.health import Health
from offhook.bus.outlet import Outlet

__all__ = [
    "Bus",
    "BusError",
    "BusSettings",
    "BusUnavailable",
    "DeadLetter",
    "Directory",
    "EventTooLarge",
    "Health",
    "OutgoingRecord",
    "Outlet",
    "OutletError",
    "OutletFull",
    "PlainBusSettings",
    "PoisonError",
]
