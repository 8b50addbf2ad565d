"""`make demo`: start everything, make four calls, show them while they happen, judge them, leave nothing running."""

import asyncio
import json
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from carrier_sim import CarrierSim
from carrier_sim.provision import read
from offhook_dev.edge import make_certificate
from offhook_dev.errors import DevError
from offhook_dev.kafka import KafkaServer
from offhook_dev.ports import free_port
from offhook_dev.scenario import STATUSES, DemoCall, Scenario
from offhook_dev.simulated import credentials, write_simulation
from offhook_dev.stack import Stack

_ENDED: Final = {"completed", "busy", "no-answer", "failed", "canceled"}


class Progress:
    """What is on the screen: the steps so far, each with its time, and the calls once there are any."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._steps: list[tuple[str, float, float | None]] = []
        self.calls: list[DemoCall] = []
        self.failed = False

    def step(self, what: str) -> None:
        self.finish()
        self._steps.append((what, time.monotonic(), None))

    def finish(self) -> None:
        if self._steps and self._steps[-1][2] is None:
            what, begun, _ = self._steps[-1]
            self._steps[-1] = (what, begun, time.monotonic())

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def __rich__(self) -> RenderableType:
        lines: list[RenderableType] = []
        for what, begun, ended in self._steps:
            mark = Text("✓", style="green") if ended else Text("…", style="yellow")
            if self.failed and not ended:
                mark = Text("✗", style="red")
            took = Text(f"  {(ended or time.monotonic()) - begun:.1f} s", style="dim")
            lines.append(Text.assemble("  ", mark, " ", what, took))
        lines += [_call_line(call) for call in self.calls]
        return Group(*lines)


def _call_line(call: DemoCall) -> Text:
    line = Text(f"      {call.provider:<7}{call.direction:<9}")
    reached = call.statuses
    if not reached:
        line.append("·", style="dim")
    for index, status in enumerate(reached):
        if index:
            line.append(" → ", style="dim")
        latest = index == len(reached) - 1
        style = "bold" if latest else "dim"
        if latest and status in _ENDED:
            style = "green" if status == "completed" else "red"
        line.append(status, style=style)
    if reached and reached[-1] == "answered":
        line.append("  caller and agent are talking", style="cyan")
    return line


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} ms"


def _seconds(value_ms: int) -> str:
    return f"{value_ms / 1000:.1f} s"


def calls_table(calls: Iterable[DemoCall]) -> Table:
    """The finished calls, a column each, so that it fits a terminal of 80 columns."""
    table = Table(box=None, padding=(0, 1, 0, 1), header_style="bold")
    table.add_column("")
    columns = [(call, call.as_report()) for call in calls]
    for call, _ in columns:
        table.add_column(f"{call.provider}\n{call.direction}")

    def row(name: str, *cells: RenderableType) -> None:
        table.add_row(Text(name, style="dim"), *cells)

    entries = [entry for _, entry in columns]
    row(
        "statuses",
        *(
            Text(
                "\n".join(entry["statuses"]) or "none",
                style="green" if entry["statuses"] == STATUSES else "red",
            )
            for entry in entries
        ),
    )
    row("end reason", *(entry["end_reason"] or "–" for entry in entries))
    row(
        "duration", *("–" if entry["duration_s"] is None else f"{entry['duration_s']} s" for entry in entries)
    )
    row("agent heard", *(_seconds(entry["caller_audio_ms"]) for entry in entries))
    row("caller heard", *(_seconds(entry["agent_audio_ms"]) for entry in entries))
    row("instructions", *(_milliseconds(entry["instructions_ms"]) for entry in entries))
    row("answer", *(_milliseconds(entry["response_ms"]) for entry in entries))
    row(
        "objections",
        *(
            Text(str(entry["protocol_violations"]), style="red" if entry["protocol_violations"] else "green")
            for entry in entries
        ),
    )
    return table


async def run_demo(home: Path, console: Console, *, patience: float = 1.0) -> bool:
    """Run the demo with its files under `home` (emptied first). Returns whether everything was right, within the carriers'
    time limits times `patience`."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    report_path = home / "report.json"
    progress = Progress()
    kafka: dict[str, Any] = {"version": None, "events": 0}
    scenario: Scenario | None = None
    problem: str | None = None

    with Live(progress, console=console, refresh_per_second=8, transient=False):
        try:
            progress.step("Apache Kafka (the first time, its jars are downloaded)")
            await asyncio.to_thread(KafkaServer.install)
            progress.step("carrier simulator: a Twilio and a Vonage")
            port = free_port()
            certificate = make_certificate(home / "stack")
            simulation = read(write_simulation(home, f"https://localhost:{port}"))
            config = simulation.config(
                home=home / "carrier-sim", trust=certificate.authority, patience=patience
            )
            async with CarrierSim(config) as sim:
                simulation.provision(sim)
                progress.step("Redis, edge, agent, and the four services on Kafka")
                stack = Stack(
                    home / "stack",
                    port=port,
                    certificate=certificate,
                    carriers={"twilio": sim.base_url, "vonage": sim.base_url},
                    carrier_ca=sim.ca_pem,
                )
                async with stack:
                    scenario = Scenario(stack, sim)
                    progress.step("configurations, numbers and a workflow, over the API")
                    await scenario.set_up(credentials(home))
                    progress.step("four calls: Twilio and Vonage, in and out")
                    progress.calls = scenario.calls
                    await scenario.run(lambda: None)
                    kafka = await stack.kafka_facts()
                    progress.step("everything stopped again")
            progress.finish()
        except DevError as error:
            problem = str(error)
            progress.failed = True

    for call in scenario.calls if scenario else ():
        if call.report is not None:
            audio = home / "audio"
            audio.mkdir(exist_ok=True)
            (audio / f"{call.provider}-{call.direction}-heard.wav").write_bytes(call.report.heard_wav)
            (audio / f"{call.provider}-{call.direction}-said.wav").write_bytes(call.report.spoken_wav)
    calls = [call.as_report() for call in scenario.calls] if scenario else []
    ok = problem is None and len(calls) == 4 and not any(call["problems"] for call in calls)
    report_path.write_text(
        json.dumps({"ok": ok, "calls": calls, "kafka": kafka, "problem": problem}, indent=2) + "\n"
    )
    _conclude(console, progress, scenario, kafka, problem, ok, home)
    return ok


def _conclude(
    console: Console,
    progress: Progress,
    scenario: Scenario | None,
    kafka: dict[str, Any],
    problem: str | None,
    ok: bool,
    home: Path,
) -> None:
    console.print()
    legend = (
        "instructions: after the provider's webhook. answer: from the caller's last\n"
        "  word to the agent's first sound (this agent waits for 600 ms of quiet).\n"
        "  objections: what a real carrier would reject or warn about."
    )
    if scenario is not None and any(call.record for call in scenario.calls):
        console.print(calls_table(scenario.calls))
        console.print(f"\n  [dim]{legend}[/dim]\n")
        for call in scenario.calls:
            for text in call.problems:
                console.print(f"  [red]✗[/red] {call.provider} {call.direction}: {text}")
    if problem:
        console.print(f"  [red]✗[/red] {problem}", soft_wrap=True)
    if ok:
        console.print(
            f"  [green]✓[/green] Four calls, {kafka['events']} events through Apache Kafka {kafka['version']},"
            f" in {progress.seconds:.0f} s."
        )
        for name, path in (
            ("report", "report.json"),
            ("what was said and heard", "audio"),
            ("logs", "stack/logs"),
        ):
            console.print(f"    {name:<24}{_shown(home / path)}", soft_wrap=True)
        console.print(
            "    next: [bold]make up[/bold] keeps it running; README.md puts your own agent\n"
            "    and number on it"
        )
    else:
        console.print(f"    logs    {_shown(home / 'stack/logs')}", soft_wrap=True)
        console.print(f"    report  {_shown(home / 'report.json')}", soft_wrap=True)


def _shown(path: Path) -> Path:
    """As a person would type it from where they are."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
