"""The alerts: each fires when it should and stays quiet when it should, names metrics that exist, and has a runbook."""

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from alert_cases import CASES, Series
from promql import metrics_in, objections

from offhook.telemetry.metrics import METRICS
from offhook_dev.alerting import ALERTS, OBJECTIVES, Alert, pages
from offhook_dev.prometheus import run_tool
from offhook_dev.stack import repository

pytestmark = pytest.mark.observability

_ROOT: Final = repository()
_ALERTS: Final = {alert.name: alert for alert in ALERTS}


def _judged(folder: Path, alerts: Sequence[str], tests: list[dict[str, Any]]) -> Path:
    """A file for promtool: tests of these alerts, with the recorded series they ask for; all rules would take minutes."""
    asked = {name for alert in alerts for name in metrics_in(_ALERTS[alert].expr)}
    objectives = {name.split(":")[1] for name in asked if name.startswith("offhook:")}
    rules: list[dict[str, Any]] = []
    for name in pages():
        for group in yaml.safe_load((_ROOT / name).read_text())["groups"]:
            chosen = [
                rule
                for rule in group["rules"]
                if rule.get("alert") in alerts or rule.get("record", "::").split(":")[1] in objectives
            ]
            rules += [{"name": group["name"], "rules": chosen}] if chosen else []
    rule_file, file = folder / f"{alerts[0]}-rules.yaml", folder / f"{alerts[0]}.yaml"
    rule_file.write_text(yaml.safe_dump({"groups": rules}, width=1000))
    body = {"rule_files": [rule_file.name], "evaluation_interval": "1m", "tests": tests}
    file.write_text(yaml.safe_dump(body, width=1000))
    return file


def _test(alert: Alert, series: Series, at: int, *, fires: bool) -> dict[str, Any]:
    """While it fires, it has the labels that its summary tells people about."""
    labels = sorted(set(re.findall(r"\$labels\.(\w+)", alert.summary)))
    has = "".join(f',{label}!=""' for label in labels)
    asked = f'count(ALERTS{{alertname="{alert.name}",alertstate="firing"{has if fires else ""}}}) > bool 0'
    return {
        "name": f"{alert.name} {'fires' if fires else 'stays quiet'}",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": asked,
                "eval_time": f"{at}m",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
        ],
    }


def test_every_alert_is_shown_to_fire_and_to_stay_quiet() -> None:
    assert set(CASES) == set(_ALERTS)


def test_the_files_are_what_the_code_says() -> None:
    for name, text in pages().items():
        assert (_ROOT / name).read_text() == text, f"{name} is stale: run `make docs` and commit"


@pytest.mark.usefixtures("prometheus_tools")
def test_promtool_finds_nothing_wrong() -> None:
    for name in pages():
        assert "SUCCESS" in run_tool("promtool", "check", "rules", str(_ROOT / name))


@pytest.mark.usefixtures("prometheus_tools")
def test_every_alert_fires_when_it_should_and_stays_quiet_when_it_should(tmp_path: Path) -> None:
    files = []
    for name, case in CASES.items():
        alert = _ALERTS[name]
        tests = [
            _test(alert, case.fires, case.at, fires=True),
            _test(alert, case.quiet, case.at, fires=False),
        ]
        if case.fires_too is not None:
            tests.append(_test(alert, case.fires_too, case.at, fires=True))
        if case.quiet_too is not None:
            tests.append(_test(alert, case.quiet_too, case.at, fires=False))
        files.append(str(_judged(tmp_path, [name], tests)))
    run_tool("promtool", "test", "rules", *files)


@pytest.mark.usefixtures("prometheus_tools")
def test_nothing_fires_that_only_needs_calls_while_there_are_none(tmp_path: Path) -> None:
    """A fresh installation, healthy and idle: all services are up, nobody calls."""
    series: dict[str, str] = {}
    for job in ("webhook-gateway", "media-bridge", "call-tracker", "number-sync"):
        own = f'job="{job}",instance="{job}"'
        series |= {
            f"up{{{own}}}": "1x60",
            f"offhook_ready{{{own}}}": "1x60",
            f"offhook_draining{{{own}}}": "0x60",
        }
    series |= {"offhook_calls_active": "0x60", 'offhook_media_capacity{instance="media-bridge"}': "1000x60"}
    quiet = {
        "name": "an idle installation",
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [{"expr": "ALERTS", "eval_time": "45m", "exp_samples": []}],
    }
    run_tool("promtool", "test", "rules", str(_judged(tmp_path, list(_ALERTS), [quiet])))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_asks_for_metrics_and_labels_that_exist(alert: Alert) -> None:
    assert list(objections(alert.expr)) == []


def test_the_recording_rules_ask_for_metrics_and_labels_that_exist() -> None:
    for group in yaml.safe_load((_ROOT / "deploy/prometheus/rules.yaml").read_text())["groups"]:
        for rule in group["rules"]:
            assert list(objections(rule["expr"])) == [], rule["record"]


def test_an_objective_looks_at_a_bucket_that_its_histogram_has() -> None:
    buckets = {metric.name: metric.buckets for metric in METRICS}
    for objective in OBJECTIVES:
        for name in metrics_in(objective.good):
            for bound in re.findall(r'le="([\d.]+)"', objective.good):
                assert float(bound) in buckets[name.removesuffix("_bucket")], objective.name
                assert "." in bound, "Prometheus' text format writes bounds with a point"


def test_names_are_unique_and_say_little_enough_to_be_read_at_night() -> None:
    assert len(_ALERTS) == len(ALERTS)
    for alert in ALERTS:
        assert re.fullmatch(r"[A-Z][A-Za-z]+", alert.name)
        assert alert.summary.endswith("."), alert.name
        assert len(alert.summary) < 180, alert.name


# --- runbooks --------------------------------------------------------------------------------------------------------

_RUNBOOKS: Final = sorted((_ROOT / "docs" / "runbooks").glob("*.md"))
_METRIC: Final = re.compile(r"\boffhook_[a-z_]+\b")
_COMMANDS: Final = frozenset({"replay", "rebuild", "keys", "prepare"})
# What each kind of autoscaler calls the least number of pods.
_LEAST: Final = {"HorizontalPodAutoscaler": "minReplicas", "ScaledObject": "minReplicaCount"}
_SHORT: Final = {"hpa": "horizontalpodautoscaler"}
_SAYS: Final = """
import structlog
from offhook.settings import ServiceSettings
from offhook.telemetry import logging
logging.configure("media-bridge", ServiceSettings.model_construct(log_format="json", log_level="info"))
structlog.get_logger().info("good")
structlog.get_logger().warning("bad")
"""


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert.name)
def test_an_alert_has_a_runbook_with_what_is_needed_at_night(alert: Alert) -> None:
    text = (_ROOT / "docs" / "runbooks" / f"{alert.page}.md").read_text()
    sections = text.split("\n## ")
    (section,) = [one for one in sections if one.split("\n", 1)[0] == alert.name]
    if alert.name.endswith("Slowly"):
        return  # for a working day: it names its fast sister
    for part in ("**The caller", "**Over when**"):
        assert part in section, part
    assert "**Do" in section or "Nothing to do" in section
    assert len(section) < 2600, "too long for three in the morning"


def test_no_runbook_is_left_without_an_alert() -> None:
    headings = {heading for path in _RUNBOOKS for heading in re.findall(r"^## (.+)$", path.read_text(), re.M)}
    assert headings == set(_ALERTS)
    assert {path.stem for path in _RUNBOOKS} - {"README"} == {alert.page for alert in ALERTS}


@pytest.mark.parametrize("path", _RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_names_metrics_and_commands_that_exist(path: Path) -> None:
    text = path.read_text()
    for query in re.findall(r"```promql\n(.*?)```", text, re.S):
        for line in query.strip().splitlines():
            assert list(objections(line)) == [], line
    metrics = {metric.name for metric in METRICS}
    for quoted in re.findall(r"`([^`\n]+)`", text):
        if quoted not in metrics and (_METRIC.search(quoted) or quoted.startswith("offhook:")):
            assert list(objections(quoted)) == [], quoted
        if command := re.match(r"offhook (\w+)", quoted):
            assert command[1] in _COMMANDS, quoted


@pytest.mark.parametrize("path", _RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_names_settings_and_workloads_that_exist(path: Path) -> None:
    settings = (_ROOT / "docs" / "reference" / "settings.md").read_text()
    workloads = {
        (manifest["kind"].lower(), manifest["metadata"]["name"])
        for file in (_ROOT / "deploy" / "k8s" / "base").rglob("*.yaml")
        for manifest in yaml.safe_load_all(file.read_text())
        if manifest and manifest.get("kind") in ("Deployment", "StatefulSet")
    }
    text = path.read_text()
    for name in re.findall(r"\bOFFHOOK_[A-Z_]+\b", text):
        assert f"`{name}`" in settings, name
    for kind, name in re.findall(r"\b(deployment|statefulset)/([a-z-]+)", text):
        assert (kind, name) in workloads, f"{kind}/{name}"


@pytest.mark.parametrize("path", _RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_has_more_pods_by_the_autoscaler_and_logs_of_all_pods(path: Path) -> None:
    scalers = {
        (manifest["kind"], manifest["spec"]["scaleTargetRef"]["name"])
        for file in (_ROOT / "deploy" / "k8s" / "components").rglob("*.yaml")
        for manifest in yaml.safe_load_all(file.read_text())
        if manifest and manifest.get("kind") in _LEAST
    }
    text = path.read_text()
    for name in re.findall(r"\bscale (?:deployment|statefulset)/([a-z-]+)", text):
        assert name not in {scaled for _, scaled in scalers}, f"the autoscaler of {name} undoes it"
    for kind, name, least in re.findall(r'\bpatch (\w+) ([a-z-]+) .*?"spec":\{"(\w+)":N', text):
        (found,) = [one for one in _LEAST if one.lower().startswith(_SHORT.get(kind, kind))]
        assert (found, name) in scalers
        assert least == _LEAST[found]
    for command in re.findall(r"\bkubectl -n offhook logs ([^`\n|]+)", text):
        assert command.startswith("NAME ") or {"--prefix", "--tail=-1"} <= set(command.split()), command


def test_the_first_command_shows_what_is_more_than_information() -> None:
    (command,) = re.findall(r"\| (grep -v .+)$", (_ROOT / "docs/runbooks/README.md").read_text(), re.M)
    said = subprocess.run([sys.executable, "-c", _SAYS], capture_output=True, text=True, check=True).stderr
    assert len(said.splitlines()) == 2
    shown = subprocess.run(command, shell=True, input=said, capture_output=True, text=True, check=True)
    assert [json.loads(line)["event"] for line in shown.stdout.splitlines()] == ["bad"]


@pytest.mark.parametrize("path", _RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbooks_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", path.read_text()):
        name, _, anchor = target.partition("#")
        page = (path.parent / name).resolve() if name else path
        assert page.exists(), target
        if anchor:
            found = {heading.lower() for heading in re.findall(r"^## (.+)$", page.read_text(), re.M)}
            assert anchor in found, target


# --- who is told -----------------------------------------------------------------------------------------------------

_ALERTMANAGER: Final = _ROOT / "deploy" / "prometheus" / "alertmanager.yaml"


@pytest.mark.usefixtures("prometheus_tools")
def test_alertmanager_takes_the_example_and_pages_wake_somebody() -> None:
    assert "SUCCESS" in run_tool("amtool", "check-config", str(_ALERTMANAGER))
    for severity, receiver in (("page", "on-call"), ("ticket", "tickets")):
        said = run_tool(
            "amtool", "config", "routes", "test", f"--config.file={_ALERTMANAGER}",
            f"--verify.receivers={receiver}", f"severity={severity}", "alertname=KafkaRefuses",
        )  # fmt: skip
        assert said.splitlines()[0] == receiver


def test_what_keeps_quiet_while_its_cause_is_told_are_alerts_that_exist() -> None:
    for rule in yaml.safe_load(_ALERTMANAGER.read_text())["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            label, _, names = matcher.partition("=")
            if label == "alertname":
                assert set(names.lstrip("~").strip('"').split("|")) <= set(_ALERTS), matcher
