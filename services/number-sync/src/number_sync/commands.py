"""`offhook keys …`: API keys of people, and the keys that seal what is stored.

Writes into number-sync's database, with the same settings as the service. A service that runs, here or elsewhere,
tells the others within a second or two; one that does not, when it starts.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, ClassVar, TypeVar

import typer
from sqlalchemy.exc import SQLAlchemyError

from number_sync.database import Database
from number_sync.errors import NumberSyncError
from number_sync.keys import Keys
from number_sync.rotation import rotate as seal_again
from number_sync.settings import NumberSyncSettings
from offhook.security.keyring import Keyring
from offhook.settings import load_settings

T = TypeVar("T")

keys = typer.Typer(
    help="API keys of people, and rotation of the keys that seal what is stored.", no_args_is_help=True
)


class _Settings(NumberSyncSettings):
    """The database is enough."""

    SECRETS: ClassVar[frozenset[str]] = frozenset()


class _SettingsWithKeyring(NumberSyncSettings):
    SECRETS: ClassVar[frozenset[str]] = frozenset({"keyring"})


@keys.command()
def create(
    user: Annotated[str, typer.Option(help="Whose key it is: 1 to 64 of A-Z a-z 0-9 _ -.")],
    label: Annotated[str, typer.Option(help="What it is for, to know it again.")] = "",
) -> None:
    """Make a key, and print it. It is not stored, and not shown again."""
    row, key = _with_database(_Settings, lambda database: Keys(database, clock=time.time).create(user, label))
    typer.echo(key)
    typer.echo(f"This is key {row.id} of {row.user_id}. Keep it: it is not shown again.", err=True)


@keys.command("list")
def list_(
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
) -> None:
    """Print all keys: id, user, when made, whether revoked, label."""
    rows = _with_database(_Settings, lambda database: Keys(database, clock=time.time).list(user))
    if not rows:
        typer.echo("There are no keys. Make one: offhook keys create --user NAME", err=True)
        return
    wide = max(len("USER"), *(len(row.user_id) for row in rows))
    typer.echo(f"{'ID':<32}  {'USER':<{wide}}  {'MADE':<16}  {'REVOKED':<16}  LABEL")
    for row in rows:
        times = f"{_minute(row.created_at):<16}  {_minute(row.revoked_at):<16}"
        typer.echo(f"{row.id}  {row.user_id:<{wide}}  {times}  {row.label}".rstrip())


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `offhook keys list` prints it.")],
) -> None:
    """Make a key worthless, and end the logins made with it."""
    row = _with_database(_Settings, lambda database: Keys(database, clock=time.time).revoke(key_id))
    typer.echo(f"Key {row.id} of {row.user_id} is revoked.")


@keys.command()
def rotate() -> None:
    """Seal everything stored again, with the first key of OFFHOOK_KEYRING. The others may leave it afterwards."""
    settings = load_settings(_SettingsWithKeyring)
    keyring = Keyring.parse(settings.keyring.get_secret_value())
    done = _with_database(_SettingsWithKeyring, lambda database: seal_again(database, keyring))
    typer.echo(f"{done.sealed} sealed again with key {keyring.current}.")
    if done.lost:
        for name in done.lost_ones:
            typer.echo(f"cannot be opened: {name}", err=True)
        typer.echo(
            f"{done.lost} could not be opened with any key of OFFHOOK_KEYRING and stayed as they were: bring the key back,"
            " or give those their credentials anew.",
            err=True,
        )
        raise typer.Exit(1)


def _with_database(kind: type[NumberSyncSettings], work: Callable[[Database], Awaitable[T]]) -> T:
    """`work` on the migrated database; what can be objected to is one sentence and exit 1."""
    settings = load_settings(kind)

    async def run() -> T:
        database = Database(settings.database)
        try:
            await database.migrate()
            return await work(database)
        finally:
            await database.close()

    try:
        return asyncio.run(run())
    except NumberSyncError as error:
        typer.echo(f"{str(error)[:1].upper()}{str(error)[1:]}.", err=True)
    except (SQLAlchemyError, OSError) as error:
        # The driver's message may hold the URL, and with it a password.
        typer.echo(
            f"The database cannot be used ({type(error).__name__}): see OFFHOOK_DATABASE_URL.", err=True
        )
    raise typer.Exit(1)


def _minute(at: int | None) -> str:
    return "" if at is None else datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
