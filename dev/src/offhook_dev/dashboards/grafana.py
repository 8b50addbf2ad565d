"""A dashboard as the JSON that Grafana reads (schema version 39, Grafana 11 and later).

https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
"""

import json
from typing import Any, Final
from urllib.parse import quote

from offhook_dev.dashboards.panels import Dashboard, Panel, Placed, Query, Row, placed

_SCHEMA: Final = 39
_TAG: Final = "offhook"
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_UNITS: Final = {"cps": "short", "cpm": "short", "bool": "bool"}
_COLOURS: Final = {"warning": "#EAB839", "bad": "red"}
_KINDS: Final = {"timeseries": "timeseries", "stat": "stat", "bars": "bargauge"}
# Each start of a process, where it happened.
_STARTS: Final = (
    'max by (job, pod) (process_start_time_seconds{job=~"webhook-gateway|media-bridge|call-tracker|number-sync|recorder",'
    'namespace=~"$namespace",pod=~"$pod"}) * 1000'
)


def as_json(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(as_dict(dashboard), indent=1, ensure_ascii=False) + "\n"


def as_dict(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "uid": dashboard.uid,
        "title": f"Offhook · {dashboard.title}",
        "description": dashboard.question,
        "tags": [_TAG],
        "schemaVersion": _SCHEMA,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": _variables()},
        "annotations": {"list": [_starts()]},
        "links": _links(),
        "panels": [_placed(number, place) for number, place in enumerate(placed(dashboard.rows), 1)],
    }


def _variables() -> list[dict[str, Any]]:
    return [
        {
            "name": "datasource",
            "label": "Prometheus",
            "type": "datasource",
            "query": "prometheus",
            "current": {"text": "Prometheus", "value": "prometheus"},
            "hide": 0,
        },
        _choice("namespace", "Namespace", "label_values(offhook_ready, namespace)"),
        _choice("pod", "Pod", 'label_values(offhook_ready{namespace=~"$namespace"}, pod)'),
        _address("offhook", "Offhook's address", "http://localhost:8080"),
        _address("docs", "Address of the documentation", "https://docs.example.com/offhook"),
    ]


def _choice(name: str, label: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _DATASOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
        "hide": 0,
    }


def _address(name: str, label: str, url: str) -> dict[str, Any]:
    current = {"text": url, "value": url}
    return {"name": name, "label": label, "type": "textbox", "query": url, "current": current, "hide": 0}


def _starts() -> dict[str, Any]:
    return {
        "name": "Starts",
        "datasource": _DATASOURCE,
        "enable": True,
        "expr": _STARTS,
        "useValueForTime": "on",
        "titleFormat": "{{job}} started",
        "textFormat": "{{pod}}",
        "iconColor": "blue",
        "step": "60s",
    }


def _links() -> list[dict[str, Any]]:
    others = {
        "title": "Other dashboards",
        "type": "dashboards",
        "tags": [_TAG],
        "asDropdown": True,
        "includeVars": True,
        "keepTime": True,
    }
    query = {"refId": "A", "expr": '{service_name=~".+"}'}
    panes = json.dumps({"logs": {"datasource": "loki", "queries": [query]}}, separators=(",", ":"))
    links = {
        "Calls": "${offhook}/calls",
        "Webhook log": "${offhook}/webhooks",
        "Dead letters": "${offhook}/dead-letters",
        "Logs": f"/explore?schemaVersion=1&orgId=1&panes={quote(panes)}",
    }
    icon = {"type": "link", "icon": "external link", "targetBlank": True, "keepTime": False}
    return [others, *({"title": title, "url": url} | icon for title, url in links.items())]


def _placed(number: int, place: Placed) -> dict[str, Any]:
    grid = {"x": place.x, "y": place.y, "w": place.width, "h": place.height}
    if isinstance(place.what, Row):
        row = {"id": number, "type": "row", "title": place.what.title, "gridPos": grid}
        return row | {"collapsed": False, "panels": []}
    return {"id": number, **_panel(place.what), "gridPos": grid}


def _panel(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "unit": _UNITS.get(panel.unit, panel.unit),
        "min": 0,
        "color": {"mode": "thresholds" if panel.kind == "stat" else "palette-classic"},
        "thresholds": _thresholds(panel),
        "custom": _drawing(panel) if panel.kind == "timeseries" else {},
    }
    if panel.highest is not None:
        defaults["max"] = panel.highest
    if panel.link is not None:
        title, url = panel.link
        defaults["links"] = [{"title": title, "url": url, "targetBlank": True}]
    made: dict[str, Any] = {
        "type": _KINDS[panel.kind],
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "targets": [_target(place, query, panel) for place, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
    }
    if panel.runbook:
        made["description"] += f"\n\nRunbook: docs/runbooks/{panel.runbook}.md"
        made["links"] = [
            {"title": "Runbook", "url": f"${{docs}}/runbooks/{panel.runbook}.md", "targetBlank": True}
        ]
    return made


def _target(place: int, query: Query, panel: Panel) -> dict[str, Any]:
    return {
        "refId": chr(ord("A") + place),
        "datasource": _DATASOURCE,
        "expr": query.expr,
        "legendFormat": query.legend,
        "range": panel.kind == "timeseries",
        "instant": panel.kind != "timeseries",
        "exemplar": query.exemplars,
    }


def _thresholds(panel: Panel) -> dict[str, Any]:
    """Grafana's steps go upwards; limits `below` which it is bad are turned around."""
    below = sorted((limit for limit in panel.limits if limit.below), key=lambda limit: limit.value)
    if below:
        colours = [_COLOURS[limit.level] for limit in below]
        steps: list[dict[str, Any]] = [{"value": None, "color": colours[0]}]
        after = [*colours[1:], "green"]
        steps += [{"value": limit.value, "color": colour} for limit, colour in zip(below, after, strict=True)]
    else:
        steps = [{"value": None, "color": "green"}]
    above = sorted((limit for limit in panel.limits if not limit.below), key=lambda limit: limit.value)
    steps += [{"value": limit.value, "color": _COLOURS[limit.level]} for limit in above]
    return {"mode": "absolute", "steps": steps}


def _drawing(panel: Panel) -> dict[str, Any]:
    return {
        "drawStyle": "line",
        "lineWidth": 1,
        "fillOpacity": 25 if panel.stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if panel.limits else "off"},
    }


def _options(panel: Panel) -> dict[str, Any]:
    reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
    if panel.kind == "timeseries":
        legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
        return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
    if panel.kind == "bars":
        return {
            "orientation": "horizontal",
            "displayMode": "gradient",
            "reduceOptions": reduce,
            "showUnfilled": True,
        }
    return {"colorMode": "value", "graphMode": "area", "reduceOptions": reduce, "textMode": "auto"}
