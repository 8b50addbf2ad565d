"""`python -m offhook_dev …`: what the makefile calls."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import typer
from rich.console import Console

from offhook_dev import docs as generated
from offhook_dev.errors import DevError
from offhook_dev.names import misspelled
from offhook_dev.stack import repository

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
console = Console(highlight=False)


def _var() -> Path:
    return Path(os.environ.get("OFFHOOK_VAR", repository() / "var"))


def _reached_at() -> tuple[str | None, str | None]:
    """The public URL, and the metrics address of the tunnel, at which real providers reach the stack."""
    return os.environ.get("OFFHOOK_PUBLIC_URL") or None, os.environ.get("OFFHOOK_TUNNEL_METRICS_URL") or None


@app.command()
def demo() -> None:
    """Four calls through the whole system, judged; exit 0 only when all of it is right."""
    from offhook_dev.demo import run_demo

    # What a person is shown keeps a real carrier's limits; only a machine that is busy with tests asks for more.
    patience = float(os.environ.get("OFFHOOK_CARRIER_PATIENCE", "1"))
    if not asyncio.run(run_demo(_var() / "demo", console, patience=patience)):
        raise typer.Exit(1)


@app.command()
def up() -> None:
    """Start the stack in the background and print where everything is."""
    from offhook_dev import up as running

    running.up(_var(), console, *_reached_at())


@app.command()
def down() -> None:
    """Stop what `up` started."""
    from offhook_dev import up as running

    running.down(running.running_home(_var()), console)


@app.command()
def status() -> None:
    """Print where everything is and whether it runs."""
    from offhook_dev import up as running

    running.show(running.running_home(_var()), console)


@app.command(hidden=True)
def supervise() -> None:
    """What `up` runs in the background."""
    from offhook_dev import up as running

    port = os.environ.get("OFFHOOK_PORT", str(running.DEFAULT_PORT))
    if not port.isdigit():
        raise DevError(f"OFFHOOK_PORT must be a port number, not {port!r}")
    where = _reached_at()
    asyncio.run(running.supervise(running.home_of(_var(), *where), int(port), *where))


@app.command()
def prepare() -> None:
    """Download and install what the real servers need."""
    from offhook_dev import chromium, prometheus
    from offhook_dev.kafka import KafkaServer
    from offhook_dev.postgres import PostgresServer

    KafkaServer.install()
    PostgresServer.install()
    chromium.install()
    prometheus.install()


@app.command()
def images() -> None:
    """Build the images `offhook` and `offhook-simulator`."""
    from offhook_dev.containers import build_images

    build_images()


@app.command()
def docs(check: bool = False) -> None:
    """Write the generated pages, or with --check say which are stale."""
    if not check:
        generated.write(repository())
        return
    if stale := list(generated.stale(repository())):
        raise DevError(f"stale: {', '.join(stale)}. Run `make docs` and commit.")


@app.command()
def dashboards(seconds: float = 240.0, at_once: int = 8) -> None:
    """Draw what the dashboards show of simulated calls: docs/images/dashboards. Takes some minutes."""
    from offhook_dev.dashboards.pictures import draw

    into = repository() / "docs" / "images" / "dashboards"
    asyncio.run(draw(_var() / "dashboards", into, seconds=seconds, at_once=at_once))


@app.command()
def names() -> None:
    """Check the spelling of topics and metrics everywhere."""
    if wrong := list(misspelled(repository())):
        raise DevError("\n".join(wrong))


def main() -> None:
    # A polite end behaves like Ctrl-C: every child is stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        # Not stand-alone: typer would turn Ctrl-C into an exit of its own before the stack has stopped.
        sys.exit(app(standalone_mode=False) or 0)
    except DevError as error:
        console.print(f"[red]✗[/red] {error}", soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("\n  stopped; nothing is left running")
        sys.exit(130)


if __name__ == "__main__":
    main()
