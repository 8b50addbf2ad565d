"""The list of metrics is consistent, and complete enough to act upon."""

import re

from prometheus_client import Counter, Gauge, Histogram

from offhook.telemetry import metrics


def test_names_are_unique_and_follow_prometheus() -> None:
    names = [metric.name for metric in metrics.METRICS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"offhook_[a-z]+(_[a-z]+)*", name) for name in names)
    for metric in metrics.METRICS:
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        if metric.kind == "histogram":
            assert metric.unit in {"seconds", "bytes"}, metric.name


def test_every_metric_says_what_it_means_and_what_to_do() -> None:
    for metric in metrics.METRICS:
        assert metric.meaning.endswith("."), metric.name
        assert metric.action.endswith("."), metric.name
        assert len(metric.meaning) > 15, metric.name
        assert set(metric.services) <= set(metrics.SERVICES), metric.name
        assert metric.services, metric.name


def test_no_label_can_hold_an_id_or_a_number() -> None:
    forbidden = {
        "workflow_run_id",
        "user_id",
        "workflow_id",
        "account",
        "number",
        "from",
        "to",
        "call_id",
        "key",
    }
    for metric in metrics.METRICS:
        assert not forbidden.intersection(metric.labels), metric.name


def test_every_metric_of_the_module_is_in_the_list() -> None:
    objects = {
        id(value) for value in vars(metrics).values() if isinstance(value, Counter | Gauge | Histogram)
    }
    assert objects == {id(metric) for _, metric in metrics._defined}
    assert len(metrics.METRICS) == len(objects)
