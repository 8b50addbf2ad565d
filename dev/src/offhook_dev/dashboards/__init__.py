"""The Grafana dashboards as code: what each panel asks, means and advises, and the JSON that Grafana reads.

`python -m offhook_dev docs` writes `deploy/grafana/dashboards/*.json`.
"""

from collections.abc import Mapping
from typing import Final

from offhook_dev.dashboards.calls import CALLS
from offhook_dev.dashboards.grafana import as_json
from offhook_dev.dashboards.media import MEDIA
from offhook_dev.dashboards.numbers import NUMBERS
from offhook_dev.dashboards.panels import Dashboard, Panel, Query
from offhook_dev.dashboards.pipeline import PIPELINE
from offhook_dev.dashboards.providers import PROVIDERS

DASHBOARDS: Final = (CALLS, PROVIDERS, MEDIA, PIPELINE, NUMBERS)

__all__ = ["DASHBOARDS", "Dashboard", "Panel", "Query", "as_json", "pages"]


def pages() -> Mapping[str, str]:
    """Every generated file: its path below the repository's root, and its text."""
    return {
        f"deploy/grafana/dashboards/{dashboard.name}.json": as_json(dashboard) for dashboard in DASHBOARDS
    }
