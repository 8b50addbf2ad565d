"""Calls as CSV (RFC 4180), written piece by piece. No cell is a formula of a spreadsheet."""

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from call_tracker.store import CallFilter, Position, Store
from offhook.records import CallState

MAX_ROWS: Final = 100_000
"""Calls that one file holds at most."""

_AT_ONCE: Final = 500
_COLUMNS: Final = (
    "requested_at", "workflow_run_id", "direction", "from_number", "to_number", "workflow", "workflow_id", "status",
    "end_reason", "ended_by", "ringing_at", "answered_at", "ended_at", "ring_ms", "talk_ms", "duration_s", "price",
    "price_unit", "sip_code", "answered_by", "provider", "provider_call_id", "configuration_id", "transfer",
    "transfer_of", "reconciled", "metadata",
)  # fmt: skip
# A number alone is none: +14155550100 and -0.0085 stay what they are, for programs that read them again.
_NUMBER: Final = re.compile(r"[+-]?\d+(\.\d+)?")
# https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def safe_cell(text: str) -> str:
    """The text, with an apostrophe in front where a spreadsheet would compute something."""
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text


async def export(
    store: Store, user_id: str, which: CallFilter, name_of: Callable[[str], str]
) -> AsyncIterator[str]:
    """The calls of `user_id` that `which` means, newest first, `MAX_ROWS` at most. `name_of` a workflow's id."""
    yield _lines([_COLUMNS])
    after: Position | None = None
    left = MAX_ROWS
    while left:
        calls, after = await store.calls(user_id, which, limit=min(_AT_ONCE, left), after=after)
        yield _lines(_row(call, name_of) for call in calls)
        left -= len(calls)
        if after is None:
            return


def _row(call: CallState, name_of: Callable[[str], str]) -> list[str]:
    values = call.model_dump(mode="json")
    values["workflow"] = name_of(call.workflow_id) if call.workflow_id else ""
    values["metadata"] = json.dumps(call.metadata, ensure_ascii=False) if call.metadata else ""
    return [_cell(values[column]) for column in _COLUMNS]


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return safe_cell(str(value))


def _lines(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue()
