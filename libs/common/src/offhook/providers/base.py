"""What every telephony provider's adapter does, in the field's neutral words: the public names, in one place.

Adapters are pure: no I/O, no clock, no randomness. The gateway, the bridge and number-sync own the sockets;
they hand the adapter bytes and the time, and carry out what it answers. The provider's REST calls (`rest` in
each room) are described here as plain data; number-sync makes them.
"""

from offhook.providers.adapter import ProviderAdapter
from offhook.providers.credential_fields import CredentialField, credential_fields
from offhook.providers.documents import Documents
from offhook.providers.errors import (
    InstructionError,
    MediaError,
    ProviderError,
    RequestError,
    RestError,
    SignatureError,
    SignatureFault,
)
from offhook.providers.lines import AccountFacts, Line, Lines, LineUrls, Obstacle, Settings, Wanted
from offhook.providers.media import (
    Audio,
    CarrierCommand,
    ClearAudio,
    Cleared,
    Dtmf,
    Frame,
    Ignored,
    MarkReached,
    MediaCarrier,
    MediaEvent,
    MediaServer,
    PlayAudio,
    SetMark,
    StreamStarted,
    StreamStopped,
    Violation,
)
from offhook.providers.rest import Dial, Dialled, Rest, RestFactory
from offhook.providers.seen import Seen, report, report_id
from offhook.providers.webhooks import (
    GOING_ON,
    CallRequest,
    ConnectPlan,
    HttpAnswer,
    HttpRequest,
    StatusReport,
    TransferProgress,
    Verified,
    Webhooks,
)

__all__ = [
    "GOING_ON",
    "AccountFacts",
    "Audio",
    "CallRequest",
    "CarrierCommand",
    "ClearAudio",
    "Cleared",
    "ConnectPlan",
    "CredentialField",
    "Dial",
    "Dialled",
    "Documents",
    "Dtmf",
    "Frame",
    "HttpAnswer",
    "HttpRequest",
    "Ignored",
    "InstructionError",
    "Line",
    "LineUrls",
    "Lines",
    "MarkReached",
    "MediaCarrier",
    "MediaError",
    "MediaEvent",
    "MediaServer",
    "Obstacle",
    "PlayAudio",
    "ProviderAdapter",
    "ProviderError",
    "RequestError",
    "Rest",
    "RestError",
    "RestFactory",
    "Seen",
    "SetMark",
    "Settings",
    "SignatureError",
    "SignatureFault",
    "StatusReport",
    "StreamStarted",
    "StreamStopped",
    "TransferProgress",
    "Verified",
    "Violation",
    "Wanted",
    "Webhooks",
    "credential_fields",
    "report",
    "report_id",
]
