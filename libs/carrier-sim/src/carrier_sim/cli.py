"""The command `carrier-sim`."""

import asyncio
import json
import signal
import ssl
from pathlib import Path
from typing import Annotated, Any, NoReturn

import aiohttp
import typer
import yaml
from rich.console import Console

from carrier_sim import provision, view
from carrier_sim.caller import Caller
from carrier_sim.config import SimConfig
from carrier_sim.sim import CarrierSim

app = typer.Typer(
    help="A Twilio and a Vonage that never existed, as strict as the real ones.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_out = Console()
_err = Console(stderr=True)

_Config = Annotated[Path, typer.Option("--config", help="The simulation as a YAML file.")]
_Trust = Annotated[
    Path | None, typer.Option(help="A PEM file with authorities to accept from the customers' servers.")
]
_Plain = Annotated[bool | None, typer.Option("--allow-plain", help="Accept http and ws URLs.")]


@app.command()
def serve(
    config: _Config,
    port: Annotated[int | None, typer.Option(help="Where to listen (0: any free port).")] = None,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    home: Annotated[Path | None, typer.Option(help="Where to put ca.pem, which callers trust.")] = None,
    trust: _Trust = None,
    allow_plain: _Plain = None,
) -> None:
    """Run both carriers until Ctrl-C; control them under /_sim/."""
    simulation = _read(config)
    settings = _settings(simulation, port=port, host=host, home=home, trust=trust, allow_plain=allow_plain)
    _run(_serve(CarrierSim(settings), simulation))


@app.command()
def call(
    from_number: Annotated[str, typer.Option("--from", help="Who calls, E.164.")],
    to_number: Annotated[str, typer.Option("--to", help="The customer's number, E.164.")],
    provider: Annotated[str, typer.Option(help="twilio or vonage.")] = "twilio",
    config: Annotated[Path | None, typer.Option(help="Simulate in this process, with this file.")] = None,
    sim: Annotated[
        str | None, typer.Option(help="Use a running simulator, e.g. https://127.0.0.1:4443")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="The running simulator's ca.pem.")] = None,
    script: Annotated[Path | None, typer.Option(help="What the caller does: a YAML list of steps.")] = None,
    heard: Annotated[Path | None, typer.Option(help="Write what the caller heard to this WAV file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    trust: _Trust = None,
    allow_plain: _Plain = None,
) -> None:
    """Let a person call one of the customer's numbers, and report. Exit 1 when the carrier objects to something."""
    if provider not in ("twilio", "vonage"):
        _fail(f"--provider {provider}: twilio or vonage expected")
    if (config is None) == (sim is None):
        _fail("give either --config (simulate here) or --sim (use a running simulator)")
    steps = _script(script)
    if config is not None:
        simulation = _read(config)
        settings = _settings(simulation, port=0, trust=trust, allow_plain=allow_plain)
        placing = _call_here(CarrierSim(settings), simulation, provider, from_number, to_number, steps)
    else:
        placing = _call_there(sim or "", ca, provider, from_number, to_number, steps, wav=heard is not None)
    report, wav = _run(placing)
    if heard is not None:
        heard.write_bytes(wav)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _out.print(view.summary(report))
    if report["violations"] or report["unmet"]:
        raise typer.Exit(1)


async def _serve(sim: CarrierSim, simulation: provision.Simulation) -> None:
    ending = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    simulation.provision(sim)
    async with sim:
        _out.print(
            f"[bold]{sim.base_url}[/bold]   instead of api.twilio.com, api.nexmo.com and rest.nexmo.com"
        )
        if sim.config.tls:
            _out.print(f"trust     {sim.ca_pem}", soft_wrap=True)
        _out.print(f"control   {sim.base_url}/_sim/   Ctrl-C ends it")
        await ending.wait()


async def _call_here(
    sim: CarrierSim,
    simulation: provision.Simulation,
    provider: str,
    from_number: str,
    to_number: str,
    steps: Any,
) -> tuple[dict[str, Any], bytes]:
    simulation.provision(sim)
    async with sim:
        carrier = sim.twilio if provider == "twilio" else sim.vonage
        report = await carrier.call_in(from_number, to_number, Caller.from_data(steps))
        return report.to_dict(), report.heard_wav


async def _call_there(
    base_url: str, ca: Path | None, provider: str, from_number: str, to_number: str, steps: Any, *, wav: bool
) -> tuple[dict[str, Any], bytes]:
    context = ssl.create_default_context(cafile=str(ca) if ca else None)
    wanted = {"provider": provider, "from": from_number, "to": to_number, "caller": steps}
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
    connector = aiohttp.TCPConnector(ssl=context)
    async with aiohttp.ClientSession(base_url, connector=connector, timeout=timeout) as session:
        async with session.post("/_sim/calls", json=wanted) as answer:
            report = await answer.json(content_type=None)
            if answer.status != 201:
                raise LookupError(report.get("detail", f"the simulator answered {answer.status}"))
        if not wav:
            return report, b""
        async with session.get(f"/_sim/reports/{report['provider_call_id']}/heard.wav") as answer:
            return report, await answer.read()


def _read(path: Path) -> provision.Simulation:
    try:
        return provision.read(path)
    except provision.ProvisionError as error:
        _fail(str(error))


def _settings(simulation: provision.Simulation, **overriding: Any) -> SimConfig:
    try:
        return simulation.config(**overriding)
    except ValueError as error:
        _fail(str(error))


def _script(path: Path | None) -> Any:
    if path is None:
        return None
    try:
        steps = yaml.safe_load(path.read_text())
        Caller.from_data(steps)
    except (OSError, ValueError, yaml.YAMLError) as error:
        _fail(f"{path}: {error}")
    return steps


def _run(work: Any) -> Any:
    """Run to the end; Ctrl-C ends it quietly, a problem is one sentence."""
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (LookupError, ValueError) as error:
        _fail(str(error.args[0]))
    except (OSError, aiohttp.ClientError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    _err.print(f"[red]carrier-sim:[/red] {message}", highlight=False, soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    app()
