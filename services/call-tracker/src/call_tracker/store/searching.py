"""Finding calls: which ones a filter means, newest first, page by page.

Every query walks an index that already has the order of the list, so that a page costs what it shows and not what is
stored. The widest of them (`ix_calls_newest`) carries all columns that filters ask about: calls that a filter leaves
out are passed over within the index. Records are read last, for the rows of the page alone.

A fragment of a number (four digits or more, from the beginning or the end) is looked up among the numbers that the
user ever had to do with. It stands for at most `MAX_NUMBERS` of them; the newest calls of each are read in their order and
merged here. When more numbers match, it is so common that walking all calls in their order is as good.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, or_, select, tuple_, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from call_tracker.store.tables import CALL_NUMBERS, CALLS
from offhook.identities import is_id

MIN_DIGITS: Final = 4
"""Digits of a number that a fragment needs."""

MAX_NUMBERS: Final = 12
_MAX_NAMED: Final = 32
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPACING: Final = re.compile(r"[\s().\-/\u00a0\u2010-\u2015]+")
_FRAGMENT: Final = re.compile(rf"\+?[0-9]{{{MIN_DIGITS},20}}")
_EQUAL: Final = ("status", "direction", "workflow_id", "provider", "end_reason")


@dataclass(frozen=True, slots=True)
class CallFilter:
    """Which calls to list; None does not restrict. `since` is the first moment, `until` the first no longer meant, of
    when a call began. `number`: a fragment of either number. `words`: a run, a provider's call id, or such a fragment."""

    status: str | None = None
    direction: str | None = None
    workflow_id: str | None = None
    provider: str | None = None
    active: bool | None = None
    end_reason: str | None = None
    number: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    words: str | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the list of calls, newest first: behind this call."""

    began_us: int
    workflow_run_id: str


@dataclass(frozen=True, slots=True)
class Fragment:
    """Part of a phone number: one of `prefixes` of it as it is written, or one of `suffixes` (digits)."""

    prefixes: tuple[str, ...]
    suffixes: tuple[str, ...] = ()


def fragment(text: str) -> Fragment | None:
    """What somebody typed, as part of a number; None if it has too few digits or is something else."""
    written = _SPACING.sub("", text)
    if written.startswith("00"):  # the international prefix of most countries (ITU-T E.164)
        written = "+" + written[2:]
    if not _FRAGMENT.fullmatch(written):
        return None
    if written.startswith("+"):
        return Fragment((written,))
    # National numbers are often written with a 0 that is no part of the international one.
    national = written.lstrip("0")
    suffixes = (written, national) if MIN_DIGITS <= len(national) < len(written) else (written,)
    return Fragment(("+" + written, written), suffixes)


async def find(
    connection: AsyncConnection, user_id: str, which: CallFilter, *, limit: int, after: Position | None
) -> tuple[list[Position], Position | None]:
    """The calls of `user_id` that `which` means, newest first, and the position to go on from, None at the end."""
    meant = await _meant(connection, user_id, which)
    if meant is None:
        return [], None
    rows = await connection.execute(_query(user_id, which, meant, limit + 1, after))
    found = [Position(row.began_us, row.workflow_run_id) for row in rows]
    if not meant.ordered:
        found = sorted(found, key=lambda one: (one.began_us, one.workflow_run_id), reverse=True)[: limit + 1]
    page = found[:limit]
    return page, page[-1] if len(found) > limit else None


@dataclass(frozen=True, slots=True)
class _Meant:
    """What the free texts of a filter stand for. `runs`: only these. `numbers`: one of each of these sets, or of what
    the fragment says where there are too many."""

    runs: tuple[str, ...] | None = None
    numbers: tuple[frozenset[str] | Fragment, ...] = ()

    @property
    def ordered(self) -> bool:
        """Whether the query gives the calls in their order; else they are few, or few of each number."""
        return self.runs is None and not any(isinstance(one, frozenset) for one in self.numbers)


async def _meant(connection: AsyncConnection, user_id: str, which: CallFilter) -> _Meant | None:
    """None: it stands for nothing at all."""
    sets: list[frozenset[str] | Fragment] = []
    runs: tuple[str, ...] | None = None
    if which.words is not None:
        runs = await _named(connection, user_id, which.words.strip()) or None
    for text in (which.number, which.words if runs is None else None):
        if text is None:
            continue
        part = fragment(text)
        numbers = None if part is None else await _numbers(connection, user_id, part)
        if not numbers:
            return None
        sets.append(numbers)
    return _Meant(runs, tuple(sets))


async def _named(connection: AsyncConnection, user_id: str, name: str) -> tuple[str, ...]:
    """The runs that are called so, by us or by the provider."""
    if not name or len(name) > 200:
        return ()
    mine = CALLS.c.user_id == user_id
    found: list[str] = []
    if is_id(name):
        query = select(CALLS.c.workflow_run_id).where(mine, CALLS.c.workflow_run_id == name)
        found += (await connection.execute(query)).scalars()
    query = select(CALLS.c.workflow_run_id).where(mine, CALLS.c.provider_call_id == name).limit(_MAX_NAMED)
    found += (await connection.execute(query)).scalars()
    return tuple(dict.fromkeys(found))


async def _numbers(
    connection: AsyncConnection, user_id: str, part: Fragment
) -> frozenset[str] | Fragment | None:
    """The user's numbers with this part; the part itself when they are too many, None when there are none."""
    number, backwards = CALL_NUMBERS.c.number, CALL_NUMBERS.c.backwards
    wanted = [(number, prefix) for prefix in part.prefixes]
    wanted += [(backwards, suffix[::-1]) for suffix in part.suffixes]
    found: set[str] = set()
    for column, prefix in wanted:
        query = select(number).where(CALL_NUMBERS.c.user_id == user_id, _range(column, prefix))
        rows = await connection.execute(query.order_by(column).limit(MAX_NUMBERS + 1))
        found.update(rows.scalars())
    if len(found) > MAX_NUMBERS:
        return part
    return frozenset(found) or None


def _range(column: ColumnElement[Any], prefix: str) -> ColumnElement[bool]:
    """Begins with `prefix`, as a range that an index of bytes can walk."""
    return and_(column >= prefix, column < prefix[:-1] + chr(ord(prefix[-1]) + 1))


def _query(user_id: str, which: CallFilter, meant: _Meant, limit: int, after: Position | None) -> Select[Any]:
    columns = CALLS.c
    conditions: list[ColumnElement[bool]] = [columns.user_id == user_id]
    for name in _EQUAL:
        wanted = getattr(which, name)
        if wanted is not None:
            conditions.append(columns[name] == wanted)
    if which.active is not None:
        # Not `NOT active`: PostgreSQL would take an index of all users' ended calls, which is not in this order.
        conditions.append(columns.active if which.active else columns.active.is_not(True))
    if which.since is not None:
        conditions.append(columns.began_us >= micros(which.since))
    if which.until is not None:
        conditions.append(columns.began_us < micros(which.until))
    if after is not None:
        conditions.append(
            tuple_(columns.began_us, columns.workflow_run_id) < (after.began_us, after.workflow_run_id)
        )
    base = select(columns.began_us, columns.workflow_run_id)
    if meant.runs is not None:
        conditions += [_either(numbers) for numbers in meant.numbers]
        return base.where(columns.workflow_run_id.in_(meant.runs), *conditions)
    if meant.ordered:
        conditions += [_either(numbers) for numbers in meant.numbers]
        return _newest(base.where(*conditions), limit)
    fewest, *others = sorted(
        meant.numbers, key=lambda one: len(one) if isinstance(one, frozenset) else MAX_NUMBERS + 1
    )
    assert isinstance(fewest, frozenset)
    conditions += [_either(numbers) for numbers in others]
    branches = [
        _newest(branch, limit).subquery() for branch in _branches(base.where(*conditions), sorted(fewest))
    ]
    merged = union_all(*(select(branch) for branch in branches)).subquery()
    return select(merged.c.began_us, merged.c.workflow_run_id)


def _newest(query: Select[Any], limit: int) -> Select[Any]:
    return query.order_by(CALLS.c.began_us.desc(), CALLS.c.workflow_run_id.desc()).limit(limit)


def _branches(base: Select[Any], numbers: Sequence[str]) -> list[Select[Any]]:
    """The calls from each number, and those to each; a call between two of them is in one branch only."""
    from_number, to_number = CALLS.c.from_number, CALLS.c.to_number
    from_elsewhere = or_(from_number.is_(None), from_number.not_in(numbers))
    return [
        *(base.where(from_number == number) for number in numbers),
        *(base.where(to_number == number, from_elsewhere) for number in numbers),
    ]


def _either(numbers: frozenset[str] | Fragment) -> ColumnElement[bool]:
    columns = (CALLS.c.from_number, CALLS.c.to_number)
    if isinstance(numbers, frozenset):
        return or_(*(column.in_(sorted(numbers)) for column in columns))
    texts = [column.startswith(prefix, autoescape=True) for column in columns for prefix in numbers.prefixes]
    texts += [column.endswith(suffix, autoescape=True) for column in columns for suffix in numbers.suffixes]
    return or_(*texts)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
