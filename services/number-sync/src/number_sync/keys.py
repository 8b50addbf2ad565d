"""API keys of people: made, listed and revoked here, known to every service through their topic.

Only the SHA-256 of a key is stored. The key itself is returned by `create`, once.
"""

import unicodedata
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import publishing
from number_sync.database import Clock, Database, now_ms
from number_sync.errors import InvalidError, LimitError, NotFoundError
from number_sync.schema import api_keys
from offhook.identities import is_id, new_id
from offhook.security.api_keys import digest_of, new_api_key

MAX_LABEL: Final = 100


class Keys:
    """Every method is one transaction. `limit`: how many keys of one user may hold at a time."""

    def __init__(self, database: Database, *, clock: Clock, limit: int = 100) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit

    async def create(self, user_id: str, label: str = "") -> tuple[Row[Any], str]:
        """A new key of `user_id`, and the key itself. Raises `InvalidError` or `LimitError`."""
        if not is_id(user_id):
            raise InvalidError("user", "a user is 1 to 64 of A-Z a-z 0-9 _ -")
        label = label.strip()
        if len(label) > MAX_LABEL or any(unicodedata.category(one)[0] == "C" for one in label):
            raise InvalidError("label", f"a label has at most {MAX_LABEL} characters, on one line")
        key = new_api_key()

        async def work(connection: AsyncConnection) -> Row[Any]:
            held = await connection.execute(
                select(func.count())
                .select_from(api_keys)
                .where(api_keys.c.user_id == user_id, api_keys.c.revoked_at.is_(None))
            )
            if held.scalar_one() >= self._limit:
                raise LimitError(f"a user can have at most {self._limit} keys; revoke one first")
            row: Row[Any] = (
                await connection.execute(
                    insert(api_keys)
                    .values(
                        id=new_id(),
                        user_id=user_id,
                        digest=digest_of(key),
                        label=label,
                        created_at=now_ms(self._clock),
                    )
                    .returning(api_keys)
                )
            ).one()
            await publishing.publish_api_key(connection, row)
            return row

        return await self._database.transact(work), key

    async def list(self, user_id: str | None = None) -> Sequence[Row[Any]]:
        """All keys, or one user's, oldest first; those that are revoked too."""
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        if user_id is not None:
            query = query.where(api_keys.c.user_id == user_id)
        async with self._database.read() as connection:
            return (await connection.execute(query)).all()

    async def revoke(self, key_id: str) -> Row[Any]:
        """The key is none from now on. Revoking it again changes nothing. Raises `NotFoundError`."""

        async def work(connection: AsyncConnection) -> Row[Any]:
            query = select(api_keys).where(api_keys.c.id == key_id).with_for_update()
            row = (await connection.execute(query)).first() if is_id(key_id) else None
            if row is None:
                raise NotFoundError("there is no such key; `offhook keys list` names them all")
            if row.revoked_at is not None:
                return row
            revoked: Row[Any] = (
                await connection.execute(
                    update(api_keys)
                    .where(api_keys.c.id == key_id)
                    .values(revoked_at=now_ms(self._clock))
                    .returning(api_keys)
                )
            ).one()
            await publishing.publish_api_key(connection, revoked)
            return revoked

        return await self._database.transact(work)
