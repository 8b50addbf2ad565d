"""Where numbers stand at their providers, in the database."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import Row, Select, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import publishing
from number_sync.schema import configurations, number_states, phone_numbers, shared_states
from number_sync.sync.pacing import paced_as
from number_sync.sync.state import Book, Difference, Drift, Standing, State, merged


async def mark_due(
    connection: AsyncConnection,
    *,
    number_id: str | None = None,
    configuration_id: str | None = None,
    at: int,
) -> None:
    """Have a number, the numbers of a configuration, or (neither given) all numbers compared from `at` on, ms since
    1970.

    Call it in the transaction of every change that alters what is wanted at the provider. A round that is under way
    does not take it back: it began with an earlier `version`.
    """
    change = update(number_states).values(due_at=at, version=number_states.c.version + 1)
    if number_id is not None:
        change = change.where(number_states.c.number_id == number_id)
    if configuration_id is not None:
        change = change.where(number_states.c.configuration_id == configuration_id)
    await connection.execute(change)


async def unsettle(connection: AsyncConnection, *, number_id: str | None = None, at: int) -> None:
    """Something else is wanted at the provider from now on, of the number or (None) of all that are set: nobody has
    seen that it is so. Due they are by `mark_due`."""
    change = update(number_states).values(
        state="pending", reason=None, sentence=None, remedy=None, changed_at=at
    )
    if number_id is None:
        change = change.where(number_states.c.state == "synced")
    else:
        change = change.where(
            number_states.c.number_id == number_id, number_states.c.state.in_(("synced", "detached"))
        )
    await connection.execute(change)


async def begin(
    connection: AsyncConnection,
    *,
    number_id: str,
    configuration_id: str,
    at: int,
    known: Book | None = None,
    reference: str | None = None,
) -> None:
    """A number that was just added: pending, and due at once. `known`: what is remembered of it from before."""
    standing = Standing(book=known or Book(), reference=reference, changed_at=at, due_at=at)
    await connection.execute(
        insert(number_states).values(
            number_id=number_id, configuration_id=configuration_id, version=0, **_columns(standing)
        )
    )


async def compare_anew(connection: AsyncConnection, e164: str, *, at: int) -> None:
    """The number may just have been set back on behalf of somebody who had it before: who has it now is to set it, which
    is no drift. What somebody else was seen to have changed stays as it is."""
    mine = select(phone_numbers.c.id).where(phone_numbers.c.e164 == e164)
    await connection.execute(
        update(number_states)
        .where(number_states.c.number_id.in_(mine), number_states.c.state != "drifted")
        .values(wanted=None, differs=[], due_at=at, version=number_states.c.version + 1)
    )


async def forget_account(connection: AsyncConnection, configuration_id: str, *, at: int) -> None:
    """The configuration speaks of another account of the provider now: where its numbers stand there is not known.

    What was ours and what was there before is kept of each number: it may be the same one that is found there, as the
    numbers of an account of Vonage are the same for all of its applications.
    """
    kept = ("before", "ours")
    unknown = {name: value for name, value in _columns(Standing()).items() if name not in kept}
    unknown |= {"changed_at": at, "due_at": at}
    await connection.execute(
        update(number_states)
        .where(number_states.c.configuration_id == configuration_id)
        .values(**unknown, version=number_states.c.version + 1)
    )
    await connection.execute(
        delete(shared_states).where(shared_states.c.configuration_id == configuration_id)
    )


# --- what is due


@dataclass(frozen=True, slots=True)
class DueConfiguration:
    """A configuration with numbers to compare. `failing`: the last attempt brought no usable answer."""

    configuration_id: str
    provider: str
    account: str
    user_id: str
    failing: bool


async def due_configurations(
    connection: AsyncConnection,
    *,
    now: int,
    limit: int,
    busy: Iterable[str],
    resting: Iterable[str],
    failing: bool,
) -> list[DueConfiguration]:
    """Those that have waited longest first, without those of the accounts `busy`, and of `resting` (`pacing.paced_as`);
    the failing ones only if `failing`."""
    paced = configurations.c.user_id + paced_as("", "") + configurations.c.account
    held_up = func.max(number_states.c.attempts)
    first = func.min(number_states.c.due_at)
    rows = await connection.execute(
        select(
            configurations.c.id,
            configurations.c.provider,
            configurations.c.account,
            configurations.c.user_id,
            held_up.label("attempts"),
        )
        .join(number_states, number_states.c.configuration_id == configurations.c.id)
        .where(
            number_states.c.due_at <= now,
            configurations.c.account.not_in(list(busy)),
            paced.not_in(list(resting)),
        )
        .group_by(
            configurations.c.id,
            configurations.c.provider,
            configurations.c.account,
            configurations.c.user_id,
        )
        .having(held_up >= 0 if failing else held_up == 0)
        .order_by(first, configurations.c.id)
        .limit(limit)
    )
    return [
        DueConfiguration(row.id, row.provider, row.account, row.user_id, row.attempts > 0) for row in rows
    ]


async def next_due(connection: AsyncConnection) -> int | None:
    """When the next number is to be compared, ms since 1970."""
    found = await connection.execute(select(func.min(number_states.c.due_at)))
    due_at: int | None = found.scalar_one()
    return due_at


@dataclass(frozen=True, slots=True)
class DueNumber:
    """A number to compare. `version`: see `save`. `answered`: it is active and has a workflow."""

    number_id: str
    e164: str
    active: bool
    workflow_id: str | None
    version: int
    standing: Standing

    @property
    def answered(self) -> bool:
        return self.active and self.workflow_id is not None


@dataclass(frozen=True, slots=True)
class Work:
    """Everything one round starts from. `shared` is what all configurations of the account know of its application;
    `any_answered`: whether any number of the account is to be answered here at all."""

    configuration: Row[Any]
    numbers: Sequence[DueNumber]
    public_url: str | None
    shared: Book
    any_answered: bool


async def work_of(connection: AsyncConnection, configuration_id: str, *, now: int) -> Work | None:
    """None: the configuration has gone."""
    configuration = (
        await connection.execute(select(configurations).where(configurations.c.id == configuration_id))
    ).first()
    if configuration is None:
        return None
    rows = await connection.execute(
        select(number_states, phone_numbers.c.e164, phone_numbers.c.active, phone_numbers.c.workflow_id)
        .join(phone_numbers, phone_numbers.c.id == number_states.c.number_id)
        .where(number_states.c.configuration_id == configuration_id, number_states.c.due_at <= now)
        .order_by(number_states.c.due_at, phone_numbers.c.e164)
    )
    numbers = [
        DueNumber(row.number_id, row.e164, row.active, row.workflow_id, row.version, standing_of(row))
        for row in rows
    ]
    url = await publishing.public_url(connection)
    return Work(
        configuration,
        numbers,
        url,
        await shared_book(
            connection, configuration.provider, configuration.account, configuration_id=configuration_id
        ),
        await any_answered_now(
            connection, configuration.provider, configuration.account, user_id=configuration.user_id
        ),
    )


async def any_answered_now(connection: AsyncConnection, provider: str, account: str, *, user_id: str) -> bool:
    """Whether any number of the account is to be answered.

    Anybody can name an account: somebody else's numbers count once the account was seen to hold them.
    """
    found = await connection.execute(
        select(phone_numbers.c.id)
        .join(configurations, configurations.c.id == phone_numbers.c.configuration_id)
        .join(number_states, number_states.c.number_id == phone_numbers.c.id)
        .where(
            configurations.c.provider == provider,
            configurations.c.account == account,
            phone_numbers.c.active,
            phone_numbers.c.workflow_id.is_not(None),
            or_(configurations.c.user_id == user_id, number_states.c.compared_at.is_not(None)),
        )
        .limit(1)
    )
    return found.first() is not None


# --- numbers


def standing_of(row: Row[Any]) -> Standing:
    """From a row of `number_states`."""
    return Standing(
        state=cast(State, row.state),
        reason=row.reason,
        sentence=row.sentence,
        remedy=row.remedy,
        reference=row.reference,
        compared=tuple(row.compared),
        book=_book_of(row),
        attempts=row.attempts,
        changed_at=row.changed_at,
        due_at=row.due_at,
    )


async def save(connection: AsyncConnection, number: DueNumber, standing: Standing) -> bool:
    """What a round found out. Nothing (and False) when the number has gone, or when what is wanted was changed since the
    round began: it is still due then, and the next round finds out anew."""
    saved = await connection.execute(
        update(number_states)
        .where(number_states.c.number_id == number.number_id, number_states.c.version == number.version)
        .values(**_columns(standing))
    )
    return saved.rowcount == 1


async def postpone(connection: AsyncConnection, numbers: Sequence[DueNumber], *, due_at: int) -> None:
    """Not looked at, because the account has to rest."""
    for number in numbers:
        await connection.execute(
            update(number_states)
            .where(
                number_states.c.number_id == number.number_id,
                number_states.c.version == number.version,
                number_states.c.due_at < due_at,
            )
            .values(due_at=due_at)
        )


async def unchanged(connection: AsyncConnection, number: DueNumber) -> bool:
    """Whether the number is still there, and nobody has changed what is wanted of it."""
    found = await connection.execute(
        select(number_states.c.version).where(number_states.c.number_id == number.number_id)
    )
    return found.scalar_one_or_none() == number.version


async def counts(connection: AsyncConnection) -> dict[str, int]:
    """How many numbers there are in which state."""
    rows = await connection.execute(
        select(number_states.c.state, func.count().label("held")).group_by(number_states.c.state)
    )
    return {row.state: row.held for row in rows}


# --- what an application's numbers share


async def shared_book(
    connection: AsyncConnection,
    provider: str,
    account: str,
    *,
    configuration_id: str | None = None,
    user_id: str | None = None,
) -> Book:
    """What all configurations of the account know of its application; the comparisons are `configuration_id`'s own.

    Give `user_id` where it is kept for this user although the provider was not asked. Anybody can name an account: what
    others know of it is his too once the application was shown to him.
    """
    rows = (
        await connection.execute(
            select(shared_states, configurations.c.user_id)
            .join(configurations, configurations.c.id == shared_states.c.configuration_id)
            .where(configurations.c.provider == provider, configurations.c.account == account)
            .order_by(shared_states.c.configuration_id)
        )
    ).all()
    own_rows = [row for row in rows if row.user_id == user_id]
    if user_id is not None and all(row.compared_at is None for row in own_rows):
        # The configuration's own it knows in any case.
        rows = [row for row in rows if row.user_id == user_id or row.configuration_id == configuration_id]
    books = {row.configuration_id: _book_of(row) for row in rows}
    own = books.get(configuration_id or "", Book())
    before, ours = merged(list(books.values()))
    return Book(before, ours, own.wanted, own.differs, own.compared_at, own.pushed_at, own.last_drift)


async def lock(connection: AsyncConnection, configuration_id: str, *, account: str) -> bool:
    """Whether the configuration is still there and speaks of this account; until the transaction ends, it is and does."""
    there = await connection.execute(
        select(configurations.c.id)
        .where(configurations.c.id == configuration_id, configurations.c.account == account)
        .with_for_update()
    )
    return there.first() is not None


async def save_shared(
    connection: AsyncConnection, configuration_id: str, book: Book, *, account: str
) -> None:
    """Nothing when the configuration has gone, or speaks of another account by now."""
    if not await lock(connection, configuration_id, account=account):
        return
    values = _book_columns(book)
    changed = await connection.execute(
        update(shared_states).where(shared_states.c.configuration_id == configuration_id).values(**values)
    )
    if changed.rowcount == 0:
        await connection.execute(insert(shared_states).values(configuration_id=configuration_id, **values))


async def shared_unwanted(connection: AsyncConnection, provider: str, account: str) -> None:
    """To be stored before the application is set back: see `state.letting_go`."""
    await connection.execute(
        update(shared_states)
        .where(shared_states.c.configuration_id.in_(_of_account(provider, account)))
        .values(wanted=None, differs=[])
    )


async def forget_shared(connection: AsyncConnection, provider: str, account: str) -> None:
    """The application is as it was before us."""
    of_account = _of_account(provider, account)
    await connection.execute(delete(shared_states).where(shared_states.c.configuration_id.in_(of_account)))


def _of_account(provider: str, account: str) -> Select[tuple[str]]:
    return select(configurations.c.id).where(
        configurations.c.provider == provider, configurations.c.account == account
    )


async def hand_on_shared(connection: AsyncConnection, configuration: Row[Any]) -> None:
    """Before a configuration is deleted: another one with the same application keeps what is known of it. Somebody
    else's does only if the application was shown to it."""
    heir = (
        await connection.execute(
            select(configurations.c.id)
            .outerjoin(shared_states, shared_states.c.configuration_id == configurations.c.id)
            .where(
                or_(
                    configurations.c.user_id == configuration.user_id,
                    shared_states.c.compared_at.is_not(None),
                ),
                configurations.c.provider == configuration.provider,
                configurations.c.account == configuration.account,
                configurations.c.id != configuration.id,
            )
            .order_by(configurations.c.id)
            .limit(1)
        )
    ).scalar_one_or_none()
    if heir is None:
        return
    book = await shared_book(
        connection,
        configuration.provider,
        configuration.account,
        configuration_id=heir,
        user_id=configuration.user_id,
    )
    if book.ours:
        await save_shared(connection, heir, book, account=configuration.account)


# --- rows


def _book_of(row: Row[Any]) -> Book:
    drift = row.last_drift
    return Book(
        before=row.before or {},
        ours=row.ours,
        wanted=row.wanted,
        differs=_differences(row.differs),
        compared_at=row.compared_at,
        pushed_at=row.pushed_at,
        last_drift=drift and Drift(drift["at"], _differences(drift["differs"]), drift["repaired"]),
    )


def _book_columns(book: Book) -> dict[str, Any]:
    drift = book.last_drift
    return {
        "before": dict(book.before) or None,
        "ours": {setting: list(values) for setting, values in book.ours.items()},
        "wanted": None if book.wanted is None else dict(book.wanted),
        "differs": _plain(book.differs),
        "compared_at": book.compared_at,
        "pushed_at": book.pushed_at,
        "last_drift": drift
        and {"at": drift.at, "differs": _plain(drift.differs), "repaired": drift.repaired},
    }


def _columns(standing: Standing) -> dict[str, Any]:
    return {
        "state": standing.state,
        "reason": standing.reason,
        "sentence": standing.sentence,
        "remedy": standing.remedy,
        "reference": standing.reference,
        "compared": list(standing.compared),
        "attempts": standing.attempts,
        "changed_at": standing.changed_at,
        "due_at": standing.due_at,
        **_book_columns(standing.book),
    }


def _differences(stored: Sequence[Mapping[str, str]]) -> tuple[Difference, ...]:
    return tuple(Difference(each["setting"], each["wanted"], each["found"]) for each in stored)


def _plain(differs: Sequence[Difference]) -> list[dict[str, str]]:
    return [{"setting": each.setting, "wanted": each.wanted, "found": each.found} for each in differs]
