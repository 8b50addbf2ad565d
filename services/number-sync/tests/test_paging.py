"""Lists in pages, on both databases."""

import pytest

from number_sync.database import Database
from number_sync.errors import InvalidError
from number_sync.paging import page_of
from number_sync.schema import workflows


@pytest.mark.parametrize("after", ["", "\0", "nothing", "x" * 10_000, "\U0001f600"])
async def test_what_no_list_ended_with_continues_none(database: Database, after: str) -> None:
    async with database.read() as connection:
        with pytest.raises(InvalidError, match="start again"):
            await page_of(connection, workflows, workflows.c.user_id == "ada", limit=1, after=after)
