"""A dashboard's panels drawn from Prometheus' answers, in the dashboard's own grid, as one page without scripts.

Grafana is not run here, so this is no screenshot of it: same panels, same questions, same limits, our own drawing.
"""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from offhook_dev.dashboards.panels import Dashboard, Limit, Panel, Placed, Row, placed

Line = tuple[str, Sequence[tuple[float, float]]]
"""A legend and its points: Unix seconds, value."""

_CELL: Final = 62
"""Pixels of a column of the grid, and of a row."""
_UNIT_Y: Final = 34
_COLOURS: Final = (
    "#3b78c4",
    "#d98a1f",
    "#4b9e57",
    "#b8474d",
    "#7d5bb5",
    "#2f9da1",
    "#a0713f",
    "#c85f9e",
    "#6b7280",
    "#9aa63a",
)
_LEVELS: Final = {"warning": "#c98a00", "bad": "#c62f3b", "good": "#2c8a45"}
_STYLE: Final = """
body { margin: 0; background: #f4f5f7; font: 13px/1.35 "DejaVu Sans", sans-serif; color: #24292f; }
h1 { font-size: 20px; margin: 14px 14px 0; } p { margin: 2px 14px 8px; color: #57606a; }
.grid { position: relative; margin: 0 8px; } .panel, h2 { position: absolute; box-sizing: border-box; }
h2 { font-size: 14px; margin: 0; padding: 9px 6px 0; color: #424a53; }
.panel { background: #fff; border: 1px solid #d8dde3; border-radius: 4px; padding: 6px 8px; overflow: hidden; }
.title { font-weight: bold; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.legend { font-size: 11px; line-height: 14px; height: 28px; overflow: hidden; color: #424a53; }
.legend span { margin-right: 9px; white-space: nowrap; }
.legend i { display: inline-block; width: 9px; height: 9px; margin-right: 3px; }
.stat { font-size: 34px; text-align: center; padding-top: 26px; font-weight: bold; }
.bar { position: relative; height: 19px; margin: 3px 0; font-size: 11px; line-height: 19px; background: #f0f2f4; }
.bar b { position: absolute; left: 0; top: 0; bottom: 0; opacity: .35; }
.bar span { position: absolute; left: 5px; }
.bar em { position: absolute; right: 5px; }
.none { color: #8b949e; text-align: center; padding-top: 44px; } svg text { font-size: 10px; fill: #57606a; }
"""


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a panel's queries were answered: lines for graphs, (legend, value) for the others; and exemplars (seconds, value)."""

    lines: Sequence[Line] = ()
    values: Sequence[tuple[str, float]] = ()
    exemplars: Sequence[tuple[float, float]] = ()


def page(dashboard: Dashboard, drawings: Mapping[str, Drawing], began: float, ended: float, note: str) -> str:
    """The page, 24 columns wide. `drawings` by the panels' titles."""
    places = placed(dashboard.rows)
    height = max(place.y + place.height for place in places) * _UNIT_Y
    body = "".join(_place(place, drawings, began, ended) for place in places)
    return (
        f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style><h1>Offhook · {html.escape(dashboard.title)}</h1>"
        f"<p>{html.escape(dashboard.question)} {html.escape(note)}</p>"
        f'<div class=grid style="width:{24 * _CELL}px;height:{height}px">{body}</div>'
    )


def _place(place: Placed, drawings: Mapping[str, Drawing], began: float, ended: float) -> str:
    corner = f"left:{place.x * _CELL}px;top:{place.y * _UNIT_Y}px"
    at = f"{corner};width:{place.width * _CELL - 6}px;height:{place.height * _UNIT_Y - 6}px"
    if isinstance(place.what, Row):
        return f'<h2 style="{at}">{html.escape(place.what.title)}</h2>'
    panel = place.what
    drawing = drawings.get(panel.title, Drawing())
    inner = {"timeseries": _graph, "stat": _stat, "bars": _bars}[panel.kind](
        panel, drawing, place, began, ended
    )
    return f'<div class=panel style="{at}"><div class=title>{html.escape(panel.title)}</div>{inner}</div>'


def _stat(panel: Panel, drawing: Drawing, *_: Any) -> str:
    if not drawing.values:
        return "<div class=none>no data</div>"
    value = drawing.values[0][1]
    return f'<div class=stat style="color:{_LEVELS[_level(panel.limits, value)]}">{readable(value, panel.unit)}</div>'


def _bars(panel: Panel, drawing: Drawing, place: Placed, *_: Any) -> str:
    if not drawing.values:
        return "<div class=none>none</div>"
    top = panel.highest or max((value for _, value in drawing.values), default=0) or 1
    room = (place.height * _UNIT_Y - 34) // 22
    made = []
    for legend, value in sorted(drawing.values, key=lambda one: -one[1])[:room]:
        colour = _LEVELS[_level(panel.limits, value)]
        made.append(
            f'<div class=bar><b style="width:{100 * min(1, value / top):.1f}%;background:{colour}"></b>'
            f"<span>{html.escape(legend)}</span><em>{readable(value, panel.unit)}</em></div>"
        )
    return "".join(made)


def _graph(panel: Panel, drawing: Drawing, place: Placed, began: float, ended: float) -> str:
    wide, high = place.width * _CELL - 24, place.height * _UNIT_Y - 70
    lines = _stacked(drawing.lines) if panel.stacked else list(drawing.lines)
    if not lines:
        return "<div class=none>nothing of the kind happened</div>"
    seen = [value for _, points in lines for _, value in points] + [value for _, value in drawing.exemplars]
    top = _round_up(max([*seen, 0.0]) or 1.0) if panel.highest is None else panel.highest
    # A limit far above what is seen would press the lines to the ground.
    shown = [limit for limit in panel.limits if limit.value <= 3 * top]
    top = max([top, *(limit.value * 1.1 for limit in shown)]) if panel.highest is None else top
    left = 46

    def x(at: float) -> float:
        return left + (at - began) / max(1.0, ended - began) * (wide - left)

    def y(value: float) -> float:
        return high - 4 - min(value, top) / top * (high - 12)

    parts = [f'<svg width={wide} height={high + 12} style="display:block">']
    for share in (0, 0.5, 1):
        parts.append(
            f'<line x1={left} x2={wide} y1={y(top * share):.1f} y2={y(top * share):.1f} stroke="#e5e8eb"/>'
            f"<text x={left - 4} y={y(top * share) + 3:.1f} text-anchor=end>{readable(top * share, panel.unit)}</text>"
        )
    for share in (0, 0.5, 1):
        minutes = (began - ended) * (1 - share) / 60
        anchor = {0: "start", 0.5: "middle", 1: "end"}[share]
        label = "now" if share == 1 else f"{minutes:.1f} min"
        parts.append(
            f"<text x={left + share * (wide - left):.0f} y={high + 9} text-anchor={anchor}>{label}</text>"
        )
    for number, (_, points) in reversed(list(enumerate(lines))):
        colour = _COLOURS[number % len(_COLOURS)]
        for piece in _pieces(points, ended - began):
            path = " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in piece)
            if panel.stacked:
                ground = f"{x(piece[-1][0]):.1f},{y(0):.1f} {x(piece[0][0]):.1f},{y(0):.1f}"
                parts.append(f'<polygon points="{path} {ground}" fill="{colour}" fill-opacity=.25 />')
            parts.append(f'<polyline points="{path}" fill=none stroke="{colour}" stroke-width=1.6 />')
    for limit in shown:
        parts.append(
            f"<line x1={left} x2={wide} y1={y(limit.value):.1f} y2={y(limit.value):.1f} "
            f'stroke="{_LEVELS[limit.level]}" stroke-dasharray="6 4"/>'
        )
    for at, value in drawing.exemplars:
        if began <= at <= ended:
            here = f"M{x(at):.1f} {y(value) - 4:.1f} l4 4 l-4 4 l-4 -4 z"
            parts.append(f'<path d="{here}" fill="#7d5bb5" fill-opacity=.55 />')
    parts.append("</svg><div class=legend>")
    for number, (legend, _) in enumerate(lines):
        parts.append(
            f'<span><i style="background:{_COLOURS[number % len(_COLOURS)]}"></i>{html.escape(legend)}</span>'
        )
    if drawing.exemplars:
        parts.append('<span><i style="background:#7d5bb5;transform:rotate(45deg)"></i>a call’s trace</span>')
    return "".join(parts) + "</div>"


def _stacked(lines: Sequence[Line]) -> list[Line]:
    """Each line on top of those before it. Parts that are nothing would only hide the others."""
    below: dict[float, float] = {}
    made: list[Line] = []
    for legend, points in [one for one in lines if any(value for _, value in one[1])] or lines:
        risen = []
        for at, value in points:
            below[at] = below.get(at, 0.0) + value
            risen.append((at, below[at]))
        made.append((legend, risen))
    return made


def _pieces(points: Sequence[tuple[float, float]], seconds: float) -> list[list[tuple[float, float]]]:
    """A line has a hole where nothing was measured."""
    made: list[list[tuple[float, float]]] = []
    for point in points:
        if not made or point[0] - made[-1][-1][0] > max(5.0, seconds / 60):
            made.append([])
        made[-1].append(point)
    return made


def _level(limits: Sequence[Limit], value: float) -> str:
    worst = "good"
    for limit in limits:
        beyond = value < limit.value if limit.below else value >= limit.value
        if beyond and (limit.level == "bad" or worst == "good"):
            worst = limit.level
    return worst


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 5, 7.5, 10) if step * power >= value * 0.999)


def readable(value: float, unit: str) -> str:
    """A value with its unit, as short as it can be read."""
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit == "percentunit":
        return f"{value * 100:.4g} %"
    if unit == "bytes":
        return f"{value / 2**20:.3g} MiB"
    return f"{value:.0f}" if value >= 100 and value == round(value) else f"{value:.3g}"
