"""Lists in pages: by creation, newest last, continued after the last id of the page before (keyset pagination)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Row, Table, and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.errors import InvalidError
from offhook.identities import is_id

MAX_LIMIT: Final = 500
DEFAULT_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Page:
    """`next` is what to give as `after` for the following page; None when this is the last one."""

    rows: Sequence[Row[Any]]
    next: str | None


async def page_of(
    connection: AsyncConnection, table: Table, mine: ColumnElement[bool], *, limit: int, after: str | None
) -> Page:
    """A page of the rows of `table` for which `mine` holds."""
    query = select(table).where(mine).order_by(table.c.created_at, table.c.id).limit(limit + 1)
    if after is not None:
        last = None
        if is_id(after):  # else PostgreSQL may refuse it: a text of its holds no NUL
            query_last = select(table.c.created_at).where(mine, table.c.id == after)
            last = (await connection.execute(query_last)).scalar_one_or_none()
        if last is None:
            raise InvalidError("after", "there is no such item; start again without `after`")
        query = query.where(
            or_(table.c.created_at > last, and_(table.c.created_at == last, table.c.id > after))
        )
    rows = (await connection.execute(query)).all()
    return Page(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)
