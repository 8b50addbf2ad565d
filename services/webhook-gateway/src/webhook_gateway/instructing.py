"""What a call that asks is told to do: connect to the audio, speak, be busy, join, or hang up.

What was decided is told to Kafka before it is answered.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from offhook.bus.outlet import Outlet
from offhook.events import CallDirection, Event, EventData, TransferResult
from offhook.identities import derived_id, inbound_run_id, media_path, websocket_origin
from offhook.providers.base import GOING_ON, CallRequest, ConnectPlan, HttpAnswer, HttpRequest, RequestError
from offhook.records import ConfigurationRecord
from offhook.security.tokens import MediaTokens
from offhook.telemetry import exemplars, metrics, spans, tracing
from offhook.telemetry.logging import bind_call
from offhook.topics import CALL_EVENTS
from webhook_gateway import facts
from webhook_gateway.admission import CallAdmission
from webhook_gateway.arrivals import Arrival, Outcome, Target
from webhook_gateway.call_urls import (
    Continuation,
    MediaLeg,
    Transferred,
    continuation,
    continuation_of,
    continue_url,
    media_leg_url,
)
from webhook_gateway.directory import Records
from webhook_gateway.policy import (
    CallMarks,
    Connect,
    Decision,
    Join,
    Limits,
    Reason,
    Refuse,
    Route,
    Say,
    decide,
    decide_without_route,
    is_derived_run,
    route_inbound,
    route_run,
)
from webhook_gateway.shared_state import SharedState

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_MAX_TEXT: Final = 200


@dataclass(frozen=True, slots=True)
class AskingCall:
    """The call that gets instructions. `attempt` is the number of the connect that is asked for; `party` says
    who calls whom, where the request does, and through which configuration where that is decided. `after` names the last
    transfer it came back from, `transferred` is what became of one that is just over. `begins`: it is an inbound call's
    first question, and counts against limits."""

    workflow_run_id: str
    provider_call_id: str
    attempt: int
    party: Mapping[str, str] | None = None
    after: str = ""
    transferred: TransferResult | None = None
    begins: bool = False


class Instructor:
    """Decides, tells Kafka, and puts the answer into the request's outcome. Raises `RequestError`, `InstructionError`,
    `OutletError`, `EventTooLarge`: then nothing is answered yet."""

    def __init__(
        self,
        *,
        records: Records,
        state: SharedState,
        outlet: Outlet,
        tokens: MediaTokens,
        limits: Limits,
        token_ttl_s: int,
        admission: CallAdmission,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._state = state
        self._outlet = outlet
        self._tokens = tokens
        self._limits = limits
        self._admission = admission
        self._token_ttl_s = token_ttl_s
        self._clock = clock

    async def instruct(self, target: Target, arrival: Arrival, outcome: Outcome) -> None:
        """A request for instructions."""
        named = self._named(target, arrival.request)
        if named is not None and named.transferred is not None:
            # Not every provider says in such a request which call of ours it is about; the URL does.
            await self._after_transfer(arrival, named, named.transferred, outcome)
            return
        asked = arrival.adapter.webhooks.parse_call(arrival.request)
        outcome.provider_call_id = asked.provider_call_id
        known = named or (continuation_of(asked.failed_url) if asked.failed_url else None)
        if known is not None and known.transferred is not None:
            await self._after_transfer(arrival, known, known.transferred, outcome, fallback=True)
            return
        if known is not None:
            outcome.workflow_run_id = known.workflow_run_id
            route = route_run(
                arrival.proven.configurations, known.workflow_id, known.user_id, self._records.workflow
            )
            derived = is_derived_run(known.workflow_run_id, route.configuration, asked.provider_call_id)
            if asked.direction == "inbound" and not derived:
                route = replace(route, trouble=Reason.FOREIGN_CALL)
            party = _party(asked, "inbound" if derived else "outbound")
            call = AskingCall(
                known.workflow_run_id, asked.provider_call_id, known.attempt, party, after=known.after
            )
            await self.serve(arrival, route, call, [], outcome)
            return
        if asked.direction == "outbound":
            # The inbound URL cannot know the run of a call that we placed.
            outcome.reason = Reason.OUTBOUND_FALLBACK.value
            outcome.answer = self._say(arrival, decide_without_route(Reason.OUTBOUND_FALLBACK))
            return
        route = route_inbound(
            arrival.proven.configurations, asked.to_number, self._records.number, self._records.workflow
        )
        configuration = route.configuration
        run = inbound_run_id(configuration.provider, configuration.account, asked.provider_call_id)
        outcome.workflow_run_id = run
        told = facts.received(route, asked, run, self._time())
        # An account may be configured twice, and only here it shows which of the two takes the call.
        party = {**_party(asked, "inbound"), "configuration": configuration.configuration_id}
        call = AskingCall(run, asked.provider_call_id, 1, party, begins=True)
        await self.serve(arrival, route, call, told, outcome)

    def _named(self, target: Target, request: HttpRequest) -> Continuation | None:
        """The run a request is about, where its path says it."""
        if target.workflow_run_id and target.workflow_id and target.user_id:
            return continuation(target.workflow_id, target.user_id, target.workflow_run_id, request.query)
        return None

    async def _after_transfer(
        self,
        arrival: Arrival,
        known: Continuation,
        transferred: Transferred,
        outcome: Outcome,
        *,
        fallback: bool = False,
    ) -> None:
        """A call was transferred: it is told what became of that, and connected to the agent again if it came to
        nothing."""
        run = outcome.workflow_run_id = known.workflow_run_id
        outcome.provider_call_id = transferred.provider_call_id
        result: TransferResult
        if transferred.word == "cold":
            progress = arrival.adapter.webhooks.parse_transfer(arrival.request)
            going_on = progress is None or progress == GOING_ON
            if going_on and not fallback:
                outcome.answer = arrival.adapter.webhooks.acknowledge()
                return
            # The provider could not use the answer to what it said about the transfer, and does not say it again.
            result = "failed" if progress is None or progress == GOING_ON else progress
        else:
            result = transferred.word
        route = route_run(
            arrival.proven.configurations, known.workflow_id, known.user_id, self._records.workflow
        )
        call = AskingCall(
            run, transferred.provider_call_id, 1, after=transferred.transfer_id, transferred=result
        )
        told = facts.transfer_ended(route.configuration, transferred, result, run, self._time())
        await self.serve(arrival, route, call, [told], outcome)

    async def serve(
        self, arrival: Arrival, route: Route, call: AskingCall, told: list[Event[EventData]], outcome: Outcome
    ) -> None:
        """Decide, tell Kafka what was told and decided, and answer with instructions."""
        configuration = route.configuration
        run = call.workflow_run_id
        marks = CallMarks()
        # Anybody can name a workflow that is not there, and somebody else's run.
        if route.trouble in (None, Reason.WORKFLOW_UNKNOWN):
            name = (configuration.provider, configuration.account, call.provider_call_id)
            own = is_derived_run(run, configuration, call.provider_call_id)
            marks = await self._state.marks(run, name, own=own, party=call.party)
        decision = decide(route, marks, call.attempt, self._limits, call.transferred)
        origins = self._records.origins()
        if isinstance(decision, Connect) and not origins:
            decision = decide_without_route(Reason.NO_PUBLIC_URL)
        if call.begins and isinstance(decision, Connect):
            full = await self._admission.admit(run, configuration, self._time())
            decision = Refuse(Reason.LIMIT_REACHED) if full else decision
        if isinstance(decision, Connect):
            plan = self._plan(arrival, configuration, decision, call, origins[0])
            outcome.answer = arrival.adapter.webhooks.connect(plan)
            if decision.delay_s:
                began = time.perf_counter()
                await asyncio.sleep(decision.delay_s)
                outcome.waited_s = time.perf_counter() - began
        else:
            outcome.reason = decision.reason.value
            outcome.answer = self._say(arrival, decision)
        if outcome.reason in (Reason.FOREIGN_TENANT, Reason.FOREIGN_CALL):
            # The run is somebody else's: nothing may be told about it. A media leg's status neither.
            return
        bind_call(run, configuration.user_id)
        elapsed_s = time.perf_counter() - arrival.started - outcome.waited_s
        kind = facts.kind_of(decision)
        metrics.INSTRUCTIONS.labels(configuration.provider, kind, outcome.reason or "").inc()
        metrics.INSTRUCTIONS_SECONDS.labels(configuration.provider).observe(elapsed_s, exemplars.of_call(run))
        served = facts.instructions_served(
            configuration,
            call.provider_call_id,
            run,
            decision,
            arrival.request_digest,
            elapsed_s * 1000,
            self._time(),
        )
        attributes: tracing.Attributes = {
            "offhook.provider": configuration.provider,
            "offhook.verified": True,
            "offhook.repeated": outcome.repeated,
            "offhook.instructions": kind,
            "offhook.reason": outcome.reason or "",
            "offhook.attempt": call.attempt,
            "offhook.transfer": call.transferred or "",
        }
        with tracing.call_span(
            spans.INSTRUCTIONS,
            run,
            attributes=attributes,
            began_ns=tracing.now_ns(time.perf_counter() - arrival.started),
        ):
            # Emitted together, durable together; the outlet keeps the order in which they are begun.
            await asyncio.gather(*(self._outlet.emit(CALL_EVENTS, event) for event in (*told, served)))
        _log.info(
            "instructions-served", provider=configuration.provider, instructions=kind, reason=outcome.reason,
            attempt=call.attempt,
        )  # fmt: skip

    def _plan(
        self,
        arrival: Arrival,
        configuration: ConfigurationRecord,
        decision: Connect,
        call: AskingCall,
        origin: str,
    ) -> ConnectPlan:
        workflow = decision.workflow
        run = call.workflow_run_id
        ids = (workflow.workflow_id, workflow.user_id, run)
        # A retry of this request gets the same nonce, so that of two answers only one opens the audio.
        # Another request never does: its URL, or what it says, is different (see `call_urls`).
        nonce = derived_id("media-token", run, configuration.configuration_id, arrival.request_digest)
        expires_at = int(self._clock() + decision.delay_s) + self._token_ttl_s
        try:
            token = self._tokens.mint(run, configuration.account, call.provider_call_id, expires_at, nonce)
        except ValueError as error:
            raise RequestError(f"no media token can be made for this call: {error}") from error
        leg = MediaLeg(workflow.workflow_id, workflow.user_id, call.attempt + 1, call.after)
        return ConnectPlan(
            media_url=websocket_origin(origin) + media_path(*ids),
            token=token,
            continue_url=continue_url(origin, *ids, call.attempt, call.after),
            status_url=media_leg_url(origin, leg, run),
            workflow_run_id=run,
            provider_call_id=call.provider_call_id,
            sample_rate=workflow.sample_rate,
            transfer=call.transferred,
        )

    def _say(self, arrival: Arrival, decision: Decision) -> HttpAnswer:
        if isinstance(decision, Say):
            return arrival.adapter.webhooks.say_and_hang_up(decision.text, decision.language)
        documents = arrival.adapter.documents
        if isinstance(decision, Join):
            return documents.answer(documents.join(decision.room))
        if isinstance(decision, Refuse):
            return documents.busy()
        return arrival.adapter.webhooks.hang_up()

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _party(asked: CallRequest, direction: CallDirection) -> Mapping[str, str]:
    return {
        "direction": direction,
        "from": asked.from_number[:_MAX_TEXT],
        "to": asked.to_number[:_MAX_TEXT],
    }
