"""Configurations: a user's accounts at providers, with their credentials sealed."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, Literal

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import credentials as creds
from number_sync import dialling_rules as rules
from number_sync import publishing
from number_sync.database import Clock, Database, now_ms
from number_sync.errors import (
    ConflictError,
    FixedError,
    InvalidError,
    LimitError,
    NotFoundError,
    OutdatedError,
)
from number_sync.paging import Page, page_of
from number_sync.schema import configurations, phone_numbers
from number_sync.sync import detaching, store
from offhook.errors import KeyringError
from offhook.identities import is_id, new_id
from offhook.providers.base import ProviderAdapter
from offhook.security.keyring import Keyring
from offhook.topics import CONFIGURATIONS, NUMBERS

_NAMED_IN_A_SENTENCE: Final = 5
_PLAIN: Final = (
    "name",
    "paused",
    "default_for_outbound",
    "repair_drift",
    "max_concurrent_calls",
    "max_calls_per_s",
)
_UNTRIED: Final[Mapping[str, Any]] = {
    "verification": "not-verified",
    "verification_code": None,
    "verification_text": None,
    "verified_at": None,
}

Objection = Callable[[str, ProviderAdapter, Mapping[str, str]], Awaitable[str | None]]
"""Has a user's credentials tried: why the provider does not accept them, as sentences; None when it does."""


class _UntriedError(OutdatedError):
    """Numbers would be let go for credentials that nobody has tried."""

    def __init__(self, adapter: ProviderAdapter, credentials: Mapping[str, str], numbers: int) -> None:
        super().__init__()
        self.adapter = adapter
        self.credentials = credentials
        self.numbers = numbers


class Configurations:
    """Every method sees only what belongs to `user_id`, and is one transaction.

    With `objection`, a configuration that has numbers comes to another account only with credentials the provider accepts.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        providers: Mapping[str, ProviderAdapter],
        *,
        clock: Clock,
        objection: Objection | None = None,
        limit: int = 200,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._providers = providers
        self._clock = clock
        self._objection = objection
        self._limit = limit

    async def create(
        self,
        user_id: str,
        *,
        name: str,
        provider: str,
        credentials: Mapping[str, str | None],
        paused: bool = False,
        default_for_outbound: bool = False,
        repair_drift: bool = True,
        dialling_rules: Mapping[str, Sequence[str]] | None = None,
        max_concurrent_calls: int | None = None,
        max_calls_per_s: float | None = None,
    ) -> Row[Any]:
        adapter = self._providers.get(provider)
        if adapter is None:
            raise InvalidError(
                "provider", f"there is no such provider; there are {', '.join(self._providers)}"
            )
        accepted = creds.accept(adapter.credentials_model, credentials)
        configuration_id = new_id()
        now = now_ms(self._clock)
        values = {
            "id": configuration_id,
            "user_id": user_id,
            "provider": provider,
            "name": name,
            "account": adapter.account_of(accepted),
            "sealed_credentials": creds.seal(self._keyring, accepted, context=configuration_id),
            "paused": paused,
            "default_for_outbound": default_for_outbound,
            "repair_drift": repair_drift,
            "dialling_rules": rules.accept(dialling_rules or {}),
            "max_concurrent_calls": max_concurrent_calls,
            "max_calls_per_s": max_calls_per_s,
            "created_at": now,
            "updated_at": now,
        }

        async def work(connection: AsyncConnection) -> Row[Any]:
            held = await connection.execute(
                select(func.count()).select_from(configurations).where(configurations.c.user_id == user_id)
            )
            if held.scalar_one() >= self._limit:
                raise LimitError(f"a user can have at most {self._limit} configurations")
            await self._refuse_taken_name(connection, user_id, name, None)
            if default_for_outbound:
                await self._clear_default(connection, user_id, now)
            row: Row[Any] = (
                await connection.execute(insert(configurations).values(values).returning(configurations))
            ).one()
            await publishing.publish_configuration(connection, row)
            return row

        return await self._database.transact(work)

    async def get(self, user_id: str, configuration_id: str) -> Row[Any]:
        async with self._database.read() as connection:
            return await find_configuration(connection, user_id, configuration_id)

    async def list(self, user_id: str, *, limit: int, after: str | None) -> Page:
        async with self._database.read() as connection:
            return await page_of(
                connection, configurations, configurations.c.user_id == user_id, limit=limit, after=after
            )

    async def update(
        self, user_id: str, configuration_id: str, changes: Mapping[str, Any], *, seen: int | None = None
    ) -> Row[Any]:
        """`changes` may hold what `create` takes; `provider` only unchanged. `dialling_rules` replace all of them. `seen`:
        the `updated_at` of what they are about; raises `OutdatedError` when there is another.

        What the provider said to the credentials is forgotten when they change.
        """
        now = now_ms(self._clock)
        tried: Mapping[str, str] | None = None

        async def work(connection: AsyncConnection) -> Row[Any]:
            row = await find_configuration(connection, user_id, configuration_id, lock=True)
            if seen is not None and seen != row.updated_at:
                raise OutdatedError
            values = {key: changes[key] for key in _PLAIN if key in changes}
            if changes.get("provider", row.provider) != row.provider:
                raise FixedError(
                    "provider",
                    f"the provider of a configuration is fixed ({row.provider}); add another configuration instead",
                )
            if "name" in values:
                await self._refuse_taken_name(connection, user_id, values["name"], configuration_id)
            if values.get("default_for_outbound"):
                await self._clear_default(connection, user_id, now, but=configuration_id)
            if "dialling_rules" in changes:
                values["dialling_rules"] = rules.accept(changes["dialling_rules"])
            if "credentials" in changes:
                adapter = self._adapter(row)
                stored = self._stored(row)
                accepted = creds.accept(adapter.credentials_model, changes["credentials"], stored)
                if accepted != stored:
                    values |= _UNTRIED
                values["account"] = adapter.account_of(accepted)
                values["sealed_credentials"] = creds.seal(self._keyring, accepted, context=row.id)
            if not values:
                return row
            if values.get("account", row.account) != row.account:
                if (
                    self._objection is not None
                    and accepted != tried
                    and (held := await numbers_of(connection, configuration_id))
                ):
                    raise _UntriedError(adapter, accepted, held)
                # What is set at the old account is undone with the credentials that opened it.
                await detaching.let_go(connection, row, at=now)
                await store.hand_on_shared(connection, row)
                await store.forget_account(connection, configuration_id, at=now)
            elif "verification" in values:
                await detaching.renew(connection, row, values["sealed_credentials"], at=now)
            changed: Row[Any] = (
                await connection.execute(
                    update(configurations)
                    .where(configurations.c.id == configuration_id)
                    .values(**values, updated_at=now)
                    .returning(configurations)
                )
            ).one()
            if "verification" in values or (changed.repair_drift and not row.repair_drift):
                await store.mark_due(connection, configuration_id=configuration_id, at=now)
            await publishing.publish_configuration(connection, changed)
            return changed

        try:
            return await self._database.transact(work)
        except _UntriedError as untried:
            await self._try(user_id, untried)
            tried = untried.credentials
        return await self._database.transact(work)

    async def _try(self, user_id: str, untried: _UntriedError) -> None:
        assert self._objection is not None
        objection = await self._objection(user_id, untried.adapter, untried.credentials)
        if objection is not None:
            numbers = "phone number is" if untried.numbers == 1 else "phone numbers are"
            raise InvalidError(
                "credentials",
                f"these are of another account, and {untried.numbers} {numbers} set up at the present one, which would be let "
                f"go; that takes credentials that the provider accepts. {objection} Correct the account, or add "
                "another configuration for it.",
            )

    async def delete(
        self, user_id: str, configuration_id: str, *, numbers_are: Literal["keep", "detach", "leave"] = "keep"
    ) -> None:
        """What becomes of its numbers: with `keep` a configuration that has any stays (`ConflictError`); with `detach`
        they go with it, and are let go at the provider in the background; with `leave` the provider is not touched.
        """

        now = now_ms(self._clock)

        async def work(connection: AsyncConnection) -> None:
            configuration = await find_configuration(connection, user_id, configuration_id, lock=True)
            numbers = (
                await connection.execute(
                    select(phone_numbers.c.id, phone_numbers.c.e164)
                    .where(phone_numbers.c.configuration_id == configuration_id)
                    .order_by(phone_numbers.c.e164)
                    .with_for_update()
                )
            ).all()
            if numbers and numbers_are == "keep":
                raise ConflictError(
                    f"the configuration has {_list([row.e164 for row in numbers])}; delete its numbers first, "
                    "or repeat the request with ?numbers=detach (they are let go at the provider) or "
                    "?numbers=leave (the provider is not touched)"
                )
            if numbers_are == "detach":
                await detaching.let_go(connection, configuration, at=now)
            await store.hand_on_shared(connection, configuration)
            await connection.execute(
                delete(phone_numbers).where(phone_numbers.c.configuration_id == configuration_id)
            )
            for number in numbers:
                await publishing.retract(connection, NUMBERS, number.id)
            await connection.execute(delete(configurations).where(configurations.c.id == configuration_id))
            await publishing.retract(connection, CONFIGURATIONS, configuration_id)

        await self._database.transact(work)

    def open(self, row: Row[Any]) -> dict[str, str]:
        """The credentials in clear. Raises `KeyringError` when the key ring has lost their key."""
        return creds.unseal(self._keyring, row.sealed_credentials, context=row.id)

    def _stored(self, row: Row[Any]) -> dict[str, str]:
        """What new credentials are laid over: nothing when the key of the old ones is lost, so that they can be
        entered again."""
        try:
            return self.open(row)
        except KeyringError:
            return {}

    def masked(self, row: Row[Any]) -> dict[str, str | None]:
        """The credentials as they may be shown."""
        return creds.masked(self._adapter(row).credentials_model, self.open(row))

    def _adapter(self, row: Row[Any]) -> ProviderAdapter:
        adapter = self._providers.get(row.provider)
        if adapter is None:
            raise ConflictError(
                f"this version has no adapter for {row.provider}, the configuration's provider"
            )
        return adapter

    async def _refuse_taken_name(
        self, connection: AsyncConnection, user_id: str, name: str, but: str | None
    ) -> None:
        taken = await connection.execute(
            select(configurations.c.id).where(
                configurations.c.user_id == user_id,
                configurations.c.name == name,
                configurations.c.id != (but or ""),
            )
        )
        if taken.first() is not None:
            raise ConflictError(f"you already have a configuration named {name!r}; names are unique")

    async def _clear_default(
        self, connection: AsyncConnection, user_id: str, now: int, but: str = ""
    ) -> None:
        others = await connection.execute(
            update(configurations)
            .where(
                configurations.c.user_id == user_id,
                configurations.c.default_for_outbound,
                configurations.c.id != but,
            )
            .values(default_for_outbound=False, updated_at=now)
            .returning(configurations)
        )
        for other in others.all():
            await publishing.publish_configuration(connection, other)


async def find_configuration(
    connection: AsyncConnection, user_id: str, configuration_id: str, *, lock: bool = False
) -> Row[Any]:
    """Raises `NotFoundError`, also for what belongs to somebody else."""
    query = select(configurations).where(
        configurations.c.id == configuration_id, configurations.c.user_id == user_id
    )
    query = query.with_for_update() if lock else query
    # What is no id at all may hold characters that a database refuses.
    row = (await connection.execute(query)).first() if is_id(configuration_id) else None
    if row is None:
        raise NotFoundError("there is no such configuration")
    return row


async def numbers_of(connection: AsyncConnection, configuration_id: str) -> int:
    """How many numbers a configuration has."""
    found = await connection.execute(
        select(func.count())
        .select_from(phone_numbers)
        .where(phone_numbers.c.configuration_id == configuration_id)
    )
    return int(found.scalar_one())


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED_IN_A_SENTENCE])
    rest = len(names) - _NAMED_IN_A_SENTENCE
    return f"{shown} and {rest} more" if rest > 0 else shown
