"""`python -m offhook_dev dashboards`: run the stack with simulated calls, and draw what each dashboard shows of it."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from offhook_dev import chromium
from offhook_dev.dashboards import DASHBOARDS, Dashboard, Panel, Query
from offhook_dev.dashboards.observed import Observed, observed
from offhook_dev.dashboards.panels import WIDTH
from offhook_dev.dashboards.picture import Drawing, page
from offhook_dev.servers import Say, say_on_stderr

_WIDTH_PX: Final = WIDTH * 62 + 16
_WARM_UP_S: Final = 30.0
_NOTE: Final = (
    "Drawn from the answers of a Prometheus that watched simulated calls on two busy processors: not a screenshot of Grafana."
    " In this run an agent was killed, Kafka was frozen for some seconds, and somebody knocked who is no provider."
)


async def draw(
    home: Path, into: Path, *, seconds: float = 240.0, at_once: int = 8, say: Say = say_on_stderr
) -> None:
    """Write a picture of each dashboard into `into`, of a run with its files under `home`. Raises `DevError`."""
    into.mkdir(parents=True, exist_ok=True)
    async with observed(home) as running:
        say(f"simulated calls for {seconds:.0f} s, {at_once} at a time")
        await running.place_calls(_WARM_UP_S, at_once)
        began = time.time()
        trouble = asyncio.create_task(_trouble(running, seconds))
        await running.place_calls(seconds, at_once)
        await trouble
        await asyncio.sleep(5)  # the last events are on their way, and are scraped
        ended = time.time()
        pages = {
            one.name: page(one, answers(running, one, began, ended), began, ended, _NOTE)
            for one in DASHBOARDS
        }
        say(f"{running.placed} calls, of which {len(running.failed)} could not be placed")
    async with chromium.launched() as browser:
        for name, text in pages.items():
            tab = await browser.new_page(viewport={"width": _WIDTH_PX, "height": 800})
            await tab.set_content(text)
            await tab.screenshot(path=into / f"{name}.png", full_page=True)
            await tab.close()
            say(f"{into / name}.png")


async def _trouble(running: Observed, seconds: float) -> None:
    """What an operator looks at dashboards for."""
    servers = running.stack.servers
    await running.knock(1)
    await asyncio.sleep(seconds * 0.3)
    servers["agent"].kill()
    await asyncio.sleep(2)
    await servers["agent"].start()
    await asyncio.sleep(seconds * 0.2)
    servers["kafka"].pause()
    await asyncio.sleep(5)
    servers["kafka"].resume()
    await asyncio.sleep(seconds * 0.1)
    await running.knock(12)


def answers(running: Observed, dashboard: Dashboard, began: float, ended: float) -> Mapping[str, Drawing]:
    """What every panel of a dashboard shows of a time range."""
    return {panel.title: _drawing(running, panel, began, ended) for panel in dashboard.panels}


def _drawing(running: Observed, panel: Panel, began: float, ended: float) -> Drawing:
    told = [
        (_legend(query, series), series)
        for query in panel.queries
        for series in running.answer(panel, query, began, ended)
    ]
    if panel.kind != "timeseries":
        return Drawing(values=[(legend, float(series["value"][1])) for legend, series in told])
    lines = [(legend, _points(series["values"])) for legend, series in told]
    exemplars = [
        (float(one["timestamp"]), float(one["value"]))
        for query in panel.queries
        if query.exemplars
        for series in running.exemplars(query, began, ended)
        for one in series["exemplars"]
    ]
    return Drawing(lines=[line for line in lines if line[1]], exemplars=exemplars)


def _points(values: list[list[Any]]) -> list[tuple[float, float]]:
    """Without NaN, which is how Prometheus says that there was nothing to divide by."""
    points = [(float(at), float(value)) for at, value in values]
    return [
        (at, value) for at, value in points if value == value and value not in (float("inf"), float("-inf"))
    ]


def _legend(query: Query, series: Mapping[str, Any]) -> str:
    text = query.legend
    for label, value in series["metric"].items():
        text = text.replace("{{" + label + "}}", value)
    return text
