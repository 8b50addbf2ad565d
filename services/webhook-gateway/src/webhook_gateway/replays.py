"""Requests that were not accepted, tried again because somebody asked for it (topic `telephony.webhook-replays.v1`).

A request is verified as of the time of its arrival, with the configurations and public URLs of today, and its event has
the time of its arrival. Only what a provider *tells* is taken up: nobody is on the line any more for instructions. What
came of it is one more entry of the webhook log, which names the refused one. All ids are derived, so that a replay that is
delivered twice, or asked for twice, tells nothing twice.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog

from offhook.bus import Bus, EventTooLarge, PoisonError
from offhook.bus.outlet import Outlet
from offhook.errors import KeyringError
from offhook.events import (
    TERMINAL_STATUSES,
    Event,
    EventData,
    WebhookAudited,
    WebhookReplay,
    new_event,
)
from offhook.identities import derived_id
from offhook.providers.base import HttpRequest, InstructionError, ProviderAdapter, RequestError
from offhook.providers.registry import recognise
from offhook.security.keyring import Keyring
from offhook.topics import CALL_EVENTS, WEBHOOK_AUDIT
from webhook_gateway import facts
from webhook_gateway.directory import Records
from webhook_gateway.kept_requests import KeptRequest, unseal
from webhook_gateway.policy import route_inbound
from webhook_gateway.shared_state import SharedState, Use, digest
from webhook_gateway.verification import Proven, Refused, Verifier

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

UNREADABLE: Final = "cannot-be-opened"
INSTRUCTIONS_NOT_SERVED: Final = "instructions-not-served"
_UNKNOWN_PROVIDER: Final = "unknown-provider"
_REPLAYED: Final = "replayed"
_MALFORMED: Final = "malformed"
_NO_RUN: Final = "no-run"


@dataclass(slots=True)
class _Result:
    """What came of a replay, as the log shows it."""

    verified: bool = False
    reason: str | None = None
    status_code: int = 403
    provider: str = "unknown"
    account: str | None = None
    workflow_run_id: str | None = None
    provider_call_id: str | None = None
    tried: tuple[str, ...] = ()
    signed_url: str | None = None


class Replays:
    """The handler of the topic. Safe to repeat."""

    def __init__(
        self,
        *,
        bus: Bus,
        outlet: Outlet,
        records: Records,
        verifier: Verifier,
        state: SharedState,
        keyring: Keyring,
    ) -> None:
        self._bus = bus
        self._outlet = outlet
        self._records = records
        self._verifier = verifier
        self._state = state
        self._keyring = keyring

    async def take(self, events: Sequence[Event[EventData]]) -> None:
        """Try each request again. Raises `PoisonError` for what is no replay; `OutletError`, `BusError` to get it
        again."""
        for event in events:
            if not isinstance(event.data, WebhookReplay):
                raise PoisonError(event, "it is not a replay of a webhook")
            await self._replay(event.id, event.data)

    async def _replay(self, replay_id: str, asked: WebhookReplay) -> None:
        started = time.perf_counter()
        try:
            kept = unseal(asked.sealed_request, self._keyring)
        except KeyringError:
            await self._tell(replay_id, asked, None, _Result(reason=UNREADABLE), started)
            return
        request = kept.request(self._records.origins())
        result = await self._outcome(kept, request)
        _log.info(
            "webhook replayed", webhook_id=asked.audit_id, requested_by=asked.requested_by,
            verified=result.verified, reason=result.reason,
        )  # fmt: skip
        await self._tell(replay_id, asked, kept, result, started)

    async def _outcome(self, kept: KeptRequest, request: HttpRequest) -> _Result:
        adapter = recognise(request)
        if adapter is None:
            return _Result(reason=_UNKNOWN_PROVIDER)
        result = _Result(provider=adapter.name, workflow_run_id=kept.workflow_run_id)
        try:
            proof = self._verifier.prove(adapter, request, kept.at)
        except RequestError:
            result.reason, result.status_code = _MALFORMED, 400
            return result
        if isinstance(proof, Refused):
            result.reason, result.account, result.tried = proof.reason, proof.account, proof.tried
            result.status_code = proof.answer.status
            return result
        result.account = proof.configurations[0].account
        result.signed_url = proof.verified.url
        if proof.verified.replay_key is not None:
            # Asked for by an operator, so the same request is a retry however late it is; another one is not.
            use = await self._state.use_token(
                adapter.name, proof.verified.replay_key, digest(request), window_s=math.inf
            )
            if use is Use.REPLAY:
                result.reason = _REPLAYED
                return result
        result.verified, result.status_code = True, 200
        try:
            if kept.kind == "status":
                await self._report(adapter, request, kept, proof, result)
            else:
                await self._received(adapter, request, kept, proof, result)
        except (RequestError, InstructionError, EventTooLarge):
            result.reason, result.status_code = _MALFORMED, 400
        return result

    async def _report(
        self,
        adapter: ProviderAdapter,
        request: HttpRequest,
        kept: KeptRequest,
        proof: Proven,
        result: _Result,
    ) -> None:
        report = adapter.webhooks.parse_status(request)
        configuration = proof.configurations[0]
        result.provider_call_id = report.phone_call_id or report.provider_call_id or None
        run = facts.run_of_report(configuration, report, kept.workflow_run_id)
        if run is None:
            result.reason, result.workflow_run_id = _NO_RUN, None
            return
        result.workflow_run_id = run
        await self._outlet.emit(
            CALL_EVENTS, facts.status_reported(configuration, report, run, _time(kept.at))
        )
        ended = report.leg == "phone" and report.status in TERMINAL_STATUSES
        if ended and report.phone_call_id is not None:
            await self._state.mark_over((configuration.provider, configuration.account, report.phone_call_id))

    async def _received(
        self,
        adapter: ProviderAdapter,
        request: HttpRequest,
        kept: KeptRequest,
        proof: Proven,
        result: _Result,
    ) -> None:
        """A request for instructions: there is nobody to instruct, but an inbound call may have become known by it."""
        asked = adapter.webhooks.parse_call(request)
        result.provider_call_id, result.reason = asked.provider_call_id, INSTRUCTIONS_NOT_SERVED
        if kept.workflow_run_id is not None or asked.direction == "outbound" or asked.failed_url is not None:
            return
        route = route_inbound(
            proof.configurations, asked.to_number, self._records.number, self._records.workflow
        )
        run = facts.inbound_run(route.configuration, asked)
        result.workflow_run_id = run
        for event in facts.received(route, asked, run, _time(kept.at)):
            await self._outlet.emit(CALL_EVENTS, event)

    async def _tell(
        self,
        replay_id: str,
        asked: WebhookReplay,
        kept: KeptRequest | None,
        result: _Result,
        started: float,
    ) -> None:
        bare = tuple(dict.fromkeys(url.partition("?")[0][:500] for url in result.tried))
        entry = WebhookAudited(
            provider=result.provider,
            account=result.account[:200] if result.account else None,
            workflow_run_id=result.workflow_run_id,
            provider_call_id=result.provider_call_id[:200] if result.provider_call_id else None,
            method=kept.method[:16] if kept else "",
            path=kept.path[:200] if kept else "",
            kind=kept.kind if kept else "unknown",
            verified=result.verified,
            reason=result.reason,
            tried_urls=bare,
            status_code=result.status_code,
            elapsed_ms=round((time.perf_counter() - started) * 1000, 3),
            signed_url=result.signed_url.partition("?")[0][:500] if result.signed_url else None,
            replay_of=asked.audit_id,
            requested_by=asked.requested_by,
        )
        event = new_event(
            entry, source=facts.SOURCE, time=datetime.now(UTC), subject=entry.account or "unknown",
            event_id=derived_id("webhook-replayed", replay_id),
        )  # fmt: skip
        await self._bus.publish(WEBHOOK_AUDIT, event)


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
