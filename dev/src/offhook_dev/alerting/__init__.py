"""Objectives and alerts as data, and the files Prometheus reads: `deploy/prometheus/{rules,alerts}.yaml`."""

from offhook_dev.alerting.alert import Alert, Severity
from offhook_dev.alerting.causes import CAUSES
from offhook_dev.alerting.files import pages
from offhook_dev.alerting.objectives import OBJECTIVES, Objective, burn_alerts, recording_rules

ALERTS: tuple[Alert, ...] = (*burn_alerts(), *CAUSES)
"""Every alert: first those on what callers notice, then those on what is behind it."""

__all__ = [
    "ALERTS",
    "CAUSES",
    "OBJECTIVES",
    "Alert",
    "Objective",
    "Severity",
    "burn_alerts",
    "pages",
    "recording_rules",
]
