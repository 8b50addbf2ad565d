"""What Prometheus reads from a service: its own metrics, in the format it asked for, with exemplars where they lead to a call."""

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, TraceIdRatioBased
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from offhook.http import create_app
from offhook.telemetry import exemplars, metrics, tracing
from offhook.telemetry.exposition import OPENMETRICS, TEXT, exposition
from offhook.telemetry.tracing import call_span_context

# What Prometheus sends: 2.42, and 3.
_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5",
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
)


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call's trace is kept."""
    _trace(monkeypatch, TracerProvider(sampler=ALWAYS_ON))


def _trace(monkeypatch: pytest.MonkeyPatch, provider: TracerProvider) -> None:
    monkeypatch.setattr(tracing, "_configured", tracing.Tracing(provider, None))


def _openmetrics(service: metrics.Service) -> dict[str, Metric]:
    body, _ = exposition(service, _PROMETHEUS[0])
    return {family.name: family for family in parse_openmetrics(body.decode())}


@pytest.mark.parametrize("service", metrics.SERVICES)
def test_a_service_exposes_its_metrics_and_no_others_in_both_formats(service: metrics.Service) -> None:
    text, _ = exposition(service)
    expected = {
        metric.name.removesuffix("_total") for metric in metrics.METRICS if service in metric.services
    }
    for families in (parse_text(text.decode()), _openmetrics(service).values()):
        assert {family.name for family in families if family.name.startswith("offhook_")} == expected


def test_what_is_counted_is_exposed_and_the_help_is_its_meaning() -> None:
    metrics.BUS_DEAD_LETTERS.labels("telephony.call-events.v1", "of this test").inc()
    text = exposition("call-tracker")[0].decode()
    assert 'offhook_bus_dead_letters_total{group="of this test",topic="telephony.call-events.v1"} 1.0' in text
    assert "# HELP offhook_bus_dead_letters_total Records that could not be understood" in text
    assert "process_resident_memory_bytes" in text


def test_a_counter_is_one_series_in_openmetrics_and_has_no_time_of_creation() -> None:
    metrics.STORE_ERRORS.labels("test").inc()
    family = _openmetrics("call-tracker")["offhook_store_errors"]
    assert family.type == "counter"
    assert {sample.name for sample in family.samples} == {"offhook_store_errors_total"}


def test_what_can_happen_begins_at_zero() -> None:
    samples = _openmetrics("media-bridge")["offhook_media_resumes"].samples
    assert {sample.labels["reason"] for sample in samples} >= {"agent-lost", "bridge-lost", "transfer"}


def test_a_histogram_of_calls_leads_to_the_trace_of_the_last_call_in_the_bucket(traced: None) -> None:
    seconds = metrics.INSTRUCTIONS_SECONDS.labels("exemplary")
    for run in ("run-a", "run-b"):
        seconds.observe(0.7, exemplars.of_call(run))
    samples = _openmetrics("webhook-gateway")["offhook_instructions_seconds"].samples
    found = [sample for sample in samples if sample.exemplar and sample.labels["provider"] == "exemplary"]
    assert [sample.labels["le"] for sample in found] == ["1.0"]
    assert found[0].exemplar.labels == {"trace_id": f"{call_span_context('run-b').trace_id:032x}"}
    assert found[0].exemplar.value == 0.7


def test_the_text_format_has_no_exemplars(traced: None) -> None:
    metrics.INSTRUCTIONS_SECONDS.labels("exemplary").observe(0.7, exemplars.of_call("run-a"))
    assert "trace_id" not in exposition("webhook-gateway")[0].decode()


def test_without_tracing_nothing_is_led_to() -> None:
    assert exemplars.of_call("run-a") is None


def test_a_call_whose_trace_is_not_kept_gives_no_exemplar(monkeypatch: pytest.MonkeyPatch) -> None:
    thinned = TracerProvider(sampler=TraceIdRatioBased(0.5))
    _trace(monkeypatch, thinned)
    given = [run for run in map(str, range(200)) if exemplars.of_call(run)]
    assert 50 < len(given) < 150
    assert all(exemplars.of_call(run) for run in given)


def test_a_request_that_is_nobodys_call_gives_no_exemplar(traced: None) -> None:
    assert exemplars.of_call(None) is None


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (_PROMETHEUS[0], OPENMETRICS),
        (_PROMETHEUS[1], OPENMETRICS),
        ("*/*", TEXT),
        ("text/plain", TEXT),
        ("application/openmetrics-text;q=0, text/plain", TEXT),
        ("", TEXT),
    ],
)
async def test_who_asks_for_openmetrics_gets_it_and_others_get_text(accept: str, content_type: str) -> None:
    transport = httpx.ASGITransport(create_app("call-tracker"))
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        answer = await client.get("/metrics", headers={"Accept": accept})
    assert answer.headers["Content-Type"] == content_type
    assert answer.text.endswith("# EOF\n") == (content_type == OPENMETRICS)
