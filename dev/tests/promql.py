"""Whether a PromQL expression asks for what there is: metrics of the list, with labels they have."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import promql_parser

from offhook.telemetry.metrics import METRICS
from offhook_dev.alerting import recording_rules

TARGET_LABELS: Final = frozenset({"job", "instance", "namespace", "pod"})
"""What the scrape adds to every series; the last two on Kubernetes only."""

# What Prometheus and the client library have beside ours.
_OTHERS: Final[Mapping[str, frozenset[str]]] = {
    "up": frozenset(),
    "ALERTS": frozenset({"alertname", "alertstate", "severity"}),
    "process_start_time_seconds": frozenset(),
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_open_fds": frozenset(),
    "process_max_fds": frozenset(),
}
# What Grafana puts in before it asks.
_GRAFANA: Final = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}


def _known() -> Mapping[str, frozenset[str]]:
    known = dict(_OTHERS) | {rule["record"]: frozenset[str]() for rule in recording_rules()}
    for metric in METRICS:
        labels = frozenset(metric.labels)
        if metric.kind == "histogram":
            known |= {
                metric.name + "_bucket": labels | {"le"},
                metric.name + "_sum": labels,
                metric.name + "_count": labels,
            }
        else:
            known[metric.name] = labels
    return known


KNOWN: Final = _known()
"""Every series there is, with its own labels."""


def parsed(expression: str) -> Any:
    """The expression's tree. Raises `ValueError` where Prometheus would refuse it."""
    for variable, value in _GRAFANA.items():
        expression = expression.replace(variable, value)
    return promql_parser.parse(expression)


def metrics_in(expression: str) -> set[str]:
    """The names of the series it selects."""
    return {selector.name for selector in _of(parsed(expression), promql_parser.VectorSelector)}


def objections(expression: str) -> Iterator[str]:
    """What is wrong with it, a sentence each."""
    tree = parsed(expression)
    for selector in _of(tree, promql_parser.VectorSelector):
        if selector.name not in KNOWN:
            yield f"there is no {selector.name}"
            continue
        matched = {matcher.name for matcher in selector.matchers.matchers}
        for label in matched - KNOWN[selector.name] - TARGET_LABELS:
            yield f"{selector.name} has no label {label}"
    for node in _of(tree, promql_parser.AggregateExpr):
        if node.modifier is not None:
            yield from _missing(node.modifier.labels, node.expr)
    for node in _of(tree, promql_parser.BinaryExpr):
        matching = node.modifier.matching if node.modifier is not None else None
        if matching is not None:
            yield from _missing(matching.labels, node.lhs)
            yield from _missing(matching.labels, node.rhs)


def _missing(labels: list[str], inside: Any) -> Iterator[str]:
    there = set(TARGET_LABELS)
    for selector in _of(inside, promql_parser.VectorSelector):
        there |= KNOWN.get(selector.name, frozenset())
    for label in set(labels) - there:
        yield f"no series of {inside} has a label {label}"


def _of(tree: Any, kind: type) -> list[Any]:
    found = []

    def visit(node: Any) -> None:
        if isinstance(node, kind):
            found.append(node)

    promql_parser.walk(tree, pre_visit=visit)
    return found
