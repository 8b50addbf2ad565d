"""*Providers*: is a carrier failing?"""
# ruff: noqa: E501 - a panel's question is one line

from typing import Final

from offhook_dev.dashboards.panels import Dashboard, Limit, Panel, Query, Row
from offhook_dev.dashboards.queries import quantile_by, rate, rates_by

_ERRORS: Final = (
    "The share of REST requests that failed on the provider's side: unavailable, an answer that was lost, or none in time."
    "\n\n**What to do.** One provider only: its status page, and the runbook. All: our way out (egress policy, DNS, NAT)."
)

PROVIDERS: Final = Dashboard(
    "providers",
    "Providers",
    "Is a carrier failing? What providers send, what is not believed, and how their REST APIs answer.",
    (
        Row(
            "What providers send",
            (
                Panel(
                    "Webhooks", rates_by("offhook_webhooks_total", "provider, outcome"), "reqps",
                    metric="offhook_webhooks_total", runbook="webhooks", stacked=True, link=("Webhook log", "${offhook}/webhooks"),
                ),
                Panel(
                    "Webhooks by kind", rates_by("offhook_webhooks_total", "kind"), "reqps",
                    metric="offhook_webhooks_total", runbook="webhooks", stacked=True,
                ),
                Panel(
                    "Time to the answer, p99", quantile_by(0.99, "offhook_webhook_seconds", "kind", exemplars=True), "s",
                    metric="offhook_webhook_seconds", runbook="webhooks", limits=(Limit(0.1, "warning"), Limit(1, "bad")),
                ),
            ),
        ),
        Row(
            "What is not believed",
            (
                Panel(
                    "Webhooks refused, a minute", rates_by("offhook_webhooks_refused_total", "provider, reason", times="60"), "cpm",
                    metric="offhook_webhooks_refused_total", runbook="webhooks", stacked=True, link=("Webhook log", "${offhook}/webhooks"),
                ),
                Panel(
                    "Audio refused, a minute", rates_by("offhook_media_refused_total", "provider, reason", times="60"), "cpm",
                    metric="offhook_media_refused_total", runbook="audio", stacked=True,
                ),
                Panel(
                    "Credentials that do not open, a minute", rates_by("offhook_credentials_unreadable_total", "provider", times="60"), "cpm",
                    metric="offhook_credentials_unreadable_total", runbook="webhooks", limits=(Limit(0.01, "bad"),),
                ),
            ),
        ),
        Row(
            "What they are told",
            (
                Panel(
                    "Instructions", rates_by("offhook_instructions_total", "kind"), "reqps",
                    metric="offhook_instructions_total", runbook="webhooks", stacked=True,
                ),
                Panel(
                    "Why not to connect, a minute", rates_by("offhook_instructions_total", "reason", labels='reason!=""', times="60"), "cpm",
                    metric="offhook_instructions_total", runbook="webhooks", stacked=True,
                ),
                Panel(
                    "Time to instructions, p99", quantile_by(0.99, "offhook_instructions_seconds", "provider", exemplars=True), "s",
                    metric="offhook_instructions_seconds", runbook="webhooks", limits=(Limit(0.025, "warning"), Limit(0.1, "bad")),
                ),
            ),
        ),
        Row(
            "Their REST APIs",
            (
                Panel(
                    "Requests", rates_by("offhook_provider_requests_total", "provider, outcome"), "reqps",
                    metric="offhook_provider_requests_total", runbook="providers", stacked=True,
                ),
                Panel(
                    "Share that fails",
                    (
                        Query(
                            "1 - " + rate("offhook_provider_requests_total", "provider", 'outcome!~"unavailable|unknown-outcome|unanswered"')
                            + " / " + rate("offhook_provider_requests_total", "provider"),
                            "{{provider}}",
                        ),
                    ),
                    "percentunit", says=_ERRORS, runbook="providers", limits=(Limit(0.05, "warning"), Limit(0.2, "bad")), highest=1,
                ),
                Panel(
                    "Time to their answer, p95", quantile_by(0.95, "offhook_provider_request_seconds", "provider, operation", exemplars=True), "s",
                    metric="offhook_provider_request_seconds", runbook="providers", limits=(Limit(1, "warning"), Limit(5, "bad")),
                ),
                Panel(
                    "Commands, a minute", rates_by("offhook_commands_total", "provider, command, outcome", times="60"), "cpm",
                    metric="offhook_commands_total", runbook="providers", stacked=True, width=12,
                ),
                Panel(
                    "Throttled, a minute", rates_by("offhook_provider_throttled_total", "provider", times="60"), "cpm",
                    metric="offhook_provider_throttled_total", runbook="providers", width=12, limits=(Limit(1, "warning"),),
                ),
            ),
        ),
        Row(
            "Their calls",
            (
                Panel(
                    "Ended, a minute", rates_by("offhook_calls_ended_total", "provider, direction, status", times="60"), "cpm",
                    metric="offhook_calls_ended_total", runbook="providers", stacked=True,
                ),
                Panel(
                    "Ended by a fault of carrier or account, a minute", rates_by("offhook_call_ends_total", "provider, reason", labels='fault=~"carrier|account"', times="60"), "cpm",
                    metric="offhook_call_ends_total", runbook="providers", stacked=True,
                    link=("These calls", "${offhook}/calls?provider=${__field.labels.provider}&end_reason=${__field.labels.reason}"),
                ),
                Panel(
                    "Gaps in the caller's audio, a minute", rates_by("offhook_media_gaps_total", "provider", times="60"), "cpm",
                    metric="offhook_media_gaps_total", runbook="audio",
                ),
            ),
        ),
    ),
)  # fmt: skip
