"""A Twilio and a Vonage that never existed, as strict as the real ones. Start with `CarrierSim`."""

from carrier_sim.callee import Callee, Callees
from carrier_sim.caller import (
    BargeIn,
    Beep,
    Caller,
    HangUp,
    Press,
    Say,
    StayUntilHungUp,
    Wait,
    WaitForAgent,
)
from carrier_sim.config import SimConfig
from carrier_sim.faults import Faults
from carrier_sim.report import Callback, CallReport, Interruption, Mark, StatusSent, Violation
from carrier_sim.rest_faults import RestFault
from carrier_sim.rest_log import RestLog, RestRequest
from carrier_sim.sim import CarrierSim

__all__ = [
    "BargeIn",
    "Beep",
    "CallReport",
    "Callback",
    "Callee",
    "Callees",
    "Caller",
    "CarrierSim",
    "Faults",
    "HangUp",
    "Interruption",
    "Mark",
    "Press",
    "RestFault",
    "RestLog",
    "RestRequest",
    "Say",
    "SimConfig",
    "StatusSent",
    "StayUntilHungUp",
    "Violation",
    "Wait",
    "WaitForAgent",
]
