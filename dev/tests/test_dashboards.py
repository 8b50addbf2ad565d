"""The dashboards: what they ask for exists, what they show is explained, and Grafana can read them."""

import itertools
import json
import re
from typing import Final

import pytest
from promql import metrics_in, objections

from offhook.telemetry.metrics import METRICS
from offhook_dev.dashboards import DASHBOARDS, Dashboard, Panel, pages
from offhook_dev.dashboards.grafana import as_dict
from offhook_dev.dashboards.panels import WIDTH
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
    identities = [panel["id"] for panel in made["panels"]]
    assert len(set(identities)) == len(identities)


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
