"""The dashboards: what they ask for exists, what they show is explained, and Grafana can read them."""

import asyncio
import html
import itertools
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard
from promql import metrics_in, objections

from offhook.telemetry.metrics import METRICS, SERVICES
from offhook_dev.dashboards import DASHBOARDS, Dashboard, Panel, pages
from offhook_dev.dashboards.grafana import as_dict
from offhook_dev.dashboards.observed import observed
from offhook_dev.dashboards.panels import WIDTH
from offhook_dev.dashboards.picture import Drawing, page, readable
from offhook_dev.stack import repository

pytestmark = pytest.mark.observability

_ROOT: Final = repository()
_SUFFIXES: Final = ("_bucket", "_sum", "_count")


_PANELS: Final = [
    pytest.param(dashboard, panel, id=f"{dashboard.name}: {panel.title}")
    for dashboard in DASHBOARDS
    for panel in dashboard.panels
]


def test_the_files_are_what_the_code_says() -> None:
    for name, text in pages().items():
        assert (_ROOT / name).read_text() == text, f"{name} is stale: run `make docs` and commit"


@pytest.mark.parametrize(
    "name", ["deploy/k8s/overlays/production/call-tracker.env", "docker-compose.observability.yml"]
)
def test_a_pages_link_finds_the_lines_of_its_call_whoever_collects_them(name: str) -> None:
    """Our collector makes structured metadata of what is in a line's JSON; others leave it there."""
    (panes,) = re.findall(r"LOGS_URL_TEMPLATE\W.*?&panes=([^\s\"]+)", (_ROOT / name).read_text())
    (pane,) = json.loads(unquote(panes)).values()
    (query,) = pane["queries"]
    assert query["expr"] == '{service_name=~".+"} | json | workflow_run_id="{workflow_run_id}"'


@pytest.mark.parametrize(("dashboard", "panel"), _PANELS)
def test_a_panel_asks_for_metrics_and_labels_that_exist(dashboard: Dashboard, panel: Panel) -> None:
    for query in panel.queries:
        assert list(objections(query.expr)) == []


@pytest.mark.parametrize(("dashboard", "panel"), _PANELS)
def test_a_panel_says_what_it_means_and_what_to_do(dashboard: Dashboard, panel: Panel) -> None:
    assert "**What to do.**" in panel.description
    assert panel.metric == "" or any(
        name.startswith(panel.metric) for query in panel.queries for name in metrics_in(query.expr)
    ), "its words are another metric's"
    assert not panel.runbook or (_ROOT / f"docs/runbooks/{panel.runbook}.md").exists()


@pytest.mark.parametrize(("dashboard", "panel"), _PANELS)
def test_a_legend_names_labels_that_the_answer_has(dashboard: Dashboard, panel: Panel) -> None:
    for query in panel.queries:
        for label in re.findall(r"{{(\w+)}}", query.legend):
            grouped = re.findall(r"by \(([^)]*)\)", query.expr)
            assert not grouped or any(label in group.split(", ") for group in grouped), (query, label)


def test_every_metric_is_on_a_dashboard() -> None:
    shown: set[str] = set()
    for dashboard in DASHBOARDS:
        for panel in dashboard.panels:
            for query in panel.queries:
                shown |= metrics_in(query.expr)
    for metric in METRICS:
        names = {metric.name, *(metric.name + suffix for suffix in _SUFFIXES)}
        assert shown & names, f"{metric.name} is on no dashboard"


def test_exemplars_are_asked_for_where_there_are_some() -> None:
    with_exemplars = {metric.name for metric in METRICS if metric.exemplars}
    asked = {
        name.removesuffix("_bucket")
        for dashboard in DASHBOARDS
        for panel in dashboard.panels
        for query in panel.queries
        if query.exemplars
        for name in metrics_in(query.expr)
    }
    assert asked == with_exemplars


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_grafana_finds_every_panel_on_the_page_and_none_on_another(dashboard: Dashboard) -> None:
    made = json.loads(json.dumps(as_dict(dashboard)))
    places = []
    for panel in made["panels"]:
        grid = panel["gridPos"]
        assert grid["w"] > 0
        assert grid["x"] + grid["w"] <= WIDTH
        places.append((grid["x"], grid["y"], grid["x"] + grid["w"], grid["y"] + grid["h"], panel["title"]))
    for one, other in itertools.combinations(places, 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, f"{one[4]} and {other[4]} overlap"
    titles = [panel.title for panel in dashboard.panels]
    assert len(set(titles)) == len(titles)
    identities = [panel["id"] for panel in made["panels"]]
    assert len(set(identities)) == len(identities)


# What Grafana's Prometheus plugin reads, and its common model has no name for.
_PLUGINS_OWN: Final = frozenset(
    {
        "/templating/list/definition",
        "/annotations/list/useValueForTime",
        "/annotations/list/titleFormat",
        "/annotations/list/textFormat",
        "/annotations/list/step",
    }
)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_grafanas_own_model_knows_every_field(dashboard: Dashboard) -> None:
    """What is read into it and written again is what was there: nothing is misspelled, nothing of another kind."""
    register_default_plugins()
    made = json.loads(json.dumps(as_dict(dashboard)))
    again = json.loads(JSONEncoder(sort_keys=True).encode(GrafanaDashboard.from_json(made)))
    assert set(_lost(made, again)) <= _PLUGINS_OWN


def _lost(made: Any, again: Any, path: str = "") -> Iterator[str]:
    if isinstance(made, dict) and isinstance(again, dict):
        for name, value in made.items():
            yield from _lost(value, again[name], f"{path}/{name}") if name in again else [f"{path}/{name}"]
    elif isinstance(made, list) and isinstance(again, list) and len(made) == len(again):
        for one, other in zip(made, again, strict=True):
            yield from _lost(one, other, path)
    elif made != again:
        yield path


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_a_dashboard_uses_the_variables_it_has_and_has_those_it_uses(dashboard: Dashboard) -> None:
    made = as_dict(dashboard)
    text = json.dumps(made["panels"]) + json.dumps(made["links"]) + json.dumps(made["annotations"])
    used = set(re.findall(r"\$\{?([a-z]\w*)", text))
    assert used == {variable["name"] for variable in made["templating"]["list"]}


def test_identities_do_not_change() -> None:
    """They are in people's bookmarks and in links between dashboards."""
    assert [dashboard.uid for dashboard in DASHBOARDS] == [
        "offhook-calls",
        "offhook-providers",
        "offhook-media",
        "offhook-pipeline",
        "offhook-numbers",
    ]


def test_thresholds_go_upwards_from_minus_infinity() -> None:
    for dashboard in DASHBOARDS:
        for panel in as_dict(dashboard)["panels"]:
            if panel["type"] == "row":
                continue
            steps = panel["fieldConfig"]["defaults"]["thresholds"]["steps"]
            assert steps[0]["value"] is None
            values = [step["value"] for step in steps[1:]]
            assert values == sorted(values), panel["title"]


# --- as they are drawn ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: dashboard.name)
def test_a_picture_has_every_panel_also_of_nothing(dashboard: Dashboard) -> None:
    drawn = page(dashboard, {}, 0.0, 60.0, "a note")
    for panel in dashboard.panels:
        assert html.escape(panel.title) in drawn
    assert "a note" in drawn


def test_parts_of_a_whole_are_drawn_on_top_of_each_other_and_a_hole_stays_one() -> None:
    panel = next(panel for panel in DASHBOARDS[0].panels if panel.stacked)
    points = [(float(at), 1.0) for at in (0, 2, 4, 40, 42)]
    drawn = page(DASHBOARDS[0], {panel.title: Drawing(lines=[("a", points), ("b", points)])}, 0.0, 60.0, "")
    lines = re.findall(r'<polyline points="([^"]+)"', drawn)
    assert len(lines) == 4, "two lines, each in two pieces"
    height = [float(line.split()[0].split(",")[1]) for line in lines]
    assert height[0] < height[2], "the second is above the first, and drawn before it"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0042, "s", "4.2 ms"), (2.5, "s", "2.5 s"), (0.995, "percentunit", "99.5 %"), (3 * 2**20, "bytes", "3 MiB"),
     (1234, "short", "1234")],
)  # fmt: skip
def test_a_value_is_written_with_its_unit(value: float, unit: str, text: str) -> None:
    assert readable(value, unit) == text


# --- on a running stack -----------------------------------------------------------------------------------------------

# What nothing is known of until it goes wrong (or somebody interrupts the agent).
_OF_TROUBLE: Final = frozenset(
    {
        "Not acknowledged, a minute",
        "Notices nobody heard, a minute",
        "Database errors, a minute",
        "Redis errors, a minute",
        "HTTP answers that are our fault, a minute",
        "Audio refused, a minute",
        "Credentials that do not open, a minute",
        "Throttled, a minute",
        "Ended by a fault of carrier or account, a minute",
        "Gaps in the caller's audio, a minute",
        "Gaps from the caller, a minute",
        "Agents that ran dry, a minute",
        "Interruptions, a minute",
        "Faults of the protocols, a minute",
        "Turned away, a minute",
        "Changed by somebody else, in an hour",
        "Not answered as hoped, a minute",
        "Why not to connect, a minute",
    }
)
_CALLS_FOR_S: Final = 40.0
_SHOWN_WITHIN_S: Final = 60.0


@pytest.mark.real
@pytest.mark.usefixtures("_kafka_can_be_had", "prometheus_tools")
async def test_prometheus_answers_every_panel_while_calls_are_made(tmp_path: Path) -> None:
    """The stack, two bridges and the recorder, scraped by a real Prometheus with the rules and the alerts."""
    async with observed(tmp_path) as running:
        began = time.time()
        await running.knock(1)
        await running.place_calls(_CALLS_FOR_S, at_once=3)
        assert running.failed == []
        assert running.placed > 3
        empty: set[str] = set()
        deadline = time.monotonic() + _SHOWN_WITHIN_S
        while True:
            ended = time.time()
            empty = {
                panel.title
                for dashboard in DASHBOARDS
                for panel in dashboard.panels
                if not any(running.answer(panel, query, began, ended) for query in panel.queries)
            }
            if empty <= _OF_TROUBLE or time.monotonic() > deadline:
                break
            await asyncio.sleep(2)
        assert empty <= _OF_TROUBLE

        # A scrape may come too late on a busy machine; one that Prometheus cannot read fails every time.
        wanted = {(service, "up", "") for service in SERVICES}
        scraped: set[tuple[str, str, str]] = set()
        while scraped != wanted and time.monotonic() < deadline + _SHOWN_WITHIN_S:
            await asyncio.sleep(1)
            scraped = {
                (target["labels"]["job"], target["health"], target["lastError"])
                for target in running.prometheus.ask("targets")["activeTargets"]
            }
        assert scraped == wanted

        # From a bucket of a histogram to the trace of a call that is in it.
        (panel,) = [panel for panel in DASHBOARDS[0].panels if panel.title == "Until there are instructions"]
        led_to = {
            exemplar["labels"]["trace_id"]
            for query in panel.queries
            if query.exemplars
            for series in running.exemplars(query, began, time.time())
            for exemplar in series["exemplars"]
        }
        traces = {span.trace for span in running.traces.spans() if span.run is not None}
        assert led_to
        assert led_to <= traces

        rules = running.prometheus.ask("rules")["groups"]
        wrong = [rule["name"] for group in rules for rule in group["rules"] if rule["health"] == "err"]
        assert wrong == []
