"""`make up`, `make down`, `make status`: the same stack as the demo's, kept running in the background.

A supervisor process owns everything: it starts the stack, starts again what dies, and ends all of it on SIGTERM.
State is in `var/stack` with simulated providers and in `var/live` with real ones, which shall never be asked about the
made-up accounts of the simulation. `state.json` says where things are. One stack runs at a time.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from offhook_dev.edge import make_certificate
from offhook_dev.errors import DevError
from offhook_dev.kafka import KafkaServer
from offhook_dev.scenario import Scenario
from offhook_dev.simulated import credentials, simulator, write_simulation
from offhook_dev.stack import Stack

DEFAULT_PORT: Final = 8080
# More than any one server may take to be ready, and the set-up after it.
_STARTS_WITHIN_S: Final = 300.0
_ENDS_WITHIN_S: Final = 120.0
_MARK: Final = "supervise"


def home_of(var: Path, public_url: str | None, tunnel: str | None) -> Path:
    """Where the state of a stack is that real providers reach at `public_url` or through `tunnel`, or, without both, of one
    with simulated ones."""
    return var / ("live" if public_url or tunnel else "stack")


def running_home(var: Path) -> Path:
    """That of the stack that runs; of the simulated one when none does."""
    return next((home for home in _homes(var) if _supervisor(home) is not None), _homes(var)[0])


def up(var: Path, console: Console, public_url: str | None, tunnel: str | None) -> None:
    """Start the supervisor if it is not running, and print where everything is. Raises `DevError`, also when another
    stack runs than the one that is asked for."""
    home = home_of(var, public_url, tunnel)
    for other in _homes(var):
        if _supervisor(other) is not None and (other != home or _leads_elsewhere(home, public_url, tunnel)):
            raise DevError("A stack for other addresses is running: `make down` ends it, its data is kept.")
    if _supervisor(home) is None:
        KafkaServer.install()
        home.mkdir(parents=True, exist_ok=True)
        (home / "state.json").unlink(missing_ok=True)
        with (home / "supervisor.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "offhook_dev", _MARK],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with console.status("starting Kafka, Redis, the four services, the edge, an agent and the simulator"):
            _wait_for_state(home, process)
    show(home, console)


def down(home: Path, console: Console) -> None:
    """End the supervisor, and with it everything. Waits until it is gone."""
    pid = _supervisor(home)
    if pid is None:
        console.print("  nothing is running")
        return
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _ENDS_WITHIN_S
    with console.status("stopping"):
        while _supervisor(home) is not None:
            if time.monotonic() > deadline:
                raise DevError(
                    f"the supervisor (pid {pid}) has not ended after {_ENDS_WITHIN_S:.0f} s;"
                    f" see {home / 'supervisor.log'}"
                )
            time.sleep(0.1)
    console.print("  stopped; data is kept in", str(home))


def show(home: Path, console: Console) -> None:
    """Print the addresses, and how each part is doing."""
    if _supervisor(home) is None or not (home / "state.json").exists():
        console.print("  nothing is running; start it with [bold]make up[/bold]")
        return
    state = json.loads((home / "state.json").read_text())
    console.print(f"\n  [bold]{state['http_url']}[/bold]   for people and their programs")
    if tunnel := state.get("tunnel"):
        console.print(f"  the tunnel at {tunnel}, by its name of the moment   for providers")
    else:
        console.print(f"  [bold]{state['public_url']}[/bold]   for providers")
    console.print(
        f"  pages     [bold]{state['http_url']}/telephony-configurations[/bold]   sign in with the API key",
        soft_wrap=True,
    )
    console.print(f"  API key   [bold]{state['api_key']}[/bold]")
    console.print(
        f"  Kafka     {state['kafka']}   agent {state['agent_url']}   logs {home / 'logs'}", soft_wrap=True
    )
    if state.get("simulator"):
        console.print(
            f"  simulator {state['simulator']}   (a Twilio and a Vonage; docs/carrier-sim.md)", soft_wrap=True
        )
    table = Table(box=None, padding=(0, 2, 0, 2), show_header=False)
    for name, pid in state["programs"].items():
        alive = _alive(pid)
        table.add_row("[green]✓[/green]" if alive else "[red]✗[/red]", name, f"[dim]pid {pid}[/dim]")
    console.print()
    console.print(table)
    console.print(
        f"\n  somebody else's key: OFFHOOK_DATABASE_URL={state['number_sync_database']}"
        " .venv/bin/offhook keys create --user NAME",
        soft_wrap=True,
    )
    console.print(
        f"  curl -H 'Authorization: Bearer {state['api_key']}' {state['http_url']}/api/v1/calls\n",
        soft_wrap=True,
    )


async def supervise(home: Path, port: int, public_url: str | None, tunnel: str | None) -> None:
    """Run the stack until SIGTERM or SIGINT, which end it while it starts too. With a `public_url`, or the metrics address of
    a `tunnel` that has one, the real providers are used instead of the simulator.
    """
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    # It stays: this process has ended when it is gone, not when this function returns and a server may be starting yet.
    (home / "supervisor.pid").write_text(str(os.getpid()))
    running = asyncio.create_task(_run(home, port, public_url, tunnel))
    told = asyncio.create_task(ending.wait())
    try:
        await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        (home / "state.json").unlink(missing_ok=True)


async def _run(home: Path, port: int, public_url: str | None, tunnel: str | None) -> None:
    """Start everything, and again what dies, until cancelled."""
    certificate = make_certificate(home)
    carrier = None
    if public_url is None and tunnel is None:
        carrier = simulator(home, write_simulation(home, f"https://localhost:{port}"), certificate.authority)
    base_url = f"https://127.0.0.1:{carrier.port}" if carrier else None
    stack = Stack(
        home,
        port=port,
        public_url=public_url,
        certificate=certificate,
        carriers={"twilio": base_url, "vonage": base_url} if base_url else None,
        carrier_ca=home / "carrier-sim" / "ca.pem" if carrier else None,
        recorder=True,  # whoever looks around may ask for it on a workflow's page
        # What is configured wins over a tunnel, so the address of this machine must not be.
        service_env={"number-sync": {"OFFHOOK_PUBLIC_URL": "", "OFFHOOK_TUNNEL_METRICS_URL": tunnel}}
        if tunnel and public_url is None
        else None,
    )
    try:
        if carrier is not None:
            await carrier.start()
        async with stack:
            if carrier is not None:
                scenario = Scenario(stack)
                await scenario.set_up(credentials(home), agent_moved=stack.agent_moved)
                await scenario.api.close()
            programs = [*stack.servers.values(), *([carrier] if carrier else [])]
            state: dict[str, Any] = asdict(stack.address) | {
                "simulator": base_url,
                "tunnel": None if public_url else tunnel,
                "number_sync_database": stack.database_url("number-sync"),
            }
            while True:
                for program in programs:
                    if not program.running:
                        print(f"{program.name} has ended; starting it again", flush=True)
                        await program.start()
                state["programs"] = {program.name: program.pid for program in programs}
                _write_state(home, state)
                await asyncio.sleep(1.0)
    finally:
        if carrier is not None:
            await carrier.stop()


def _homes(var: Path) -> tuple[Path, Path]:
    return var / "stack", var / "live"


def _leads_elsewhere(home: Path, public_url: str | None, tunnel: str | None) -> bool:
    try:
        state = json.loads((home / "state.json").read_text())
    except FileNotFoundError:
        return False  # it is just starting
    wanted, told = ("tunnel", tunnel) if public_url is None else ("public_url", public_url)
    return bool(state[wanted] != told)


def _write_state(home: Path, state: dict[str, Any]) -> None:
    """Whole or not at all; readable by its owner alone, for it holds the API key."""
    text = json.dumps(
        {name: str(value) if isinstance(value, Path) else value for name, value in state.items()}
    )
    path = home / "state.json"
    if path.exists() and path.read_text() == text:
        return
    partial = path.with_suffix(".new")
    partial.touch(mode=0o600)
    partial.write_text(text)
    partial.replace(path)


def _wait_for_state(home: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while not (home / "state.json").exists():
        if time.monotonic() > deadline:
            process.terminate()
            raise DevError(
                f"the stack has not started within {_STARTS_WITHIN_S:.0f} s; see {home / 'supervisor.log'}"
            )
        if process.poll() is not None:
            lines = (home / "supervisor.log").read_text(errors="replace").strip().splitlines()
            raise DevError(lines[-1].removeprefix("✗ ") if lines else "the supervisor ended without a word")
        time.sleep(0.1)


def _supervisor(home: Path) -> int | None:
    """The pid of the running supervisor. A stale file, or a pid that is somebody else's now, does not count."""
    try:
        pid = int((home / "supervisor.pid").read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    return pid if _MARK.encode() in command else None


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
