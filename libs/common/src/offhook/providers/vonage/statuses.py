"""Vonage's words for a call's progress and what they mean.

https://developer.vonage.com/en/voice/voice-api/webhook-reference. A WebSocket is a leg of its own and sends
its own events.
"""

from typing import Final

from offhook.events.calls import CallDirection, CallStatus, MessageEnd, TransferResult

CALL_STATUSES: Final[dict[str, CallStatus]] = {
    "started": CallStatus.INITIATED,
    "ringing": CallStatus.RINGING,
    "answered": CallStatus.ANSWERED,
    "completed": CallStatus.COMPLETED,
    "busy": CallStatus.BUSY,
    "timeout": CallStatus.NO_ANSWER,
    "unanswered": CallStatus.NO_ANSWER,
    "cancelled": CallStatus.CANCELED,
    "canceled": CallStatus.CANCELED,
    "rejected": CallStatus.FAILED,
    "failed": CallStatus.FAILED,
}

# A callee who declines is busy to us: the number works, and dialling later makes sense.
REJECTED_DETAILS: Final[dict[str, CallStatus]] = {
    "declined": CallStatus.BUSY,
    "invalid_number": CallStatus.FAILED,
    "restricted": CallStatus.FAILED,
}
# Only the event has the detail: the REST API says no more than `rejected`, and the same call must come out the same.
# Most often it is the callee who declined.
_LIKELIEST_REJECTION: Final = "declined"

ANSWERED_BY: Final[dict[str, str]] = {"human": "human", "machine": "machine"}
# `sub_state` of a second `machine`: https://developer.vonage.com/en/voice/voice-api/concepts/advanced-machine-detection
MESSAGE_ENDS: Final[dict[str, MessageEnd]] = {"beep_start": "beep", "beep_timeout": "other"}

# Prices are in euro: https://developer.vonage.com/en/voice/voice-api/webhook-reference#completed
PRICE_UNIT: Final = "EUR"

DIRECTIONS: Final[dict[str, CallDirection]] = {"inbound": "inbound", "outbound": "outbound"}

# Of the leg of a party that a call is transferred to. `completed` comes only after `answered`.
TRANSFER_RESULTS: Final[dict[str, TransferResult]] = {
    "completed": "completed",
    "busy": "busy",
    "timeout": "no-answer",
    "unanswered": "no-answer",
    "rejected": "failed",
    "failed": "failed",
    "cancelled": "failed",
    "canceled": "failed",
}

# Of the media leg, on a synchronous event URL: the audio ended or never began, and the answer may be a new
# NCCO. `disconnected` is always the media leg: the socket was closed, and not by a REST hang-up.
DISCONNECTED: Final = "disconnected"
ASKS_FOR_INSTRUCTIONS: Final = frozenset(
    {DISCONNECTED, "failed", "unanswered", "timeout", "rejected", "busy"}
)

# Events without a `status`, told apart by a field of theirs.
UNNAMED_EVENTS: Final[tuple[tuple[str, str], ...]] = (
    ("recording_url", "record"),
    ("dtmf", "input"),
    ("speech", "input"),
    ("conversation_uuid_to", "transfer"),
    ("reason", "error"),
)


def status_of(word: str, detail: str) -> CallStatus | None:
    """What a word of Vonage's means; None for one that says nothing about a call's state, or is not known."""
    if word == "rejected":
        return REJECTED_DETAILS.get(detail or _LIKELIEST_REJECTION, CallStatus.FAILED)
    return CALL_STATUSES.get(word)
