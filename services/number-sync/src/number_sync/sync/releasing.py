"""Setting back what we have set at a provider: what was there before, and nothing that is not ours."""

from collections.abc import Callable, Sequence
from functools import partial

from number_sync.database import Database
from number_sync.sync import store
from number_sync.sync.requests import AccountRequests, TroubleError
from number_sync.sync.state import Book, merged, restoration
from offhook.providers.base import Line, Obstacle, Settings


async def release_line(account: AccountRequests, line: Line | None, book: Book) -> None:
    """`line` as it was just found; None: it is not the account's any more, and nothing is left to do. Raises
    `TroubleError`."""
    if line is None:
        return
    left_of = _left_of(account, book)
    back = dict(left_of(line.settings))
    if not back:
        return
    held = line
    after = await account.ask("set-line", lambda rest: rest.set_line(held, back))
    if left := left_of(after.settings):
        raise TroubleError(_kept(left))


async def release_shared(
    database: Database,
    account: AccountRequests,
    provider: str,
    account_id: str,
    *,
    user_id: str,
    known: Sequence[Book] = (),
) -> None:
    """Sets the application back when no number of the account is to be answered any more. `user_id`: on whose behalf;
    `known`: what deleted configurations knew of it. Raises `TroubleError`."""
    async with database.read() as connection:
        stored = await store.shared_book(connection, provider, account_id)
        needed = await store.any_answered_now(connection, provider, account_id, user_id=user_id)
    book = Book(*merged([stored, *known]))
    if needed or not book.ours:
        return
    left_of = _left_of(account, book)
    back = dict(left_of(await account.ask("shared", lambda rest: rest.shared())))
    if back:
        async with database.write() as connection:
            await store.shared_unwanted(connection, provider, account_id)
        found = await account.ask("set-shared", lambda rest: rest.set_shared(back))
        if left := left_of(found):
            raise TroubleError(_kept(left))
    async with database.write() as connection:
        await store.forget_shared(connection, provider, account_id)


def _left_of(account: AccountRequests, book: Book) -> Callable[[Settings], Settings]:
    rules = account.adapter.lines
    return partial(restoration, book, same=rules.same, url_of=rules.url_of)


def _kept(left: Settings) -> Obstacle:
    names = ", ".join(left)
    return Obstacle(
        "rejected",
        f"The provider accepted that {names} is set back, but still holds our value.",
        "Set it by hand in the provider's console.",
    )
