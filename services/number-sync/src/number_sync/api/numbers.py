"""Phone numbers of a configuration."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Response
from sqlalchemy import Row

from number_sync.api.models import (
    Cursor,
    Limit,
    NumberChange,
    NumberIn,
    NumberOut,
    NumbersOut,
    changes,
    instant,
)
from number_sync.api.parts import CONFIGURATIONS, ONE_CONFIGURATION, PREFIX, Parts, UserOf
from number_sync.paging import DEFAULT_LIMIT

NUMBERS: Final = ONE_CONFIGURATION + "/phone-numbers"
ONE_NUMBER: Final = NUMBERS + "/{number_id}"


def create_router(parts: Parts, user_of: UserOf) -> APIRouter:
    User = Annotated[str, Depends(user_of)]  # noqa: N806 - a type
    router = APIRouter(tags=["phone numbers"])
    numbers = parts.numbers

    @router.post(NUMBERS, status_code=201)
    async def create_number(
        user: User, configuration_id: str, body: NumberIn, response: Response
    ) -> NumberOut:
        row = await numbers.create(user, configuration_id, **dict(body))
        response.headers["Location"] = f"{PREFIX}{CONFIGURATIONS}/{configuration_id}/phone-numbers/{row.id}"
        return number_out(row)

    @router.get(NUMBERS)
    async def list_numbers(
        user: User, configuration_id: str, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> NumbersOut:
        page = await numbers.list(user, configuration_id, limit=limit, after=cursor)
        return NumbersOut(phone_numbers=[number_out(row) for row in page.rows], next_cursor=page.next)

    @router.get(ONE_NUMBER)
    async def read_number(user: User, configuration_id: str, number_id: str) -> NumberOut:
        return number_out(await numbers.get(user, configuration_id, number_id))

    @router.patch(ONE_NUMBER)
    async def change_number(
        user: User, configuration_id: str, number_id: str, body: NumberChange
    ) -> NumberOut:
        return number_out(await numbers.update(user, configuration_id, number_id, changes(body)))

    @router.delete(ONE_NUMBER, status_code=204)
    async def delete_number(user: User, configuration_id: str, number_id: str) -> None:
        await numbers.delete(user, configuration_id, number_id)

    return router


def number_out(row: Row[Any]) -> NumberOut:
    return NumberOut(
        number_id=row.id,
        configuration_id=row.configuration_id,
        number=row.e164,
        label=row.label,
        active=row.active,
        workflow_id=row.workflow_id,
        default_caller_id=row.default_caller_id,
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
    )
