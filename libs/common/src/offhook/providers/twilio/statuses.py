"""Twilio's words for a call's progress and what they mean.

https://www.twilio.com/docs/voice/api/call-resource. The word `answered` never comes: an answered call is
`in-progress`.
"""

from typing import Final

from offhook.events.calls import CallDirection, CallStatus, MessageEnd, TransferResult

CALL_STATUSES: Final[dict[str, CallStatus]] = {
    "queued": CallStatus.INITIATED,
    "initiated": CallStatus.INITIATED,
    "ringing": CallStatus.RINGING,
    "in-progress": CallStatus.ANSWERED,
    "completed": CallStatus.COMPLETED,
    "busy": CallStatus.BUSY,
    "no-answer": CallStatus.NO_ANSWER,
    "failed": CallStatus.FAILED,
    "canceled": CallStatus.CANCELED,
}

DIRECTIONS: Final[dict[str, CallDirection]] = {
    "inbound": "inbound",
    "outbound-api": "outbound",
    "outbound-dial": "outbound",
    "trunking-originating": "outbound",
    "trunking-terminating": "inbound",
}

# https://www.twilio.com/docs/voice/answering-machine-detection
ANSWERED_BY: Final[dict[str, str]] = {
    "human": "human",
    "machine_start": "machine",
    "machine_end_beep": "machine",
    "machine_end_silence": "machine",
    "machine_end_other": "machine",
    "fax": "fax",
    "unknown": "unknown",
}
MESSAGE_ENDS: Final[dict[str, MessageEnd]] = {
    "machine_end_beep": "beep",
    "machine_end_silence": "silence",
    "machine_end_other": "other",
}

# `DialCallStatus`, of the party a <Dial> called: https://www.twilio.com/docs/voice/twiml/dial#dialcallstatus-values.
# `answered` is said of a conference. After `canceled` it is the caller who has gone.
TRANSFER_RESULTS: Final[dict[str, TransferResult]] = {
    "completed": "completed",
    "answered": "completed",
    "busy": "busy",
    "no-answer": "no-answer",
    "failed": "failed",
    "canceled": "failed",
}
