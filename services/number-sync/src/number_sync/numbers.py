"""Phone numbers of configurations, and the workflow that answers each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import publishing
from number_sync.configurations import find_configuration, numbers_of
from number_sync.database import Clock, Database, now_ms
from number_sync.e164 import PhoneNumberError, to_e164
from number_sync.errors import (
    ConflictError,
    InvalidError,
    LimitError,
    NotFoundError,
    NumberSyncError,
    OutdatedError,
)
from number_sync.paging import Page, page_of
from number_sync.schema import configurations, number_states, phone_numbers, workflows
from number_sync.sync import detaching, store
from offhook.identities import is_id, new_id
from offhook.topics import NUMBERS


@dataclass(frozen=True, slots=True)
class Listed:
    """A number as the provider has just listed it. `reference`: see `Line`."""

    e164: str
    label: str
    reference: str


class Numbers:
    """Every method is one transaction and sees only what belongs to `user_id`."""

    def __init__(self, database: Database, *, clock: Clock, limit: int = 5000) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit

    async def create(
        self,
        user_id: str,
        configuration_id: str,
        *,
        number: str,
        country: str | None = None,
        label: str = "",
        active: bool = True,
        workflow_id: str | None = None,
        default_caller_id: bool = False,
    ) -> Row[Any]:
        """`number` in E.164, or national with `country`. Raises `InvalidError` with the reason and an example."""
        try:
            e164 = to_e164(number, country)
        except PhoneNumberError as error:
            raise InvalidError("number", f"it cannot be used: {error}") from None
        values = {
            "e164": e164,
            "label": label,
            "active": active,
            "workflow_id": workflow_id,
            "default_caller_id": default_caller_id,
        }
        [added] = await self._insert(user_id, configuration_id, [values])
        if isinstance(added, NumberSyncError):
            raise added
        return added

    async def create_many(
        self,
        user_id: str,
        configuration_id: str,
        listed: Sequence[Listed],
        *,
        workflow_id: str | None = None,
    ) -> Sequence[Row[Any] | NumberSyncError]:
        """What the provider has just listed, in one transaction; a number that cannot be added is answered with the reason.

        It is kept that the account has them: see `only_claimed`.
        """
        values = [
            {
                "e164": each.e164,
                "label": each.label,
                "active": True,
                "workflow_id": workflow_id,
                "default_caller_id": False,
            }
            for each in listed
        ]
        references = {each.e164: each.reference for each in listed}
        return await self._insert(user_id, configuration_id, values, references)

    async def _insert(
        self,
        user_id: str,
        configuration_id: str,
        numbers: Sequence[Mapping[str, Any]],
        references: Mapping[str, str] = MappingProxyType({}),
    ) -> Sequence[Row[Any] | NumberSyncError]:
        """`references`: of those that the provider has just listed."""
        now = now_ms(self._clock)

        async def insert_one(
            connection: AsyncConnection, configuration: Row[Any], values: Mapping[str, Any]
        ) -> Row[Any]:
            seen_as = references.get(values["e164"])
            await self._refuse_taken_number(connection, user_id, values["e164"], listed=seen_as is not None)
            if values["default_caller_id"]:
                await self._clear_default(connection, configuration_id, now)
            row: Row[Any] = (
                await connection.execute(
                    insert(phone_numbers)
                    .values(
                        **values,
                        id=new_id(),
                        configuration_id=configuration_id,
                        user_id=user_id,
                        created_at=now,
                        updated_at=now,
                    )
                    .returning(phone_numbers)
                )
            ).one()
            known, reference = await detaching.take_over(connection, configuration, row.e164)
            await store.begin(
                connection,
                number_id=row.id,
                configuration_id=configuration_id,
                at=now,
                known=known,
                reference=seen_as or reference,
            )
            await publishing.publish_number(connection, row)
            return row

        async def work(connection: AsyncConnection) -> list[Row[Any] | NumberSyncError]:
            # Locked: two numbers added at once cannot both become the default, and the configuration cannot go.
            configuration = await find_configuration(connection, user_id, configuration_id, lock=True)
            held = await numbers_of(connection, configuration_id)
            # As everybody who changes numbers: their configuration first, also where somebody else gives way.
            await connection.execute(
                select(configurations.c.id)
                .where(
                    configurations.c.id.in_(
                        select(phone_numbers.c.configuration_id).where(
                            phone_numbers.c.e164.in_([values["e164"] for values in numbers])
                        )
                    )
                )
                .order_by(configurations.c.id)
                .with_for_update()
            )
            for workflow_id in {values["workflow_id"] for values in numbers} - {None}:
                await _lock_workflow(connection, user_id, workflow_id)
            outcomes: list[Row[Any] | NumberSyncError] = []
            for values in numbers:
                if held >= self._limit:
                    outcomes.append(LimitError(f"a configuration can have at most {self._limit} numbers"))
                    continue
                try:
                    outcomes.append(await insert_one(connection, configuration, values))
                except ConflictError as error:
                    outcomes.append(error)
                else:
                    held += 1
            return outcomes

        return await self._database.transact(work)

    async def get(self, user_id: str, configuration_id: str, number_id: str) -> Row[Any]:
        async with self._database.read() as connection:
            return await self._find(connection, user_id, configuration_id, number_id)

    async def list(self, user_id: str, configuration_id: str, *, limit: int, after: str | None) -> Page:
        async with self._database.read() as connection:
            await find_configuration(connection, user_id, configuration_id)
            mine = phone_numbers.c.configuration_id == configuration_id
            return await page_of(connection, phone_numbers, mine, limit=limit, after=after)

    async def update(
        self,
        user_id: str,
        configuration_id: str,
        number_id: str,
        changes: Mapping[str, Any],
        *,
        seen: int | None = None,
    ) -> Row[Any]:
        """`changes` may hold label, active, workflow_id (None: nobody answers), default_caller_id. `seen`: the
        `updated_at` of what they are about; raises `OutdatedError` when there is another."""
        now = now_ms(self._clock)

        async def work(connection: AsyncConnection) -> Row[Any]:
            await find_configuration(connection, user_id, configuration_id, lock=True)
            row = await self._find(connection, user_id, configuration_id, number_id, lock=True)
            if seen is not None and seen != row.updated_at:
                raise OutdatedError
            if not changes:
                return row
            if changes.get("workflow_id") is not None:
                await _lock_workflow(connection, user_id, changes["workflow_id"])
            if changes.get("default_caller_id"):
                await self._clear_default(connection, configuration_id, now, but=number_id)
            changed: Row[Any] = (
                await connection.execute(
                    update(phone_numbers)
                    .where(phone_numbers.c.id == number_id)
                    .values(**changes, updated_at=now)
                    .returning(phone_numbers)
                )
            ).one()
            if (changed.active, changed.workflow_id) != (row.active, row.workflow_id):
                await store.mark_due(connection, number_id=number_id, at=now)
                if _is_answered(changed) != _is_answered(row):
                    await store.unsettle(connection, number_id=number_id, at=now)
            await publishing.publish_number(connection, changed)
            return changed

        return await self._database.transact(work)

    async def delete(
        self,
        user_id: str,
        configuration_id: str,
        number_id: str,
        *,
        at_provider: Literal["detach", "leave"] = "detach",
    ) -> None:
        """With `detach` the number is let go at the provider in the background; with `leave` the provider is not touched."""
        now = now_ms(self._clock)

        async def work(connection: AsyncConnection) -> None:
            configuration = await find_configuration(connection, user_id, configuration_id, lock=True)
            await self._find(connection, user_id, configuration_id, number_id, lock=True)
            if at_provider == "detach":
                await detaching.let_go(connection, configuration, number_id=number_id, at=now)
            await connection.execute(delete(phone_numbers).where(phone_numbers.c.id == number_id))
            await publishing.retract(connection, NUMBERS, number_id)

        await self._database.transact(work)

    async def _find(
        self,
        connection: AsyncConnection,
        user_id: str,
        configuration_id: str,
        number_id: str,
        *,
        lock: bool = False,
    ) -> Row[Any]:
        query = select(phone_numbers).where(
            phone_numbers.c.id == number_id,
            phone_numbers.c.configuration_id == configuration_id,
            phone_numbers.c.user_id == user_id,
        )
        query = query.with_for_update() if lock else query
        # What is no id at all may hold characters that a database refuses.
        row = (await connection.execute(query)).first() if is_id(number_id) else None
        if row is None:
            raise NotFoundError("there is no such phone number in this configuration")
        return row

    async def _refuse_taken_number(
        self, connection: AsyncConnection, user_id: str, e164: str, *, listed: bool
    ) -> None:
        holder = (
            await connection.execute(
                select(
                    phone_numbers.c.id,
                    configurations.c.user_id,
                    configurations.c.name,
                    only_claimed(user_id).label("only_claimed"),
                )
                .join(phone_numbers, phone_numbers.c.configuration_id == configurations.c.id)
                .join(number_states, number_states.c.number_id == phone_numbers.c.id)
                .where(phone_numbers.c.e164 == e164)
                .with_for_update(of=[phone_numbers, number_states])
            )
        ).first()
        if holder is None:
            return
        if listed and holder.only_claimed:
            await connection.execute(delete(phone_numbers).where(phone_numbers.c.id == holder.id))
            await publishing.retract(connection, NUMBERS, holder.id)
            return
        # Whose it is, is told only to its owner.
        whose = (
            f"your configuration {holder.name!r}"
            if holder.user_id == user_id
            else "somebody else's configuration"
        )
        hint = (
            ""
            if listed or holder.user_id == user_id
            else "; if your account at the provider has it, import it"
        )
        raise ConflictError(f"{e164} already belongs to {whose}; a number belongs to one configuration{hint}")

    async def _clear_default(
        self, connection: AsyncConnection, configuration_id: str, now: int, but: str = ""
    ) -> None:
        others = await connection.execute(
            update(phone_numbers)
            .where(
                phone_numbers.c.configuration_id == configuration_id,
                phone_numbers.c.default_caller_id,
                phone_numbers.c.id != but,
            )
            .values(default_caller_id=False, updated_at=now)
            .returning(phone_numbers)
        )
        for other in others.all():
            await publishing.publish_number(connection, other)


def only_claimed(user_id: str) -> ColumnElement[bool]:
    """Whether a number is somebody else's who was never seen to have it at the provider. Anybody can name a number: it is
    theirs whose account lists it."""
    return and_(
        phone_numbers.c.user_id != user_id,
        number_states.c.reference.is_(None),
        number_states.c.before.is_(None),
    )


def _is_answered(number: Row[Any]) -> bool:
    return number.active and number.workflow_id is not None


async def _lock_workflow(connection: AsyncConnection, user_id: str, workflow_id: str) -> None:
    """The workflow must be the user's own, and must not go while a number is being given to it."""
    found = await connection.execute(
        select(workflows.c.id)
        .where(workflows.c.id == workflow_id, workflows.c.user_id == user_id)
        .with_for_update(read=True)
    )
    if found.first() is None:
        raise NotFoundError("there is no such workflow")
