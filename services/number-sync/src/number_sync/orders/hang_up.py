"""Ends a call. Harmless when it has ended, so it is always tried again."""

from typing import Final

from number_sync.orders import dials
from number_sync.orders.command import Command
from number_sync.orders.context import Context, GiveUpError, configuration_of
from number_sync.orders.dials import DialRow
from offhook.events import HangUp
from offhook.providers.base import RestError

_MAX_AGE_S: Final = 3600.0


async def carry_out(context: Context, command: Command, data: HangUp) -> str | None:
    async with context.database.read() as connection:
        dial = await dials.dial_of(connection, command.run_id)
        configuration = await configuration_of(connection, data.configuration_id)
    age_s = (context.now() - command.ordered_at) / 1000
    provider_call_id = data.provider_call_id or (dial.provider_call_id if dial else None)
    if provider_call_id is None:
        return await _nothing_to_end(context, command, dial)
    account = context.open(configuration, data.provider)
    if age_s > _MAX_AGE_S:
        raise GiveUpError("expired", f"The order to hang up is {age_s:.0f} s old.")
    call_id = provider_call_id
    try:
        await context.ask(command, "hang-up", account, lambda rest: rest.hang_up(call_id))
    except RestError as error:
        if error.kind == "gone":
            await context.finish(command, "gone")
            return "gone"
        await context.try_again(command, error, account)
        return None
    await context.finish(command, "ended")
    return "done"


async def _nothing_to_end(context: Context, command: Command, dial: DialRow | None) -> str:
    if dial is None:
        raise GiveUpError("unknown-call", "The provider's id of the call is not known here.")
    # Not dialled, refused, or lost without a sign of life: the provider has no call that could be named.
    await context.finish(command, "nothing-to-end")
    return "gone"
