"""What the list says of each call. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from call_tracker.pages.explanations import explanation
from call_tracker.pages.wording import duration, parsed, readable, since_ms
from offhook.events import TERMINAL_STATUSES, CallStatus
from offhook.providers.registry import PROVIDERS
from offhook.records import CallState

CALLS: Final = "/calls"


@dataclass(frozen=True, slots=True)
class Row:
    """One call in the list. `state` and `text` as `parts.state` takes them; `lasted` is None before an answer."""

    run: str
    href: str
    at: str | None
    inbound: bool
    far: str
    own: str
    workflow: str | None
    workflow_href: str | None
    provider: str
    state: str
    text: str
    lasted: str | None
    reconciled: bool
    live: bool


def row(call: CallState, name_of: Callable[[str], str | None], now: datetime) -> Row:
    inbound = call.direction == "inbound"
    far, own = (call.from_number, call.to_number) if inbound else (call.to_number, call.from_number)
    state, text = state_of(call)
    live = call.status not in TERMINAL_STATUSES
    lasted = None if call.talk_ms is None else duration(call.talk_ms)
    answered = parsed(call.answered_at)
    if live and answered is not None:
        # To ten seconds: the page follows, and need not for every second.
        talked_ms = since_ms(answered, now) // 10_000 * 10_000
        lasted = duration(talked_ms) if talked_ms > 0 else "some seconds"
    name = name_of(call.workflow_id) if call.workflow_id else None
    return Row(
        run=call.workflow_run_id,
        href=f"{CALLS}/{call.workflow_run_id}",
        at=call.requested_at,
        inbound=inbound,
        far=readable(far),
        own=readable(own),
        workflow=name or call.workflow_id,
        workflow_href=f"/workflows/{call.workflow_id}" if name else None,
        provider=provider_label(call.provider),
        state=state,
        text=text,
        lasted=lasted,
        reconciled=call.reconciled,
        live=live,
    )


def state_of(call: CallState) -> tuple[str, str]:
    """A state that `parts.state` knows, and words for it."""
    match call.status:
        case CallStatus.INITIATED:
            return "initiated", "Being set up"
        case CallStatus.RINGING:
            return "ringing", "Ringing"
        case CallStatus.ANSWERED:
            return "talking", "In conversation"
        case _:
            said = explanation(call.end_reason, call.end_detail)
            return f"ended-{said.kind}", said.short


def provider_label(name: str | None) -> str:
    adapter = PROVIDERS.get(name or "")
    return adapter.label if adapter is not None else name or "unknown"
