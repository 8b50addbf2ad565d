"""The events a media session tells. Each has an id of its own, so that what Kafka is given twice is told once."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Final, Literal

import structlog
from opentelemetry.trace import Span

from offhook.bus import EventTooLarge, Outlet, OutletError
from offhook.events import (
    AgentConnected,
    AgentLost,
    DigitsSent,
    DtmfReceived,
    EventData,
    HangUp,
    HangupRequested,
    MediaQuality,
    MediaStarted,
    MediaStopped,
    Party,
    SendDigits,
    Transfer,
    TransferRequested,
    new_event,
)
from offhook.identities import consult_run_id, derived_id, new_id, transfer_id
from offhook.providers.base import StreamStarted
from offhook.records import ConfigurationRecord, WorkflowRecord
from offhook.telemetry import spans, tracing
from offhook.topics import CALL_COMMANDS, CALL_EVENTS, Topic

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_RETRY_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)
_MAX_DTMF: Final = 1000


class Teller:
    """Hands events to the outlet without making a call wait, in the order they were told."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._telling: set[asyncio.Task[None]] = set()

    def tell(
        self,
        topic: Topic,
        data: EventData,
        *,
        source: str,
        run: str,
        event_id: str,
        traceparent: str | None = None,
        delayed: Callable[[], None] | None = None,
    ) -> None:
        """`delayed` is called when Kafka does not take the event now: it will be told later, or never."""
        event = new_event(
            data,
            source=source,
            time=datetime.now(UTC),
            subject=run,
            event_id=event_id,
            traceparent=traceparent,
        )

        async def emit() -> None:
            for pause in (*_RETRY_S, None):
                try:
                    if await self._outlet.emit(topic, event) == "spool" and delayed is not None:
                        delayed()
                    return
                except EventTooLarge as error:
                    _log.error("event-lost", type=event.type, error=str(error), workflow_run_id=run)
                    return
                except OutletError as error:
                    if delayed is not None:
                        delayed()
                    if pause is None:
                        _log.error("event-lost", type=event.type, error=str(error), workflow_run_id=run)
                        return
                    await asyncio.sleep(pause)

        # Tasks begin in the order they were made, and the outlet keeps the order in which it was called.
        task = asyncio.create_task(emit(), name=f"tell {event.type}")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def settled(self) -> None:
        """Wait until everything told is durable or given up."""
        while self._telling:
            await asyncio.wait(self._telling)


class SessionFacts:
    """The events of one media session."""

    def __init__(
        self,
        teller: Teller,
        bridge_id: str,
        workflow_run_id: str,
        workflow: WorkflowRecord,
        configuration: ConfigurationRecord,
        started: StreamStarted,
        provider_call_id: str,
        epoch: int,
    ) -> None:
        self._teller = teller
        self._bridge_id = bridge_id
        self._run = workflow_run_id
        self._workflow = workflow
        self._configuration = configuration
        self._stream_id = started.stream_id
        self._sample_rate = started.sample_rate
        self._provider_call_id = provider_call_id
        self._epoch = epoch
        # Not the epoch: it begins again when Redis has lost its data, and sessions must not share their ids.
        self._session = new_id()
        self._keys = 0
        # Callbacks of sockets know of no open span: what is told there hangs below the session all the same.
        self._traceparent = tracing.current_in_call(workflow_run_id)

    def is_of(self, provider: str, account: str) -> bool:
        """Whether the call is one of this account."""
        return (self._configuration.provider, self._configuration.account) == (provider, account)

    def runs_through(self, configuration_id: str) -> bool:
        """Whether this configuration has the call."""
        return self._configuration.configuration_id == configuration_id

    def media_started(self) -> None:
        self._event(
            MediaStarted(
                workflow_run_id=self._run,
                provider=self._configuration.provider,
                account=self._configuration.account,
                provider_call_id=self._provider_call_id,
                stream_id=self._stream_id,
                epoch=self._epoch,
                bridge=self._bridge_id,
                sample_rate=self._sample_rate,
            )
        )

    def media_stopped(self, reason: str, ended_by: Party, duration_ms: int, quality: MediaQuality) -> None:
        self._event(
            MediaStopped(
                workflow_run_id=self._run,
                provider=self._configuration.provider,
                account=self._configuration.account,
                provider_call_id=self._provider_call_id,
                stream_id=self._stream_id,
                epoch=self._epoch,
                reason=reason,
                ended_by=ended_by,
                duration_ms=duration_ms,
                quality=quality,
            )
        )

    def agent_connected(
        self, attempt: int, protocol: Literal["pcm", "twilio"], sample_rate: int, connect_ms: float
    ) -> None:
        self._event(
            AgentConnected(
                workflow_run_id=self._run,
                epoch=self._epoch,
                attempt=attempt,
                protocol=protocol,
                sample_rate=sample_rate,
                connect_ms=round(connect_ms, 1),
            ),
            attempt,
        )

    def agent_lost(self, attempt: int, reason: str) -> None:
        self._event(
            AgentLost(workflow_run_id=self._run, epoch=self._epoch, attempt=attempt, reason=reason), attempt
        )

    def dtmf(self, digit: str, at_ms: int) -> None:
        if self._keys < _MAX_DTMF:
            self._keys += 1
            self._event(
                DtmfReceived(workflow_run_id=self._run, epoch=self._epoch, digit=digit, at_ms=at_ms),
                self._keys,
            )

    def agent_hung_up(self, reason: str, delayed: Callable[[], None]) -> None:
        """The wish, and the command that carries it out; `delayed` is called when nobody will hear of it now."""
        with self._wish(spans.HANG_UP_ASKED):
            self._event(
                HangupRequested(
                    workflow_run_id=self._run,
                    provider=self._configuration.provider,
                    account=self._configuration.account,
                    requested_by=Party.AGENT,
                    reason=reason,
                )
            )
            self._tell(
                CALL_COMMANDS,
                HangUp(
                    workflow_run_id=self._run,
                    configuration_id=self._configuration.configuration_id,
                    provider=self._configuration.provider,
                    provider_call_id=self._provider_call_id,
                    requested_by=Party.AGENT,
                    reason=reason,
                ),
                0,
                delayed,
            )

    def transfer_requested(
        self, to: str, mode: Literal["cold", "warm"], number: int, *, own_number: str, far_number: str
    ) -> None:
        """The wish, and the command that carries it out. `number` counts the session's transfers; the numbers of the two
        ends are '' where they are not known."""
        command = Transfer(
            workflow_run_id=self._run,
            workflow_id=self._workflow.workflow_id,
            user_id=self._workflow.user_id,
            configuration_id=self._configuration.configuration_id,
            provider=self._configuration.provider,
            provider_call_id=self._provider_call_id,
            to_number=to,
            mode=mode,
            requested_by=Party.AGENT,
            own_number=own_number or None,
            far_number=far_number or None,
        )
        command_id = self._id(command, number)
        with self._wish(spans.TRANSFER_ASKED, mode):
            self._event(
                TransferRequested(
                    workflow_run_id=self._run,
                    provider=self._configuration.provider,
                    account=self._configuration.account,
                    to_number=to,
                    mode=mode,
                    requested_by=Party.AGENT,
                    consult_run_id=consult_run_id(command_id) if mode == "warm" else None,
                    transfer_id=transfer_id(command_id),
                ),
                number,
            )
            self._tell(CALL_COMMANDS, command, number)

    def digits_pressed(self, digits: str, way: Literal["rest", "in-band"], number: int) -> None:
        """Keys were queued as tones, or the provider is asked to press them: then number-sync tells when it has.
        `number` counts the session's keys."""
        with self._wish(spans.KEYS_ASKED, way):
            if way == "in-band":
                self._event(DigitsSent(workflow_run_id=self._run, count=len(digits), way="in-band"), number)
                return
            self._tell(
                CALL_COMMANDS,
                SendDigits(
                    workflow_run_id=self._run,
                    configuration_id=self._configuration.configuration_id,
                    provider=self._configuration.provider,
                    provider_call_id=self._provider_call_id,
                    digits=digits,
                ),
                number,
            )

    def _event(self, data: EventData, number: int = 0) -> None:
        self._tell(CALL_EVENTS, data, number)

    def _tell(
        self, topic: Topic, data: EventData, number: int, delayed: Callable[[], None] | None = None
    ) -> None:
        self._teller.tell(
            topic,
            data,
            source=f"/media-bridge/{self._bridge_id}",
            run=self._run,
            event_id=self._id(data, number),
            traceparent=tracing.current_in_call(self._run) or self._traceparent,
            delayed=delayed,
        )

    def _wish(self, name: str, mode: str = "") -> AbstractContextManager[Span]:
        """What the agent asked for; what is told of it belongs below."""
        attributes = {"offhook.requested_by": Party.AGENT.value, "offhook.mode": mode}
        return tracing.call_span(name, self._run, attributes=attributes, traceparent=self._traceparent)

    def _id(self, data: EventData, number: int) -> str:
        return derived_id("media", self._run, self._session, data.TYPE, str(number))
