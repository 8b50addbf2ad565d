"""Delivers a call's callbacks: each on its own, as carriers do, with the faults that are switched on."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from carrier_sim.faults import Fortune
from carrier_sim.report import CallReport

_LONGEST_HOLD_S = 2.0
_LONGEST_QUEUE_S = 1.0

Delivery = Callable[[], Awaitable[None]]


class Courier:
    """One call's callbacks. Without faults they arrive in order: the next leaves when the one before was answered.

    Real carriers promise no order; `Faults.reorder` takes it away. A callback that gets no answer holds the next up for a
    second, not for its whole timeout.
    """

    def __init__(self, report: CallReport, fortune: Fortune) -> None:
        self._report = report
        self._fortune = fortune
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: list[asyncio.Event] = []
        self._last: asyncio.Task[None] | None = None

    def post(self, name: str, deliver: Delivery) -> None:
        """Send a callback now, as its fate will have it. `deliver` makes the attempts and reports them."""
        fate = self._fortune.next()
        if fate.copies == 0:
            self._report.faults.append(f"dropped {name}")
            return
        if fate.copies > 1:
            self._report.faults.append(f"duplicated {name}")
        if fate.delay_s:
            self._report.faults.append(f"delayed {name} by {fate.delay_s:.2f} s")
        overtaken: asyncio.Event | None = None
        overtakes: list[asyncio.Event] = []
        if fate.held:
            self._report.faults.append(f"held {name} back")
            overtaken = asyncio.Event()
            self._held.append(overtaken)
        else:
            overtakes, self._held = self._held, []
        in_order = not fate.held and not fate.delay_s
        before = self._last if in_order else None
        for _ in range(fate.copies):
            task = asyncio.create_task(_deliver(deliver, fate.delay_s, before, overtaken, overtakes))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if in_order:
                self._last = task

    async def catch_up(self) -> None:
        """Let the callbacks that are to arrive in order arrive, before something else is sent past them."""
        if self._last is not None and not self._last.done():
            await asyncio.wait({self._last}, timeout=_LONGEST_QUEUE_S)

    async def drain(self) -> None:
        """Wait until everything is delivered or given up."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def abandon(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _deliver(
    deliver: Delivery,
    delay_s: float,
    before: asyncio.Task[None] | None,
    overtaken: asyncio.Event | None,
    overtakes: list[asyncio.Event],
) -> None:
    if before is not None and not before.done():
        await asyncio.wait({before}, timeout=_LONGEST_QUEUE_S)
    if overtaken is not None:
        # Nothing overtakes the last callback: it is then merely late.
        with suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_HOLD_S):
                await overtaken.wait()
    if delay_s:
        await asyncio.sleep(delay_s)
    try:
        await deliver()
    finally:
        for earlier in overtakes:
            earlier.set()
