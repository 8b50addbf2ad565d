"""*Media*: is the audio good, and is there room?"""
# ruff: noqa: E501 - a panel's question is one line

from typing import Final

from offhook_dev.dashboards.panels import Dashboard, Limit, Panel, Query, Row
from offhook_dev.dashboards.queries import quantile_by, quantiles, rate, rates_by, series, total, totals_by

_BRIDGE: Final = 'job="media-bridge"'
_CPU: Final = (
    "Processor time the bridges use for each call with audio.\n\n**What to do.** It is near 0.0015 (600 calls a core) in the"
    " benchmark. Much more: recorded calls, another sample rate, or neighbours on the node."
)
_MEMORY: Final = (
    "Memory of each bridge. The budget is 200 KB for each call over what an idle one needs.\n\n**What to do.** Rising while calls"
    " do not: something is kept. Delete that pod (its calls go on until they end), and tell with which kind of calls it grew."
)
_FULL: Final = (
    "Calls as a share of what the bridges take.\n\n**What to do.** Above 0.8: more bridges now; the autoscaler should have"
    " done so, see the runbook."
)

MEDIA: Final = Dashboard(
    "media",
    "Media",
    "Is the audio good, and is there room? What the bridges carry, hold back and lose.",
    (
        Row(
            "Room",
            (
                Panel(
                    "Calls on each bridge", totals_by("offhook_media_sessions", "instance"), "short",
                    metric="offhook_media_sessions", runbook="capacity", stacked=True,
                ),
                Panel(
                    "How full", (Query(f"{total('offhook_media_sessions')} / {total('offhook_media_capacity')}", "used"),), "percentunit",
                    says=_FULL, runbook="capacity", limits=(Limit(0.6, "warning"), Limit(0.8, "bad")), highest=1,
                ),
                Panel(
                    "Processor for a call", (Query(f"{rate('process_cpu_seconds_total', labels=_BRIDGE)} / ({total('offhook_media_sessions')} > 0)", "cores a call"),), "short",
                    says=_CPU, runbook="capacity",
                ),
                Panel(
                    "Memory", (Query(series("process_resident_memory_bytes", _BRIDGE), "{{instance}}"),), "bytes",
                    says=_MEMORY, runbook="capacity", width=12,
                ),
                Panel(
                    "Event loop late, p99", quantile_by(0.99, "offhook_event_loop_lag_seconds", "instance", _BRIDGE), "s",
                    metric="offhook_event_loop_lag_seconds", runbook="audio", width=12, limits=(Limit(0.02, "bad"),),
                ),
            ),
        ),
        Row(
            "Audio",
            (
                Panel(
                    "Held back", quantiles("offhook_media_held_seconds", 0.5, 0.99, exemplars=True), "s",
                    metric="offhook_media_held_seconds", runbook="audio", limits=(Limit(0.01, "bad"),),
                ),
                Panel(
                    "Frames", rates_by("offhook_media_frames_total", "direction"), "ops",
                    metric="offhook_media_frames_total", runbook="audio",
                ),
                Panel(
                    "Gaps from the caller, a minute", rates_by("offhook_media_gaps_total", "provider", times="60"), "cpm",
                    metric="offhook_media_gaps_total", runbook="audio",
                ),
                Panel(
                    "Agents that ran dry, a minute", rates_by("offhook_media_underruns_total", "provider", times="60"), "cpm",
                    metric="offhook_media_underruns_total", runbook="audio",
                ),
                Panel(
                    "Interruptions, a minute", rates_by("offhook_media_interruptions_total", "provider", times="60"), "cpm",
                    metric="offhook_media_interruptions_total", runbook="agents",
                ),
                Panel(
                    "Faults of the protocols, a minute", rates_by("offhook_media_protocol_faults_total", "side, kind", times="60"), "cpm",
                    metric="offhook_media_protocol_faults_total", runbook="audio",
                ),
            ),
        ),
        Row(
            "Sessions",
            (
                Panel(
                    "Ended, a minute", rates_by("offhook_media_sessions_ended_total", "reason", times="60"), "cpm",
                    metric="offhook_media_sessions_ended_total", runbook="audio", stacked=True,
                ),
                Panel(
                    "Turned away, a minute", rates_by("offhook_media_refused_total", "reason", times="60"), "cpm",
                    metric="offhook_media_refused_total", runbook="audio", stacked=True,
                ),
                Panel(
                    "Went on after an interruption, a minute", rates_by("offhook_media_resumes_total", "reason", times="60"), "cpm",
                    metric="offhook_media_resumes_total", runbook="agents", stacked=True,
                ),
            ),
        ),
        Row(
            "Agents",
            (
                Panel(
                    "Dialled, a minute", rates_by("offhook_agent_connects_total", "agent_protocol, outcome", times="60"), "cpm",
                    metric="offhook_agent_connects_total", runbook="agents", stacked=True,
                ),
                Panel(
                    "Until one takes the call, p95", quantile_by(0.95, "offhook_agent_connect_seconds", "agent_protocol", exemplars=True), "s",
                    metric="offhook_agent_connect_seconds", runbook="agents", limits=(Limit(1, "warning"), Limit(2, "bad")),
                ),
                Panel(
                    "Lost, a minute", rates_by("offhook_agents_lost_total", "agent_protocol", times="60"), "cpm",
                    metric="offhook_agents_lost_total", runbook="agents",
                ),
            ),
        ),
        Row(
            "Recordings",
            (
                Panel(
                    "Seconds of audio sent, and lost", rates_by("offhook_media_taps_total", "outcome"), "ops",
                    metric="offhook_media_taps_total", runbook="recordings",
                ),
                Panel(
                    "Seconds stored", rates_by("offhook_recorder_taps_total", "outcome"), "ops",
                    metric="offhook_recorder_taps_total", runbook="recordings",
                ),
                Panel(
                    "Recordings, a minute", (
                        *rates_by("offhook_recordings_total", "outcome", times="60"),
                        Query(rate("offhook_recording_gap_seconds_total", times="60"), "missing seconds"),
                    ), "cpm", metric="offhook_recordings_total", runbook="recordings",
                ),
            ),
        ),
    ),
)  # fmt: skip
