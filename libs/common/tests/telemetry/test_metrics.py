"""The list of metrics is consistent, complete enough to act upon, and each service exposes its own."""

import re

import pytest
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

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


@pytest.mark.parametrize("service", metrics.SERVICES)
def test_a_service_exposes_its_metrics_and_no_others(service: metrics.Service) -> None:
    text = metrics.exposition(service).decode()
    exposed = {
        family.name for family in text_string_to_metric_families(text) if family.name.startswith("offhook_")
    }
    expected = {
        metric.name.removesuffix("_total") for metric in metrics.METRICS if service in metric.services
    }
    assert exposed == expected


def test_what_is_counted_is_exposed_and_the_help_is_its_meaning() -> None:
    metrics.BUS_DEAD_LETTERS.labels("telephony.call-events.v1", "test").inc()
    text = metrics.exposition("call-tracker").decode()
    assert 'offhook_bus_dead_letters_total{group="test",topic="telephony.call-events.v1"} 1.0' in text
    assert "# HELP offhook_bus_dead_letters_total Records that could not be understood" in text
    assert "process_resident_memory_bytes" in text
