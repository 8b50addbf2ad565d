"""Dials, at most once. See `dials` for the claim."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy import Row
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from number_sync import publishing, retries
from number_sync.orders import dials, finding, ledger
from number_sync.orders.command import Command
from number_sync.orders.context import Account, Context, GiveUpError, configuration_of
from number_sync.orders.dials import DialRow
from number_sync.orders.telling import tell
from offhook.events import Originate
from offhook.identities import INBOUND_FALLBACK_PATH, new_id, status_path, webhook_path
from offhook.providers.base import Dial, Dialled, RestError, Seen, report, report_id
from offhook.telemetry import metrics

_STORE_AGAIN_S: Final = 1.0
# When a call whose dial was left without an answer is looked for: parts of the grace period. Providers' lists lag.
_LOOKS: Final = (0.05, 0.15, 0.5, 1.0)
# Beyond it, where the provider does not say: every so often, for so long.
_LOOK_AGAIN_S: Final = 5.0
_PATIENCE_S: Final = 180.0
_MAY_PASS: Final = frozenset({"busy", "unavailable", "unknown-outcome"})

log = structlog.get_logger(__name__)


async def carry_out(context: Context, command: Command, data: Originate) -> str | None:
    async with context.database.read() as connection:
        first = await dials.belongs(connection, command)
        dial = await dials.dial_of(connection, command.run_id)
        hang_up_waits = await ledger.hang_up_waits(connection, command.run_id)
        url = await publishing.public_url(connection)
        configuration = await configuration_of(connection, data.configuration_id)
    if not first or dial is None:
        await context.finish(command, "repeated")
        return "repeated"
    if dial.outcome is not None:  # the call showed life before the answer came
        await context.finish(command, "dialled")
        return "done"
    if dial.claimed_at is not None:
        return await _resolve(context, command, data, configuration, dial)
    age_s = (context.now() - command.ordered_at) / 1000
    if hang_up_waits:
        raise GiveUpError("canceled", "The call was ended before it was dialled.")
    if age_s > context.settings.originate_max_age_s:
        raise GiveUpError(
            "expired", f"The order to dial is {age_s:.0f} s old; nobody waits for the call any more."
        )
    if configuration is None or configuration.user_id != data.user_id:
        raise GiveUpError("no-configuration", "The telephony configuration does not exist any more.")
    if configuration.paused:
        raise GiveUpError("configuration-paused", f"The configuration {configuration.name!r} is paused.")
    if url is None:
        raise GiveUpError("no-public-url", "The installation has no public URL; set OFFHOOK_PUBLIC_URL.")
    account = context.open(configuration, data.provider)
    return await _dial(context, command, data, account, url)


async def failed(connection: AsyncConnection, command: Command, reason: GiveUpError, now: int) -> None:
    """The command is given up: the call will not be dialled."""
    await dials.settle(connection, command.run_id, outcome=dials.REFUSED, now=now)


async def _dial(
    context: Context, command: Command, data: Originate, account: Account, url: str
) -> str | None:
    request = Dial(
        from_number=data.from_number,
        to_number=data.to_number,
        answer_url=url + webhook_path(data.workflow_id, data.user_id, command.run_id),
        status_url=url + status_path(command.run_id),
        fallback_url=url + INBOUND_FALLBACK_PATH,
        ring_timeout_s=data.ring_timeout_s,
        time_limit_s=data.time_limit_s,
        machine_detection=data.machine_detection,
        amd_url=url + status_path(command.run_id),
    )
    claim = new_id()
    async with context.database.write() as connection:
        if not await dials.claim(
            connection, command, token=claim, account=account.configuration.account, now=context.now()
        ):
            return None  # somebody else was faster; the command comes again when its lease has run out
    await context.introduce(data, account.configuration.account)
    # Committed: from here on nobody else will dial this call, whatever becomes of this process.
    answer = await context.start(account, lambda rest: rest.dial(request))
    try:
        dialled = await context.answer(command, "dial", answer)
    except TimeoutError:
        # An answer after the deadline is still the truth.
        context.later(_late(context, command, answer), f"late answer {command.run_id}")
        log.warning("dial.unanswered", provider=data.provider, after_s=context.settings.deadline_s)
        await _look_later(context, command)
        return None
    except RestError as error:
        return await _not_dialled(context, command, claim, error, account)
    await _dialled(context, command, dialled)
    return "done"


async def _late(context: Context, command: Command, answer: "asyncio.Future[Dialled]") -> None:
    try:
        dialled = await answer
    except RestError:
        return  # the grace period decides
    await _dialled(context, command, dialled)


async def _not_dialled(
    context: Context, command: Command, claim: str, error: RestError, account: Account
) -> str | None:
    log.warning("dial.refused", provider=command.data.provider, kind=error.kind, code=error.code)
    if error.kind == "unknown-outcome":
        await _look_later(context, command)
        return None
    wait_s = retries.delay_s("originate", error.kind, command.attempts, error.retry_after_s)
    if wait_s is None:
        raise context.refused(error, account)
    now = context.now()
    async with context.database.write() as connection:
        if await dials.unclaim(connection, command.run_id, token=claim):
            await ledger.postpone(connection, command, due_at=now + context.wait_ms(wait_s))
        else:
            await ledger.finish(connection, command, state=ledger.DONE, result="settled", now=now)
    return None


async def _look_later(context: Context, command: Command, wait_s: float = 0.0) -> None:
    """The provider may have the call. Leave the claim, and look for the call at the next of the agreed moments, or
    after `wait_s`; life that it shows meanwhile comes first."""
    now = context.now()
    grace_ms = context.settings.outcome_grace_s * 1000
    async with context.database.write() as connection:
        dial = await dials.dial_of(connection, command.run_id)
        claimed_at = now if dial is None or dial.claimed_at is None else dial.claimed_at
        moments = (claimed_at + int(part * grace_ms) for part in _LOOKS)
        due_at = next((moment for moment in moments if moment > now), now + context.wait_ms(_LOOK_AGAIN_S))
        await ledger.postpone(connection, command, due_at=max(due_at, now + context.wait_ms(wait_s)))


async def _resolve(
    context: Context, command: Command, data: Originate, configuration: Row[Any] | None, dial: DialRow
) -> str | None:
    """A claim without an outcome: its holder was killed, or the provider's answer was lost. Never dial again.

    The call is looked for at the provider. What is not there is given up when it had time to appear; where the provider
    does not say, some minutes later.
    """
    assert dial.claimed_at is not None
    waited_ms = context.now() - dial.claimed_at
    grace_ms = context.settings.outcome_grace_s * 1000
    sought = finding.Sought(
        command.run_id, data.from_number, data.to_number, datetime.fromtimestamp(dial.claimed_at / 1000, UTC)
    )
    try:
        account = context.open_account(configuration, data.provider, dial.account)
        found = await finding.find(context, command, account, sought)
    except GiveUpError as reason:
        looked = f"it could not be looked for: {reason.message}"
    except RestError as error:
        log.warning("dial.not-looked-for", provider=data.provider, kind=error.kind, code=error.code)
        if error.kind in _MAY_PASS and waited_ms < grace_ms + context.wait_ms(_PATIENCE_S):
            await _look_later(context, command, error.retry_after_s or 0.0)
            return None
        looked = f"it could not be looked for ({error.kind}, {error.code})"
    else:
        if found.call is not None:
            await _dialled(context, command, found.call)
            return "done"
        looked = "the provider has no such call"
        if found.candidates:
            looked = f"the provider has {found.candidates} calls between these numbers, and any may be another run's"
    if waited_ms < grace_ms:
        await _look_later(context, command)
        return None
    async with context.database.write() as connection:
        now = context.now()
        await dials.settle(connection, command.run_id, outcome=dials.UNKNOWN, now=now)
        message = (
            "The provider's answer to the dial was lost, the call has shown no life since, "
            f"and {looked}. It was not dialled again."
        )
        await ledger.fail(connection, command, code="outcome-unknown", message=message[:500], now=now)
    return "failed"


async def _dialled(context: Context, command: Command, dialled: Dialled | Seen) -> None:
    while True:
        try:
            await _store_dialled(context, command, dialled)
            break
        except (SQLAlchemyError, OSError) as error:
            # Nobody but this process knows the provider's answer.
            metrics.STORE_ERRORS.labels("dialled").inc()
            log.error("dial.not-stored", reason=type(error).__name__)
            await asyncio.sleep(_STORE_AGAIN_S)
    log.info("dial.accepted", provider=command.data.provider, provider_call_id=dialled.provider_call_id)


async def _store_dialled(context: Context, command: Command, dialled: Dialled | Seen) -> None:
    now = context.now()
    async with context.database.write() as connection:
        await dials.settle_accepted(
            connection,
            command.run_id,
            provider_call_id=dialled.provider_call_id,
            conversation_id=dialled.conversation_id,
            traceparent=command.traceparent,
            now=now,
        )
        await ledger.finish(connection, command, state=ledger.DONE, result="dialled", now=now)
        if isinstance(dialled, Seen):
            # It was on its way for a while; whoever waits for its callbacks may have missed some.
            dial = await dials.dial_of(connection, command.run_id)
            assert dial is not None
            told = report(
                dialled,
                workflow_run_id=command.run_id,
                provider=dial.provider,
                account=dial.account or "",
            )
            await tell(connection, told, report_id(told), traceparent=command.traceparent, now=now)
