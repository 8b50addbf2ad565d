"""Keeps an agent on a call: dials until one takes it, and again when it is lost."""

import asyncio
import time
from typing import TYPE_CHECKING, Final

import structlog

from media_bridge.agent_links import CallDescription, link_for, subprotocol_for
from media_bridge.agent_socket import MESSAGE_TOO_BIG, AgentSocket, AgentUnreachableError, dial
from media_bridge.control import CallControl
from media_bridge.conversation import Conversation
from media_bridge.endings import AGENT_UNREACHABLE, Ending, agent_hangup
from media_bridge.facts import SessionFacts
from media_bridge.session_trace import SessionTrace
from media_bridge.shared_state import Claim
from media_bridge.sockets import NO_STATUS
from offhook.agentlink import pcm
from offhook.identities import new_id
from offhook.records import WorkflowRecord
from offhook.telemetry import metrics

if TYPE_CHECKING:
    from media_bridge.bridge import Bridge

_log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_NORMAL: Final = 1000
_LONGEST_PAUSE_S: Final = 4.0
# An agent that keeps a call for so long works: what was tried in vain before is forgiven.
_PROVEN_S: Final = 10.0


class AgentKeeper:
    """The agents of one media session, one after the other. `workflow` is the record with which the call was accepted:
    its protocol stays, its address may have moved since."""

    def __init__(
        self,
        bridge: "Bridge",
        workflow: WorkflowRecord,
        call: CallDescription,
        claim: Claim,
        *,
        conversation: Conversation,
        control: CallControl,
        facts: SessionFacts,
        trace: SessionTrace,
        exemplar: dict[str, str] | None,
    ) -> None:
        self._settings = bridge.settings
        self._records = bridge.records
        self._workflow = workflow
        self._call = call
        self._claim = claim
        self._conversation = conversation
        self._control = control
        self._facts = facts
        self._trace = trace
        self._exemplar = exemplar
        self._agent: AgentSocket | None = None

    def close(self) -> None:
        """Say goodbye to the agent, if there is one."""
        if self._agent is not None:
            self._agent.close(_NORMAL)

    async def run(self, *, transferred: bool) -> Ending:
        """Returns why there is no agent any more. `transferred`: the call comes back from a transfer."""
        claim, conversation, settings = self._claim, self._conversation, self._settings
        resume: pcm.Resume | None = None
        if claim.epoch > 1 or transferred:
            resume = pcm.Resume(
                epoch=claim.epoch,
                reason="transfer" if transferred else "bridge-lost",
                elapsed_ms=claim.elapsed_ms,
                heard_ms=claim.heard_ms,
            )
        in_vain, attempt = 0, 0
        comfort = self._comfort_later()
        try:
            while True:
                attempt += 1
                began = time.monotonic()
                try:
                    self._agent = agent = await self._dial(attempt, again=resume is not None)
                except AgentUnreachableError as error:
                    in_vain += 1
                    metrics.AGENT_CONNECTS.labels(self._workflow.agent_protocol, error.outcome).inc()
                    _log.warning("agent-unreachable", attempt=attempt, reason=str(error))
                    self._facts.agent_lost(attempt, str(error))
                else:
                    comfort.cancel()
                    now = time.monotonic()
                    self._take(agent, attempt, now - began, resume)
                    with self._trace.agent(attempt) as lost:
                        code = await agent.closed
                        if code not in (_NORMAL, NO_STATUS):
                            lost(code)
                    gone = time.monotonic()
                    heard_ms = conversation.detach(gone)
                    if code in (_NORMAL, NO_STATUS):
                        return agent_hangup("the agent closed the connection")
                    in_vain = 0 if gone - now >= _PROVEN_S else in_vain + 1
                    _log.warning("agent-lost", attempt=attempt, code=code)
                    why = ": a message was larger than 4 MiB" if code == MESSAGE_TOO_BIG else ""
                    self._facts.agent_lost(attempt, f"the connection ended with {code}{why}")
                    metrics.AGENTS_LOST.labels(self._workflow.agent_protocol).inc()
                    resume = pcm.Resume(
                        epoch=claim.epoch,
                        reason="agent-lost",
                        elapsed_ms=claim.elapsed_ms + conversation.elapsed_ms(gone),
                        heard_ms=heard_ms,
                    )
                    comfort = self._comfort_later()
                if in_vain >= settings.agent_attempts:
                    return AGENT_UNREACHABLE
                if in_vain:
                    await asyncio.sleep(min(_LONGEST_PAUSE_S, settings.agent_retry_s * 2 ** (in_vain - 1)))
        finally:
            comfort.cancel()

    def _comfort_later(self) -> asyncio.TimerHandle:
        """The caller is not left in silence for long."""
        return asyncio.get_running_loop().call_later(
            self._settings.comfort_after_s, lambda: self._conversation.comfort(time.monotonic())
        )

    async def _dial(self, attempt: int, *, again: bool) -> AgentSocket:
        settings = self._settings
        # The newest record: an operator may have moved the agent since the call began.
        workflow = self._records.workflow(self._workflow.workflow_id) or self._workflow
        with self._trace.dialling(workflow.agent_url, attempt, again=again or attempt > 1) as traceparent:
            headers = self._records.agent_headers(workflow)
            if headers is None:
                raise AgentUnreachableError(
                    "error", "the workflow's sealed headers do not open with this process's keyring"
                )
            return await dial(
                self._conversation,
                workflow.agent_url,
                headers,
                subprotocol=subprotocol_for(self._workflow),
                traceparent=traceparent,
                timeout_s=settings.agent_connect_timeout_s,
                ping_s=settings.agent_ping_s,
                hosts=settings.allowed_agents,
            )

    def _take(self, agent: AgentSocket, attempt: int, seconds: float, resume: pcm.Resume | None) -> None:
        workflow = self._workflow
        link = link_for(workflow, self._control.describe(self._call), new_id())
        self._conversation.attach(link, agent.write, time.monotonic(), resume)
        if link.left_out:
            _log.warning("parameters-left-out", names=link.left_out)
        metrics.AGENT_CONNECTS.labels(workflow.agent_protocol, "connected").inc()
        metrics.AGENT_CONNECT_SECONDS.labels(workflow.agent_protocol).observe(seconds, self._exemplar)
        if resume is not None:
            metrics.MEDIA_RESUMES.labels(resume.reason).inc()
        self._facts.agent_connected(attempt, workflow.agent_protocol, link.sample_rate, seconds * 1000)
