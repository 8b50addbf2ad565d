"""Transfers a call: cold, the provider dials and connects; warm, the caller waits while the agent talks with the other
party first. See `transfers` for what follows.

A cold transfer rings a phone, so the provider is asked at most once. Sending a caller to wait, or back, may be repeated.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import publishing, retries
from number_sync.orders import dials, ledger, once, transfers
from number_sync.orders.command import Command
from number_sync.orders.context import Account, Context, GiveUpError, configuration_of
from number_sync.orders.telling import notify, tell
from number_sync.orders.transfers import TransferRow
from number_sync.publishing import SOURCE
from number_sync.schema import commands, phone_numbers
from offhook.dialling_rules import objection_to
from offhook.events import (
    CallRequested,
    HangUp,
    HangupRequested,
    Originate,
    Party,
    Transfer,
    TransferEnded,
    TransferNotice,
    TransferResult,
    new_event,
)
from offhook.identities import consult_run_id, derived_id, transfer_path
from offhook.providers.base import InstructionError, ProviderAdapter, Rest, RestError
from offhook.providers.registry import PROVIDERS
from offhook.records import DiallingRules

_MAX_AGE_S: Final = 60.0
_RETURN_MAX_AGE_S: Final = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a transfer is made with."""

    account: Account
    adapter: ProviderAdapter
    url: str
    call_id: str
    own_number: str


async def carry_out(context: Context, command: Command, data: Transfer) -> str | None:
    try:
        return await _transfer(context, command, data)
    except GiveUpError:
        if data.mode == "warm":
            await context.places.leave(consult_run_id(command.command_id))
        raise


async def _transfer(context: Context, command: Command, data: Transfer) -> str | None:
    setting = await _prepare(context, command, data)
    async with context.database.write() as connection:
        other = await transfers.of_run(connection, command.run_id, transfers.CONSULTING)
        if other is not None and other.transfer_id != transfers.id_of(command):
            raise GiveUpError(
                "transfer-going-on", "The caller waits to be put through to somebody else already."
            )
        transfer = await transfers.begin(
            connection,
            command,
            data,
            account=setting.account.configuration.account,
            provider_call_id=setting.call_id,
            now=context.now(),
        )
    if transfer.state != transfers.ASKED:
        if transfer.state == transfers.OVER and transfer.consult_run_id is not None:
            await context.places.leave(transfer.consult_run_id)  # an earlier attempt took it
        await context.finish(command, "settled")  # it has gone on without us, or the call is over
        return "done"
    if data.mode == "cold":
        return await _cold(context, command, data, setting, transfer)
    return await _warm(context, command, data, setting, transfer)


async def failed(connection: AsyncConnection, command: Command, reason: GiveUpError, now: int) -> None:
    """The order is given up: the agent that still has the caller is told. If perhaps nobody has him, he is sent back."""
    transfer = await transfers.of_run(connection, command.run_id, transfers.ASKED)
    if transfer is not None and transfer.transfer_id == transfers.id_of(command):
        if transfer.order.mode == "warm" and await once.claimed(connection, command):
            await transfers.advance(connection, transfer, transfers.RETURNING, now=now, result="failed")
            await ledger.give_back(connection, transfer.transfer_id, transfer.order, now=now)
            return
        await transfers.advance(connection, transfer, transfers.OVER, now=now, result="failed")
    result: TransferResult = "unsupported" if reason.code == "unsupported" else "failed"
    notice = TransferNotice(workflow_run_id=command.run_id, result=result, reason=reason.code)
    identity = ("transfer-notice", command.command_id)
    await notify(connection, notice, identity, traceparent=command.traceparent, now=now)


async def give_back(context: Context, command: Command, data: Transfer) -> str | None:
    """Send a caller who waits in vain back to an agent."""
    async with context.database.read() as connection:
        transfer = await transfers.of_run(connection, command.run_id, transfers.RETURNING)
        configuration = await configuration_of(connection, data.configuration_id)
        url = await publishing.public_url(connection)
    if transfer is None or transfer.result is None:
        await context.finish(command, "settled")
        return "done"
    if (context.now() - command.ordered_at) / 1000 > _RETURN_MAX_AGE_S:
        raise GiveUpError("expired", "The caller has waited for an hour to be sent back to an agent.")
    if url is None:
        raise GiveUpError("no-public-url", "The installation has no public URL; set OFFHOOK_PUBLIC_URL.")
    account = context.open_account(configuration, data.provider, transfer.account)
    path = transfer_path(
        data.workflow_id,
        data.user_id,
        command.run_id,
        transfer.result,
        transfer.provider_call_id,
        transfer.transfer_id,
    )
    document = PROVIDERS[data.provider].documents.ask(url + path)
    call_id = transfer.provider_call_id
    try:
        await context.ask(command, "transfer", account, lambda rest: rest.transfer(call_id, document))
    except RestError as error:
        if error.kind == "gone":
            async with context.database.write() as connection:
                now = context.now()
                await transfers.advance(connection, transfer, transfers.OVER, now=now)
                await ledger.finish(connection, command, state=ledger.DONE, result="gone", now=now)
            return "gone"
        await context.try_again(command, error, account)
        return None
    await context.finish(command, "returned")
    return "done"


async def not_given_back(
    connection: AsyncConnection, command: Command, reason: GiveUpError, now: int
) -> None:
    """Nobody may wait for ever: the call is ended."""
    transfer = await transfers.of_run(connection, command.run_id, transfers.RETURNING)
    if transfer is None:
        return
    await transfers.advance(connection, transfer, transfers.OVER, now=now)
    ended = TransferEnded(
        workflow_run_id=command.run_id,
        provider=transfer.provider,
        account=transfer.account,
        mode="warm",
        result=transfer.result or "failed",
        detail=reason.code,
        transfer_id=transfer.transfer_id,
    )
    identity = ("transfer-ended", transfer.transfer_id)
    await tell(connection, ended, identity, traceparent=command.traceparent, now=now)
    await end_call(connection, transfer, command.run_id, transfer.provider_call_id, "nobody-left", now)


async def end_call(
    connection: AsyncConnection,
    transfer: TransferRow,
    run_id: str,
    provider_call_id: str | None,
    reason: str,
    now: int,
) -> None:
    """Order the end of the caller's call, or of the consultation, and tell why."""
    asked = HangupRequested(workflow_run_id=run_id, requested_by=Party.PLATFORM, reason=reason)
    identity = ("transfer-hangup", transfer.transfer_id, run_id)
    await tell(connection, asked, identity, traceparent=None, now=now)
    order = HangUp(
        workflow_run_id=run_id,
        configuration_id=transfer.order.configuration_id,
        provider=transfer.provider,
        provider_call_id=provider_call_id,
        requested_by=Party.PLATFORM,
        reason=reason,
    )
    await ledger.record(
        connection, [_ordered(order, "hangup", transfer.transfer_id, run_id, now=now)], now=now
    )


# --- inside ------------------------------------------------------------------------------------------------------------


async def _prepare(context: Context, command: Command, data: Transfer) -> _Setting:
    async with context.database.read() as connection:
        dial = await dials.dial_of(connection, command.run_id)
        configuration = await configuration_of(connection, data.configuration_id)
        url = await publishing.public_url(connection)
        own_number = data.own_number
        if own_number is None or not own_number.startswith("+"):
            own_number = await _caller_id(connection, data.configuration_id)
        hang_up_waits = await ledger.hang_up_waits(connection, command.run_id)
        # What became of it is still to be found out, however old the order is by now.
        asked = data.mode == "cold" and await once.claimed(connection, command)
    call_id = data.provider_call_id or (dial.provider_call_id if dial else None)
    if call_id is None:
        raise GiveUpError("unknown-call", "The provider's id of the call is not known here.")
    age_s = (context.now() - command.ordered_at) / 1000
    if hang_up_waits:
        raise GiveUpError("expired", "The call is being ended.")
    if age_s > _MAX_AGE_S and not asked:
        raise GiveUpError("expired", f"The order to transfer is {age_s:.0f} s old.")
    if configuration is None or configuration.user_id != data.user_id:
        raise GiveUpError("no-configuration", "The telephony configuration does not exist any more.")
    if configuration.paused:
        raise GiveUpError("configuration-paused", f"The configuration {configuration.name!r} is paused.")
    if url is None:
        raise GiveUpError("no-public-url", "The installation has no public URL; set OFFHOOK_PUBLIC_URL.")
    if own_number is None:
        raise GiveUpError("no-caller-id", "No number is known that the other party could be shown.")
    objection = objection_to(DiallingRules.model_validate(configuration.dialling_rules), data.to_number)
    if objection is not None:
        raise GiveUpError(objection.reason, objection.sentence)
    account = context.open(configuration, data.provider)
    return _Setting(account, PROVIDERS[data.provider], url, call_id, own_number)


async def _caller_id(connection: AsyncConnection, configuration_id: str) -> str | None:
    """The default caller ID, else the only active number."""
    rows = (
        await connection.execute(
            select(phone_numbers.c.e164, phone_numbers.c.default_caller_id).where(
                phone_numbers.c.configuration_id == configuration_id, phone_numbers.c.active
            )
        )
    ).all()
    default = next((row.e164 for row in rows if row.default_caller_id), None)
    return default or (rows[0].e164 if len(rows) == 1 else None)


async def _cold(
    context: Context, command: Command, data: Transfer, setting: _Setting, transfer: TransferRow
) -> str | None:
    path = transfer_path(
        data.workflow_id, data.user_id, command.run_id, "cold", setting.call_id, transfer.transfer_id
    )
    document = _document(
        lambda: setting.adapter.documents.cold(
            data.to_number, setting.own_number, data.ring_timeout_s, setting.url + path
        )
    )
    async with context.database.write() as connection:
        claimed = await once.claim(connection, command)
        asked_at = context.now() if claimed else transfer.changed_at
        if claimed:
            await transfers.advance(connection, transfer, transfers.ASKED, now=asked_at)
    if not claimed:
        return await _perhaps_moved(context, command, asked_at)
    try:
        await context.ask(
            command, "transfer", setting.account, lambda rest: rest.transfer(setting.call_id, document)
        )
    except RestError as error:
        if error.kind == "unknown-outcome":
            return await _perhaps_moved(context, command, asked_at)
        async with context.database.write() as connection:
            await once.unclaim(connection, command)
        await context.try_again(command, error, setting.account)
        return None
    now = context.now()
    async with context.database.write() as connection:
        await transfers.advance(connection, transfer, transfers.MOVED, now=now)
        await ledger.finish(connection, command, state=ledger.DONE, result="moved", now=now)
    return "done"


async def _perhaps_moved(context: Context, command: Command, asked_at: int) -> str | None:
    """The provider was asked (`asked_at`, ms since 1970), and its answer is not known. It is not asked again; if the caller
    has gone, the gateway will be asked, and this order finds that. If nothing comes of it, it has failed."""
    known_at = asked_at + int(context.settings.outcome_grace_s * 1000)
    async with context.database.write() as connection:
        open_ = await transfers.of_run(connection, command.run_id, transfers.ASKED)
        waits = open_ is not None and open_.transfer_id == transfers.id_of(command)
        if waits and context.now() < known_at:
            await ledger.postpone(connection, command, due_at=known_at)
            return None
    if not waits:
        await context.finish(command, "settled")  # while the answer was waited for, the caller was seen to go
        return "done"
    raise GiveUpError(
        "outcome-unknown", "The provider's answer to the transfer was lost; it was not asked again."
    )


async def _warm(
    context: Context, command: Command, data: Transfer, setting: _Setting, transfer: TransferRow
) -> str | None:
    assert transfer.consult_run_id is not None
    document = _document(lambda: setting.adapter.documents.hold(command.run_id))
    full = await context.places.take(transfer.consult_run_id, setting.account.configuration)
    if full is not None and full.per == "second" and full.limit > 0:
        # That passes. An order that waits too long for its turn gives up by its age.
        async with context.database.write() as connection:
            due_at = context.now() + context.wait_ms(full.retry_after_s)
            await ledger.postpone(connection, command, due_at=due_at, attempt=False)
        return None
    if full is not None:
        # The caller is still with the agent, who may do something else.
        raise GiveUpError("limit-reached", full.sentence)

    def hold(rest: Rest) -> None:
        rest.transfer(setting.call_id, document)

    async with context.database.write() as connection:
        first = await once.claim(connection, command)
    try:
        await context.ask(command, "transfer", setting.account, hold)
    except RestError as error:
        kind = "unavailable" if error.kind == "unknown-outcome" else error.kind
        if first and error.kind != "unknown-outcome":
            async with context.database.write() as connection:
                await once.unclaim(connection, command)  # the caller is surely still with the agent
        wait_s = retries.delay_s(command.kind, kind, command.attempts, error.retry_after_s)
        if wait_s is None:
            raise context.refused(error, setting.account) from None
        async with context.database.write() as connection:
            await ledger.postpone(connection, command, due_at=context.now() + context.wait_ms(wait_s))
        return None
    now = context.now()
    async with context.database.write() as connection:
        consulting = await transfers.advance(connection, transfer, transfers.CONSULTING, now=now)
        if consulting:
            await _consult(connection, command, data, setting, transfer, now)
        await ledger.finish(connection, command, state=ledger.DONE, result="holding", now=now)
    if not consulting:  # the call is over
        await context.places.leave(transfer.consult_run_id)
    return "done"


async def _consult(
    connection: AsyncConnection,
    command: Command,
    data: Transfer,
    setting: _Setting,
    transfer: TransferRow,
    now: int,
) -> None:
    """Have the other party called: a call of its own, which tells its agent whose caller waits."""
    assert transfer.consult_run_id is not None
    metadata = await _metadata(connection, command.run_id)
    metadata["transfer"] = {"of": command.run_id, "from": data.far_number or "", "mode": "warm"}
    call: dict[str, Any] = {
        "workflow_run_id": transfer.consult_run_id,
        "workflow_id": data.workflow_id,
        "user_id": data.user_id,
        "configuration_id": data.configuration_id,
        "provider": data.provider,
        "from_number": setting.own_number,
        "to_number": data.to_number,
        "ring_timeout_s": data.ring_timeout_s,
        "transfer_of": command.run_id,
        "metadata": metadata,
    }
    requested = CallRequested(**call, account=transfer.account)
    identity = ("consult", transfer.transfer_id)
    await tell(connection, requested, identity, traceparent=command.traceparent, now=now)
    order = _ordered(Originate(**call), "consult", transfer.transfer_id, now=now)
    await ledger.record(connection, [order], now=now)


async def _metadata(connection: AsyncConnection, run_id: str) -> dict[str, Any]:
    """What the agent of the caller's call was told, where that call was dialled from here."""
    row: Row[Any] | None = (
        await connection.execute(
            select(commands.c.data).where(
                commands.c.workflow_run_id == run_id, commands.c.kind == "originate"
            )
        )
    ).first()
    return {} if row is None else dict(row.data.get("metadata") or {})


def _ordered(order: Originate | HangUp, *identity: str, now: int) -> Any:
    return new_event(
        order,
        source=SOURCE,
        time=datetime.fromtimestamp(now / 1000, UTC),
        subject=order.workflow_run_id,
        event_id=derived_id("number-sync", *identity),
    )


def _document(make: Callable[[], str]) -> str:
    try:
        return make()
    except InstructionError as error:
        raise GiveUpError("rejected", f"The provider has no words for this transfer: {error}"[:500]) from None
