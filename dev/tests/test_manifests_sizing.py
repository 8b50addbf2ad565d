"""The sizing page is what its arithmetic says, and the manifests are sized accordingly."""

import itertools

import pytest

from offhook_dev.kubernetes import sizing
from offhook_dev.kubernetes.rendered import FOLDER, Rendered, render
from offhook_dev.stack import repository

pytestmark = [pytest.mark.real, pytest.mark.manifests]


@pytest.fixture(scope="module")
def production() -> Rendered:
    return render(repository() / FOLDER / "overlays" / "production-strimzi")


def test_the_page_has_the_table_that_is_computed() -> None:
    assert sizing.table() in (repository() / "docs/deploy/sizing.md").read_text()


@pytest.mark.parametrize("figure", ["1775/s", "5940/s", "| 300 |", "105 events"])
def test_measured_figures_are_published(figure: str) -> None:
    published = (repository() / "docs/performance.md").read_text() + (repository() / "README.md").read_text()
    assert figure in published


def test_bridges_are_scaled_as_planned(production: Rendered) -> None:
    environment = production.environment(production.workload("media-bridge"))
    assert environment["OFFHOOK_MAX_SESSIONS"] == str(sizing.CALLS_A_CORE)
    scaler = production.get("HorizontalPodAutoscaler", "media-bridge")["spec"]
    assert scaler["metrics"][0]["pods"]["target"]["averageValue"] == str(sizing.CALLS_A_POD)
    assert scaler["maxReplicas"] >= sizing.Size(100_000).bridges


def test_gateways_are_scaled_as_planned(production: Rendered) -> None:
    scaler = production.get("HorizontalPodAutoscaler", "webhook-gateway")["spec"]
    assert scaler["metrics"][1]["pods"]["target"]["averageValue"] == str(sizing.WEBHOOKS_A_POD_S)
    assert scaler["maxReplicas"] >= sizing.Size(100_000).gateways


def test_call_trackers_are_scaled_as_planned(production: Rendered) -> None:
    scaled = production.get("ScaledObject", "call-tracker")["spec"]
    assert scaled["triggers"][0]["metadata"]["lagThreshold"] == str(sizing.EVENTS_A_POD_S)
    assert scaled["maxReplicaCount"] >= sizing.Size(100_000).trackers


def test_brokers_have_room_for_a_thousand_calls(production: Rendered) -> None:
    pool = production.get("KafkaNodePool", "brokers")["spec"]
    size = sizing.Size(1_000)
    assert pool["replicas"] >= size.brokers
    assert pool["storage"]["volumes"][0]["size"] == "200Gi"
    assert size.broker_disk_bytes < 100 * 2**30


def test_more_calls_need_no_less_of_anything() -> None:
    sizes = [sizing.Size(calls) for calls in range(1, 100_000, 997)]
    for one, more in itertools.pairwise(sizes):
        for name in ("bridges", "gateways", "trackers", "partitions", "brokers"):
            assert getattr(more, name) >= getattr(one, name)
