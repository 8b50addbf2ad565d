"""Asks the provider what became of a call, and tells it."""

from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync.orders import dials, finding, ledger
from number_sync.orders.command import Command
from number_sync.orders.context import Account, Context, GiveUpError, configuration_of
from number_sync.orders.dials import DialRow
from number_sync.orders.telling import tell
from offhook.events import CallObserved, Observe
from offhook.providers.base import RestError, Seen, report, report_id

_MAX_AGE_S: Final = 3600.0


async def carry_out(context: Context, command: Command, data: Observe) -> str | None:
    async with context.database.read() as connection:
        dial = await dials.dial_of(connection, command.run_id)
        configuration = await configuration_of(connection, data.configuration_id)
    age_s = (context.now() - command.ordered_at) / 1000
    if age_s > _MAX_AGE_S:
        raise GiveUpError("expired", f"The order to look at the call is {age_s:.0f} s old.")
    account = context.open_account(configuration, data.provider, dial.account if dial else None)
    try:
        seen = await _look(context, command, data, account, dial)
    except RestError as error:
        await context.try_again(command, error, account)
        return None
    async with context.database.write() as connection:
        if not await ledger.finish(
            connection,
            command,
            state=ledger.DONE,
            result="not-found" if seen is None else "seen",
            now=context.now(),
        ):
            return None  # another process has looked, and told
        if seen is not None and dial is not None:
            await dials.settle_accepted(
                connection,
                command.run_id,
                provider_call_id=seen.provider_call_id,
                conversation_id=seen.conversation_id,
                traceparent=command.traceparent,
                now=context.now(),
            )
        await tell_seen(connection, command, account, seen, reason=data.reason, now=context.now())
    return "gone" if seen is None else "done"


async def _look(
    context: Context, command: Command, data: Observe, account: Account, dial: DialRow | None
) -> Seen | None:
    """By the provider's id of the call where anybody knows it; else by its numbers and time."""
    call_id = data.provider_call_id or (dial.provider_call_id if dial else None)
    if call_id is not None:
        known = call_id
        return await context.ask(
            command, "look-at-call", account, lambda rest: rest.look_at(known), paced=True
        )
    if data.from_number is None or data.to_number is None or data.requested_at is None:
        raise GiveUpError("unknown-call", "Neither the provider's id of the call nor its numbers are known.")
    try:
        began_at = datetime.fromisoformat(data.requested_at)
    except ValueError:
        raise GiveUpError("unknown-call", "When the call began cannot be understood.") from None
    if began_at.tzinfo is None:
        raise GiveUpError("unknown-call", "When the call began has no time zone.")
    sought = finding.Sought(command.run_id, data.from_number, data.to_number, began_at)
    found = await finding.find(context, command, account, sought)
    if found.call is None and found.candidates:
        raise GiveUpError(
            "ambiguous-call",
            f"The provider has {found.candidates} calls between these numbers at that time, "
            "and which of them is this one cannot be told.",
        )
    return found.call


async def tell_seen(
    connection: AsyncConnection,
    command: Command,
    account: Account,
    seen: Seen | None,
    *,
    reason: str,
    now: int,
) -> None:
    """What the provider said, and that it was asked. The same answer of the provider is one event, however often told."""
    provider, named = command.data.provider, account.configuration.account
    call_id = getattr(command.data, "provider_call_id", None)
    if seen is not None:
        call_id = seen.provider_call_id
        told = report(seen, workflow_run_id=command.run_id, provider=provider, account=named)
        await tell(connection, told, report_id(told), traceparent=command.traceparent, now=now)
    observed = CallObserved(
        workflow_run_id=command.run_id,
        provider=provider,
        account=named,
        provider_call_id=call_id,
        found=seen is not None,
        reason=reason,
    )
    identity = ("call-observed", command.command_id, str(command.attempts))
    await tell(connection, observed, identity, traceparent=command.traceparent, now=now)
