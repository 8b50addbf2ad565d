"""What the form above the list of calls asks for. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode

from call_tracker.pages.explanations import EXPLANATIONS
from call_tracker.store import CallFilter
from call_tracker.store.searching import MIN_DIGITS, fragment
from offhook.events import CallStatus
from offhook.identities import is_id

LIVE: Final = "live"
_MAX_TEXT: Final = 200
_NAMES: Final = (
    "q",
    "status",
    "direction",
    "number",
    "workflow",
    "provider",
    "end_reason",
    "since",
    "until",
)
STATUSES: Final = (
    (LIVE, "Live"),
    ("completed", "Completed"),
    ("no-answer", "No answer"),
    ("busy", "Busy"),
    ("failed", "Failed"),
    ("canceled", "Given up"),
    ("initiated", "Being set up"),
    ("ringing", "Ringing"),
    ("answered", "In conversation"),
)
DIRECTIONS: Final = (("inbound", "Inbound"), ("outbound", "Outbound"))
END_REASONS: Final = tuple((reason, said.short) for reason, said in EXPLANATIONS.items())


@dataclass(frozen=True, slots=True)
class Asked:
    """`values` by field, as sent; `which` calls they mean; `errors` by field, where they mean nothing."""

    values: Mapping[str, str]
    which: CallFilter
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def narrowed(self) -> bool:
        """Whether the filters below the search are in use."""
        return any(name != "q" for name in self.values)

    def query(self, **changes: str | None) -> str:
        """The same as a query string, with `changes`; None leaves a field out."""
        merged: dict[str, str | None] = {**self.values, **changes}
        return urlencode({name: value for name, value in merged.items() if value})


def asked(parameters: Mapping[str, str]) -> Asked:
    """What was asked for; what makes no sense restricts nothing and is told."""
    values: dict[str, str] = {}
    for name in _NAMES:
        text = parameters.get(name, "").strip()[:_MAX_TEXT]
        if text and text.isprintable():
            values[name] = text
    errors: dict[str, str] = {}
    which: dict[str, Any] = {}
    status = values.get("status")
    if status == LIVE:
        which["active"] = True
    elif status is not None:
        if status in set(CallStatus):
            which["status"] = status
        else:
            errors["status"] = "There is no such status."
    for name, known in (("direction", dict(DIRECTIONS)), ("end_reason", EXPLANATIONS)):
        if name in values:
            if values[name] in known:
                which[name] = values[name]
            else:
                errors[name] = "Choose one of the list."
    if "workflow" in values:
        if is_id(values["workflow"]):
            which["workflow_id"] = values["workflow"]
        else:
            errors["workflow"] = "Choose one of the list."
    if "provider" in values:
        which["provider"] = values["provider"]
    if "number" in values:
        if fragment(values["number"]) is None:
            errors["number"] = f"At least {MIN_DIGITS} digits, from the beginning or the end of the number."
        else:
            which["number"] = values["number"]
    for name in ("since", "until"):
        if name in values:
            moment = _moment(values[name])
            if moment is None:
                errors[name] = "A date and a time, such as 2026-11-01T08:30."
            else:
                which[name] = moment
    if "q" in values:
        which["words"] = values["q"]
    return Asked(values, CallFilter(**which), errors)


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        moment = (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment.year > 1 else None
