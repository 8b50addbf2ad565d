"""*Pipeline*: does everything that happens reach everybody who has to know?"""
# ruff: noqa: E501 - a panel's question is one line

from typing import Final

from offhook_dev.dashboards.panels import Dashboard, Limit, Panel, Query, Row
from offhook_dev.dashboards.queries import CHOSEN, quantile_by, quantiles, rates_by, series, total, totals_by

PIPELINE: Final = Dashboard(
    "pipeline",
    "Pipeline",
    "Does everything that happens reach everybody who has to know? Kafka, the spool, readers, dead letters, stores, processes.",
    (
        Row(
            "Into Kafka",
            (
                Panel(
                    "Acknowledged", rates_by("offhook_bus_published_total", "topic"), "ops",
                    metric="offhook_bus_published_total", runbook="kafka", stacked=True,
                ),
                Panel(
                    "Time to the acknowledgement", quantiles("offhook_bus_publish_seconds", 0.5, 0.99), "s",
                    metric="offhook_bus_publish_seconds", runbook="kafka", limits=(Limit(0.1, "warning"), Limit(0.5, "bad")),
                ),
                Panel(
                    "Not acknowledged, a minute", rates_by("offhook_bus_publish_failures_total", "job, topic", times="60"), "cpm",
                    metric="offhook_bus_publish_failures_total", runbook="kafka", limits=(Limit(1, "bad"),),
                ),
                Panel(
                    "Made durable", rates_by("offhook_outlet_events_total", "job, destination"), "ops",
                    metric="offhook_outlet_events_total", runbook="kafka", stacked=True,
                ),
                Panel(
                    "In the spool", totals_by("offhook_spool_events", "job, instance"), "short",
                    metric="offhook_spool_events", runbook="kafka", limits=(Limit(1, "warning"),),
                ),
                Panel(
                    "How full the spool is", (Query(f"{series('offhook_spool_bytes')} / {series('offhook_spool_limit_bytes')}", "{{job}} · {{instance}}"),), "percentunit",
                    metric="offhook_spool_bytes", runbook="kafka", limits=(Limit(0.1, "warning"), Limit(0.5, "bad")), highest=1,
                ),
                Panel(
                    "Neither Kafka nor spool took it, a minute", rates_by("offhook_outlet_refused_total", "job", times="60"), "cpm",
                    metric="offhook_outlet_refused_total", runbook="kafka", limits=(Limit(0.01, "bad"),),
                ),
                Panel(
                    "Webhook log lost, a minute", rates_by("offhook_webhook_audits_dropped_total", "job", times="60"), "cpm",
                    metric="offhook_webhook_audits_dropped_total", runbook="kafka",
                ),
                Panel(
                    "Waiting in outboxes", totals_by("offhook_outbox_pending", "job"), "short",
                    metric="offhook_outbox_pending", runbook="stores", limits=(Limit(100, "warning"),),
                ),
            ),
        ),
        Row(
            "Out of Kafka",
            (
                Panel(
                    "Behind, in records", totals_by("offhook_bus_lag", "topic, group"), "short",
                    metric="offhook_bus_lag", runbook="consumers",
                ),
                Panel(
                    "Behind, in time (p99)", quantile_by(0.99, "offhook_bus_event_age_seconds", "topic, group"), "s",
                    metric="offhook_bus_event_age_seconds", runbook="consumers", limits=(Limit(0.5, "warning"), Limit(30, "bad")),
                ),
                Panel(
                    "Handled", rates_by("offhook_bus_consumed_total", "topic, group"), "ops",
                    metric="offhook_bus_consumed_total", runbook="consumers", stacked=True,
                ),
                Panel(
                    "A batch takes, p99", quantile_by(0.99, "offhook_bus_batch_seconds", "topic, group"), "s",
                    metric="offhook_bus_batch_seconds", runbook="consumers", limits=(Limit(1, "warning"),),
                ),
                Panel(
                    "Batches that failed, a minute", rates_by("offhook_bus_retries_total", "topic, group", times="60"), "cpm",
                    metric="offhook_bus_retries_total", runbook="consumers", limits=(Limit(1, "bad"),),
                ),
                Panel(
                    "Dead letters, a minute", rates_by("offhook_bus_dead_letters_total", "topic, group", times="60"), "cpm",
                    metric="offhook_bus_dead_letters_total", runbook="consumers", limits=(Limit(0.01, "bad"),),
                    link=("Dead letters", "${offhook}/dead-letters"),
                ),
                Panel(
                    "Readers that have stopped", (Query(f"max by (topic, group) ({series('offhook_bus_fuse_blown')})", "{{topic}} · {{group}}"),), "short",
                    metric="offhook_bus_fuse_blown", runbook="consumers", kind="bars", limits=(Limit(1, "bad"),), highest=1,
                ),
                Panel(
                    "Notices nobody heard, a minute", rates_by("offhook_bus_unheard_total", "topic", times="60"), "cpm",
                    metric="offhook_bus_unheard_total", runbook="consumers",
                ),
                Panel(
                    "Directories: entries", (Query(f"min by (job, topic) ({series('offhook_directory_entries')})", "{{job}} · {{topic}}"),), "short",
                    metric="offhook_directory_entries", runbook="kafka",
                ),
            ),
        ),
        Row(
            "Stores and Redis",
            (
                Panel(
                    "Database errors, a minute", rates_by("offhook_store_errors_total", "job, operation", times="60"), "cpm",
                    metric="offhook_store_errors_total", runbook="stores", limits=(Limit(1, "bad"),),
                ),
                Panel(
                    "Redis errors, a minute", rates_by("offhook_redis_errors_total", "job, operation", times="60"), "cpm",
                    metric="offhook_redis_errors_total", runbook="stores", limits=(Limit(3, "bad"),),
                ),
                Panel(
                    "Directories that have caught up", (Query(f"min by (job, topic) ({series('offhook_directory_ready')})", "{{job}} · {{topic}}"),), "short",
                    metric="offhook_directory_ready", runbook="kafka", kind="bars", limits=(Limit(1, "bad", below=True),), highest=1,
                ),
            ),
        ),
        Row(
            "Processes",
            (
                Panel(
                    "Ready", totals_by("offhook_ready", "job"), "short",
                    metric="offhook_ready", runbook="processes",
                ),
                Panel(
                    "About to end", totals_by("offhook_draining", "job"), "short",
                    metric="offhook_draining", runbook="processes",
                ),
                Panel(
                    "Versions", (Query(f"count by (job, version) ({series('offhook_build_info')})", "{{job}} · {{version}}"),), "short",
                    metric="offhook_build_info", runbook="processes", kind="bars",
                ),
                Panel(
                    "Event loop late, p99", quantile_by(0.99, "offhook_event_loop_lag_seconds", "job"), "s",
                    metric="offhook_event_loop_lag_seconds", runbook="processes", limits=(Limit(0.02, "warning"), Limit(0.1, "bad")),
                ),
                Panel(
                    "HTTP answers that are our fault, a minute", rates_by("offhook_http_requests_total", "job, route, status", labels='status=~"5.."', times="60"), "cpm",
                    metric="offhook_http_requests_total", runbook="processes", limits=(Limit(1, "warning"),),
                ),
                Panel(
                    "HTTP answers, p99", quantile_by(0.99, "offhook_http_request_seconds", "job"), "s",
                    metric="offhook_http_request_seconds", runbook="processes", limits=(Limit(1, "warning"),),
                ),
                Panel(
                    "HTTP requests", rates_by("offhook_http_requests_total", "job, status"), "reqps",
                    metric="offhook_http_requests_total", runbook="processes", stacked=True,
                ),
                Panel(
                    "Open files, of what is allowed", (Query(f"max by (job, instance) (process_open_fds{{{CHOSEN}}} / process_max_fds{{{CHOSEN}}})", "{{job}} · {{instance}}"),), "percentunit",
                    says="Open files and sockets as a share of what the process may have; each call needs two on a bridge.\n\n"
                    "**What to do.** Above 0.8: raise the limit, or find what is not closed.",
                    runbook="processes", limits=(Limit(0.5, "warning"), Limit(0.8, "bad")), highest=1,
                ),
                Panel(
                    "Processes scraped", (Query(f"{total('up', 'job')}", "{{job}}"),), "short",
                    says="Processes of each service that Prometheus reaches.\n\n**What to do.** Fewer than there should be:"
                    " the process is down, or a network policy keeps Prometheus out.",
                    runbook="processes",
                ),
            ),
        ),
    ),
)  # fmt: skip
