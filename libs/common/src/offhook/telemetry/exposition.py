"""The answer to a scrape: Prometheus' text format, or OpenMetrics, which alone carries exemplars.

Prometheus asks for OpenMetrics by itself; people with a browser get the text format.
"""

import functools
from collections.abc import Iterator
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import Metric as MetricFamily
from prometheus_client.openmetrics import exposition as openmetrics

from offhook.telemetry.metrics import Service, collectors

TEXT: Final = CONTENT_TYPE_LATEST
OPENMETRICS: Final = openmetrics.CONTENT_TYPE_LATEST


@functools.cache
def registry(service: Service) -> CollectorRegistry:
    """The metrics that `service` sets, and those of its Python process."""
    own = CollectorRegistry()
    for metric in collectors(service):
        own.register(metric)
    ProcessCollector(registry=own)
    PlatformCollector(registry=own)
    GCCollector(registry=own)
    return own


def exposition(service: Service, accept: str = "") -> tuple[bytes, str]:
    """The answer to a scrape of `service` and its content type; `accept` is the request's header."""
    asked = [[part.strip().lower() for part in kind.split(";")] for kind in accept.split(",")]
    kinds = {kind for kind, *terms in asked if not {"q=0", "q=0.0"} & set(terms)}
    if "application/openmetrics-text" in kinds:
        body: bytes = openmetrics.generate_latest(registry(service))  # type: ignore[no-untyped-call]
        return body, OPENMETRICS
    return generate_latest(registry(service)), TEXT


def families(service: Service) -> Iterator[MetricFamily]:
    """What `exposition` would print, as objects."""
    return iter(registry(service).collect())
