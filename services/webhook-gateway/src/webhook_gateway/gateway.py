"""From a raw request to the provider's answer: verify, refuse replays, decide, tell Kafka, answer.

The order is the point. Nothing is told before the request is proven, and nothing is answered before what was
told is durable (in Kafka or in the spool): a provider that got our answer never says it again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

import structlog
from opentelemetry import trace

from offhook.bus import EventTooLarge, OutletError
from offhook.bus.outlet import Outlet
from offhook.events import (
    TERMINAL_STATUSES,
    CallDirection,
    Event,
    EventData,
    TransferResult,
    WebhookAudited,
)
from offhook.identities import (
    derived_id,
    inbound_run_id,
    media_path,
    websocket_origin,
)
from offhook.providers.base import (
    GOING_ON,
    CallRequest,
    ConnectPlan,
    HttpAnswer,
    HttpRequest,
    InstructionError,
    ProviderAdapter,
    RequestError,
    SignatureFault,
)
from offhook.providers.registry import recognise
from offhook.records import ConfigurationRecord
from offhook.security.tokens import MediaTokens
from offhook.telemetry import exemplars, metrics, spans, tracing
from offhook.telemetry.logging import bind_call
from offhook.topics import CALL_EVENTS, CALL_NOTICES
from webhook_gateway import facts
from webhook_gateway.admission import CallAdmission
from webhook_gateway.audit import AuditTrail
from webhook_gateway.call_urls import (
    Continuation,
    MediaLeg,
    Transferred,
    continuation,
    continuation_of,
    continue_url,
    media_leg_of,
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
from webhook_gateway.refusals import Refusal
from webhook_gateway.shared_state import SharedState, Use, digest
from webhook_gateway.verification import Proven, Refused, Verifier

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

UNKNOWN_PROVIDER: Final = "unknown-provider"
REPLAYED: Final = "replayed"
MALFORMED: Final = "malformed"
NOT_DURABLE: Final = "not-durable"
NO_RUN: Final = "no-run"
_FORBIDDEN: Final = HttpAnswer(403)
_BAD_REQUEST: Final = HttpAnswer(400)
_UNAVAILABLE: Final = HttpAnswer(503)
_MAX_TEXT: Final = 200
_MAX_URL: Final = 500

Kind = Literal["call", "status", "fallback"]


@dataclass(frozen=True, slots=True)
class Target:
    """What a path asks for. `workflow_run_id` is None on the inbound paths; workflow and user only on the
    webhook path."""

    kind: Kind
    workflow_run_id: str | None = None
    workflow_id: str | None = None
    user_id: str | None = None


@dataclass(slots=True)
class Outcome:
    """The answer, and what is to be remembered about the request."""

    answer: HttpAnswer
    reason: str | None = None
    verified: bool = False
    provider: str = "unknown"
    account: str | None = None
    workflow_run_id: str | None = None
    provider_call_id: str | None = None
    tried: tuple[str, ...] = ()
    repeated: bool = False
    signed_url: str | None = None
    refusal: Refusal | None = None
    retry_key: str | None = None
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Arrival:
    """A proven request on its way through."""

    adapter: ProviderAdapter
    request: HttpRequest
    proven: Proven
    request_digest: str
    started: float


@dataclass(frozen=True, slots=True)
class _Call:
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


class Gateway:
    """The gateway without its sockets. Everything it needs is handed in, and started and stopped by whoever
    did."""

    def __init__(
        self,
        *,
        records: Records,
        verifier: Verifier,
        state: SharedState,
        outlet: Outlet,
        audit: AuditTrail,
        tokens: MediaTokens,
        limits: Limits,
        token_ttl_s: int,
        admission: CallAdmission,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._records = records
        self._verifier = verifier
        self._state = state
        self._outlet = outlet
        self._audit = audit
        self._tokens = tokens
        self._limits = limits
        self._admission = admission
        self._token_ttl_s = token_ttl_s
        self._clock = clock
        self._sleep = sleep

    def origins(self) -> tuple[str, ...]:
        """The public base URLs a request may have been signed for."""
        return self._records.origins()

    async def answer(
        self, target: Target, request: HttpRequest, *, remote: str | None, started: float
    ) -> HttpAnswer:
        """Answer one request. `started` is `time.perf_counter()` of its arrival; `remote` the sender's
        address."""
        outcome = await self._outcome(target, request, started)
        self.note(target.kind, request.method, request.path, outcome, remote=remote, started=started)
        return outcome.answer

    def note(
        self,
        kind: Kind,
        method: str,
        path: str,
        outcome: Outcome,
        *,
        remote: str | None,
        started: float,
    ) -> None:
        """Count and audit one request. `path` is raw, without query."""
        # Not what was waited on purpose, until a bridge is there again.
        elapsed_s = time.perf_counter() - started - outcome.waited_s
        if outcome.answer.status < 400:
            result = "accepted"
        elif outcome.verified:
            result = "failed"
        else:
            result = "refused"
            metrics.WEBHOOKS_REFUSED.labels(outcome.provider, outcome.reason or "unknown").inc()
        metrics.WEBHOOKS.labels(outcome.provider, kind, result).inc()
        exemplar = exemplars.of_call(outcome.workflow_run_id) if outcome.verified else None
        metrics.WEBHOOK_SECONDS.labels(kind, result).observe(elapsed_s, exemplar)
        if tracing.enabled():
            request_span = trace.get_current_span()
            request_span.set_attribute("offhook.provider", outcome.provider)
            request_span.set_attribute("offhook.verified", outcome.verified)
            request_span.set_attribute("offhook.reason", outcome.reason or "")
        self._audit.note(
            WebhookAudited(
                provider=outcome.provider,
                account=outcome.account[:_MAX_TEXT] if outcome.account else None,
                workflow_run_id=outcome.workflow_run_id,
                provider_call_id=outcome.provider_call_id[:_MAX_TEXT] if outcome.provider_call_id else None,
                method=method[:16],
                path=path[:_MAX_TEXT],
                kind=kind,
                verified=outcome.verified,
                reason=outcome.reason,
                # Without queries: those of a GET hold the phone numbers, and as much else as a sender likes.
                tried_urls=tuple(dict.fromkeys(_bare(url) for url in outcome.tried)),
                status_code=outcome.answer.status,
                elapsed_ms=round(elapsed_s * 1000, 3),
                repeated=outcome.repeated,
                remote=remote,
                signed_url=_bare(outcome.signed_url) if outcome.signed_url else None,
            ),
            outcome.refusal,
            outcome.retry_key,
        )

    async def _outcome(self, target: Target, request: HttpRequest, started: float) -> Outcome:
        outcome, adapter, proof = await self._handled(target, request, started)
        # A second use of a signed token is never to be tried again.
        if adapter is not None and outcome.answer.status >= 400 and outcome.reason != REPLAYED:
            refused = proof if isinstance(proof, Refused) else None
            outcome.refusal = Refusal(
                adapter, request, self._clock(), target.kind,
                fault=refused.fault if refused else None, account=outcome.account,
                candidates=refused.candidates if refused else (),
                workflow_run_id=target.workflow_run_id, workflow_id=target.workflow_id, user_id=target.user_id,
            )  # fmt: skip
        return outcome

    async def _handled(
        self, target: Target, request: HttpRequest, started: float
    ) -> tuple[Outcome, ProviderAdapter | None, Proven | Refused | None]:
        adapter = recognise(request)
        if adapter is None:
            return Outcome(_FORBIDDEN, UNKNOWN_PROVIDER), None, None
        now = self._clock()
        try:
            proof = self._verifier.prove(adapter, request, now)
        except RequestError:
            return Outcome(_BAD_REQUEST, MALFORMED, provider=adapter.name), adapter, None
        if isinstance(proof, Refused):
            refused = Outcome(
                proof.answer, proof.reason, provider=adapter.name, account=proof.account, tried=proof.tried,
                workflow_run_id=target.workflow_run_id,
            )  # fmt: skip
            return refused, adapter, proof
        arrival = _Arrival(adapter, request, proof, digest(request), started)
        outcome = Outcome(
            _FORBIDDEN, provider=adapter.name, account=proof.configurations[0].account,
            workflow_run_id=target.workflow_run_id, signed_url=proof.verified.url,
            retry_key=proof.verified.retry_key,
        )  # fmt: skip
        if proof.verified.replay_key is not None:
            use = await self._state.use_token(adapter.name, proof.verified.replay_key, arrival.request_digest)
            if use is Use.REPLAY:
                # To the sender it is as wrong as a forged one.
                outcome.answer = adapter.webhooks.unverified_answer(SignatureFault.MISMATCH)
                outcome.reason = REPLAYED
                return outcome, adapter, proof
            outcome.repeated = use is Use.RETRY
        outcome.verified = True
        try:
            if target.kind == "status":
                await self._report(target, arrival, outcome)
            else:
                await self._instruct(target, arrival, outcome)
        except (RequestError, InstructionError) as error:
            _log.warning(
                "request-malformed",
                provider=adapter.name,
                kind=target.kind,
                problem=str(error)[:300],
                workflow_run_id=outcome.workflow_run_id,
            )
            outcome.answer, outcome.reason = _BAD_REQUEST, MALFORMED
        except EventTooLarge as error:
            _log.warning(
                "event-too-large", provider=adapter.name, kind=target.kind, problem=str(error)[:300],
                workflow_run_id=outcome.workflow_run_id,
            )  # fmt: skip
            outcome.answer, outcome.reason = _BAD_REQUEST, MALFORMED
        except OutletError as error:
            # Not acknowledged, so the provider says it again, or the reconciliation finds it.
            _log.error("not-durable", problem=str(error)[:300], workflow_run_id=outcome.workflow_run_id)
            outcome.answer, outcome.reason = _UNAVAILABLE, NOT_DURABLE
        return outcome, adapter, proof

    async def _report(self, target: Target, arrival: _Arrival, outcome: Outcome) -> None:
        """A callback about a call's progress."""
        webhooks = arrival.adapter.webhooks
        report = webhooks.parse_status(arrival.request)
        configuration = arrival.proven.configurations[0]
        phone_call_id = report.phone_call_id
        outcome.provider_call_id = phone_call_id or report.provider_call_id or None
        outcome.answer = webhooks.acknowledge()
        run = facts.run_of_report(configuration, report, target.workflow_run_id)
        if run is None:
            outcome.reason, outcome.workflow_run_id = NO_RUN, None
            return
        outcome.workflow_run_id = run
        told = facts.status_reported(configuration, report, run, self._time())
        leg = media_leg_of(arrival.request.query) if report.wants_instructions else None
        if leg is not None and phone_call_id is not None:
            route = route_run(
                arrival.proven.configurations, leg.workflow_id, leg.user_id, self._records.workflow
            )
            call = _Call(run, phone_call_id, leg.attempt, after=leg.after)
            await self._serve(arrival, route, call, [told], outcome)
            return
        notice = facts.answered_by(configuration, report, run, self._time())
        bind_call(run, configuration.user_id)
        attributes: tracing.Attributes = {
            "offhook.provider": configuration.provider,
            "offhook.status": report.provider_status[:64],
            "offhook.verified": True,
            "offhook.repeated": outcome.repeated,
        }
        began_ns = tracing.now_ns(time.perf_counter() - arrival.started)
        with tracing.call_span(spans.STATUS, run, attributes=attributes, began_ns=began_ns):
            await self._outlet.emit(CALL_EVENTS, told)
            if notice is not None and report.answered_by is not None:
                # Before the notice: an agent that comes after it finds it there.
                account = (configuration.provider, configuration.account)
                await self._state.note_answered_by(run, account, report.answered_by, report.message_end)
                await self._outlet.emit(CALL_NOTICES, notice)
        if report.leg == "phone" and report.status in TERMINAL_STATUSES and phone_call_id is not None:
            await self._state.mark_over((configuration.provider, configuration.account, phone_call_id))

    async def _instruct(self, target: Target, arrival: _Arrival, outcome: Outcome) -> None:
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
            call = _Call(
                known.workflow_run_id, asked.provider_call_id, known.attempt, party, after=known.after
            )
            await self._serve(arrival, route, call, [], outcome)
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
        call = _Call(run, asked.provider_call_id, 1, party, begins=True)
        await self._serve(arrival, route, call, told, outcome)

    def _named(self, target: Target, request: HttpRequest) -> Continuation | None:
        """The run a request is about, where its path says it."""
        if target.workflow_run_id and target.workflow_id and target.user_id:
            return continuation(target.workflow_id, target.user_id, target.workflow_run_id, request.query)
        return None

    async def _after_transfer(
        self,
        arrival: _Arrival,
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
        call = _Call(run, transferred.provider_call_id, 1, after=transferred.transfer_id, transferred=result)
        told = facts.transfer_ended(route.configuration, transferred, result, run, self._time())
        await self._serve(arrival, route, call, [told], outcome)

    async def _serve(
        self, arrival: _Arrival, route: Route, call: _Call, told: list[Event[EventData]], outcome: Outcome
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
                await self._sleep(decision.delay_s)
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
        arrival: _Arrival,
        configuration: ConfigurationRecord,
        decision: Connect,
        call: _Call,
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

    def _say(self, arrival: _Arrival, decision: Decision) -> HttpAnswer:
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


def _bare(url: str) -> str:
    return url.partition("?")[0][:_MAX_URL]


def _party(asked: CallRequest, direction: CallDirection) -> Mapping[str, str]:
    return {
        "direction": direction,
        "from": asked.from_number[:_MAX_TEXT],
        "to": asked.to_number[:_MAX_TEXT],
    }
