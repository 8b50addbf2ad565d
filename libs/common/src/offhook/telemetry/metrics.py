"""Every metric there is: what it counts, what it means, and what an operator does about it.

The list is data: the reference page, the dashboards and the check of alerts are made from `METRICS`. A metric
belongs to the services that set it, and only they expose it (`offhook.telemetry.exposition`), so a number that
stands still is never another service's.

Names follow Prometheus: base units (seconds, bytes), `_total` for counters. Labels have few values: never an
id, never a phone number. What leads from a figure to a call is its exemplar (`offhook.telemetry.exemplars`).
"""
# ruff: noqa: E501 - one sentence of the table is one line

from dataclasses import dataclass
from typing import Final, Literal

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for every counter, of use to nobody here

Service = Literal["webhook-gateway", "media-bridge", "call-tracker", "number-sync", "recorder"]
SERVICES: Final[tuple[Service, ...]] = (
    "webhook-gateway",
    "media-bridge",
    "call-tracker",
    "number-sync",
    "recorder",
)

_GATEWAY: Final[tuple[Service, ...]] = ("webhook-gateway",)
_BRIDGE: Final[tuple[Service, ...]] = ("media-bridge",)
_TRACKER: Final[tuple[Service, ...]] = ("call-tracker",)
_NUMBERS: Final[tuple[Service, ...]] = ("number-sync",)
_RECORDER: Final[tuple[Service, ...]] = ("recorder",)
_STORES: Final[tuple[Service, ...]] = ("call-tracker", "number-sync", "recorder")
_AGENT_PROTOCOLS: Final = ("pcm", "twilio")
_SPOOLERS: Final[tuple[Service, ...]] = ("webhook-gateway", "media-bridge")

# Upper bounds in seconds. Webhooks and publishes: the budgets are 25 and 50 ms, providers give up after seconds.
_REQUEST_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# Audio held by the bridge: the budget is 10 ms, of which resampling 3 ms; a frame is 20 ms.
_AUDIO_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.04, 0.08, 0.16, 0.5)
# How old an event is when it is handled: milliseconds when all is well, hours after an outage.
_AGE_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
# What people notice while they wait for an agent or a carrier.
_PATIENCE_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 60.0)


@dataclass(frozen=True, slots=True)
class MetricDefinition:
    """One metric as people read about it. `unit` is '' for plain counts; `action` is what an operator does
    about it. `exemplars`: its observations are calls', and lead to their traces. `buckets` are a histogram's upper
    bounds.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    unit: Literal["", "seconds", "bytes"]
    meaning: str
    action: str
    services: tuple[Service, ...]
    buckets: tuple[float, ...] = ()
    exemplars: bool = False


_defined: list[tuple[MetricDefinition, Collector]] = []


def _counter(
    name: str,
    *labels: str,
    meaning: str,
    action: str,
    services: tuple[Service, ...],
    begins: tuple[tuple[str, ...], ...] = (),
) -> Counter:
    """`begins`: values of the labels that are known beforehand. A series that appears with its first increment has not
    grown in Prometheus' eyes; these begin at 0."""
    metric = Counter(name, meaning, labels, registry=None)
    for values in begins:
        metric.labels(*values)
    _defined.append(
        (MetricDefinition(name, "counter", labels, _unit(name), meaning, action, services), metric)
    )
    return metric


def _each(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


def _gauge(name: str, *labels: str, meaning: str, action: str, services: tuple[Service, ...]) -> Gauge:
    metric = Gauge(name, meaning, labels, registry=None)
    _defined.append((MetricDefinition(name, "gauge", labels, _unit(name), meaning, action, services), metric))
    return metric


def _histogram(
    name: str,
    *labels: str,
    buckets: tuple[float, ...],
    meaning: str,
    action: str,
    services: tuple[Service, ...],
    exemplars: bool = False,
) -> Histogram:
    metric = Histogram(name, meaning, labels, buckets=buckets, registry=None)
    definition = MetricDefinition(
        name, "histogram", labels, _unit(name), meaning, action, services, buckets, exemplars
    )
    _defined.append((definition, metric))
    return metric


def _unit(name: str) -> Literal["", "seconds", "bytes"]:
    stem = name.removesuffix("_total")
    return "seconds" if stem.endswith("_seconds") else "bytes" if stem.endswith("_bytes") else ""


# --- every service ---------------------------------------------------------------------------------------------------------

READY: Final = _gauge(
    "offhook_ready",
    meaning="1 while /readyz says that the process may be given work.",
    action="0 for minutes: read /readyz of the pod, it lists what is missing (Kafka, a directory catching up, draining).",
    services=SERVICES,
)
DRAINING: Final = _gauge(
    "offhook_draining",
    meaning="1 while the process is about to end: it takes nothing new and finishes what it has.",
    action="For longer than OFFHOOK_DRAIN_TIMEOUT_S: something does not finish; the log names what is waited for.",
    services=SERVICES,
)
BUILD_INFO: Final = _gauge(
    "offhook_build_info", "version",
    meaning="Always 1; the label says which version runs.",
    action="Two versions at once outside of a roll-out: one did not finish.",
    services=SERVICES,
)  # fmt: skip
HTTP_REQUESTS: Final = _counter(
    "offhook_http_requests_total", "method", "route", "status",
    meaning="HTTP requests answered, by route template.",
    action="Many 5xx: look for tracebacks in the log. Many 401: a client has a wrong API key. Many 413: somebody sends too much.",
    services=SERVICES,
)  # fmt: skip
HTTP_REQUEST_SECONDS: Final = _histogram(
    "offhook_http_request_seconds", "method", "route", buckets=_REQUEST_BUCKETS,
    meaning="From the request's arrival to the end of its answer.",
    action="Providers wait 5 to 15 s for instructions; a p99 above 0.5 s on webhook routes means: more gateway pods.",
    services=SERVICES,
)  # fmt: skip
EVENT_LOOP_LAG_SECONDS: Final = _histogram(
    "offhook_event_loop_lag_seconds", buckets=_AUDIO_BUCKETS,
    meaning="How late the event loop runs a timer: everything else in the process is late by as much.",
    action="p99 above 0.02 on the bridge: audio stutters; fewer calls per pod, or find what blocks the loop.",
    services=SERVICES,
)  # fmt: skip
REDIS_ERRORS: Final = _counter(
    "offhook_redis_errors_total", "operation",
    meaning="Redis operations that failed; calls go on without replay guard and session fencing, agents know less of them.",
    action="Repair Redis soon: until then a captured request or token could be used twice.",
    services=SERVICES,
)  # fmt: skip
CALL_LEASES: Final = _counter(
    "offhook_call_leases_total", "outcome",
    meaning="Calls that asked whether they may begin: granted; full (a limit of the user or the configuration was reached); uncounted (Redis was away, no limit applied).",
    action="full: somebody needs a higher limit, or dials too fast. uncounted: repair Redis, limits do not hold until then.",
    services=(*_GATEWAY, *_TRACKER, *_NUMBERS),
    begins=_each("granted", "full", "uncounted"),
)  # fmt: skip

# --- the bus ---------------------------------------------------------------------------------------------------------------

BUS_PUBLISHED: Final = _counter(
    "offhook_bus_published_total", "topic",
    meaning="Events that Kafka has acknowledged.",
    action="Stands still while there are calls: look at offhook_bus_publish_failures_total and at Kafka.",
    services=SERVICES,
)  # fmt: skip
BUS_PUBLISH_FAILURES: Final = _counter(
    "offhook_bus_publish_failures_total", "topic",
    meaning="Publishes that Kafka did not acknowledge in time.",
    action="Kafka is away or has too few in-sync replicas. Gateway and bridge spool meanwhile; repair Kafka before the spool is full.",
    services=SERVICES,
)  # fmt: skip
BUS_PUBLISH_SECONDS: Final = _histogram(
    "offhook_bus_publish_seconds", "topic", buckets=_REQUEST_BUCKETS,
    meaning="From publish to acknowledgement (acks=all).",
    action="p99 above 0.1 delays the answers to status callbacks: look at the brokers' disks and replication.",
    services=SERVICES,
)  # fmt: skip
BUS_CONSUMED: Final = _counter(
    "offhook_bus_consumed_total", "topic", "group",
    meaning="Records whose effect is stored and whose offset is committed.",
    action="Stands still while offhook_bus_lag grows: the handler fails; the log says why.",
    services=SERVICES,
)  # fmt: skip
BUS_BATCH_SECONDS: Final = _histogram(
    "offhook_bus_batch_seconds", "topic", "group", buckets=_REQUEST_BUCKETS,
    meaning="Handling of one batch, until its offsets may be committed.",
    action="Grows with a slow database: look at the store first.",
    services=SERVICES,
)  # fmt: skip
BUS_LAG: Final = _gauge(
    "offhook_bus_lag", "topic", "group",
    meaning="Records that this process has been assigned and has not consumed yet.",
    action="Grows for minutes: add replicas (at most one per partition), or see offhook_bus_batch_seconds.",
    services=SERVICES,
)  # fmt: skip
BUS_EVENT_AGE_SECONDS: Final = _histogram(
    "offhook_bus_event_age_seconds", "topic", "group", buckets=_AGE_BUCKETS,
    meaning="How old the oldest event of a batch was when the batch was handled: how far this reader is behind, in time.",
    action="Rises with offhook_bus_lag: the reader is too slow or was away. Rises without lag: the writer spooled, or its clock is wrong.",
    services=SERVICES,
)  # fmt: skip
BUS_RETRIES: Final = _counter(
    "offhook_bus_retries_total", "topic", "group",
    meaning="Batches that failed and are tried again; nothing is skipped.",
    action="More than a few: the store or another dependency is away; the log names it.",
    services=SERVICES,
)  # fmt: skip
BUS_DEAD_LETTERS: Final = _counter(
    "offhook_bus_dead_letters_total", "topic", "group",
    meaning="Records that could not be understood and were moved to telephony.dead-letters.v1, with the reason.",
    action="Any: read the reason in the record's headers, fix the writer or the reader, replay.",
    services=SERVICES,
)  # fmt: skip
BUS_FUSE_BLOWN: Final = _gauge(
    "offhook_bus_fuse_blown", "topic", "group",
    meaning="1 when a consumer has stopped because too many records in a row were poison.",
    action="Page somebody: nothing is consumed until the cause is fixed and the process restarted.",
    services=SERVICES,
)  # fmt: skip
BUS_UNHEARD: Final = _counter(
    "offhook_bus_unheard_total", "topic",
    meaning="Records of a topic of notices that could not be read or told; nobody tries them again.",
    action="Any: the log says why. An agent was not told who answered, or what became of a transfer.",
    services=SERVICES,
)  # fmt: skip
DIRECTORY_ENTRIES: Final = _gauge(
    "offhook_directory_entries", "topic",
    meaning="Live entries of a compacted topic held in memory.",
    action="Far fewer than expected: the topic was recreated or truncated; let number-sync publish it again.",
    services=SERVICES,
)  # fmt: skip
DIRECTORY_READY: Final = _gauge(
    "offhook_directory_ready", "topic",
    meaning="1 when the directory has caught up with its topic.",
    action="0 for more than a minute after the start: Kafka cannot be read.",
    services=SERVICES,
)  # fmt: skip
OUTLET_EVENTS: Final = _counter(
    "offhook_outlet_events_total", "destination",
    meaning="Events made durable, in `kafka` or in the local `spool`.",
    action="Any in spool: Kafka was away or slow. They drain by themselves, in order.",
    services=_SPOOLERS,
    begins=_each("kafka", "spool"),
)  # fmt: skip
OUTLET_REFUSED: Final = _counter(
    "offhook_outlet_refused_total",
    meaning="Events that neither Kafka nor the spool took; their requests were not acknowledged and the provider retries.",
    action="Page somebody: the spool is full or its disk fails while Kafka is away.",
    services=_SPOOLERS,
)
SPOOL_EVENTS: Final = _gauge(
    "offhook_spool_events",
    meaning="Events waiting in the local spool for Kafka.",
    action="Not falling although Kafka is back: the log says which event is refused.",
    services=_SPOOLERS,
)
SPOOL_BYTES: Final = _gauge(
    "offhook_spool_bytes",
    meaning="Size of the local spool.",
    action="Near its limit: repair Kafka, or give the volume more room.",
    services=_SPOOLERS,
)
SPOOL_LIMIT_BYTES: Final = _gauge(
    "offhook_spool_limit_bytes",
    meaning="How large the local spool may become (OFFHOOK_SPOOL_MAX_BYTES).",
    action="Compare offhook_spool_bytes with it.",
    services=_SPOOLERS,
)

# --- webhook-gateway --------------------------------------------------------------------------------------------------------

WEBHOOKS: Final = _counter(
    "offhook_webhooks_total", "provider", "kind", "outcome",
    meaning="Provider requests by kind (call, status, fallback) and outcome (accepted, refused, failed).",
    action="Many refused: see offhook_webhooks_refused_total. Any fallback: the provider could not reach the main URL.",
    services=_GATEWAY,
)  # fmt: skip
WEBHOOK_SECONDS: Final = _histogram(
    "offhook_webhook_seconds", "kind", "outcome", buckets=_REQUEST_BUCKETS,
    meaning="From a provider request's arrival to its answer, Kafka's acknowledgement included.",
    action="Objective: 99.9 % answered within 1 s, and not failed. Slow: see offhook_bus_publish_seconds and the gateway's CPU.",
    services=_GATEWAY,
    exemplars=True,
)  # fmt: skip
WEBHOOKS_REFUSED: Final = _counter(
    "offhook_webhooks_refused_total", "provider", "reason",
    meaning="Requests that were not believed, by reason (the same words as in the webhook log).",
    action="signature-mismatch after a change: the public URL or the auth token differs from the provider's. Otherwise: an attack.",
    services=_GATEWAY,
)  # fmt: skip
INSTRUCTIONS: Final = _counter(
    "offhook_instructions_total", "provider", "kind", "reason",
    meaning="Instructions served: connect, hangup or refuse, and why when it is not connect.",
    action="hangup with number-without-workflow: give the number a workflow. With number-unknown: number-sync has not heard of it. With reconnect-limit: look at the bridges.",
    services=_GATEWAY,
)  # fmt: skip
INSTRUCTIONS_SECONDS: Final = _histogram(
    "offhook_instructions_seconds", "provider", buckets=_REQUEST_BUCKETS,
    meaning="From a call's webhook to its instructions, ready to send; the caller hears ringing meanwhile.",
    action="Budget: p99 of 0.025. Higher: see offhook_bus_publish_seconds and the gateway's CPU.",
    services=_GATEWAY,
    exemplars=True,
)  # fmt: skip

WEBHOOK_AUDITS_DROPPED: Final = _counter(
    "offhook_webhook_audits_dropped_total",
    meaning="Entries of the webhook log that were lost, mostly because Kafka was away for too long; the requests themselves were served.",
    action="Nothing beside repairing what the service's log names with `audit-waits` or `audit-not-published`: the webhook log has a gap.",
    services=_GATEWAY,
)
CREDENTIALS_UNREADABLE: Final = _counter(
    "offhook_credentials_unreadable_total", "provider",
    meaning="Configurations whose sealed credentials do not open with this process's keyring; their requests are refused.",
    action="Give every service the same OFFHOOK_KEYRING, with the old keys behind the new one.",
    services=_GATEWAY,
)  # fmt: skip

# --- media-bridge -----------------------------------------------------------------------------------------------------------

MEDIA_SESSIONS: Final = _gauge(
    "offhook_media_sessions", "provider", "agent_protocol",
    meaning="Calls whose audio is on this bridge now.",
    action="Scale on it; docs say how many a core carries.",
    services=_BRIDGE,
)  # fmt: skip
MEDIA_CAPACITY: Final = _gauge(
    "offhook_media_capacity",
    meaning="Calls this bridge takes at once (OFFHOOK_MAX_SESSIONS).",
    action="offhook_media_sessions near it: more bridges, before callers are turned away.",
    services=_BRIDGE,
)
MEDIA_SESSIONS_ENDED: Final = _counter(
    "offhook_media_sessions_ended_total", "provider", "reason",
    meaning="Media sessions that ended, by the bridge's word for why.",
    action="Many that are not hang-ups: the reason names the side to look at (agent, carrier, fenced, drained).",
    services=_BRIDGE,
)  # fmt: skip
MEDIA_REFUSED: Final = _counter(
    "offhook_media_refused_total", "provider", "reason",
    meaning="Audio sockets that were turned away before any audio flowed (token, signature, run, capacity).",
    action="token-expired: clocks differ or the provider is slow. token-forged: the gateway has another token key, or an attack.",
    services=_BRIDGE,
)  # fmt: skip
MEDIA_FRAMES: Final = _counter(
    "offhook_media_frames_total", "direction",
    meaning="Frames of 20 ms moved: uplink (caller to agent) and downlink (agent to caller).",
    action="Uplink without downlink: agents are silent.",
    services=_BRIDGE,
    begins=_each("uplink", "downlink"),
)  # fmt: skip
MEDIA_HELD_SECONDS: Final = _histogram(
    "offhook_media_held_seconds", "direction", buckets=_AUDIO_BUCKETS,
    meaning="How long the bridge held a frame.",
    action="Budget: p99 of 0.01. Higher: too many calls on the pod.",
    services=_BRIDGE,
    exemplars=True,
)  # fmt: skip
MEDIA_GAPS: Final = _counter(
    "offhook_media_gaps_total", "provider",
    meaning="Times no caller audio came for more than 200 ms while the socket was open.",
    action="One provider only: their network or region. All: this cluster's network.",
    services=_BRIDGE,
)  # fmt: skip
MEDIA_UNDERRUNS: Final = _counter(
    "offhook_media_underruns_total", "provider",
    meaning="Times the agent's audio ran dry in the middle of speech.",
    action="The agent or its text-to-speech is slower than real time.",
    services=_BRIDGE,
)  # fmt: skip
MEDIA_INTERRUPTIONS: Final = _counter(
    "offhook_media_interruptions_total", "provider",
    meaning="Barge-ins: the agent cleared audio that had not been played.",
    action="For agent developers; a sudden rise is usually a changed voice-activity setting.",
    services=_BRIDGE,
)  # fmt: skip
MEDIA_PROTOCOL_FAULTS: Final = _counter(
    "offhook_media_protocol_faults_total", "side", "kind",
    meaning="Messages that broke a media protocol, by side (provider, agent); the session goes on where it can.",
    action="agent: tell its developer; the log has the sentence. provider: their protocol has changed.",
    services=_BRIDGE,
)  # fmt: skip
MEDIA_TAPS: Final = _counter(
    "offhook_media_taps_total", "outcome",
    meaning="Seconds of calls that are recorded, on their way to the recorder: sent, or dropped (a gap in the recording).",
    action="dropped: Kafka does not take them in time. Calls are not touched; bring Kafka back.",
    services=_BRIDGE,
    begins=_each("sent", "dropped"),
)  # fmt: skip
AGENT_CONNECTS: Final = _counter(
    "offhook_agent_connects_total", "agent_protocol", "outcome",
    meaning="Attempts to reach an agent: connected, refused, timeout, error.",
    action="Not connected: the workflow's agent URL or the agents' capacity. Callers hear the fallback after the last attempt.",
    services=_BRIDGE,
    begins=tuple((protocol, outcome) for protocol in _AGENT_PROTOCOLS for outcome in ("connected", "refused", "timeout", "error")),
)  # fmt: skip
AGENTS_LOST: Final = _counter(
    "offhook_agents_lost_total", "agent_protocol",
    meaning="Agents that were lost in the middle of a call; the caller stays and the agent is dialled again.",
    action="Some at a deploy of the agents are normal. Otherwise: the agents' log at these times, they crash or are killed.",
    services=_BRIDGE,
    begins=_each(*_AGENT_PROTOCOLS),
)  # fmt: skip
MEDIA_RESUMES: Final = _counter(
    "offhook_media_resumes_total", "reason",
    meaning="Calls that went on with an agent after an interruption: agent-lost, bridge-lost (another bridge died or ended), transfer (it came back from one).",
    action="bridge-lost outside of a roll-out: a bridge crashed or was killed; look at restarts and memory.",
    services=_BRIDGE,
    begins=_each("agent-lost", "bridge-lost", "transfer"),
)  # fmt: skip
AGENT_CONNECT_SECONDS: Final = _histogram(
    "offhook_agent_connect_seconds", "agent_protocol", buckets=_PATIENCE_BUCKETS,
    meaning="From dialling the agent to its acceptance; the caller waits in silence.",
    action="Above 1 s: keep agents warm.",
    services=_BRIDGE,
    exemplars=True,
)  # fmt: skip
RESPONSE_SECONDS: Final = _histogram(
    "offhook_response_seconds", "agent_protocol", buckets=_PATIENCE_BUCKETS,
    meaning="From the end of the caller's words to the agent's first audio.",
    action="Above 1.5 s callers speak again; look at the agent's models, the bridge adds milliseconds.",
    services=_BRIDGE,
    exemplars=True,
)  # fmt: skip

# --- call-tracker -----------------------------------------------------------------------------------------------------------

CALLS_ENDED: Final = _counter(
    "offhook_calls_ended_total", "provider", "direction", "status",
    meaning="Calls that reached a final status.",
    action="A rise of failed or no-answer on one provider: check its account and its status page.",
    services=_TRACKER,
)  # fmt: skip
CALL_ENDS: Final = _counter(
    "offhook_call_ends_total", "provider", "reason", "fault",
    meaning="Calls that ended, by the reason on their page and whose fault it was: none, agent, carrier, account (the user's settings or limits), platform (ours).",
    action="Objective: 99.5 % without a fault of the platform. platform: open such calls' pages and traces. carrier: the provider's status page.",
    services=_TRACKER,
)  # fmt: skip
CALL_LOOKS: Final = _counter(
    "offhook_call_looks_total", "reason",
    meaning="Calls that the provider was asked about: silence (callbacks are overdue), start (they lived when call-tracker started), cost (something was missing after the end); given-up: nobody could say anything for longer than a call lasts.",
    action="Much silence: callbacks are lost, look at the webhook log. given-up: number-sync cannot ask, look at its credentials and its log.",
    services=_TRACKER,
    begins=_each("silence", "start", "cost", "given-up"),
)  # fmt: skip
CALLS_ACTIVE: Final = _gauge(
    "offhook_calls_active",
    meaning="Calls in the store that have not ended.",
    action="More than the bridges carry, for long: callbacks were lost; reconciliation ends such calls.",
    services=_TRACKER,
)
CALL_EVENTS: Final = _counter(
    "offhook_call_events_total", "outcome",
    meaning="Call events by what became of them: applied, recorded (late or without effect), duplicate.",
    action="Duplicates are normal (providers retry). Many recorded: callbacks arrive out of order; harmless.",
    services=_TRACKER,
    begins=_each("applied", "recorded", "duplicate"),
)  # fmt: skip
CALL_EVENT_AGE_SECONDS: Final = _histogram(
    "offhook_call_event_age_seconds", buckets=_REQUEST_BUCKETS,
    meaning="From an event's time to its being in the store, and so in the API.",
    action="Budget: p99 of 0.5. Higher: see offhook_bus_lag and offhook_bus_batch_seconds.",
    services=_TRACKER,
    exemplars=True,
)  # fmt: skip
OUTBOX_PENDING: Final = _gauge(
    "offhook_outbox_pending",
    meaning="Stored changes that are not on Kafka yet.",
    action="Growing: Kafka is away; they are published in order when it is back.",
    services=_STORES,
)
STORE_ERRORS: Final = _counter(
    "offhook_store_errors_total", "operation",
    meaning="Database operations that failed.",
    action="Look at the database; consumers wait and catch up by themselves.",
    services=_STORES,
)  # fmt: skip

# --- number-sync ------------------------------------------------------------------------------------------------------------

COMMANDS: Final = _counter(
    "offhook_commands_total", "provider", "command", "outcome",
    meaning="Commands carried out at a provider: done, failed, gone (the call had ended), repeated (already done).",
    action="failed: the call's record has the provider's words.",
    services=_NUMBERS,
)  # fmt: skip
PROVIDER_REQUESTS: Final = _counter(
    "offhook_provider_requests_total", "provider", "operation", "outcome",
    meaning="REST requests to providers, by outcome (ok, or the kind of error).",
    action="credentials: a configuration's secret was changed at the provider. busy: ask the provider for a higher rate.",
    services=_NUMBERS,
)  # fmt: skip
PROVIDER_REQUEST_SECONDS: Final = _histogram(
    "offhook_provider_request_seconds", "provider", "operation", buckets=_PATIENCE_BUCKETS,
    meaning="How long a provider took to answer a REST request.",
    action="Above 5 s: outbound calls start late; see the provider's status page.",
    services=_NUMBERS,
    exemplars=True,
)  # fmt: skip
PROVIDER_THROTTLED: Final = _counter(
    "offhook_provider_throttled_total", "provider",
    meaning="REST requests that a provider refused because there were too many; the account then rests, and goes on slower.",
    action="Rising: lower OFFHOOK_SYNC_RATE_PER_S, or find what else uses the account's API.",
    services=_NUMBERS,
)  # fmt: skip
NUMBERS: Final = _gauge(
    "offhook_numbers", "state",
    meaning="Phone numbers by where they stand at their provider. Every process tells all of them: take the maximum.",
    action="failed or drifted above 0: the number's page says why, with the remedy. pending that stays: see the provider's requests.",
    services=_NUMBERS,
)  # fmt: skip
DRIFT: Final = _counter(
    "offhook_number_drift_total", "provider", "outcome",
    meaning="Phone numbers that somebody else changed at the provider: found, and of these repaired.",
    action="Repeatedly: another system sets the same number; take it out there, or remove the number here.",
    services=_NUMBERS,
)  # fmt: skip

# --- recorder ---------------------------------------------------------------------------------------------------------------

RECORDER_TAPS: Final = _counter(
    "offhook_recorder_taps_total", "outcome",
    meaning="Seconds of audio taken from Kafka: stored, known already (delivered again), or late (of a recording whose pieces are let go: not added).",
    action="Compare with offhook_bus_lag: rising lag means that the storage is too slow; /readyz says what is wrong with it.",
    services=_RECORDER,
    begins=_each("stored", "known", "late"),
)  # fmt: skip
RECORDINGS: Final = _counter(
    "offhook_recordings_total", "outcome",
    meaning="Recordings: stored (again when audio came late), and deleted because their time was over.",
    action="No stored ones although recorded calls end: read /readyz of the recorder.",
    services=_RECORDER,
    begins=_each("stored", "deleted"),
)  # fmt: skip
RECORDING_GAP_SECONDS: Final = _counter(
    "offhook_recording_gap_seconds_total",
    meaning="Audio missing in stored recordings.",
    action="Compare with offhook_media_taps_total{outcome=\"dropped\"} and with restarts of bridges.",
    services=_RECORDER,
)  # fmt: skip

METRICS: Final[tuple[MetricDefinition, ...]] = tuple(definition for definition, _ in _defined)
"""Every metric, in the order above. Define metrics before this line only."""


def collectors(service: Service) -> tuple[Collector, ...]:
    """The metrics that `service` sets."""
    return tuple(metric for definition, metric in _defined if service in definition.services)
