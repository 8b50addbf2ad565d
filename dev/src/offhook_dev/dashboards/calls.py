"""*Calls*: is the service good?"""

from typing import Final

from offhook_dev.alerting import OBJECTIVES, Objective
from offhook_dev.dashboards.panels import Dashboard, Limit, Panel, Query, Row
from offhook_dev.dashboards.queries import CHOSEN, quantiles, rate, rates_by, total, totals_by

_BURN: Final = (
    "How fast each objective's allowance for a month is being used, over the last hour: 1 is just as fast as it may be, 14.4"
    " uses all of it within two days.\n\n**What to do.** Above 6: the alert's runbook. Between 1 and 6 for days: find the cause"
    " before it becomes an incident."
)


def _promise(objective: Objective) -> Panel:
    prefix = f"offhook:{objective.name}"
    share = f"1 - avg_over_time({prefix}:bad:rate5m[$__range]) / avg_over_time({prefix}:all:rate5m[$__range])"
    return Panel(
        objective.title,
        (Query(share, objective.title),),
        "percentunit",
        says=f"{objective.promise} Shown for the time range above, all pods together.\n\n"
        "**What to do.** Below it: the runbook; the panel beside says how fast it goes.",
        runbook=objective.page,
        kind="stat",
        width=4,
        height=5,
        limits=(Limit(round(1 - 2 * objective.budget, 6), "bad", below=True), Limit(objective.promised, "warning", below=True)),
    )  # fmt: skip


CALLS: Final = Dashboard(
    "calls",
    "Calls",
    "Is the service good? What is promised, what callers notice, and how calls end.",
    (
        Row(
            "What is promised",
            (
                *(_promise(objective) for objective in OBJECTIVES),
                Panel(
                    "Alerts", (Query('count(ALERTS{alertstate="firing"}) or vector(0)', "firing"),), "short",
                    says="Alerts that fire now, of any kind.\n\n**What to do.** Open Alertmanager; each alert names its runbook.",
                    kind="stat", width=4, height=5, limits=(Limit(1, "bad"),),
                ),
                Panel(
                    "How fast the allowances go",
                    tuple(
                        Query(f"{one.ratio('1h')} / {one.budget:g}", one.title) for one in OBJECTIVES
                    ),
                    "short", says=_BURN, runbook="calls", width=24, height=6,
                    limits=(Limit(1, "warning"), Limit(14.4, "bad")),
                ),
            ),
        ),
        Row(
            "Calls now",
            (
                Panel(
                    "Calls with audio", totals_by("offhook_media_sessions", "provider"), "short",
                    metric="offhook_media_sessions", runbook="capacity", stacked=True,
                    link=("Calls in progress", "${offhook}/calls?active=true"),
                ),
                Panel(
                    "Open in the records", (
                        Query(total("offhook_calls_active", how="max"), "open"),
                        Query(total("offhook_media_sessions"), "with audio"),
                    ), "short", metric="offhook_calls_active", runbook="calls",
                ),
                Panel(
                    "May begin", rates_by("offhook_call_leases_total", "outcome", times="60"), "cpm",
                    metric="offhook_call_leases_total", runbook="webhooks", stacked=True,
                ),
            ),
        ),
        Row(
            "How calls end",
            (
                Panel(
                    "Ended, a minute", rates_by("offhook_calls_ended_total", "status", times="60"), "cpm",
                    metric="offhook_calls_ended_total", runbook="calls", stacked=True,
                ),
                Panel(
                    "Ended by whose fault, a minute", rates_by("offhook_call_ends_total", "fault", times="60"), "cpm",
                    metric="offhook_call_ends_total", runbook="calls", stacked=True,
                ),
                Panel(
                    "Reasons, in this time range",
                    (Query(f"sort_desc(sum by (reason) (increase(offhook_call_ends_total{{{CHOSEN}}}[$__range])) > 0)", "{{reason}}"),),
                    "short", metric="offhook_call_ends_total", runbook="calls", kind="bars",
                    link=("These calls", "${offhook}/calls?end_reason=${__field.labels.reason}"),
                ),
            ),
        ),
        Row(
            "What the caller waits for",
            (
                Panel(
                    "Until there are instructions", quantiles("offhook_instructions_seconds", 0.5, 0.99, exemplars=True), "s",
                    metric="offhook_instructions_seconds", runbook="webhooks", limits=(Limit(0.025, "warning"), Limit(0.1, "bad")),
                ),
                Panel(
                    "An agent takes the call", quantiles("offhook_agent_connect_seconds", 0.5, 0.95, exemplars=True), "s",
                    metric="offhook_agent_connect_seconds", runbook="agents", limits=(Limit(1, "warning"), Limit(2, "bad")),
                ),
                Panel(
                    "The agent answers", quantiles("offhook_response_seconds", 0.5, 0.95, exemplars=True), "s",
                    metric="offhook_response_seconds", runbook="agents", limits=(Limit(1.5, "warning"), Limit(3, "bad")),
                ),
            ),
        ),
        Row(
            "The record",
            (
                Panel(
                    "From event to record", quantiles("offhook_call_event_age_seconds", 0.5, 0.99, exemplars=True), "s",
                    metric="offhook_call_event_age_seconds", runbook="records", limits=(Limit(0.5, "bad"),),
                ),
                Panel(
                    "Events by what became of them", rates_by("offhook_call_events_total", "outcome"), "ops",
                    metric="offhook_call_events_total", runbook="records", stacked=True,
                ),
                Panel(
                    "Calls the provider was asked about, a minute", rates_by("offhook_call_looks_total", "reason", times="60"), "cpm",
                    metric="offhook_call_looks_total", runbook="calls", stacked=True,
                ),
            ),
        ),
        Row(
            "The caller survives",
            (
                Panel(
                    "Agents lost, a minute", (Query(rate("offhook_agents_lost_total", "agent_protocol", times="60"), "{{agent_protocol}}"),), "cpm",
                    metric="offhook_agents_lost_total", runbook="agents", width=12,
                ),
                Panel(
                    "Calls that went on, a minute", rates_by("offhook_media_resumes_total", "reason", times="60"), "cpm",
                    metric="offhook_media_resumes_total", runbook="agents", width=12,
                ),
            ),
        ),
    ),
)  # fmt: skip
# ruff: noqa: E501 - a panel's question is one line
