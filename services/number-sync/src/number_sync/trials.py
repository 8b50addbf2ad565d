"""Trying a workflow's agent: for whom, with what is stored, and how many at a time."""

import asyncio
from collections import Counter
from typing import Final

from number_sync.errors import BusyError, ConflictError
from number_sync.trial import Trial, TrialAgent, try_agent
from number_sync.workflows import Workflows
from offhook.agent_hosts import AgentHosts
from offhook.errors import KeyringError

AT_ONCE: Final = 8
"""In one process; each takes seconds and a connection. Half of them are for one user at most."""


class Trials:
    def __init__(
        self, workflows: Workflows, *, hosts: AgentHosts | None = None, at_once: int = AT_ONCE
    ) -> None:
        """`hosts`: which may be agents."""
        self._workflows = workflows
        self._hosts = hosts
        self._free = asyncio.Semaphore(at_once)
        self._share = max(1, at_once // 2)
        self._running: Counter[str] = Counter()

    async def run(self, user_id: str, workflow_id: str) -> Trial:
        """Call the workflow's agent as the bridge would. Takes about `trial.TOTAL_S` seconds at most.

        Raises `NotFoundError`, `BusyError`, and `ConflictError` when the agent's headers cannot be opened.
        """
        row = await self._workflows.get(user_id, workflow_id)
        try:
            headers = self._workflows.headers(row)
        except KeyringError:
            raise ConflictError(
                "the stored headers cannot be opened, because the key ring has lost their key; enter them again"
            ) from None
        if self._free.locked() or self._running[user_id] >= self._share:
            raise BusyError("too many agents are being tried at this moment; try again in a few seconds")
        agent = TrialAgent(
            url=row.agent_url,
            protocol=row.agent_protocol,
            sample_rate=row.sample_rate,
            headers=headers,
            workflow_id=row.id,
            user_id=row.user_id,
            metadata=row.metadata,
        )
        self._running[user_id] += 1
        try:
            async with self._free:
                return await try_agent(agent, hosts=self._hosts)
        finally:
            self._running[user_id] -= 1
            # `+` leaves out who has none: nothing grows with the number of users.
            self._running = +self._running
