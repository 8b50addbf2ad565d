"""Runs the benchmarks, all or those named, one after the other on an otherwise idle machine."""

import importlib
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from benchmarks.tables import machine

PARTS = ("signatures", "frames", "callbacks", "tracker", "calls", "capacity")


def main() -> None:
    chosen = sys.argv[1:] or PARTS
    if unknown := set(chosen) - set(PARTS):
        sys.exit(f"no benchmark is named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    console = Console(highlight=False, width=140 if not sys.stdout.isatty() else None)
    begun = datetime.now(UTC)
    console.print(f"{machine()}, {begun:%Y-%m-%d}\n", style="dim")
    results = {}
    for name in chosen:
        console.print(f"[dim]{name} …[/dim]", end="\r")
        section = importlib.import_module(f"benchmarks.{name}").run()
        section.print(console)
        results[name] = section.data
    path = Path("var/bench/report.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"machine": machine(), "at": begun.isoformat(), "results": results}, indent=2) + "\n"
    )
    console.print(f"[dim]As data: {path}[/dim]")


if __name__ == "__main__":
    main()
