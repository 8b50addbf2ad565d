"""From a raw request to the provider's answer: verify, refuse replays, decide, tell Kafka, answer.

The order is the point. Nothing is told before the request is proven, and nothing is answered before what was
told is durable (in Kafka or in the spool): a provider that got our answer never says it again.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from opentelemetry import trace

from offhook.bus import EventTooLarge, OutletError
from offhook.bus.outlet import Outlet
from offhook.events import (
    TERMINAL_STATUSES,
    WebhookAudited,
)
from offhook.providers.base import (
    HttpAnswer,
    HttpRequest,
    InstructionError,
    ProviderAdapter,
    RequestError,
    SignatureFault,
)
from offhook.providers.registry import recognise
from offhook.records import NoAgentFallback
from offhook.telemetry import exemplars, metrics, spans, tracing
from offhook.telemetry.logging import bind_call
from offhook.topics import CALL_EVENTS, CALL_NOTICES
from webhook_gateway import facts
from webhook_gateway.arrivals import Arrival, Kind, Outcome, Target
from webhook_gateway.audit import AuditTrail
from webhook_gateway.call_urls import media_leg_of
from webhook_gateway.directory import Records
from webhook_gateway.instructing import AskingCall, Instructor
from webhook_gateway.policy import route_run
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
        instructor: Instructor,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._records = records
        self._verifier = verifier
        self._state = state
        self._outlet = outlet
        self._audit = audit
        self._instructor = instructor
        self._clock = clock

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
        if not _failed(outcome):
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
        if adapter is not None and _failed(outcome) and outcome.reason != REPLAYED:
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
        arrival = Arrival(adapter, request, proof, digest(request), started)
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
                await self._instructor.instruct(target, arrival, outcome)
        except (RequestError, InstructionError) as error:
            _log.warning(
                "request-malformed",
                provider=adapter.name,
                kind=target.kind,
                problem=str(error)[:300],
                workflow_run_id=outcome.workflow_run_id,
            )
            outcome.answer, outcome.reason = _not_understood(target, adapter), MALFORMED
        except EventTooLarge as error:
            _log.warning(
                "event-too-large", provider=adapter.name, kind=target.kind, problem=str(error)[:300],
                workflow_run_id=outcome.workflow_run_id,
            )  # fmt: skip
            outcome.answer, outcome.reason = _not_understood(target, adapter), MALFORMED
        except OutletError as error:
            # Not acknowledged, so the provider says it again, or the reconciliation finds it.
            _log.error("not-durable", problem=str(error)[:300], workflow_run_id=outcome.workflow_run_id)
            outcome.answer, outcome.reason = _UNAVAILABLE, NOT_DURABLE
        return outcome, adapter, proof

    async def _report(self, target: Target, arrival: Arrival, outcome: Outcome) -> None:
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
            call = AskingCall(run, phone_call_id, leg.attempt, after=leg.after)
            await self._instructor.serve(arrival, route, call, [told], outcome)
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

    def _time(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _not_understood(target: Target, adapter: ProviderAdapter) -> HttpAnswer:
    """The answer to a proven request that cannot be served: somebody may be on the line."""
    if target.kind == "status":
        return _BAD_REQUEST
    words = NoAgentFallback()
    return adapter.webhooks.say_and_hang_up(words.message, words.language)


def _failed(outcome: Outcome) -> bool:
    # A caller hears words in answer 200 although his request was not understood.
    return outcome.answer.status >= 400 or outcome.reason == MALFORMED


def _bare(url: str) -> str:
    return url.partition("?")[0][:_MAX_URL]
