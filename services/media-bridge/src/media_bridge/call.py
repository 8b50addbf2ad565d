"""One audio socket of a carrier, from the accepted upgrade to the last event: the life of a media session.

    opened ── start, token fits ──▶ claimed ──▶ agents are dialled, one after the other ──▶ ended
       └── no start in time, or the token does not fit ──▶ refused

Whoever ends a session (carrier, agent, watchdog, a later session, the operator) gives an `Ending`; the first
one counts.
"""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

import structlog

from media_bridge.admission import Admission, Granted, Refusal, configuration_of, verify_start
from media_bridge.agent_keeper import AgentKeeper
from media_bridge.agent_links import CallDescription
from media_bridge.control import CallControl
from media_bridge.conversation import Conversation
from media_bridge.endings import (
    AGENT_JOINED,
    AGENT_UNREACHABLE,
    CARRIER_CLOSED,
    CARRIER_LOST,
    CARRIER_PROTOCOL,
    CARRIER_SILENT,
    CARRIER_STOP,
    HANG_UP_ORDERED,
    SHUTDOWN,
    SUPERSEDED,
    Ending,
    agent_hangup,
)
from media_bridge.facts import SessionFacts
from media_bridge.session_trace import SessionTrace
from media_bridge.shared_state import Prior
from media_bridge.sockets import ABNORMAL, MessageSocket
from media_bridge.stream_tap import StreamTap
from offhook.agentlink import pcm
from offhook.events import EventData, HangUpNotice
from offhook.identities import inbound_run_id
from offhook.providers.base import Frame as Message
from offhook.providers.base import Ignored, MediaError, StreamStarted
from offhook.telemetry import exemplars, metrics
from offhook.telemetry.logging import bind_call

if TYPE_CHECKING:
    from media_bridge.bridge import Bridge

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

MAX_CARRIER_MESSAGE: Final = 256 * 1024
_NORMAL: Final = 1000
_GOING_AWAY: Final = 1001
_POLICY: Final = 1008
_INTERNAL: Final = 1011
_MAX_LOGGED_FAULTS: Final = 20
_MAX_EARLY_NOTICES: Final = 10
# How long the command to hang up has to end the call, where it comes first, before the socket is closed all the same. Most
# often it takes some tenths of a second, and whoever carries it out tells when it does not succeed at once; so only when
# nobody carries it out the caller hears nothing for so long.
_COMMAND_S: Final = 5.0


class Call(MessageSocket):
    """A carrier's socket and its session. Implements `conversation.Owner`."""

    def __init__(self, bridge: "Bridge", admission: Admission) -> None:
        super().__init__(MAX_CARRIER_MESSAGE)
        self._bridge = bridge
        self._admission = admission
        self._server = admission.adapter.media_server()
        self._trace = SessionTrace(
            admission.workflow_run_id, admission.adapter.name, admission.workflow.agent_protocol
        )
        self._opened_at = time.monotonic()
        self._ending: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        self._conversation: Conversation | None = None
        self._tap: StreamTap | None = None
        self._agents: AgentKeeper | None = None
        self._facts: SessionFacts | None = None
        self._control: CallControl | None = None
        self._early_notices: list[EventData] = []
        self._not_ended = asyncio.Event()
        self._epoch = 0
        self._faults = 0
        self._exemplar = exemplars.of_call(admission.workflow_run_id)
        self._accounted = (0, 0, 0, 0, 0)
        self.task: asyncio.Task[None] | None = None

    # --- what the bridge asks
    # -------------------------------------------------------------------------------------

    @property
    def workflow_run_id(self) -> str:
        return self._admission.workflow_run_id

    @property
    def started(self) -> bool:
        """Whether the stream's start came, with a token that fits."""
        return self._conversation is not None

    def lease(self, now: float) -> tuple[str, int, int] | None:
        """The claim to renew: run, epoch, what the caller has heard of what is being said. None before there
        is one.
        """
        if self._facts is None or self._conversation is None:
            return None
        return self.workflow_run_id, self._epoch, self._conversation.heard_ms(now)

    def end(self, ending: Ending) -> None:
        """The session shall end, for this reason unless there is one already."""
        if not self._ending.done():
            self._ending.set_result(ending)

    def take_notice(self, notice: EventData) -> None:
        """News of this call, most of them for its agent."""
        if self._control is not None and self._facts is not None:
            if not isinstance(notice, HangUpNotice):
                self._control.take_notice(notice)
            elif self._facts.runs_through(notice.configuration_id or ""):
                # Whoever ordered it: the provider did not do it, so the stream's end has to.
                self._not_ended.set()
                self.end(HANG_UP_ORDERED)
        elif len(self._early_notices) < _MAX_EARLY_NOTICES:
            # The session begins, and may have read already what is known of the call.
            self._early_notices.append(notice)

    def watch(self, now: float, *, start_timeout_s: float, silence_timeout_s: float) -> None:
        """Find sockets that never start and sockets that died without a word. Call it every second or so."""
        if self._conversation is None:
            if now - self._opened_at > start_timeout_s:
                self._refuse("no-start")
        elif now - self._conversation.last_audio_at > silence_timeout_s:
            # Carriers send audio 50 times a second, silence included; a dead TCP connection can look alive
            # for minutes.
            self.end(CARRIER_SILENT)
        if self._tap is not None:
            self._tap.flush(now)

    def account(self) -> None:
        """Add what happened since the last time to the metrics."""
        conversation = self._conversation
        if conversation is None:
            return
        provider = self._admission.adapter.name
        quality = conversation.quality
        now = (
            quality.caller_frames, quality.agent_frames, quality.gaps, conversation.underruns, quality.interruptions,
        )  # fmt: skip
        up, down, gaps, underruns, interruptions = (a - b for a, b in zip(now, self._accounted, strict=True))
        self._accounted = now
        metrics.MEDIA_FRAMES.labels("uplink").inc(up)
        metrics.MEDIA_FRAMES.labels("downlink").inc(down)
        for counter, count in (
            (metrics.MEDIA_GAPS, gaps),
            (metrics.MEDIA_UNDERRUNS, underruns),
            (metrics.MEDIA_INTERRUPTIONS, interruptions),
        ):
            if count:
                counter.labels(provider).inc(count)
        held = conversation.held_ms() / 1000
        if up:
            metrics.MEDIA_HELD_SECONDS.labels("uplink").observe(held, self._exemplar)
        if down:
            metrics.MEDIA_HELD_SECONDS.labels("downlink").observe(held, self._exemplar)

    # --- the carrier's socket
    # -------------------------------------------------------------------------------------

    def connected(self) -> None:
        self._bridge.opened(self)

    def message(self, message: Message) -> None:
        now = time.monotonic()
        try:
            event = self._server.receive(message)
        except MediaError as error:
            self._fault("carrier", "protocol", str(error))
            if self._conversation is None:
                self._refuse("protocol")
            else:
                self.end(CARRIER_PROTOCOL)
            return
        conversation = self._conversation
        if conversation is not None:
            if type(event) is Ignored:
                metrics.MEDIA_PROTOCOL_FAULTS.labels("provider", "ignored").inc()
            else:
                conversation.from_carrier(event, now)
        elif isinstance(event, StreamStarted) and self.task is None:
            self._start(event, now)

    def ended(self, code: int) -> None:
        self.end(CARRIER_LOST if code == ABNORMAL else self._taken(CARRIER_CLOSED))
        if self.task is None:
            self._bridge.closed(self)

    # --- conversation.Owner
    # ---------------------------------------------------------------------------------------

    def dtmf(self, digit: str, at_ms: int) -> None:
        if self._facts is not None:
            self._facts.dtmf(digit, at_ms)

    def stream_stopped(self) -> None:
        self.end(self._taken(CARRIER_STOP))

    def agent_hung_up(self, reason: str) -> None:
        self.end(agent_hangup(reason))

    def agent_asks(self, request: pcm.TransferRequest | pcm.DtmfRequest) -> pcm.Rejected | None:
        control, now = self._control, time.monotonic()
        assert control is not None  # no agent is attached before it is there
        if isinstance(request, pcm.DtmfRequest):
            return control.press(request.digits, now)
        if request.mode != "join":
            return control.transfer(request.to, request.mode, now)
        if not control.transfer_of:
            return pcm.Rejected("unsupported", "nobody waits to be put through to this call")
        self.end(AGENT_JOINED)
        return None

    def answered(self, seconds: float) -> None:
        response = metrics.RESPONSE_SECONDS.labels(self._admission.workflow.agent_protocol)
        response.observe(seconds, self._exemplar)

    def interrupted(self, heard_ms: int, discarded_ms: int) -> None:
        self._trace.interrupted(heard_ms, discarded_ms)

    def agent_fault(self, code: str, message: str) -> None:
        self._fault("agent", code, message)

    def has_work(self) -> None:
        if self._conversation is not None:
            self._bridge.pace(self._conversation)

    def _taken(self, ending: Ending) -> Ending:
        """The carrier has ended the stream: perhaps because it was told to transfer the call."""
        if self._control is not None and self._control.transferring(time.monotonic()):
            return replace(ending, told_agent="transfer")
        return ending

    # --- the session
    # ----------------------------------------------------------------------------------------------

    def _start(self, started: StreamStarted, now: float) -> None:
        granted = verify_start(self._admission, started, self._bridge.tokens, time.time())
        if isinstance(granted, Refusal):
            self._refuse(granted.reason)
            return
        # From here on the caller is listened to: whatever is said while Redis and the agent are asked is
        # remembered.
        if self._admission.workflow.record_audio:
            self._tap = StreamTap(
                self.workflow_run_id,
                self._server.encoding,
                self._server.sample_rate,
                now,
                datetime.now(UTC),
                self._bridge.taps.tell,
            )
        self._conversation = Conversation(
            self._server, self.write, self, now, self._bridge.limits, self._bridge.lag, self._tap
        )
        self.task = asyncio.create_task(self._live(granted, started), name=f"call {self.workflow_run_id}")
        self.task.add_done_callback(_log_failure)

    def _refuse(self, reason: str) -> None:
        provider = self._admission.adapter.name
        metrics.MEDIA_REFUSED.labels(provider, reason).inc()
        self._trace.refused(reason)
        _log.warning(
            "socket-refused", reason=reason, provider=provider, workflow_run_id=self.workflow_run_id,
            user_id=self._admission.workflow.user_id,
        )  # fmt: skip
        self.close(_POLICY, "refused")
        self._bridge.closed(self)

    async def _live(self, granted: Granted, started: StreamStarted) -> None:
        run = self.workflow_run_id
        with bind_call(run, self._admission.workflow.user_id), self._trace.session():
            try:
                prior = await self._bridge.state.introduce(run, granted.token.nonce, granted.token.expires_at)
                if prior.token_used:
                    self._refuse("token-used")
                elif prior.ended:
                    # The carrier comes back for a call that is over: its next question is answered with the
                    # end.
                    self._refuse("run-ended")
                elif not self._ending.done():
                    await self._serve(granted, started, prior)
                # What was said goodbye to is not said it again; without, nobody would look after the socket.
                self.close(_NORMAL)
            except BaseException:
                self.close(_INTERNAL)
                raise
            finally:
                self._bridge.closed(self)

    async def _serve(self, granted: Granted, started: StreamStarted, prior: Prior) -> None:
        bridge, workflow = self._bridge, self._admission.workflow
        configuration = configuration_of(self._admission, granted, prior.configuration_id)
        claim = await bridge.state.claim(self.workflow_run_id)
        self._epoch = claim.epoch
        facts = self._facts = SessionFacts(
            bridge.teller,
            bridge.settings.bridge_id,
            self.workflow_run_id,
            workflow,
            configuration,
            started,
            granted.token.provider_call_id,
            claim.epoch,
        )
        conversation = self._conversation
        assert conversation is not None
        description = self._describe(granted, prior)
        inbound = description.direction == "inbound"
        transfer = _word(started.parameters.get("transfer"), pcm.TransferOutcome)
        self._control = CallControl(
            facts,
            conversation,
            dtmf_out=self._admission.adapter.dtmf_out,
            own_number=description.to_number if inbound else description.from_number,
            far_number=description.from_number if inbound else description.to_number,
            transfer_of=prior.transfer_of,
            transfer=cast(pcm.TransferOutcome | None, transfer),
            answered_by=cast(pcm.AnswerResult | None, _word(prior.answered_by, pcm.AnswerResult)),
            message_end=cast(pcm.MessageEnd | None, _word(prior.message_end, pcm.MessageEnd)),
        )
        for notice in self._early_notices:
            self.take_notice(notice)
        facts.media_started()
        if self._tap is not None:
            self._tap.identify(started.stream_id, claim.epoch)
        self._trace.began(bridge.settings.bridge_id, claim.epoch, started.sample_rate)
        gauge = metrics.MEDIA_SESSIONS.labels(configuration.provider, workflow.agent_protocol)
        gauge.inc()
        _log.info("media-started", provider=configuration.provider, epoch=claim.epoch)
        self._agents = keeper = AgentKeeper(
            bridge,
            workflow,
            description,
            claim,
            conversation=conversation,
            control=self._control,
            facts=facts,
            trace=self._trace,
            exemplar=self._exemplar,
        )
        agents = asyncio.create_task(
            keeper.run(transferred=transfer is not None), name=f"agent of {self.workflow_run_id}"
        )
        try:
            waited_for: set[asyncio.Future[Any]] = {agents, self._ending}
            await asyncio.wait(waited_for, return_when=asyncio.FIRST_COMPLETED)
            if not self._ending.done():
                self.end(agents.result())
        finally:
            agents.cancel()
            await asyncio.wait({agents})
            gauge.dec()
            self.end(SHUTDOWN)
            await self._finish(self._ending.result(), facts)

    def _describe(self, granted: Granted, prior: Prior) -> CallDescription:
        configuration, token, workflow = granted.configuration, granted.token, self._admission.workflow
        direction = prior.direction
        if direction not in ("inbound", "outbound"):
            # Nobody told: the run of an inbound call is derived from the call, that of an outbound call is
            # not.
            derived = inbound_run_id(configuration.provider, configuration.account, token.provider_call_id)
            direction = "inbound" if derived == self.workflow_run_id else "outbound"
        return CallDescription(
            workflow_run_id=self.workflow_run_id,
            workflow_id=workflow.workflow_id,
            user_id=workflow.user_id,
            provider=configuration.provider,
            account=configuration.account,
            provider_call_id=token.provider_call_id,
            direction=cast(Literal["inbound", "outbound"], direction),
            from_number=prior.from_number,
            to_number=prior.to_number,
            metadata={**workflow.metadata, **prior.metadata},
        )

    async def _finish(self, ending: Ending, facts: SessionFacts) -> None:
        conversation, state, run = self._conversation, self._bridge.state, self.workflow_run_id
        assert conversation is not None
        now = time.monotonic()
        heard_ms = conversation.heard_ms(now)
        if ending.reason == "agent-hangup" or ending in (AGENT_UNREACHABLE, AGENT_JOINED, HANG_UP_ORDERED):
            # What happens in this session decides about the call only while no later session has it.
            (mine,) = await state.renew([(run, self._epoch, heard_ms)])
            ending = ending if mine else SUPERSEDED
        conversation.close(ending.told_agent, now)
        if self._tap is not None:
            self._tap.close(now)
            self._tap = None
        if self._agents is not None:
            self._agents.close()
        # The mark comes before the close: the carrier asks for instructions as soon as the socket is closed.
        if ending.reason == "agent-hangup":
            marked = await state.mark_ended(run)
            facts.agent_hung_up(ending.words, self._not_ended.set)
            # The close sends the carrier on to its next instructions, which end the call, whatever becomes of the command.
            # The command comes first where a close is a fault in the carrier's eyes; and without the mark, for then the
            # instructions would be to connect an agent again.
            if not marked:
                await _first_of(self.gone)
            elif self._admission.adapter.closing_is_a_fault:
                await _first_of(self.gone, self._not_ended)
        elif ending is HANG_UP_ORDERED:
            if not await state.mark_ended(run):
                _log.warning(
                    "hang-up-not-marked", hint="without Redis the carrier may come back for instructions"
                )
        elif ending is AGENT_JOINED:
            await state.mark_join(run)
        elif ending is AGENT_UNREACHABLE:
            await state.mark_fallback(run)
        if ending in (CARRIER_SILENT, CARRIER_LOST):
            self.abort()
        else:
            self.close(_GOING_AWAY if ending is SHUTDOWN else _NORMAL)
        quality = conversation.quality.report(conversation.underruns)
        facts.media_stopped(ending.reason, ending.ended_by, conversation.elapsed_ms(now), quality)
        self._trace.ended(ending.reason, ending.ended_by, quality)
        self.account()
        provider = self._admission.adapter.name
        metrics.MEDIA_SESSIONS_ENDED.labels(provider, ending.reason).inc()
        _log.info("media-stopped", reason=ending.reason, dropped_ms=conversation.dropped_ms)
        await state.release(run, self._epoch, heard_ms)

    def _fault(self, side: str, kind: str, message: str) -> None:
        metrics.MEDIA_PROTOCOL_FAULTS.labels("provider" if side == "carrier" else side, kind).inc()
        self._faults += 1
        if self._faults > _MAX_LOGGED_FAULTS:
            return
        _log.info(
            "protocol-fault", side=side, kind=kind, fault=message[:300], workflow_run_id=self.workflow_run_id,
            user_id=self._admission.workflow.user_id,
        )  # fmt: skip


def _word(text: str | None, words: object) -> str | None:
    """`text` if it is one of the protocol's words."""
    return text if text in get_args(words) else None


async def _first_of(*events: asyncio.Event) -> None:
    """Wait for the command to hang up: until it shows in one of these, or has had its time."""
    waiting = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=_COMMAND_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("session-failed", task=task.get_name(), exc_info=error)
