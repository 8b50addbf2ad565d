"""What a dashboard is made of, before it is Grafana's: panels with a question, a unit, words, and the limits that matter."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from offhook.telemetry.metrics import METRICS, MetricDefinition

Unit = Literal["s", "percentunit", "short", "reqps", "cps", "cpm", "bytes", "ops", "bool"]
Kind = Literal["timeseries", "stat", "bars"]

WIDTH: Final = 24
"""Columns of Grafana's grid."""

_BY_NAME: Final = {metric.name: metric for metric in METRICS}


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and how its series are called: Grafana's `{{label}}` for their labels."""

    expr: str
    legend: str
    exemplars: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """From this value on it is `warning` or `bad`; `below`: up to this value it is."""

    value: float
    level: Literal["warning", "bad"]
    below: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """`metric` gives the description (what it means, what to do) unless `says` does. `runbook` is a page of `docs/runbooks`.

    `stacked`: the series are parts of a whole. `highest`: the axis ends there.
    """

    title: str
    queries: tuple[Query, ...]
    unit: Unit
    metric: str = ""
    says: str = ""
    runbook: str = ""
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 7
    stacked: bool = False
    limits: tuple[Limit, ...] = ()
    highest: float | None = None
    link: tuple[str, str] | None = None

    @property
    def description(self) -> str:
        if self.says:
            return self.says
        known: MetricDefinition = _BY_NAME[self.metric]
        return f"{known.meaning}\n\n**What to do.** {known.action}"


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`name` is the file and, with `offhook-` before it, the uid: both are for ever."""

    name: str
    title: str
    question: str
    rows: tuple[Row, ...]

    @property
    def uid(self) -> str:
        return f"offhook-{self.name}"

    @property
    def panels(self) -> Iterator[Panel]:
        for row in self.rows:
            yield from row.panels


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a panel, or a row's heading, is on the grid."""

    what: Row | Panel
    x: int
    y: int
    width: int
    height: int


@dataclass(slots=True)
class _Shelf:
    y: int = 0
    x: int = 0
    height: int = 0
    placed: list[Placed] = field(default_factory=list)

    def put(self, what: Row | Panel, width: int, height: int) -> None:
        if self.x + width > WIDTH:
            self.end()
        self.placed.append(Placed(what, self.x, self.y, width, height))
        self.x += width
        self.height = max(self.height, height)

    def end(self) -> None:
        self.y += self.height
        self.x = self.height = 0


def placed(rows: Iterable[Row]) -> list[Placed]:
    """Every row's heading and panels, from left to right and from top to bottom."""
    shelf = _Shelf()
    for row in rows:
        shelf.end()
        shelf.put(row, WIDTH, 1)
        for panel in row.panels:
            shelf.put(panel, panel.width, panel.height)
    return shelf.placed
