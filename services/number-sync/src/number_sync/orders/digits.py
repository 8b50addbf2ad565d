"""Presses keys through the provider's API, at most once: twice would be another number."""

from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import retries
from number_sync.orders import dials, ledger, once
from number_sync.orders.command import Command
from number_sync.orders.context import Account, Context, GiveUpError, configuration_of
from number_sync.orders.telling import notify, tell
from offhook.events import DigitsNotice, DigitsSent, SendDigits
from offhook.providers.base import RestError

_MAX_AGE_S: Final = 30.0


async def carry_out(context: Context, command: Command, data: SendDigits) -> str | None:
    async with context.database.read() as connection:
        dial = await dials.dial_of(connection, command.run_id)
        configuration = await configuration_of(connection, data.configuration_id)
    call_id = data.provider_call_id or (dial.provider_call_id if dial else None)
    if call_id is None:
        raise GiveUpError("unknown-call", "The provider's id of the call is not known here.")
    age_s = (context.now() - command.ordered_at) / 1000
    if age_s > _MAX_AGE_S:
        raise GiveUpError("expired", f"The order to press keys is {age_s:.0f} s old.")
    account = context.open(configuration, data.provider)
    async with context.database.write() as connection:
        claimed = await once.claim(connection, command)
    if not claimed:
        raise GiveUpError(
            "outcome-unknown", "Whether the keys were pressed is not known; they were not pressed again."
        )
    known: str = call_id
    try:
        await context.ask(command, "send-digits", account, lambda rest: rest.send_digits(known, data.digits))
    except RestError as error:
        return await _not_pressed(context, command, account, error)
    now = context.now()
    async with context.database.write() as connection:
        if await ledger.finish(connection, command, state=ledger.DONE, result="pressed", now=now):
            sent = DigitsSent(workflow_run_id=command.run_id, count=len(data.digits), way="provider")
            identity = ("digits", command.command_id)
            await tell(connection, sent, identity, traceparent=command.traceparent, now=now)
    return "done"


async def failed(connection: AsyncConnection, command: Command, reason: GiveUpError, now: int) -> None:
    """The order is given up: the agent is told."""
    notice = DigitsNotice(workflow_run_id=command.run_id, reason=reason.code)
    identity = ("digits-notice", command.command_id)
    await notify(connection, notice, identity, traceparent=command.traceparent, now=now)


async def _not_pressed(context: Context, command: Command, account: Account, error: RestError) -> str | None:
    if error.kind != "unknown-outcome":
        async with context.database.write() as connection:
            await once.unclaim(connection, command)
    if retries.delay_s(command.kind, error.kind, command.attempts, error.retry_after_s) is None:
        raise context.refused(error, account) from None
    await context.try_again(command, error, account)
    return None
