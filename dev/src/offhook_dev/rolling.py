"""Rolling updates as Kubernetes does them, on the embedded stack, and what a run of them adds up to.

A Deployment with `maxSurge: 1` and `maxUnavailable: 0`: a new instance is started and waited for until it is ready; then
the Service names it, one of the old ones gets SIGTERM, and some moments later the proxies have noticed that the Service
does not name that one any more. Until then they send it requests.
"""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from offhook_dev.errors import DevError
from offhook_dev.programs import Program
from offhook_dev.stack import RECORDER, Stack

NOTICED_AFTER_S: Final = 0.7
"""How long after SIGTERM the edge still sends an instance new requests."""
DRAIN_DELAY_S: Final = 1.5
"""`OFFHOOK_DRAIN_DELAY_S` of services that are rolled: longer than the edge needs to notice."""

_EXIT_WITHIN_S: Final = 180.0
_SHOWN: Final = 20


@dataclass(slots=True)
class Roll:
    """One service, from its first new instance until its last old one has ended. Times are seconds since 1970.

    `exit_codes` and `drains_s` (from SIGTERM to the exit) are those of the old instances, in the order of their ends.
    """

    service: str
    began: float
    ended: float = 0.0
    exit_codes: list[int] = field(default_factory=list)
    drains_s: list[float] = field(default_factory=list)
    live_calls: int = 0
    ends: list[asyncio.Task[None]] = field(default_factory=list)

    def during(self, moment: float) -> bool:
        return self.began <= moment and (not self.ended or moment <= self.ended)


class Rollout:
    """Rolls the services of a running stack that was started with `replicas`."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    async def replace(self, service: str, env: Mapping[str, str] | None = None) -> Roll:
        """Replace all instances, one after the other, by new ones with these settings. The old ones may go on with what
        they have: `finish` waits for them. Raises `DevError`."""
        roll = Roll(service, time.time())
        serving = self.stack.instances(service)
        for old in self.stack.instances(service):
            serving.append(await self.stack.instance(service, env).start())
            await self.route(service, serving)
            serving.remove(old)
            roll.ends.append(asyncio.create_task(self._see_off(roll, old)))
            await asyncio.sleep(NOTICED_AFTER_S)
            await self.route(service, serving)
        return roll

    async def finish(self, roll: Roll) -> Roll:
        """Wait until the old instances have ended. Raises `DevError`."""
        await asyncio.gather(*roll.ends)
        return roll

    async def _see_off(self, roll: Roll, old: Program) -> None:
        told = time.time()
        tell_to_end(old)
        roll.exit_codes.append(await self.end_of(old))
        roll.ended = time.time()
        roll.drains_s.append(roll.ended - told)

    async def end_of(self, instance: Program) -> int:
        """Wait until an instance has ended, and forget it. Raises `DevError`."""
        deadline = time.monotonic() + _EXIT_WITHIN_S
        while (code := instance.exit_code) is None:
            if time.monotonic() > deadline:
                raise DevError(f"{instance.name} has not ended within {_EXIT_WITHIN_S:.0f} s")
            await asyncio.sleep(0.02)
        self.stack.forget(instance)
        return code

    async def route(self, service: str, serving: Sequence[Program]) -> None:
        if service != RECORDER:  # nobody sends it requests
            await self.stack.route(service, serving)


def tell_to_end(instance: Program) -> None:
    """SIGTERM, as a kubelet sends it."""
    assert instance.pid is not None
    os.kill(instance.pid, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Answer:
    """One request through the edge: when it was sent (seconds since 1970), how long the answer took, and its status.
    None: there was none, because of `trouble`."""

    sent: float
    ms: float
    status: int | None
    trouble: str = ""

    @property
    def kind(self) -> str:
        if self.status is not None:
            return f"{self.status // 100}xx"
        return "no answer"


@dataclass(slots=True)
class Tally:
    """The run's figures. `wrong` should be empty."""

    rolls: list[Roll] = field(default_factory=list)
    webhooks: list[Answer] = field(default_factory=list)
    requests: list[Answer] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    live: list[int] = field(default_factory=list)
    carried_over: int = 0
    gaps_ms: list[int] = field(default_factory=list)
    recorded: int = 0
    wrong: list[str] = field(default_factory=list)

    def blame(self, words: str) -> None:
        self.wrong.append(words)

    def table(self) -> str:
        """The figures for people."""
        rows = [
            ("calls", str(self.calls.total()), _listed(self.calls)),
            ("live at a time", _range(self.live), ""),
            ("carried to their end by a bridge that was told to end", str(self.carried_over), ""),
            ("calls with a gap in the caller's audio", str(sum(gap > 0 for gap in self.gaps_ms)),
             f"the longest {max(self.gaps_ms, default=0)} ms"),
            ("recorded as a whole", str(self.recorded), ""),
            ("webhooks", str(len(self.webhooks)), _listed(Counter(each.kind for each in self.webhooks))),
            ("requests to the API", str(len(self.requests)), _listed(Counter(each.kind for each in self.requests))),
            ("wrong", str(len(self.wrong)), ""),
        ]  # fmt: skip
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [
            f"{name:<{widths[0]}}  {figure:>{widths[1]}}  {more}".rstrip() for name, figure, more in rows
        ]
        lines += ["", "rolled           took  drained in   live calls  webhooks      p50      p99  slowest"]
        for roll in self.rolls:
            took = sorted(each.ms for each in self.webhooks if roll.during(each.sent))
            drains = ", ".join(f"{drain_s:.1f}" for drain_s in roll.drains_s)
            seconds = (roll.ended or time.time()) - roll.began
            lines.append(
                f"{roll.service:<15}{seconds:4.0f} s  {drains:<10}   {roll.live_calls:10d}  {len(took):8d}"
                f"  {_share(took, 0.5)}  {_share(took, 0.99)}  {_share(took, 1.0)}"
            )
        return "\n".join([*lines, *self.wrong[:_SHOWN]])


def _share(ordered: Sequence[float], share: float) -> str:
    """The value that this share of them does not exceed, in ms."""
    if not ordered:
        return "       "
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:4.0f} ms"


def _range(values: Sequence[int]) -> str:
    return f"{min(values)} to {max(values)}" if values else "none"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
