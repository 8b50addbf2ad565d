"""A running stack with simulated calls and a real Prometheus that watches it: what panels show is what it answers."""

import asyncio
import contextlib
import itertools
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from carrier_sim import Caller, CarrierSim
from carrier_sim.provision import read
from offhook.identities import INBOUND_PATH
from offhook_dev.alerting import pages as rule_files
from offhook_dev.dashboards.panels import Panel, Query
from offhook_dev.edge import make_certificate
from offhook_dev.errors import DevError
from offhook_dev.otlp import TraceStore
from offhook_dev.ports import free_port
from offhook_dev.prometheus import PrometheusServer
from offhook_dev.scenario import Scenario
from offhook_dev.simulated import CALLEES, NUMBERS, PATIENCE, credentials, write_simulation
from offhook_dev.stack import SERVICES, Stack, repository

_SCRAPED_EVERY_S: Final = 2
_CALL_WITHIN_S: Final = 60.0
# What Grafana would put in: a rate over ten scrapes, everything that is chosen, a range of minutes.
_VARIABLES: Final = {"$namespace": ".*", "$pod": ".*", "$__rate_interval": "20s"}
_LINES: Final = (
    [{"wait_for_agent": {"timeout_s": 10}}, {"say": 1.4}, {"wait_for_agent": {"timeout_s": 10}}, {"say": 0.9}, "hang_up"],
    [{"wait_for_agent": {"timeout_s": 10}}, {"say": 2.1}, {"say": 1.0}, {"wait_for_agent": {"timeout_s": 10}},
     {"press": "#"}, {"stay_until_hung_up": 10}],
    [{"wait_for_agent": {"timeout_s": 10}}, {"say": 0.8}, {"press": "12"}, {"wait_for_agent": {"timeout_s": 10}}, "hang_up"],
)  # fmt: skip

Result = list[dict[str, Any]]
"""Series as Prometheus' API tells them: `metric` with the labels, and `values` or one `value`."""


@dataclass(slots=True)
class Observed:
    """What runs. `place_calls` makes it do something, `answer` asks Prometheus what a panel shows."""

    stack: Stack
    sim: CarrierSim
    scenario: Scenario
    prometheus: PrometheusServer
    traces: TraceStore
    placed: int = 0
    failed: list[str] = field(default_factory=list)
    _serial: "itertools.count[int]" = field(default_factory=itertools.count)

    async def place_calls(self, seconds: float, at_once: int) -> None:
        """People call, and are called, `at_once` of them at a time, until the time is over and they have hung up."""
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.gather(*(self._one_after_another(lane, until) for lane in range(at_once)))

    async def _one_after_another(self, lane: int, until: float) -> None:
        chance = random.Random(lane)  # noqa: S311 - made-up calls
        await asyncio.sleep(lane * 0.4)
        while asyncio.get_running_loop().time() < until:
            serial = next(self._serial)
            provider = ("twilio", "vonage")[serial % 2]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CALL_WITHIN_S):
                    if chance.random() < 0.75:
                        await self._ring(provider, serial)
                    else:
                        await self._dial(provider, serial)
                    self.placed += 1
            await asyncio.sleep(chance.random() * 2)

    async def _ring(self, provider: str, serial: int) -> None:
        carrier = self.sim.twilio if provider == "twilio" else self.sim.vonage
        caller = Caller.from_data({"steps": _LINES[serial % len(_LINES)], "seed": serial})
        await carrier.call_in(f"+1212555{1000 + serial % 9000:04d}", NUMBERS[provider], caller)

    async def _dial(self, provider: str, serial: int) -> None:
        try:
            placed = await self.scenario.api.post(
                "/calls",
                {
                    "workflow_id": self.scenario.workflow_id,
                    "configuration_id": self.scenario.configurations[provider],
                    "to": CALLEES[provider],
                },
                headers={"Idempotency-Key": f"observed-{serial}"},
            )
            run = placed["workflow_run_id"]
            while (await self.scenario.api.get(f"/calls/{run}"))["status"] not in _ENDED:
                await asyncio.sleep(0.5)
        except (DevError, httpx.HTTPError) as error:
            self.failed.append(str(error))

    async def knock(self, times: int) -> None:
        """Somebody who is no provider asks for instructions."""
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            for _ in range(times):
                form = {
                    "AccountSid": "AC" + "0" * 31 + "1",
                    "CallSid": "CA" + "f" * 32,
                    "To": NUMBERS["twilio"],
                }
                headers = {"X-Twilio-Signature": "bm90IGEgc2lnbmF0dXJl"}
                await client.post(self.stack.address.http_url + INBOUND_PATH, data=form, headers=headers)

    def answer(self, panel: Panel, query: Query, began: float, ended: float) -> Result:
        """What a panel shows of a time range (Unix seconds): a line each for graphs, the last value for the others."""
        expr = query.expr.replace("$__range", f"{max(60, round(ended - began))}s")
        for variable, value in _VARIABLES.items():
            expr = expr.replace(variable, value)
        if panel.kind == "timeseries":
            step = max(_SCRAPED_EVERY_S, round((ended - began) / 200))
            data = self.prometheus.ask("query_range", query=expr, start=began, end=ended, step=step)
        else:
            data = self.prometheus.ask("query", query=expr, time=ended)
        result: Result = data["result"]
        return result

    def exemplars(self, query: Query, began: float, ended: float) -> Result:
        """The exemplars behind a query, as Grafana asks for them."""
        expr = query.expr
        for variable, value in _VARIABLES.items():
            expr = expr.replace(variable, value)
        found: Result = self.prometheus.ask("query_exemplars", query=expr, start=began, end=ended)
        return found


_ENDED: Final = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})


@contextlib.asynccontextmanager
async def observed(home: Path) -> AsyncIterator[Observed]:
    """Start everything, with its files under `home`: the stack with two bridges and the recorder, calls that are
    recorded, traces that are kept, Prometheus with the rules and alerts."""
    port = free_port()
    certificate = make_certificate(home / "stack")
    simulation = read(write_simulation(home, f"https://localhost:{port}"))
    config = simulation.config(home=home / "carrier-sim", trust=certificate.authority, patience=PATIENCE)
    async with CarrierSim(config) as sim, TraceStore() as traces:
        simulation.provision(sim)
        tracing = {"OTEL_EXPORTER_OTLP_ENDPOINT": traces.url}
        stack = Stack(
            home / "stack",
            port=port,
            certificate=certificate,
            carriers={"twilio": sim.base_url, "vonage": sim.base_url},
            carrier_ca=sim.ca_pem,
            recorder=True,
            replicas={"media-bridge": 2},
            service_env=dict.fromkeys((*SERVICES, "recorder"), tracing),
        )
        async with stack:
            scenario = Scenario(stack, sim)
            await scenario.set_up(credentials(home))
            await scenario.api.patch(f"/workflows/{scenario.workflow_id}", {"record_audio": True})
            rules = [repository() / name for name in rule_files()]
            prometheus = PrometheusServer(
                home / "prometheus", _targets(stack), rules=rules, every_s=_SCRAPED_EVERY_S
            )
            try:
                await prometheus.start()
                yield Observed(stack, sim, scenario, prometheus, traces)
            finally:
                await prometheus.stop()
                await scenario.api.close()


def _targets(stack: Stack) -> dict[str, Sequence[int]]:
    """The jobs, called like the services, and where their processes tell their metrics."""
    found: dict[str, list[int]] = defaultdict(list)
    for instance, port in stack.admin_ports.items():
        found[instance.partition(".")[0]].append(port)
    return dict(found)
