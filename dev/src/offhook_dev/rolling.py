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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from offhook_dev.errors import DevError
from offhook_dev.programs import Program
from offhook_dev.stack import RECORDER, Stack

NOTICED_AFTER_S: Final = 0.7
"""How long after SIGTERM the edge still sends an instance new requests."""
DRAIN_DELAY_S: Final = 1.5
"""`OFFHOOK_DRAIN_DELAY_S` of services that are rolled: longer than the edge needs to notice."""

_EXIT_WITHIN_S: Final = 60.0


@dataclass(slots=True)
class Roll:
    """One service, from its first new instance until its last old one has got SIGTERM (`told`), and has ended.

    Times are seconds since 1970. `exit_codes` are those of the old instances, in the order of their ends.
    """

    service: str
    began: float
    told: float = 0.0
    ended: float = 0.0
    exit_codes: list[int] = field(default_factory=list)
    live_calls: int = 0

    def during(self, moment: float) -> bool:
        return self.began <= moment <= self.ended


class Rollout:
    """Rolls the services of a running stack that was started with `replicas`."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    async def roll(self, service: str, env: Mapping[str, str] | None = None) -> Roll:
        """Replace all instances, one after the other, by new ones with these settings; returns when the old ones have
        ended. Raises `DevError`."""
        roll, old = await self.replace(service, env)
        return await self.finish(roll, old)

    async def replace(self, service: str, env: Mapping[str, str] | None = None) -> tuple[Roll, list[Program]]:
        """The same, but the old instances may go on with what they have: wait for them with `finish`."""
        roll = Roll(service, time.time())
        old = self.stack.instances(service)
        serving = list(old)
        for each in old:
            serving.append(await self.stack.instance(service, env).start())
            self.route(service, serving)
            serving.remove(each)
            await self.retire(service, each, serving)
        roll.told = time.time()
        return roll, old

    async def retire(self, service: str, instance: Program, serving: Sequence[Program]) -> None:
        """SIGTERM; `serving` take its place once that has been noticed."""
        assert instance.pid is not None
        os.kill(instance.pid, signal.SIGTERM)
        await asyncio.sleep(NOTICED_AFTER_S)
        self.route(service, serving)

    async def finish(self, roll: Roll, old: Iterable[Program], within_s: float = _EXIT_WITHIN_S) -> Roll:
        """Wait until the old instances have ended. Raises `DevError`."""
        ends = [asyncio.create_task(self.end_of(each, within_s)) for each in old]
        for end in asyncio.as_completed(ends):
            roll.exit_codes.append(await end)
        roll.ended = time.time()
        return roll

    async def end_of(self, instance: Program, within_s: float = _EXIT_WITHIN_S) -> int:
        """Wait until an instance has ended, and forget it. Raises `DevError`."""
        deadline = time.monotonic() + within_s
        while (code := instance.exit_code) is None:
            if time.monotonic() > deadline:
                raise DevError(f"{instance.name} has not ended within {within_s:.0f} s")
            await asyncio.sleep(0.02)
        self.stack.forget(instance)
        return code

    def route(self, service: str, serving: Sequence[Program]) -> None:
        if service != RECORDER:  # nobody sends it requests
            self.stack.route(service, serving)


@dataclass(frozen=True, slots=True)
class Answer:
    """One request through the edge: when it was sent (seconds since 1970), its status (None: there was no answer), and
    how long the answer took."""

    sent: float
    status: int | None
    ms: float

    @property
    def kind(self) -> str:
        return "no answer" if self.status is None else f"{self.status // 100}xx"


@dataclass(slots=True)
class Tally:
    """The run's figures. `wrong` should be empty."""

    rolls: list[Roll] = field(default_factory=list)
    webhooks: list[Answer] = field(default_factory=list)
    requests: list[Answer] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    live: list[int] = field(default_factory=list)
    carried_over: int = 0
    handed_over: int = 0
    wrong: list[str] = field(default_factory=list)

    def blame(self, words: str) -> None:
        self.wrong.append(words)

    def table(self) -> str:
        """The figures for people."""
        rows = [
            ("calls", str(self.calls.total()), _listed(self.calls)),
            ("live at a time", _range(self.live), ""),
            ("carried to their end by a bridge that was told to end", str(self.carried_over), ""),
            ("webhooks", str(len(self.webhooks)), _listed(Counter(each.kind for each in self.webhooks))),
            ("requests to the API", str(len(self.requests)), _listed(Counter(each.kind for each in self.requests))),
            ("wrong", str(len(self.wrong)), ""),
        ]  # fmt: skip
        widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
        lines = [
            f"{name:<{widths[0]}}  {figure:>{widths[1]}}  {more}".rstrip() for name, figure, more in rows
        ]
        lines += ["", "rolled            took   old ended  live calls  webhooks  p50      p99      slowest"]
        for roll in self.rolls:
            took = sorted(each.ms for each in self.webhooks if roll.during(each.sent))
            lines.append(
                f"{roll.service:<16}{roll.told - roll.began:5.1f} s  {roll.ended - roll.told:+7.1f} s  {roll.live_calls:10d}"
                f"  {len(took):8d}  {_share(took, 0.5)}  {_share(took, 0.99)}  {_share(took, 1.0)}"
            )
        return "\n".join(lines)


def _share(ordered: Sequence[float], share: float) -> str:
    """The value that this share of them does not exceed, in ms."""
    if not ordered:
        return "       "
    return f"{ordered[min(len(ordered) - 1, int(share * len(ordered)))]:4.0f} ms"


def _range(values: Sequence[int]) -> str:
    return f"{min(values)} to {max(values)}" if values else "none"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
