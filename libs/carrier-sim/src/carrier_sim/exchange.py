"""What the two carriers share: the network, the calls that are up, the reports of those that ended."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from carrier_sim.callee import Callees
from carrier_sim.config import SimConfig
from carrier_sim.faults import Faults, Fortune
from carrier_sim.report import CallReport
from carrier_sim.web import WebClient

# What calls get to deliver their last callbacks when the simulation stops, seconds.
_GOODBYE_S = 3.0

_KEPT_REPORTS = 5000
_KEPT_WITH_AUDIO = 200

_log = logging.getLogger("carrier_sim")


class Exchange:
    """Shared state of one simulation. `faults` may be replaced at any time; it applies to calls that begin afterwards."""

    def __init__(self, config: SimConfig) -> None:
        self.config = config
        self.callees = Callees()
        self.faults: Faults = config.faults
        self.reports: list[CallReport] = []
        self._web: WebClient | None = None
        self._calls = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiters: dict[str, list[asyncio.Future[CallReport]]] = {}

    @property
    def web(self) -> WebClient:
        if self._web is None:
            raise RuntimeError("the simulator is not running: use it as an async context manager")
        return self._web

    def start(self, web: WebClient) -> None:
        self._web = web

    async def stop(self) -> None:
        # Once to end the calls, which still say goodbye; once more to give up what takes too long.
        for task in self._tasks:
            if not task.cancelling():
                task.cancel()
        for _ in range(2):
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=_GOODBYE_S)
            for task in self._tasks:
                task.cancel()
        if self._web is not None:
            await self._web.close()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task that lives no longer than the simulation."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def until_over(self, call: Coroutine[Any, Any, CallReport]) -> CallReport:
        """Run a call to its end. Who is cancelled meanwhile does not wait for the call's last words; `stop` does."""
        task = self.spawn(call)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()
            raise
        report: CallReport = task.result()
        return report

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _log.error("the simulator itself failed", exc_info=error)

    def fortune(self, faults: Faults | None) -> Fortune:
        """The fates of the next call."""
        self._calls += 1
        return Fortune(faults or self.faults, self._calls)

    def ended(self, report: CallReport) -> None:
        """Enter the report of a call that is over. Old reports lose their audio, very old ones are forgotten."""
        self.reports.append(report)
        if len(self.reports) > _KEPT_WITH_AUDIO:
            old = self.reports[-_KEPT_WITH_AUDIO - 1]
            old.heard = old.spoken = b""
        del self.reports[:-_KEPT_REPORTS]
        for waiter in self._waiters.pop(report.provider_call_id, []):
            if not waiter.done():
                waiter.set_result(report)

    async def next_report(self, provider_call_id: str, timeout_s: float) -> CallReport:
        """The report of a call, when it is over. Raises `TimeoutError`."""
        for report in self.reports:
            if report.provider_call_id == provider_call_id:
                return report
        waiter: asyncio.Future[CallReport] = asyncio.get_running_loop().create_future()
        self._waiters.setdefault(provider_call_id, []).append(waiter)
        async with asyncio.timeout(timeout_s):
            return await waiter
