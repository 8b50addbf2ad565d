"""What people can do to calls, for the API and the pages: begin one, hang up, transfer, look one up.

Everything here is asked for and not done: a command goes to number-sync in the same transaction that tells of it. A call
that does not exist, or is somebody else's, is None.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from call_tracker.dialling import DialPlan, Holdings, Refusal, check_allowed, check_usable, e164, plan
from call_tracker.silence import Stage
from call_tracker.store import SOURCE, Answer, Idempotency, Outbox, Request, Store
from call_tracker.store.store import Clock
from offhook.call_leases import CallLeases, Full, Scope
from offhook.events import (
    CallRequested,
    CallStatus,
    Event,
    EventData,
    HangUp,
    HangupRequested,
    MachineDetection,
    Observe,
    Originate,
    Party,
    Transfer,
    TransferMode,
    TransferRequested,
    new_event,
)
from offhook.events.calls import CallEventData
from offhook.identities import is_id, new_id, transfer_id
from offhook.records import CallState, ConfigurationRecord
from offhook.telemetry import spans
from offhook.telemetry.tracing import call_span, current_in_call, now_ns
from offhook.topics import CALL_COMMANDS, CALL_EVENTS

PATIENCE_S: Final = 1.5
MAY_APPEAR: Final = frozenset(
    {
        "unknown-workflow",
        "unknown-configuration",
        "no-configuration",
        "configuration-unverified",
        "no-active-number",
        "not-your-number",
    }
)
"""Refusals that may be true only until the directories have heard of the newest changes."""

_TWIN_PAUSES_S: Final = (0.0, 0.1, 0.4)


@dataclass(frozen=True, slots=True)
class UserLimits:
    """What each user may have; None: no limit."""

    max_concurrent_calls: int | None = None
    max_calls_per_s: float | None = None


@dataclass(frozen=True, slots=True)
class CallOrder:
    """A call that somebody wants. Times in seconds."""

    workflow_id: str
    to: str
    from_number: str | None = None
    configuration_id: str | None = None
    ring_timeout_s: int = 60
    time_limit_s: int | None = None
    machine_detection: MachineDetection = "off"
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """A call that was accepted, as it is answered."""

    workflow_run_id: str
    workflow_id: str
    configuration_id: str
    provider: str
    from_number: str
    to_number: str
    requested_at: datetime


def scopes_of(user_id: str, limits: UserLimits, configuration: ConfigurationRecord) -> tuple[Scope, Scope]:
    """Where a call of this user through this configuration counts."""
    return (
        Scope("user", user_id, limits.max_concurrent_calls, limits.max_calls_per_s),
        Scope(
            "configuration",
            configuration.configuration_id,
            configuration.max_concurrent_calls,
            configuration.max_calls_per_s,
        ),
    )


class Actions:
    """Asks for what people want. All methods raise `StoreUnavailable` and `Refusal`."""

    def __init__(
        self,
        *,
        store: Store,
        outbox: Outbox,
        holdings: Holdings,
        leases: CallLeases,
        clock: Clock,
        limits: UserLimits,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._holdings = holdings
        self._leases = leases
        self._clock = clock
        self._limits = limits

    async def begin(
        self,
        user: str,
        order: CallOrder,
        answer: Callable[[Begun], str],
        idempotency: Idempotency | None = None,
    ) -> Answer:
        """Begin an outbound call. `answer` makes the response's text of a `Begun`; a repeated request has the first one's."""
        if idempotency is not None and (earlier := await self._store.answer_to(idempotency)) is not None:
            return earlier
        call = await self._plan_patiently(user, order)
        run, now = new_id(), self._clock()
        scopes = scopes_of(user, self._limits, call.configuration)
        granted = await self._leases.acquire(run, scopes, now)
        if isinstance(granted, Full):
            # It may be the same request, sent twice at once, that has taken the last place.
            twin = None if idempotency is None else await self._answer_to_twin(idempotency)
            if twin is not None:
                return twin
            raise Refusal("limit-reached", granted.sentence, retry_after_s=granted.retry_after_s)
        accepted = False
        try:
            given = await self._request(user, order, call, run, now, answer, idempotency)
            accepted = not given.repeated
        finally:
            if not accepted:
                await self._leases.release(run, ended=False)
        self._outbox.wake()
        return given

    async def hang_up(self, user: str, run: str, *, reason: str = "api") -> CallState | None:
        """Ask the provider to end the call. Refuses `call-ended`."""

        def make(record: CallState, stage: Stage | None) -> Request:
            _must_live(record, stage)
            asked = HangupRequested(workflow_run_id=run, requested_by=Party.OPERATOR, reason=reason)
            command = HangUp(
                workflow_run_id=run,
                configuration_id=record.configuration_id or "",
                provider=record.provider or "",
                provider_call_id=record.provider_call_id,
                requested_by=Party.OPERATOR,
                reason=reason,
            )
            return Request([self._event(asked)], [(CALL_COMMANDS, self._event(command))])

        return await self._ask(user, run, make, spans.HANG_UP_ASKED)

    async def transfer(self, user: str, run: str, to: str, mode: TransferMode) -> CallState | None:
        """Ask for the far end to be put through to `to`. Refuses numbers that may not be called, `call-ended`,
        `not-answered` and `transfer-going-on`."""
        to_number = e164("to", to)

        def make(record: CallState, stage: Stage | None) -> Request:
            _must_live(record, stage)
            if record.status is not CallStatus.ANSWERED:
                raise Refusal(
                    "not-answered", "Only an answered call can be put through to somebody.", conflict=True
                )
            if record.transfer == "requested":
                raise Refusal(
                    "transfer-going-on", "The call is being put through to somebody already.", conflict=True
                )
            configuration = self._holdings.configuration(record.configuration_id or "")
            if configuration is None:
                raise Refusal(
                    "unknown-configuration", "The call's configuration is not there any more.", conflict=True
                )
            check_usable(configuration)
            check_allowed(configuration, to_number)
            ordered = Transfer(
                workflow_run_id=run,
                workflow_id=record.workflow_id or "",
                user_id=user,
                configuration_id=configuration.configuration_id,
                provider=record.provider or "",
                provider_call_id=record.provider_call_id,
                to_number=to_number,
                mode=mode,
                requested_by=Party.OPERATOR,
                own_number=record.to_number if record.direction == "inbound" else record.from_number,
                far_number=record.from_number if record.direction == "inbound" else record.to_number,
            )
            command = self._event(ordered)
            asked = TransferRequested(
                workflow_run_id=run,
                to_number=to_number,
                mode=mode,
                requested_by=Party.OPERATOR,
                transfer_id=transfer_id(command.id),
            )
            return Request([self._event(asked)], [(CALL_COMMANDS, command)])

        return await self._ask(user, run, make, spans.TRANSFER_ASKED, mode)

    async def look_up(self, user: str, run: str) -> CallState | None:
        """Ask the provider what became of the call, also after its end (what it cost)."""

        def make(record: CallState, _: Stage | None) -> Request:
            return Request(commands=[(CALL_COMMANDS, self._event(observe(record, "operator")))])

        return await self._ask(user, run, make, spans.LOOK_UP_ASKED)

    # --- parts ---------------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        user: str,
        run: str,
        make: Callable[[CallState, Stage | None], Request],
        name: str,
        mode: str = "",
    ) -> CallState | None:
        attributes = {"offhook.requested_by": Party.OPERATOR.value, "offhook.mode": mode}
        began_ns = now_ns()

        def traced(record: CallState, stage: Stage | None) -> Request:
            request = make(
                record, stage
            )  # what raises here, or is somebody else's, has no place in the call's trace
            with call_span(name, run, attributes=attributes, began_ns=began_ns):
                return Request(
                    [replace(event, traceparent=current_in_call(run)) for event in request.events],
                    [
                        (topic, replace(event, traceparent=current_in_call(run)))
                        for topic, event in request.commands
                    ],
                )

        record = await self._store.request(user, run, traced) if is_id(run) else None
        if record is not None:
            self._outbox.wake()
        return record

    async def _plan_patiently(self, user: str, order: CallOrder) -> DialPlan:
        """The plan; before a refusal because something is not there, look again for a moment.

        What was created or changed just now by another API is on its way to us through Kafka.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE_S
        while True:
            try:
                return plan(
                    self._holdings,
                    user_id=user,
                    workflow_id=order.workflow_id,
                    to=order.to,
                    from_number=order.from_number,
                    configuration_id=order.configuration_id,
                )
            except Refusal as refusal:
                if refusal.reason not in MAY_APPEAR or loop.time() >= deadline:
                    raise
            await asyncio.sleep(0.05)

    async def _answer_to_twin(self, idempotency: Idempotency) -> Answer | None:
        for pause in _TWIN_PAUSES_S:
            await asyncio.sleep(pause)
            if (answer := await self._store.answer_to(idempotency)) is not None:
                return answer
        return None

    async def _request(
        self,
        user: str,
        order: CallOrder,
        call: DialPlan,
        run: str,
        now: datetime,
        answer: Callable[[Begun], str],
        idempotency: Idempotency | None,
    ) -> Answer:
        common: dict[str, Any] = {
            "workflow_run_id": run,
            "workflow_id": order.workflow_id,
            "configuration_id": call.configuration.configuration_id,
            "provider": call.configuration.provider,
            "from_number": call.from_number,
            "to_number": call.to_number,
        }
        wishes: dict[str, Any] = {
            "user_id": user,
            "ring_timeout_s": order.ring_timeout_s,
            "time_limit_s": order.time_limit_s,
            "machine_detection": order.machine_detection,
            "metadata": order.metadata,
        }
        requested = self._event(CallRequested(**common, **wishes, account=call.configuration.account), now)
        originate = self._event(Originate(**common, **wishes), now)
        with call_span(spans.CALL_ASKED, run, attributes={"offhook.provider": call.configuration.provider}):
            return await self._store.request_call(
                requested,
                [(CALL_EVENTS, requested), (CALL_COMMANDS, originate)],
                answer(Begun(**common, requested_at=now)),
                idempotency,
            )

    def _event(self, data: CallEventData, now: datetime | None = None) -> Event[EventData]:
        return new_event(data, source=SOURCE, time=now or self._clock(), subject=data.workflow_run_id)


def observe(record: CallState, reason: str) -> Observe:
    """The order to look a call up at its provider. Raises `Refusal` for a call of which nobody knows where it is."""
    if record.configuration_id is None or record.provider is None:
        raise Refusal(
            "unknown-configuration", "Nobody knows through which configuration this call runs.", conflict=True
        )
    return Observe(
        workflow_run_id=record.workflow_run_id,
        configuration_id=record.configuration_id,
        provider=record.provider,
        provider_call_id=record.provider_call_id,
        from_number=record.from_number,
        to_number=record.to_number,
        requested_at=record.requested_at,
        reason=reason,
    )


def _must_live(record: CallState, stage: Stage | None) -> None:
    if stage is None:  # one that was given up, and of which its provider speaks, may be a conversation
        raise Refusal("call-ended", f"The call has ended already ({record.status.value}).", conflict=True)
