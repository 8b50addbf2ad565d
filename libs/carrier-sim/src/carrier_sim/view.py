"""A call's report for people, on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Report = Mapping[str, Any]


def summary(report: Report) -> RenderableType:
    """The whole report (as `CallReport.to_dict`) in the order things happened."""
    head = Text.assemble(
        (f"{report['provider']} {report['direction']} ", "bold"),
        f"{report['from_number']} → {report['to_number']}   ",
        (report["provider_call_id"], "dim"),
    )
    return Group(
        head, Text(), _figures(report), Text(), _callbacks(report["callbacks"]), Text(), *_objections(report)
    )


def _figures(report: Report) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    statuses = " → ".join(f"{s['status']} ({_time(s['at_ms'])})" for s in report["statuses"])
    rows: list[tuple[str, str]] = [
        ("statuses", statuses),
        ("ended", f"by {report['ended_by']}: {report['end_cause']}, after {_time(report['duration_ms'])}"),
        ("instructions", _figures_of(report["instructions_ms"])),
        ("answer to words", _figures_of(report["response_ms"])),
        ("caller spoke", _time(report["caller_audio_ms"])),
        ("caller heard", f"{_time(report['agent_audio_ms'])} of the agent"),
    ]
    if report["caller_audio_lost_ms"]:
        rows.append(("lost", f"{_time(report['caller_audio_lost_ms'])} of words: no stream was open"))
    if report["said"]:
        rows.append(("carrier said", " / ".join(report["said"])))
    if report["dtmf"]:
        rows.append(("keys", report["dtmf"]))
    if report["marks"]:
        rows.append(("marks", ", ".join(f"{m['name']} {m['outcome']}" for m in report["marks"])))
    for interruption in report["interruptions"]:
        stopped = interruption["stopped_after_ms"]
        rows.append(("barge-in", "the agent went on" if stopped is None else f"silence after {stopped} ms"))
    if report["faults"]:
        rows.append(("faults", ", ".join(report["faults"])))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), value)
    return table


def _callbacks(callbacks: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("at", "request", "to", "answer", "took"):
        table.add_column(title, header_style="dim", justify="right" if title in ("at", "took") else "left")
    for callback in callbacks:
        what = callback["fields"].get("CallStatus") or callback["fields"].get("status") or ""
        attempt = f" (attempt {callback['attempt']})" if callback["attempt"] > 1 else ""
        code = callback["status_code"]
        good = code is not None and 200 <= code < 300
        table.add_row(
            _time(callback["at_ms"]),
            f"{callback['purpose']} {what}{attempt}",
            Text(callback["url"].split("?")[0], overflow="ellipsis", no_wrap=True),
            Text(str(code or callback["error"]), style="green" if good else "red"),
            f"{callback['ms']:.0f} ms",
        )
    return table


def _objections(report: Report) -> list[RenderableType]:
    lines: list[RenderableType] = [
        Text.assemble(("unmet      ", "yellow"), problem) for problem in report["unmet"]
    ]
    for violation in report["violations"]:
        style = "red" if violation["severity"] == "error" else "yellow"
        times = f" ({violation['times']} times)" if violation["times"] > 1 else ""
        lines.append(
            Text.assemble(
                (f"{violation['severity']:<10} ", style),
                (f"{violation['code']} ", "bold"),
                violation["message"] + times,
                (f"   at {_time(violation['at_ms'])}", "dim"),
            )
        )
    if not lines:
        lines.append(Text("no violations", style="green"))
    return lines


def _figures_of(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f} ms" for value in values) or "–"


def _time(ms: int) -> str:
    return f"{ms / 1000:.2f} s"
