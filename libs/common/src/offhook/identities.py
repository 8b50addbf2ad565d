"""Ids and paths: the one place that knows how a workflow, its owner and a call are named in a URL.

A *run* is one call. Ids are opaque; they carry no secret and may be logged.
"""

import re
import uuid
from typing import Final
from urllib.parse import urlencode

ID_PATTERN: Final = r"^[A-Za-z0-9_-]{1,64}$"
_ID = re.compile(ID_PATTERN)

# Namespace of derived ids. Never change it: a provider's retry must find the run it named before.
_NAMESPACE: Final = uuid.UUID("6f66f6b0-0ff4-5bcb-9d5e-0ff400c0ffee")

TELEPHONY_PREFIX: Final = "/api/v1/telephony"
INBOUND_PATH: Final = f"{TELEPHONY_PREFIX}/inbound/run"
INBOUND_FALLBACK_PATH: Final = f"{TELEPHONY_PREFIX}/inbound/fallback"

# The status URL of a number or an application serves all of its calls, so it cannot name a run. This word
# stands where the run id would; the run is then derived from the call id in the request.
DERIVED_RUN: Final = "inbound"


def is_id(text: str) -> bool:
    """Whether `text` may be a workflow, user or run id: 1 to 64 of `A-Z a-z 0-9 _ -`."""
    return _ID.fullmatch(text) is not None


def inbound_run_id(provider: str, account: str, provider_call_id: str) -> str:
    """The run of an inbound call: the same call gives the same id, in every process and for ever (UUIDv5).

    `account` is the provider's account as the configuration holds it (Twilio: Account SID; Vonage: application id);
    `provider_call_id` is the caller's leg (Twilio: CallSid; Vonage: uuid).
    """
    return uuid.uuid5(_NAMESPACE, f"run\n{provider}\n{account}\n{provider_call_id}").hex


def derived_id(*parts: str) -> str:
    """An id that follows from its parts alone (UUIDv5), for events and commands that may be made twice."""
    return uuid.uuid5(_NAMESPACE, "id\n" + "\n".join(parts)).hex


def consult_run_id(command_id: str) -> str:
    """The run of the call to whom a warm transfer goes; `command_id` is the event id of the `Transfer` command."""
    return derived_id("consult", command_id)


def transfer_id(command_id: str) -> str:
    """What tells a transfer from the call's others; `command_id` is the event id of the `Transfer` command."""
    return derived_id("transfer", command_id)


def new_id() -> str:
    """A fresh random id (122 bits)."""
    return uuid.uuid4().hex


def webhook_path(workflow_id: str, user_id: str, workflow_run_id: str) -> str:
    """Where a provider asks for the instructions of one call."""
    return f"{TELEPHONY_PREFIX}/webhook/{workflow_id}/{user_id}/{workflow_run_id}"


def transfer_path(
    workflow_id: str, user_id: str, workflow_run_id: str, word: str, provider_call_id: str, transfer_id: str
) -> str:
    """Where a provider asks how a call goes on that was transferred. `word` is `cold`, when the request itself says what
    became of it, or what became of it. `provider_call_id` is the call's own leg: not every such request names it."""
    query = urlencode({"transfer": word, "call": provider_call_id, "after": transfer_id})
    return f"{webhook_path(workflow_id, user_id, workflow_run_id)}?{query}"


def status_path(workflow_run_id: str = DERIVED_RUN) -> str:
    """Where a provider reports the progress of one call (without an argument: of any inbound call)."""
    return f"{TELEPHONY_PREFIX}/status-callback/{workflow_run_id}"


def media_path(workflow_id: str, user_id: str, workflow_run_id: str) -> str:
    """Where a provider connects the audio of one call (WebSocket)."""
    return f"{TELEPHONY_PREFIX}/ws/{workflow_id}/{user_id}/{workflow_run_id}"


def websocket_origin(public_url: str) -> str:
    """The WebSocket form of a public base URL: https becomes wss, http becomes ws."""
    return "ws" + public_url.removeprefix("http").rstrip("/")
