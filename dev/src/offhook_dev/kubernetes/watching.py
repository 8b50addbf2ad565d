"""What is watched, and what autoscalers count: only metrics that exist, of every service."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from offhook.telemetry.metrics import METRICS
from offhook_dev.alerting import files
from offhook_dev.kubernetes.rendered import Rendered, container_of, labels_of, selects
from offhook_dev.stack import repository

ADAPTER: Final = Path("deploy/k8s/components/autoscaling/prometheus-adapter-values.yaml")
DASHBOARDS: Final = Path("deploy/grafana/dashboards")
_NAMES: Final = frozenset(metric.name for metric in METRICS)


def adapter_rules() -> dict[str, str]:
    """The metrics that prometheus-adapter serves under our values, and the series each is made of."""
    values: dict[str, Any] = yaml.safe_load((repository() / ADAPTER).read_text())
    found = {}
    for rule in values["rules"]["custom"]:
        (series,) = re.findall(r"^\w+", rule["seriesQuery"])
        found[rule.get("name", {}).get("as", series)] = series
    return found


def adapter_asks() -> str:
    """The namespace of the Prometheus that prometheus-adapter asks. Raises `KeyError` where our values name none."""
    url = yaml.safe_load((repository() / ADAPTER).read_text())["prometheus"]["url"]
    return str(urlsplit(url).hostname).split(".")[1]


def autoscalers_count_what_exists(rendered: Rendered) -> Iterator[str]:
    """Every custom metric is served by the adapter, from a metric of ours."""
    served = adapter_rules()
    for series in served.values():
        if series not in _NAMES:
            yield f"the adapter reads {series}, which nobody tells"
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        for metric in scaler["spec"]["metrics"]:
            if metric["type"] == "Pods" and metric["pods"]["metric"]["name"] not in served:
                yield f"nobody serves {metric['pods']['metric']['name']}"
    scaled = {one["metadata"]["name"]: one for one in rendered.of("HorizontalPodAutoscaler")}
    if scaled:
        kinds = {metric["type"] for metric in scaled["webhook-gateway"]["spec"]["metrics"]}
        if kinds != {"Resource", "Pods"}:
            yield "webhook-gateway does not follow both its CPU and its requests"
        counted = [m["pods"]["metric"]["name"] for m in scaled["media-bridge"]["spec"]["metrics"]]
        if counted != ["offhook_media_sessions"]:
            yield f"media-bridge follows {counted}"


def room_for_a_zone(rendered: Rendered) -> Iterator[str]:
    """The bridges are scaled so that two zones carry the calls of three."""
    limit = int(rendered.environment(rendered.workload("media-bridge"))["OFFHOOK_MAX_SESSIONS"] or 0)
    for scaler in rendered.of("HorizontalPodAutoscaler"):
        if scaler["metadata"]["name"] != "media-bridge":
            continue
        (metric,) = scaler["spec"]["metrics"]
        wanted = int(metric["pods"]["target"]["averageValue"])
        if wanted * 3 > limit * 2:
            yield f"{wanted} calls a pod leave no room for those of a third zone: a pod takes {limit}"


def every_pod_is_watched(rendered: Rendered) -> Iterator[str]:
    """Each service is read at one port, under its own name."""
    monitors = rendered.of("PodMonitor")
    if not monitors:
        return
    for workload in rendered.services():
        name = workload["metadata"]["name"]
        ports = {port["name"] for port in container_of(workload)["ports"]}
        read = [
            endpoint["port"]
            for monitor in monitors
            if selects(monitor["spec"]["selector"], labels_of(workload))
            for endpoint in monitor["spec"]["podMetricsEndpoints"]
            if endpoint["port"] in ports and endpoint["path"] == "/metrics"
        ]
        if len(read) != 1:
            yield f"{name} is read at {read}"
        labels = {labels_of(workload).get(monitor["spec"].get("jobLabel", "")) for monitor in monitors}
        if labels != {name}:
            yield f"the job of {name} is called {labels}"


def rules_are_ours(rendered: Rendered) -> Iterator[str]:
    """The cluster's Prometheus has the rules that were tested."""
    rules = rendered.of("PrometheusRule")
    if not rules:
        return
    found = [group for rule in rules for group in rule["spec"]["groups"]]
    tested = [group for text in files.pages().values() for group in yaml.safe_load(text)["groups"]]
    if sorted(found, key=_name) != sorted(tested, key=_name):
        yield "the rules differ from deploy/prometheus"


def dashboards_are_ours(rendered: Rendered) -> Iterator[str]:
    """Every dashboard of the repository, as it is there."""
    shown = rendered.of("GrafanaDashboard")
    if not shown:
        return
    found = {}
    for dashboard in shown:
        reference = dashboard["spec"]["configMapRef"]
        if reference["name"] in rendered.names("ConfigMap"):
            text = rendered.get("ConfigMap", reference["name"])["data"].get(reference["key"])
            found[reference["key"]] = text
    kept = {path.name: path.read_text() for path in (repository() / DASHBOARDS).glob("*.json")}
    for name in sorted(set(found) | set(kept)):
        if found.get(name) != kept.get(name):
            yield f"the dashboard {name} is not the repository's"


def _name(group: dict[str, Any]) -> str:
    return str(group["name"])


POLICIES: Final = (
    autoscalers_count_what_exists,
    room_for_a_zone,
    every_pod_is_watched,
    rules_are_ours,
    dashboards_are_ours,
)
