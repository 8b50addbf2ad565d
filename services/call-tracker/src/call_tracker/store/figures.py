"""The figures of a time: how many calls, how they ended, how long it took until they were answered."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.store.searching import micros
from call_tracker.store.tables import CALLS
from offhook.events import CallStatus

_HOUR_US: Final = 3_600_000_000
_BUCKET_MS: Final = 100
"""Times until the answer are counted in steps of this many ms, so that their median needs no sorting."""


@dataclass(slots=True)
class Hour:
    """Calls that began within one hour."""

    begins: datetime
    answered: int = 0
    failed: int = 0
    live: int = 0


@dataclass(slots=True)
class Figures:
    """Calls that began from `since` on. `live` have not ended; `answered` were, whatever came then, and of them
    `unattended` found no agent; `failed` ended without an answer, by end reason. `waits`: answered calls by direction
    and ms until the answer."""

    since: datetime
    hours: list[Hour]
    total: int = 0
    live: int = 0
    answered: int = 0
    unattended: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    waits: dict[str, Counter[int]] = field(default_factory=dict)

    def median_ms(self, direction: str) -> int | None:
        """Half of the answered calls of this direction were answered within this time, to 0.1 s; None if there are none."""
        waits = self.waits.get(direction, Counter())
        wanted = (waits.total() + 1) // 2
        passed = 0
        for wait_ms in sorted(waits):
            passed += waits[wait_ms]
            if passed >= wanted:
                return wait_ms
        return None


async def figures(connection: AsyncConnection, user_id: str, since: datetime, now: datetime) -> Figures:
    """The figures of the calls of `user_id` that began from `since` until `now`, by the hour."""
    columns = CALLS.c
    first = _hour(since)
    count = int((now - first) / timedelta(hours=1)) + 1
    found = Figures(since, [Hour(first + timedelta(hours=number)) for number in range(count)])
    keys = (
        (columns.began_us - columns.began_us % _HOUR_US).label("hour_us"),
        columns.status,
        columns.active,
        columns.end_reason,
        columns.direction,
        (columns.answer_ms - columns.answer_ms % _BUCKET_MS).label("wait_ms"),
    )
    query = (
        select(*keys, func.count().label("calls"))
        .where(columns.user_id == user_id, columns.began_us >= micros(since), columns.began_us <= micros(now))
        .group_by(*keys)
    )
    for row in await connection.execute(query):
        _count(found, found.hours[(row.hour_us - micros(first)) // _HOUR_US], row)
    return found


def _count(found: Figures, hour: Hour, row: Row[Any]) -> None:
    found.total += row.calls
    if row.wait_ms is not None:
        found.waits.setdefault(row.direction or "inbound", Counter())[row.wait_ms] += row.calls
    if row.active:
        found.live += row.calls
        hour.live += row.calls
    elif row.status == CallStatus.COMPLETED or row.wait_ms is not None:
        found.answered += row.calls
        hour.answered += row.calls
        if row.end_reason == "agent-unreachable":
            found.unattended += row.calls
    else:
        found.failed[row.end_reason or "hung-up"] += row.calls
        hour.failed += row.calls


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
