"""Numbers that were deleted here are let go at their provider, afterwards and without anybody waiting for it.

What has to be known for it is copied into a row of `detachments` in the transaction that deletes the number.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.schema import configurations, detachments, number_states, phone_numbers
from number_sync.sync import store
from number_sync.sync.pacing import paced_as
from number_sync.sync.state import Book, merged

OPEN: Final = "open"
DONE: Final = "done"
GIVEN_UP: Final = "given-up"

PATIENCE_MS: Final = 24 * 3600 * 1000
"""After so long a number that could not be let go is left as it is."""
_KEEP_MS: Final = 31 * 24 * 3600 * 1000
_AT_ONCE: Final = 100


async def let_go(
    connection: AsyncConnection, configuration: Row[Any], *, number_id: str | None = None, at: int
) -> None:
    """Have a number (None: all numbers of the configuration) let go. Call it before the number is deleted."""
    shared = await store.shared_book(
        connection, configuration.provider, configuration.account, user_id=configuration.user_id
    )
    query = (
        select(number_states, phone_numbers.c.e164)
        .join(phone_numbers, phone_numbers.c.id == number_states.c.number_id)
        .where(number_states.c.configuration_id == configuration.id)
    )
    if number_id is not None:
        query = query.where(number_states.c.number_id == number_id)
    rows = [row for row in (await connection.execute(query)).all() if row.ours or shared.ours]
    if rows:
        await connection.execute(
            insert(detachments),
            [
                {
                    "user_id": configuration.user_id,
                    "configuration_id": configuration.id,
                    "provider": configuration.provider,
                    "account": configuration.account,
                    "sealed_credentials": configuration.sealed_credentials,
                    "e164": row.e164,
                    "reference": row.reference,
                    "before": row.before,
                    "ours": row.ours,
                    "shared": _shared(shared) if shared.ours else None,
                    "created_at": at,
                    "due_at": at,
                    "attempts": 0,
                    "state": OPEN,
                }
                for row in rows
            ],
        )


async def take_over(
    connection: AsyncConnection, configuration: Row[Any], e164: str
) -> tuple[Book, str | None]:
    """A number is added that the same user is still to let go: it goes on with what is known of it, and is not let go
    at the account it is added to. Elsewhere it is, unless it is found to be the same number: see `hand_over`."""
    of_user = (
        detachments.c.user_id == configuration.user_id,
        detachments.c.provider == configuration.provider,
        detachments.c.e164 == e164,
        detachments.c.state == OPEN,
    )
    here = (
        await connection.execute(
            delete(detachments)
            .where(*of_user, detachments.c.account == configuration.account)
            .returning(detachments)
        )
    ).all()
    elsewhere = (await connection.execute(select(detachments).where(*of_user))).all()
    if not here and not elsewhere:
        return Book(), None
    before, ours = merged([book_of(row) for row in (*here, *elsewhere)])
    known = [shared_of(row) for row in here if row.shared]
    if known:
        own = await store.shared_book(
            connection,
            configuration.provider,
            configuration.account,
            configuration_id=configuration.id,
            user_id=configuration.user_id,
        )
        shared_before, shared_ours = merged([own, *known])
        shared = replace(own, before=shared_before, ours=shared_ours)
        await store.save_shared(connection, configuration.id, shared, account=configuration.account)
    return Book(before, ours), here[-1].reference if here else None


async def hand_over(connection: AsyncConnection, row: Row[Any], reference: str) -> bool:
    """Whether the number that was found under `reference` is answered here again, and was seen at its provider: then it
    is not set back, and who has it now remembers what was there before."""
    holder = (
        await connection.execute(
            select(number_states)
            .join(phone_numbers, phone_numbers.c.id == number_states.c.number_id)
            .join(configurations, configurations.c.id == phone_numbers.c.configuration_id)
            .where(
                phone_numbers.c.e164 == row.e164,
                phone_numbers.c.active,
                phone_numbers.c.workflow_id.is_not(None),
                configurations.c.provider == row.provider,
                number_states.c.reference == reference,
                number_states.c.compared_at.is_not(None),
            )
            .with_for_update(of=number_states)
        )
    ).first()
    if holder is None:
        return False
    before, ours = merged([Book(holder.before or {}, holder.ours), book_of(row)])
    await connection.execute(
        update(number_states)
        .where(number_states.c.number_id == holder.number_id)
        .values(before=dict(before) or None, ours=ours, version=number_states.c.version + 1)
    )
    return True


@dataclass(frozen=True, slots=True)
class Group:
    """Open detachments with the same credentials. `failing`: the last attempt at one brought no usable answer."""

    provider: str
    account: str
    configuration_id: str
    user_id: str
    failing: bool


async def due_groups(
    connection: AsyncConnection,
    *,
    now: int,
    limit: int,
    busy: Iterable[str],
    resting: Iterable[str],
    failing: bool,
) -> list[Group]:
    """Those that have waited longest first, chosen as `store.due_configurations` does."""
    paced = detachments.c.user_id + paced_as("", "") + detachments.c.account
    held_up = func.max(detachments.c.attempts)
    by = (
        detachments.c.provider,
        detachments.c.account,
        detachments.c.configuration_id,
        detachments.c.user_id,
    )
    rows = await connection.execute(
        select(*by, held_up.label("attempts"))
        .where(
            detachments.c.state == OPEN,
            detachments.c.due_at <= now,
            detachments.c.account.not_in(list(busy)),
            paced.not_in(list(resting)),
        )
        .group_by(*by)
        .having(held_up >= 0 if failing else held_up == 0)
        .order_by(func.min(detachments.c.due_at), *by)
        .limit(limit)
    )
    return [
        Group(row.provider, row.account, row.configuration_id, row.user_id, row.attempts > 0) for row in rows
    ]


async def next_due(connection: AsyncConnection) -> int | None:
    """When the next number is to be let go, ms since 1970."""
    found = await connection.execute(
        select(func.min(detachments.c.due_at)).where(detachments.c.state == OPEN)
    )
    due_at: int | None = found.scalar_one()
    return due_at


async def due(connection: AsyncConnection, group: Group, *, now: int) -> Sequence[Row[Any]]:
    """The due rows of a group, some at a time."""
    rows = await connection.execute(
        select(detachments)
        .where(
            detachments.c.provider == group.provider,
            detachments.c.account == group.account,
            detachments.c.configuration_id == group.configuration_id,
            detachments.c.state == OPEN,
            detachments.c.due_at <= now,
        )
        .order_by(detachments.c.seq)
        .limit(_AT_ONCE)
    )
    return rows.all()


async def still_open(connection: AsyncConnection, row: Row[Any]) -> bool:
    """Whether the number is still to be let go: it may have been added again."""
    found = await connection.execute(
        select(detachments.c.seq).where(detachments.c.seq == row.seq, detachments.c.state == OPEN)
    )
    return found.first() is not None


async def close(
    connection: AsyncConnection, row: Row[Any], *, state: str, sentence: str | None = None
) -> None:
    """Done, or given up. The credentials are not kept longer than they are needed."""
    await connection.execute(
        update(detachments)
        .where(detachments.c.seq == row.seq, detachments.c.state == OPEN)
        .values(state=state, sentence=sentence, sealed_credentials=None)
    )


async def renew(connection: AsyncConnection, configuration: Row[Any], sealed: str, *, at: int) -> None:
    """The credentials of the account were changed: the numbers that are still to be let go are tried with them."""
    await connection.execute(
        update(detachments)
        .where(
            detachments.c.configuration_id == configuration.id,
            detachments.c.account == configuration.account,
            detachments.c.state == OPEN,
        )
        .values(sealed_credentials=sealed, due_at=at, attempts=0)
    )


async def postpone(
    connection: AsyncConnection, row: Row[Any], *, due_at: int, attempts: int, sentence: str | None
) -> None:
    await connection.execute(
        update(detachments)
        .where(detachments.c.seq == row.seq, detachments.c.state == OPEN)
        .values(due_at=due_at, attempts=attempts, sentence=sentence)
    )


async def forget(connection: AsyncConnection, *, now: int) -> None:
    """Delete what has long been closed."""
    await connection.execute(
        delete(detachments).where(detachments.c.state != OPEN, detachments.c.created_at < now - _KEEP_MS)
    )


def book_of(row: Row[Any]) -> Book:
    return Book(row.before or {}, row.ours)


def shared_of(row: Row[Any]) -> Book:
    return Book(row.shared["before"], row.shared["ours"]) if row.shared else Book()


def _shared(book: Book) -> dict[str, Any]:
    return {
        "before": dict(book.before),
        "ours": {setting: list(values) for setting, values in book.ours.items()},
    }
