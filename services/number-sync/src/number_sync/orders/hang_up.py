"""Ends a call. Harmless when it has ended, so it is always tried again.

A provider that takes a hang-up has not ended the call yet: its own event says so. When that does not come, the call is
looked at, and hung up once more if it goes on.
"""

from typing import Final

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import retries
from number_sync.orders import dials, ledger, observe
from number_sync.orders.command import Command
from number_sync.orders.context import Account, Context, GiveUpError, configuration_of
from number_sync.orders.dials import DialRow
from number_sync.orders.telling import notify
from offhook.events import TERMINAL_STATUSES, HangUp, HangUpNotice, Observe
from offhook.providers.base import RestError, Seen

_MAX_AGE_S: Final = 3600.0
_CONFIRMED_WITHIN_S: Final = 5.0

log = structlog.get_logger(__name__)


async def carry_out(context: Context, command: Command, data: HangUp) -> str | None:
    async with context.database.read() as connection:
        dial = await dials.dial_of(connection, command.run_id)
        configuration = await configuration_of(connection, data.configuration_id)
    age_s = (context.now() - command.ordered_at) / 1000
    provider_call_id = data.provider_call_id or (dial.provider_call_id if dial else None)
    if provider_call_id is None:
        return await _nothing_to_end(context, command, dial)
    account = context.open_account(configuration, data.provider, dial.account if dial else None)
    if age_s > _MAX_AGE_S:
        raise GiveUpError("expired", f"The order to hang up is {age_s:.0f} s old.")
    call_id = provider_call_id
    try:
        await context.ask(command, "hang-up", account, lambda rest: rest.hang_up(call_id))
    except RestError as error:
        if error.kind == "gone":
            await context.finish(command, "gone")
            return "gone"
        if command.attempts == 0:
            async with context.database.write() as connection:
                await _tell_bridge(connection, command, error.kind, context.now())
        await context.try_again(command, error, account)
        return None
    now = context.now()
    async with context.database.write() as connection:
        if await ledger.finish(connection, command, state=ledger.DONE, result="ended", now=now):
            await ledger.confirm_later(
                connection,
                command,
                provider_call_id=call_id,
                now=now,
                due_at=now + context.wait_ms(_CONFIRMED_WITHIN_S),
            )
    return "done"


async def failed(connection: AsyncConnection, command: Command, reason: GiveUpError, now: int) -> None:
    """The order is given up."""
    await _tell_bridge(connection, command, reason.code, now)


async def _tell_bridge(connection: AsyncConnection, command: Command, reason: str, now: int) -> None:
    """It need not wait for the provider any longer: it has another way to end the call."""
    notice = HangUpNotice(
        workflow_run_id=command.run_id, configuration_id=command.data.configuration_id, reason=reason
    )
    identity = ("hang-up-notice", command.command_id)
    await notify(connection, notice, identity, traceparent=command.traceparent, now=now)


async def confirm(context: Context, command: Command, data: Observe) -> str | None:
    """The end of a call that was hung up was not told. Look whether it has ended."""
    assert data.provider_call_id is not None
    call_id = data.provider_call_id
    async with context.database.read() as connection:
        configuration = await configuration_of(connection, data.configuration_id)
    account = context.open(configuration, data.provider)
    try:
        seen = await context.ask(
            command, "look-at-call", account, lambda rest: rest.look_at(call_id), paced=True
        )
        if seen is not None and seen.status not in TERMINAL_STATUSES:
            await _again(context, command, account, seen)
            return None
    except RestError as error:
        await context.try_again(command, error, account)
        return None
    now = context.now()
    async with context.database.write() as connection:
        if not await ledger.finish(connection, command, state=ledger.DONE, result="seen", now=now):
            return None  # its end was told meanwhile
        await observe.tell_seen(connection, command, account, seen, reason=data.reason, now=now)
    return "done"


async def _again(context: Context, command: Command, account: Account, seen: Seen) -> None:
    log.warning("hang-up.not-ended", provider=command.data.provider, provider_status=seen.provider_status)
    wait_s = retries.delay_s(command.kind, "not-ended", command.attempts, None)
    if wait_s is None:
        raise GiveUpError(
            "not-ended", "The provider took the hang-up, and took it again, and the call still goes on."
        )
    try:
        await context.ask(command, "hang-up", account, lambda rest: rest.hang_up(seen.provider_call_id))
    except RestError as error:
        if error.kind != "gone":
            raise
        # It ended between the two requests: there is more to see in a moment.
    async with context.database.write() as connection:
        await ledger.postpone(connection, command, due_at=context.now() + context.wait_ms(wait_s))


async def _nothing_to_end(context: Context, command: Command, dial: DialRow | None) -> str | None:
    if dial is None:
        raise GiveUpError("unknown-call", "The provider's id of the call is not known here.")
    # Not dialled, refused, or lost without a sign of life: the provider has no call that could be named.
    now = context.now()
    async with context.database.write() as connection:
        dial = await dials.dial_of(connection, command.run_id, lock=True)
        if dial is not None and dial.provider_call_id is not None:  # it has shown life since
            await ledger.postpone(connection, command, due_at=now, attempt=False)
            return None
        await ledger.finish(connection, command, state=ledger.DONE, result=dials.NOTHING_TO_END, now=now)
    return "gone"
