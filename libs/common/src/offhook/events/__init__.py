"""What happens to a call, as CloudEvents. See `envelope` for the wire form and `calls` for the vocabulary."""

from offhook.events.audit import WebhookAudited
from offhook.events.calls import (
    TERMINAL_STATUSES,
    AgentConnected,
    AgentLost,
    CallDirection,
    CallOriginated,
    CallReceived,
    CallRequested,
    CallStatus,
    CommandFailed,
    DtmfReceived,
    HangupRequested,
    InstructionsServed,
    MediaQuality,
    MediaStarted,
    MediaStopped,
    Party,
    StatusReported,
)
from offhook.events.commands import HangUp, Originate
from offhook.events.envelope import Event, EventData, EventDecodeError, decode, encode, new_event, registered_types

__all__ = [
    "TERMINAL_STATUSES",
    "AgentConnected",
    "AgentLost",
    "CallDirection",
    "CallOriginated",
    "CallReceived",
    "CallRequested",
    "CallStatus",
    "CommandFailed",
    "DtmfReceived",
    "Event",
    "EventData",
    "EventDecodeError",
    "HangUp",
    "HangupRequested",
    "InstructionsServed",
    "MediaQuality",
    "MediaStarted",
    "MediaStopped",
    "Originate",
    "Party",
    "StatusReported",
    "WebhookAudited",
    "decode",
    "encode",
    "new_event",
    "registered_types",
]
