"""*Numbers*: is every phone number at its provider as it should be?"""
# ruff: noqa: E501 - a panel's question is one line

from typing import Final

from offhook_dev.dashboards.panels import Dashboard, Limit, Panel, Query, Row
from offhook_dev.dashboards.queries import quantile_by, rate, rates_by, total

_JOB: Final = 'job="number-sync"'
_SHARE: Final = (
    "Numbers that are at their provider as they should be, of all that are to be answered.\n\n**What to do.** Below 1 for"
    " longer than minutes: the list of numbers, filtered by state, says why, with the remedy for each."
)


def _of(state: str, level: Limit | None) -> Panel:
    return Panel(
        state.capitalize(), (Query(total("offhook_numbers", labels=f'state="{state}"', how="max"), state),), "short",
        metric="offhook_numbers", runbook="numbers", kind="stat", width=4, height=5, limits=(level,) if level else (),
        link=("These numbers", "${offhook}/telephony-configurations"),
    )  # fmt: skip


NUMBERS: Final = Dashboard(
    "numbers",
    "Numbers",
    "Is every phone number at its provider as it should be? States, drift, and how the providers answer.",
    (
        Row(
            "Where numbers stand",
            (
                Panel(
                    "In sync",
                    (
                        Query(
                            total("offhook_numbers", labels='state="synced"', how="max")
                            + ' / (sum(max by (state) ('
                            + 'offhook_numbers{state!="detached",namespace=~"$namespace",pod=~"$pod"})) > 0)',
                            "in sync",
                        ),
                    ),
                    "percentunit", says=_SHARE, runbook="numbers", kind="stat", width=4, height=5,
                    limits=(Limit(0.9, "bad", below=True), Limit(1, "warning", below=True)),
                ),
                _of("synced", None),
                _of("pending", Limit(1, "warning")),
                _of("drifted", Limit(1, "bad")),
                _of("failed", Limit(1, "bad")),
                _of("detached", None),
                Panel(
                    "States", (Query(total("offhook_numbers", "state", how="max"), "{{state}}"),), "short",
                    metric="offhook_numbers", runbook="numbers", width=12, stacked=True,
                ),
                Panel(
                    "Changed by somebody else, in an hour",
                    (Query('sum by (provider, outcome) (increase(offhook_number_drift_total{namespace=~"$namespace",pod=~"$pod"}[1h]))', "{{provider}} · {{outcome}}"),),
                    "short", metric="offhook_number_drift_total", runbook="numbers", width=12, limits=(Limit(5, "warning"),),
                ),
            ),
        ),
        Row(
            "How the providers answer",
            (
                Panel(
                    "Requests by operation", rates_by("offhook_provider_requests_total", "provider, operation"), "reqps",
                    metric="offhook_provider_requests_total", runbook="providers", stacked=True,
                ),
                Panel(
                    "Not answered as hoped, a minute", rates_by("offhook_provider_requests_total", "provider, operation, outcome", labels='outcome!="ok"', times="60"), "cpm",
                    metric="offhook_provider_requests_total", runbook="providers",
                ),
                Panel(
                    "Time to their answer, p95", quantile_by(0.95, "offhook_provider_request_seconds", "provider, operation"), "s",
                    metric="offhook_provider_request_seconds", runbook="providers", limits=(Limit(1, "warning"), Limit(5, "bad")),
                ),
            ),
        ),
        Row(
            "What number-sync needs",
            (
                Panel(
                    "Database errors, a minute", rates_by("offhook_store_errors_total", "operation", labels=_JOB, times="60"), "cpm",
                    metric="offhook_store_errors_total", runbook="stores", limits=(Limit(1, "bad"),),
                ),
                Panel(
                    "Waiting to be published", (Query(total("offhook_outbox_pending", labels=_JOB), "changes"),), "short",
                    metric="offhook_outbox_pending", runbook="stores", limits=(Limit(100, "warning"),),
                ),
                Panel(
                    "Throttled, a minute", (Query(rate("offhook_provider_throttled_total", "provider", times="60"), "{{provider}}"),), "cpm",
                    metric="offhook_provider_throttled_total", runbook="providers", limits=(Limit(1, "warning"),),
                ),
            ),
        ),
    ),
)  # fmt: skip
