"""Alerts on what is behind it: each is something a person has to do something about, soon (`page`) or some day (`ticket`)."""
# ruff: noqa: E501 - one sentence of the table is one line

from typing import Final

from offhook_dev.alerting.alert import Alert, happened, quantile, share

_JOBS: Final = ("webhook-gateway", "media-bridge", "call-tracker", "number-sync")
_ANY_JOB: Final = "|".join((*_JOBS, "recorder"))

_AWAY: Final = "\nor\n".join(
    (f'max by (job) (up{{job=~"{"|".join(_JOBS)}"}}) == 0', *(f'absent(up{{job="{job}"}})' for job in _JOBS))
)

# Of the bridges that take calls: what a draining one carries is in nobody's way.
_LIVE: Final = "and on (instance) offhook_draining == 0"
_FULLNESS: Final = f"sum(offhook_media_sessions {_LIVE}) / sum(offhook_media_capacity {_LIVE})"
_NO_ROOM: Final = 'offhook_media_refused_total{reason="capacity"}'

CAUSES: Final = (
    # --- processes
    Alert(
        "ServiceAway", _AWAY, "2m", "page", "processes",
        "No process of {{ $labels.job }} can be scraped: it is down, or Prometheus cannot reach it.",
    ),
    Alert(
        "BridgeAway", 'up{job="media-bridge"} == 0', "5m", "page", "processes",
        "{{ $labels.job }} at {{ $labels.instance }} cannot be scraped: it hangs or is away, and its callers hear nothing.",
    ),
    Alert(
        "ProcessAway", f'up{{job=~"{_ANY_JOB}",job!="media-bridge"}} == 0', "5m", "ticket", "processes",
        "{{ $labels.job }} at {{ $labels.instance }} cannot be scraped: it hangs, is down, or Prometheus cannot reach it.",
    ),
    Alert(
        "NobodyReady", "max by (job) (offhook_ready) == 0", "2m", "page", "processes",
        "No process of {{ $labels.job }} is ready to be given work.",
    ),
    Alert(
        "ProcessNotReady", "offhook_ready == 0 and on (instance) offhook_draining == 0", "10m", "ticket", "processes",
        "{{ $labels.job }} at {{ $labels.instance }} has not been ready for ten minutes.",
    ),
    Alert(
        "RestartsInARow", f'changes(process_start_time_seconds{{job=~"{_ANY_JOB}"}}[30m]) > 3', "0m", "ticket", "processes",
        "{{ $labels.job }} at {{ $labels.instance }} was started again more than three times within half an hour.",
    ),
    Alert(
        "DrainStuck", 'min_over_time(offhook_draining{job="media-bridge"}[3h30m]) == 1 and on (instance) sum by (instance) (offhook_media_sessions) > 0', "1m", "ticket", "processes",
        "{{ $labels.job }} at {{ $labels.instance }} has been about to end for three and a half hours; what it carries after four is handed over.",
    ),
    Alert(
        "EventLoopLate", quantile(0.99, "offhook_event_loop_lag_seconds", by="job, instance") + " > 0.1", "10m", "ticket", "processes",
        "Everything in {{ $labels.job }} at {{ $labels.instance }} happens 100 ms late or later.",
    ),
    Alert(
        "TwoVersions", "count(count by (version) (offhook_build_info)) > 1", "6h", "ticket", "processes",
        "Two versions have been running beside each other for hours: a roll-out has not finished.",
    ),
    # --- webhooks
    Alert(
        "SignaturesRefused",
        share('offhook_webhooks_refused_total{provider!="unknown"}', 'offhook_webhooks_total{provider!="unknown"}', by="provider") + " > 0.2", "5m", "page", "webhooks",
        "More than a fifth of what claims to come from {{ $labels.provider }} is not believed: its calls fail.",
    ),
    Alert(
        "FallbackUrlUsed", happened('offhook_webhooks_total{kind="fallback"}', "10m", "provider"), "0m", "ticket", "webhooks",
        "{{ $labels.provider }} used the fallback URL: it could not reach the gateway, or did not like its answer.",
    ),
    Alert(
        "CredentialsUnreadable", happened("offhook_credentials_unreadable_total", "10m", "provider"), "0m", "page", "webhooks",
        "Sealed credentials of {{ $labels.provider }} do not open with the gateway's keyring: these accounts' calls are refused.",
    ),
    Alert(
        "CallsTurnedAway",
        share('offhook_instructions_total{reason=~"number-unknown|number-inactive|number-without-workflow|configuration-paused|workflow-unknown|limit-reached|no-public-url|reconnect-limit"}', "offhook_instructions_total", by="provider") + " > 0.1", "10m", "ticket", "webhooks",
        "More than a tenth of the questions of {{ $labels.provider }} are answered with a refusal.",
    ),
    # --- calls
    Alert(
        "CallsFailAtProvider",
        share('offhook_call_ends_total{fault=~"carrier|account"}', "offhook_call_ends_total", by="provider", over="30m", at_least=0.01) + " > 0.2", "10m", "page", "providers",
        "More than a fifth of the calls of {{ $labels.provider }} end with a fault of the carrier or of the account.",
    ),
    Alert(
        "CallbacksAreLost",
        'sum(increase(offhook_call_looks_total{reason="silence"}[1h])) / (sum(increase(offhook_call_ends_total[1h])) > 20) > 0.1', "10m", "ticket", "calls",
        "For more than a tenth of the calls the provider had to be asked what became of them.",
    ),
    Alert(
        "CallsGivenUp", happened('offhook_call_looks_total{reason="given-up"}', "1h"), "0m", "ticket", "calls",
        "Calls were ended in the records because nobody could say anything about them for longer than a call lasts.",
    ),
    Alert(
        "CallsNeverEnd", "max(offhook_calls_active) > 2 * sum(offhook_media_sessions) + 50", "1h", "ticket", "calls",
        "Far more calls are open in the records than have audio.",
    ),
    # --- agents
    Alert(
        "AgentsUnreachable",
        share('offhook_agent_connects_total{outcome!="connected"}', "offhook_agent_connects_total", by="agent_protocol") + " > 0.2", "5m", "page", "agents",
        "More than a fifth of the attempts to reach an agent fail ({{ $labels.agent_protocol }}): callers wait, then hear the fallback.",
    ),
    Alert(
        "AgentsSlowToConnect", quantile(0.95, "offhook_agent_connect_seconds", over="10m") + " > 2", "10m", "ticket", "agents",
        "One caller in twenty waits longer than 2 s in silence before an agent takes the call.",
    ),
    Alert(
        "AgentsSlowToAnswer", quantile(0.95, "offhook_response_seconds", by="agent_protocol", over="10m") + " > 3", "15m", "ticket", "agents",
        "One answer in twenty comes later than 3 s after the caller's words ({{ $labels.agent_protocol }}).",
    ),
    Alert(
        "AgentsLost", "sum(rate(offhook_agents_lost_total[10m])) * 60 > 0.05 * sum(offhook_media_sessions)", "10m", "ticket", "agents",
        "Every minute, more than one live call in twenty loses its agent.",
    ),
    # --- audio
    Alert(
        "BridgesNearlyFull", f"{_FULLNESS} > 0.8", "5m", "page", "capacity",
        "The bridges carry more than 80 % of the calls they take; soon callers are turned away.",
    ),
    Alert(
        "CallersTurnedAway", f"({happened(_NO_ROOM, '5m')}) and {_FULLNESS} > 0.95 or sum(increase({_NO_ROOM}[10m])) > 60", "0m", "page", "capacity",
        "Bridges refuse calls because they are full, and no other takes them.",
    ),
    Alert(
        "BridgeFull", happened(_NO_ROOM, "5m"), "0m", "ticket", "capacity",
        "A bridge was full and refused a call; the caller noticed nothing where the proxy tries another bridge.",
    ),
    Alert(
        "AudioRefused", 'sum by (reason) (increase(offhook_media_refused_total{reason!~"capacity|draining|no-such-path|signature-missing|run-ended"}[10m])) > 10', "5m", "ticket", "audio",
        "Bridges turn audio away ({{ $labels.reason }}): these callers hear nothing.",
    ),
    Alert(
        "AudioHasGaps",
        'sum by (provider) (rate(offhook_media_gaps_total[10m])) * 60 / on () group_left () (sum(rate(offhook_media_frames_total{direction="uplink"}[10m])) / 50 > 1) > 1', "10m", "ticket", "audio",
        "Caller audio of {{ $labels.provider }} has more than one gap a minute for each call.",
    ),
    Alert(
        "AgentsRunDry",
        'sum(rate(offhook_media_underruns_total[10m])) * 60 / (sum(rate(offhook_media_frames_total{direction="downlink"}[10m])) / 50 > 1) > 2', "10m", "ticket", "audio",
        "Agents' speech runs dry more than twice a minute of speech.",
    ),
    # --- Kafka and what waits for it
    Alert(
        "KafkaRefuses", "sum by (job) (rate(offhook_bus_publish_failures_total[5m])) > 0.05", "2m", "page", "kafka",
        "{{ $labels.job }} cannot publish: Kafka is away or has too few in-sync replicas.",
    ),
    Alert(
        "KafkaSlow", quantile(0.99, "offhook_bus_publish_seconds", by="job") + " > 0.5", "10m", "ticket", "kafka",
        "Kafka takes longer than 0.5 s to acknowledge one in a hundred events of {{ $labels.job }}.",
    ),
    Alert(
        "SpoolFills", "max by (job, instance) (offhook_spool_bytes / offhook_spool_limit_bytes) > 0.5", "1m", "page", "kafka",
        "The spool of {{ $labels.job }} at {{ $labels.instance }} is more than half full.",
    ),
    Alert(
        "SpoolDoesNotDrain", "min_over_time(offhook_spool_events[15m]) > 0 unless on (job) sum by (job) (rate(offhook_bus_publish_failures_total[5m])) > 0", "5m", "ticket", "kafka",
        "Events have been in the spool of {{ $labels.job }} at {{ $labels.instance }} for a quarter of an hour although Kafka takes others.",
    ),
    Alert(
        "EventsNotDurable", happened("offhook_outlet_refused_total", "5m", "job"), "0m", "page", "kafka",
        "{{ $labels.job }} has events that neither Kafka nor the spool took; their requests were not acknowledged.",
    ),
    Alert(
        "DirectoryEmptied",
        "offhook_directory_entries < 0.5 * (offhook_directory_entries offset 1h > 10) and on (instance, topic) offhook_directory_ready == 1", "5m", "page", "kafka",
        "{{ $labels.instance }} holds less than half of the entries of {{ $labels.topic }} it held an hour ago.",
    ),
    # --- consumers
    Alert(
        "ConsumerStopped", "max by (job, topic, group) (offhook_bus_fuse_blown) == 1", "0m", "page", "consumers",
        "{{ $labels.group }} has stopped reading {{ $labels.topic }}: too many records in a row were poison.",
    ),
    Alert(
        "ConsumerStuck",
        "sum by (job, instance, topic, group) (offhook_bus_lag) > 0 and sum by (job, instance, topic, group) (rate(offhook_bus_consumed_total[5m])) == 0", "5m", "page", "consumers",
        "{{ $labels.group }} at {{ $labels.instance }} has records of {{ $labels.topic }} to read and reads none.",
    ),
    Alert(
        "ConsumerBehind", quantile(0.5, "offhook_bus_event_age_seconds", by="topic, group") + " > 30", "10m", "ticket", "consumers",
        "{{ $labels.group }} handles events of {{ $labels.topic }} half a minute after they happened, or later.",
    ),
    Alert(
        "BatchesFail", "sum by (job, topic, group) (rate(offhook_bus_retries_total[5m])) > 0.02", "5m", "ticket", "consumers",
        "{{ $labels.group }} fails at batches of {{ $labels.topic }} and tries them again.",
    ),
    Alert(
        "DeadLetters", happened("offhook_bus_dead_letters_total", "15m", "topic, group"), "0m", "ticket", "consumers",
        "Records of {{ $labels.topic }} could not be understood by {{ $labels.group }} and are among the dead letters.",
    ),
    Alert(
        "NoticesUnheard", happened("offhook_bus_unheard_total", "15m", "topic"), "0m", "ticket", "consumers",
        "Notices of {{ $labels.topic }} could not be read: an agent was not told something about its call.",
    ),
    # --- stores and Redis
    Alert(
        "StoreFails", "sum by (job) (rate(offhook_store_errors_total[5m])) > 0.02", "5m", "page", "stores",
        "The database of {{ $labels.job }} refuses or does not answer.",
    ),
    Alert(
        "OutboxWaits", "min_over_time(offhook_outbox_pending[10m]) > 100", "5m", "ticket", "stores",
        "{{ $labels.job }} has stored changes that have been waiting for Kafka for ten minutes.",
    ),
    Alert(
        "RedisAway", "sum by (job) (rate(offhook_redis_errors_total[5m])) > 0.05", "5m", "page", "stores",
        "{{ $labels.job }} does without Redis: no replay guard, no limits, no session fencing.",
    ),
    # --- providers and numbers
    Alert(
        "ProviderRefuses",
        share('offhook_provider_requests_total{outcome=~"unavailable|unknown-outcome|unanswered"}', "offhook_provider_requests_total", by="provider") + " > 0.2", "5m", "page", "providers",
        "More than a fifth of the REST requests to {{ $labels.provider }} fail: outbound calls cannot be made, numbers not be set.",
    ),
    Alert(
        "ProviderSlow", quantile(0.95, "offhook_provider_request_seconds", by="provider", over="10m") + " > 5", "10m", "ticket", "providers",
        "{{ $labels.provider }} takes longer than 5 s for one REST request in twenty.",
    ),
    Alert(
        "ProviderThrottles", "sum by (provider) (increase(offhook_provider_throttled_total[30m])) > 10", "10m", "ticket", "providers",
        "{{ $labels.provider }} refuses REST requests because there are too many.",
    ),
    Alert(
        "CredentialsRefused", happened('offhook_provider_requests_total{outcome="credentials"}', "15m", "provider"), "0m", "ticket", "providers",
        "{{ $labels.provider }} does not accept an account's credentials any more.",
    ),
    Alert(
        "CommandsFail",
        share('offhook_commands_total{outcome="failed"}', "offhook_commands_total", by="provider, command") + " > 0.2", "10m", "ticket", "providers",
        "More than a fifth of the commands {{ $labels.command }} fail at {{ $labels.provider }}.",
    ),
    Alert(
        "NumbersNotInSync", 'max by (state) (offhook_numbers{state=~"failed|drifted|pending"}) > 0', "30m", "ticket", "numbers",
        "Phone numbers have been {{ $labels.state }} for half an hour: calls to them may go astray.",
    ),
    Alert(
        "NumbersDriftAgain", 'sum by (provider) (increase(offhook_number_drift_total{outcome="found"}[6h])) > 5', "0m", "ticket", "numbers",
        "Somebody else keeps changing numbers at {{ $labels.provider }}.",
    ),
    # --- recordings
    Alert(
        "RecordingsHaveGaps", happened('offhook_media_taps_total{outcome="dropped"}', "15m"), "0m", "ticket", "recordings",
        "Seconds of calls that are to be recorded were dropped.",
    ),
    Alert(
        "RecorderDoesNotStore",
        'sum(increase(offhook_media_taps_total{outcome="sent"}[15m])) > 30 unless sum(increase(offhook_recorder_taps_total[15m])) > 0', "15m", "page", "recordings",
        "Audio is sent to the recorder and none is stored; after an hour it is lost.",
    ),
)  # fmt: skip
