"""Phone numbers of a configuration."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Row

from number_sync import standing
from number_sync.api.models import (
    AvailableNumberOut,
    AvailableNumbersOut,
    Cursor,
    ImportIn,
    ImportOut,
    LastCallOut,
    Limit,
    NumberChange,
    NumberIn,
    NumberOut,
    NumbersOut,
    RefusedOut,
    SyncOut,
    changes,
    instant,
    instant_or_none,
)
from number_sync.api.parts import CONFIGURATIONS, ONE_CONFIGURATION, PREFIX, Parts, UserOf
from number_sync.paging import DEFAULT_LIMIT
from number_sync.standing import Standing
from number_sync.sync.state import NEVER

NUMBERS: Final = ONE_CONFIGURATION + "/phone-numbers"
ONE_NUMBER: Final = NUMBERS + "/{number_id}"


def create_router(parts: Parts, user_of: UserOf) -> APIRouter:
    User = Annotated[str, Depends(user_of)]  # noqa: N806 - a type
    router = APIRouter(tags=["phone numbers"])
    numbers = parts.numbers

    async def out(rows: Sequence[Row[Any]]) -> list[NumberOut]:
        async with parts.database.read() as connection:
            found = await standing.standings(connection, [row.id for row in rows])
        return [_number_out(row, found[row.id]) for row in rows]

    @router.post(NUMBERS, status_code=201, summary="Add a phone number")
    async def create_number(
        user: User, configuration_id: str, body: NumberIn, response: Response
    ) -> NumberOut:
        """It is set up at the provider in the background: see `sync`."""
        row = await numbers.create(user, configuration_id, **dict(body))
        response.headers["Location"] = f"{PREFIX}{CONFIGURATIONS}/{configuration_id}/phone-numbers/{row.id}"
        return (await out([row]))[0]

    @router.get(NUMBERS, summary="List phone numbers")
    async def list_numbers(
        user: User, configuration_id: str, limit: Limit = DEFAULT_LIMIT, cursor: Cursor = None
    ) -> NumbersOut:
        """The oldest first."""
        page = await numbers.list(user, configuration_id, limit=limit, after=cursor)
        return NumbersOut(phone_numbers=await out(page.rows), next_cursor=page.next)

    @router.get(ONE_CONFIGURATION + "/available-numbers", summary="List the account's numbers")
    async def list_available_numbers(
        user: User,
        configuration_id: str,
        limit: Limit = DEFAULT_LIMIT,
        cursor: Annotated[str | None, Query(pattern=r"^\+[0-9]{1,15}$")] = None,
    ) -> AvailableNumbersOut:
        """The numbers that the account owns at the provider, which is asked for the first page. 502 when it refuses, 503
        when it cannot answer now; both with `code`, `sentence` and `remedy`."""
        found, after = await parts.imports.available(user, configuration_id, limit=limit, after=cursor)
        return AvailableNumbersOut(
            available_numbers=[
                AvailableNumberOut(
                    number=one.number,
                    name=one.name,
                    country=one.country,
                    voice=one.voice,
                    added=one.added,
                    elsewhere=one.elsewhere,
                )
                for one in found
            ],
            next_cursor=after,
        )

    @router.post(NUMBERS + "/import", summary="Import numbers of the account")
    async def import_numbers(user: User, configuration_id: str, body: ImportIn) -> ImportOut:
        """Adds those that the account owns at the provider; the name there becomes the label."""
        rows, refused = await parts.imports.add(
            user, configuration_id, body.numbers, workflow_id=body.workflow_id
        )
        return ImportOut(
            imported=await out(rows),
            refused=[RefusedOut(number=one.number, reason=one.reason) for one in refused],
        )

    @router.get(ONE_NUMBER, summary="Read a phone number")
    async def read_number(user: User, configuration_id: str, number_id: str) -> NumberOut:
        """With where it stands at the provider, and the last call that came in."""
        return (await out([await numbers.get(user, configuration_id, number_id)]))[0]

    @router.patch(ONE_NUMBER, summary="Change a phone number")
    async def change_number(
        user: User, configuration_id: str, number_id: str, body: NumberChange
    ) -> NumberOut:
        """The provider is asked for something only when who answers, or whether anybody does, has changed."""
        return (await out([await numbers.update(user, configuration_id, number_id, changes(body))]))[0]

    @router.post(ONE_NUMBER + "/check", status_code=202, summary="Compare with the provider now")
    async def check_number(user: User, configuration_id: str, number_id: str) -> NumberOut:
        """In the background: `sync.compared_at` tells when it has been done."""
        row = await numbers.get(user, configuration_id, number_id)
        await parts.check_now(row.id)
        return (await out([row]))[0]

    @router.delete(ONE_NUMBER, status_code=204, summary="Delete a phone number")
    async def delete_number(
        user: User,
        configuration_id: str,
        number_id: str,
        at_provider: Annotated[
            Literal["detach", "leave"],
            Query(
                description="`detach`: what was set at the provider before is restored in the background, where it is "
                "still ours. `leave`: the provider is not touched."
            ),
        ] = "detach",
    ) -> None:
        """Never waits for the provider."""
        await numbers.delete(user, configuration_id, number_id, at_provider=at_provider)

    return router


def _number_out(row: Row[Any], standing: Standing) -> NumberOut:
    return NumberOut(
        number_id=row.id,
        configuration_id=row.configuration_id,
        number=row.e164,
        label=row.label,
        active=row.active,
        workflow_id=row.workflow_id,
        default_caller_id=row.default_caller_id,
        sync=_sync_out(standing.sync),
        last_call=_last_call_out(standing.last_call),
        created_at=instant(row.created_at),
        updated_at=instant(row.updated_at),
    )


def _sync_out(state: Row[Any] | None) -> SyncOut:
    if state is None:
        return SyncOut(
            state="pending",
            reason=None,
            sentence=None,
            remedy=None,
            differs=[],
            compared=[],
            compared_at=None,
            changed_at=None,
            pushed_at=None,
            last_drift=None,
            next_at=None,
        )
    drift = state.last_drift
    return SyncOut(
        state=state.state,
        reason=state.reason,
        sentence=state.sentence,
        remedy=state.remedy,
        differs=state.differs,
        compared=state.compared,
        compared_at=instant_or_none(state.compared_at),
        changed_at=instant(state.changed_at),
        pushed_at=instant_or_none(state.pushed_at),
        last_drift=None if drift is None else {**drift, "at": instant(drift["at"])},
        next_at=None if state.due_at >= NEVER else instant(state.due_at),
    )


def _last_call_out(call: Row[Any] | None) -> LastCallOut | None:
    if call is None:
        return None
    return LastCallOut(
        workflow_run_id=call.workflow_run_id,
        status=call.status,
        at=instant(call.at),
        answered_at=instant_or_none(call.answered_at),
    )
