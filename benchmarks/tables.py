"""How figures are taken and shown."""

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Section:
    """One benchmark's result: a table, a few sentences on how it was measured, and the same as data."""

    title: str
    columns: Sequence[str]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def print(self, console: Console) -> None:
        table = Table(
            title=self.title, title_justify="left", box=None, padding=(0, 2, 0, 0), header_style="dim"
        )
        for index, name in enumerate(self.columns):
            table.add_column(name, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(f"  [dim]{note}[/dim]")
        console.print()


def microseconds(work: Callable[[], object], *, seconds: float = 0.4, rounds: int = 5) -> float:
    """Median over `rounds` of the mean time of one call, in µs."""
    work()
    begun = time.perf_counter()
    count = 0
    while time.perf_counter() - begun < seconds / 10:
        work()
        count += 1
    loops = max(1, count * 10 // rounds)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        for _ in range(loops):
            work()
        times.append((time.perf_counter() - begun) / loops * 1e6)
    return statistics.median(times)


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile; 0 for nothing."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(percent / 100 * len(ordered) + 0.5) - 1))]


def machine() -> str:
    """The machine, for whoever reads the figures elsewhere."""
    model = platform.processor() or platform.machine()
    cores = 0
    with open("/proc/cpuinfo") as info:
        for line in info:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                cores += 1
    return f"{model}, {cores} cores, {platform.system()}, Python {platform.python_version()}"
