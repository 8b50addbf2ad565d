"""For every alert: series that make it fire, and series like them that must not. In promtool's notation, a value a minute.

`0+6x60` begins at 0 and grows by 6, sixty times; `1x60` stays. https://prometheus.io/docs/prometheus/latest/configuration/unit_testing_rules/
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Series = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Case:
    """`at`: after how many minutes the alert is looked at. `fires_too`: the other half of an alert with an `or`; `quiet_too`:
    of one with an `and`."""

    fires: Series
    quiet: Series
    at: int = 30
    fires_too: Series | None = None
    quiet_too: Series | None = None


def _one(series: str, fires: str, quiet: str, *, at: int = 30) -> Case:
    return Case({series: fires}, {series: quiet}, at)


def _histogram(name: str, labels: str, buckets: Mapping[str, int], at: int = 40) -> Series:
    """Cumulative buckets that grow by so much every minute, for `at` minutes and more."""
    inside = f"{labels}," if labels else ""
    return {
        f'{name}_bucket{{{inside}le="{bound}"}}': f"0+{growth}x{at + 400}"
        for bound, growth in buckets.items()
    } | {f"{name}_count{{{labels}}}": f"0+{max(buckets.values())}x{at + 400}"}


def _slow(name: str, labels: str, below: str, above: str, at: int = 40) -> Case:
    """A histogram whose observations are all in the bucket `above`; quietly all of them are `below`."""
    return Case(
        _histogram(name, labels, {below: 0, above: 60, "+Inf": 60}, at),
        _histogram(name, labels, {below: 60, above: 60, "+Inf": 60}, at),
        at,
    )


def _parts(name: str, labels: str, bad: str, good: str, *, at: int = 40) -> Case:
    """A counter of which half is bad; quietly one in a hundred is. `bad` and `good` are what distinguishes them."""
    joined = f"{labels}," if labels else ""

    def series(bad_growth: int, good_growth: int) -> Series:
        return {
            f"{name}{{{joined}{bad}}}": f"0+{bad_growth}x{at + 60}",
            f"{name}{{{joined}{good}}}": f"0+{good_growth}x{at + 60}",
        }

    return Case(series(60, 60), series(1, 99), at)


def _appears(series: str) -> Case:
    """A counter that appears with its first increment; quietly it was incremented long ago."""
    return Case({series: "_x90 1x20"}, {series: "1x150"}, 91)


def _bridges(*, full: int, other: int) -> Series:
    """Two bridges for a hundred calls each, with so many."""
    found: dict[str, str] = {}
    for instance, sessions in (("b1", full), ("b3", other)):
        labels = f'job="media-bridge",instance="{instance}"'
        found |= {
            f"offhook_media_sessions{{{labels}}}": f"{sessions}x150",
            f"offhook_media_capacity{{{labels}}}": "100x150",
            f"offhook_draining{{{labels}}}": "0x150",
        }
    return found


_GATEWAY: Final = 'job="webhook-gateway",instance="g1"'
_BRIDGE: Final = 'job="media-bridge",instance="b1"'
_DRAINING: Final = 'job="media-bridge",instance="b2"'
_REFUSES: Final = f'offhook_media_refused_total{{{_BRIDGE},provider="unknown",reason="capacity"}}'
_TRACKER: Final = 'job="call-tracker",instance="t1"'
_READER: Final = 'job="call-tracker",instance="t1",topic="telephony.call-events.v1",group="call-tracker"'
_READS_ON: Final = 'job="call-tracker",instance="t2",topic="telephony.call-events.v1",group="call-tracker"'

# --- objectives: (fast, slow), each burning ten or three times too fast while enough happens ---------------------------------

_PLENTY: Final = 600


def _burning(name: str, labels: str, good: str, bound: str, promised: float) -> dict[str, Case]:
    def series(bad_share: float, events: int = _PLENTY) -> Series:
        bad = round(events * bad_share)
        return _histogram(name, labels, {bound: events - bad, "+Inf": events})

    budget = 1 - promised
    healthy = series(0 if budget < 0.002 else budget * 0.3)
    return {
        f"{good}ObjectiveBurnsFast": Case(series(min(1.0, budget * 20)), healthy, 75),
        f"{good}ObjectiveBurnsSlowly": Case(series(budget * 4), healthy, 200),
    }


def _ends(platform: int) -> Series:
    return {
        'offhook_call_ends_total{provider="twilio",reason="caller-hung-up",fault="none"}': f"0+{1000 - platform}x500",
        'offhook_call_ends_total{provider="twilio",reason="lost",fault="platform"}': f"0+{platform}x500",
    }


_OBJECTIVES: Final = {
    **_burning("offhook_webhook_seconds", 'kind="status",outcome="accepted"', "Webhooks", "1.0", 0.999),
    "CallsObjectiveBurnsFast": Case(_ends(100), _ends(1), 75),
    "CallsObjectiveBurnsSlowly": Case(_ends(20), _ends(1), 200),
    **_burning("offhook_instructions_seconds", 'provider="twilio"', "Instructions", "0.1", 0.99),
    **_burning("offhook_media_held_seconds", 'direction="uplink"', "Audio", "0.01", 0.99),
    **_burning("offhook_call_event_age_seconds", "", "Records", "0.5", 0.99),
}

CASES: Final[Mapping[str, Case]] = {
    **_OBJECTIVES,
    # --- processes
    "ServiceAway": Case(
        {f'up{{job="{job}",instance="1"}}': "1x60" for job in ("webhook-gateway", "media-bridge", "call-tracker")}
        | {'up{job="number-sync",instance="1"}': "0x60"},
        {f'up{{job="{job}",instance="1"}}': "1x60" for job in ("webhook-gateway", "media-bridge", "call-tracker", "number-sync")}
        | {'up{job="number-sync",instance="2"}': "0x60"},
    ),
    # One of two hangs: the other is scraped, and so is everybody else.
    "BridgeAway": Case(
        {f"up{{{_BRIDGE}}}": "1x10 0x50", f"up{{{_DRAINING}}}": "1x60"},
        {f"up{{{_BRIDGE}}}": "1x27 0x30", f"up{{{_DRAINING}}}": "1x20 _x40", f"up{{{_GATEWAY}}}": "0x60"},
    ),
    "ProcessAway": Case(
        {f"up{{{_TRACKER}}}": "1x10 0x50", 'up{job="call-tracker",instance="t2"}': "1x60"},
        {f"up{{{_TRACKER}}}": "1x27 0x30", 'up{job="call-tracker",instance="t2"}': "1x60", f"up{{{_BRIDGE}}}": "0x60"},
    ),
    "NobodyReady": Case(
        {f"offhook_ready{{{_GATEWAY}}}": "0x60", 'offhook_ready{job="webhook-gateway",instance="g2"}': "0x60"},
        {f"offhook_ready{{{_GATEWAY}}}": "0x60", 'offhook_ready{job="webhook-gateway",instance="g2"}': "1x60"},
    ),
    "ProcessNotReady": Case(
        {f"offhook_ready{{{_GATEWAY}}}": "0x60", f"offhook_draining{{{_GATEWAY}}}": "0x60"},
        {f"offhook_ready{{{_GATEWAY}}}": "0x60", f"offhook_draining{{{_GATEWAY}}}": "1x60"},
    ),
    "RestartsInARow": _one(f"process_start_time_seconds{{{_GATEWAY}}}", "0+100x60", "100x20 200x40"),
    # The kubelet ends it after 241 minutes: it has to be told before.
    "DrainStuck": Case(
        {f"offhook_draining{{{_DRAINING}}}": "0x5 1x241", f"offhook_media_sessions{{{_DRAINING}}}": "3x246"},
        {f"offhook_draining{{{_DRAINING}}}": "0x60 1x241", f"offhook_media_sessions{{{_DRAINING}}}": "3x300",
         f"offhook_draining{{{_BRIDGE}}}": "0x5 1x241", f"offhook_media_sessions{{{_BRIDGE}}}": "0x246"},
        230,
    ),
    "EventLoopLate": _slow("offhook_event_loop_lag_seconds", _BRIDGE, "0.02", "0.5"),
    "TwoVersions": Case(
        {'offhook_build_info{job="media-bridge",instance="b1",version="1"}': "1x500", 'offhook_build_info{job="media-bridge",instance="b2",version="2"}': "1x500"},
        {'offhook_build_info{job="media-bridge",instance="b1",version="1"}': "1x60 _x440", 'offhook_build_info{job="media-bridge",instance="b2",version="2"}': "1x500"},
        400,
    ),
    # --- webhooks
    "SignaturesRefused": Case(
        {'offhook_webhooks_refused_total{provider="twilio",reason="signature-mismatch"}': "0+30x60", 'offhook_webhooks_total{provider="twilio",kind="call",outcome="refused"}': "0+30x60", 'offhook_webhooks_total{provider="twilio",kind="call",outcome="accepted"}': "0+30x60"},
        # Somebody knocks who names no provider: it is refused, and nobody has to get up.
        {'offhook_webhooks_refused_total{provider="unknown",reason="unknown-provider"}': "0+300x60", 'offhook_webhooks_total{provider="unknown",kind="call",outcome="refused"}': "0+300x60", 'offhook_webhooks_total{provider="twilio",kind="call",outcome="accepted"}': "0+30x60"},
    ),
    "FallbackUrlUsed": _appears('offhook_webhooks_total{provider="twilio",kind="fallback",outcome="accepted"}'),
    "CredentialsUnreadable": _appears('offhook_credentials_unreadable_total{provider="twilio"}'),
    "CallsTurnedAway": _parts("offhook_instructions_total", 'provider="twilio"', 'kind="refuse",reason="number-without-workflow"', 'kind="hangup",reason="ended"'),
    # --- calls
    "CallsFailAtProvider": _parts("offhook_call_ends_total", 'provider="twilio"', 'reason="carrier-failure",fault="carrier"', 'reason="busy",fault="none"', at=60),
    "CallbacksAreLost": Case(
        {'offhook_call_looks_total{reason="silence"}': "0+5x120", 'offhook_call_ends_total{provider="twilio",reason="hung-up",fault="none"}': "0+20x120"},
        {'offhook_call_looks_total{reason="silence"}': "0+1x120", 'offhook_call_ends_total{provider="twilio",reason="hung-up",fault="none"}': "0+20x120"},
        90,
    ),
    "CallsGivenUp": _appears('offhook_call_looks_total{reason="given-up"}'),
    "CallsNeverEnd": Case(
        {f"offhook_calls_active{{{_TRACKER}}}": "900x120", f'offhook_media_sessions{{{_BRIDGE},provider="twilio"}}': "100x120"},
        {f"offhook_calls_active{{{_TRACKER}}}": "150x120", f'offhook_media_sessions{{{_BRIDGE},provider="twilio"}}': "100x120"},
        90,
    ),
    # --- agents
    "AgentsUnreachable": _parts("offhook_agent_connects_total", 'agent_protocol="pcm"', 'outcome="timeout"', 'outcome="connected"'),
    "AgentsSlowToConnect": _slow("offhook_agent_connect_seconds", 'agent_protocol="pcm"', "1.0", "5.0"),
    "AgentsSlowToAnswer": _slow("offhook_response_seconds", 'agent_protocol="pcm"', "2.0", "10.0", 50),
    "AgentsLost": Case(
        {'offhook_agents_lost_total{agent_protocol="pcm"}': "0+10x60", f"offhook_media_sessions{{{_BRIDGE}}}": "100x60"},
        {'offhook_agents_lost_total{agent_protocol="pcm"}': "0+1x60", f"offhook_media_sessions{{{_BRIDGE}}}": "100x60"},
    ),
    # --- audio
    "BridgesNearlyFull": Case(
        {f"offhook_media_sessions{{{_BRIDGE}}}": "90x60", f"offhook_media_capacity{{{_BRIDGE}}}": "100x60", f"offhook_draining{{{_BRIDGE}}}": "0x60"},
        # What a draining bridge carries is not in the way of new calls.
        {f"offhook_media_sessions{{{_BRIDGE}}}": "70x60", f"offhook_media_capacity{{{_BRIDGE}}}": "100x60", f"offhook_draining{{{_BRIDGE}}}": "0x60",
         f"offhook_media_sessions{{{_DRAINING}}}": "90x60", f"offhook_media_capacity{{{_DRAINING}}}": "100x60", f"offhook_draining{{{_DRAINING}}}": "1x60"},
    ),
    # A full bridge refuses while another has room: the proxy gives the call to that one, and nobody is turned away.
    "CallersTurnedAway": Case(
        _bridges(full=100, other=96) | {_REFUSES: "_x28 1x20"},
        _bridges(full=100, other=20) | {_REFUSES: "_x28 1x20"},
        # Nobody is given the calls that it goes on refusing.
        fires_too=_bridges(full=100, other=20) | {_REFUSES: "0+10x60"},
        # Nobody calls just then.
        quiet_too=_bridges(full=100, other=96) | {_REFUSES: "1x150"},
    ),
    "BridgeFull": Case(_bridges(full=100, other=20) | {_REFUSES: "_x90 1x20"}, {_REFUSES: "1x150"}, 91),
    "AudioRefused": _one(f'offhook_media_refused_total{{{_BRIDGE},provider="twilio",reason="token-expired"}}', "0+5x60", "0+0.1x60"),
    "AudioHasGaps": Case(
        {'offhook_media_gaps_total{provider="twilio"}': "0+30x60", 'offhook_media_frames_total{direction="uplink"}': "0+30000x60"},
        {'offhook_media_gaps_total{provider="twilio"}': "0+2x60", 'offhook_media_frames_total{direction="uplink"}': "0+30000x60"},
    ),
    "AgentsRunDry": Case(
        {'offhook_media_underruns_total{provider="twilio"}': "0+50x60", 'offhook_media_frames_total{direction="downlink"}': "0+30000x60"},
        {'offhook_media_underruns_total{provider="twilio"}': "0+5x60", 'offhook_media_frames_total{direction="downlink"}': "0+30000x60"},
    ),
    # --- Kafka and what waits for it
    "KafkaRefuses": _one(f'offhook_bus_publish_failures_total{{{_GATEWAY},topic="telephony.call-events.v1"}}', "0+30x60", "0x10 1x50"),
    "KafkaSlow": _slow("offhook_bus_publish_seconds", f'{_GATEWAY},topic="telephony.call-events.v1"', "0.1", "2.5"),
    "SpoolFills": Case(
        {f"offhook_spool_bytes{{{_GATEWAY}}}": "0+10x60", f"offhook_spool_limit_bytes{{{_GATEWAY}}}": "400x60"},
        {f"offhook_spool_bytes{{{_GATEWAY}}}": "0+1x60", f"offhook_spool_limit_bytes{{{_GATEWAY}}}": "400x60"},
    ),
    "SpoolDoesNotDrain": Case(
        {f"offhook_spool_events{{{_GATEWAY}}}": "5x60"},
        # Kafka is away: another alert says so.
        {f"offhook_spool_events{{{_GATEWAY}}}": "5x60", f'offhook_bus_publish_failures_total{{{_GATEWAY},topic="telephony.call-events.v1"}}': "0+30x60"},
    ),
    "EventsNotDurable": _one(f"offhook_outlet_refused_total{{{_GATEWAY}}}", "0x27 1x30", "0x5 1x60"),
    "DirectoryEmptied": Case(
        {'offhook_directory_entries{instance="g1",topic="telephony.numbers.v1"}': "400x80 3x80", 'offhook_directory_ready{instance="g1",topic="telephony.numbers.v1"}': "1x160"},
        {'offhook_directory_entries{instance="g1",topic="telephony.numbers.v1"}': "400x80 390x80", 'offhook_directory_ready{instance="g1",topic="telephony.numbers.v1"}': "1x160"},
        100,
    ),
    # --- consumers
    "ConsumerStopped": _one(f"offhook_bus_fuse_blown{{{_READER}}}", "0x20 1x40", "0x60"),
    "ConsumerStuck": Case(
        # One of two stands still.
        {f"offhook_bus_lag{{{_READER}}}": "0+10x60", f"offhook_bus_consumed_total{{{_READER}}}": "7x60",
         f"offhook_bus_lag{{{_READS_ON}}}": "3x60", f"offhook_bus_consumed_total{{{_READS_ON}}}": "0+100x60"},
        # Both read, one with a lag; the other has nothing to read.
        {f"offhook_bus_lag{{{_READER}}}": "0+10x60", f"offhook_bus_consumed_total{{{_READER}}}": "0+100x60",
         f"offhook_bus_lag{{{_READS_ON}}}": "0x60", f"offhook_bus_consumed_total{{{_READS_ON}}}": "7x60"},
    ),
    "ConsumerBehind": _slow("offhook_bus_event_age_seconds", _READER, "0.5", "300.0"),
    "BatchesFail": _one(f"offhook_bus_retries_total{{{_READER}}}", "0+6x60", "0x10 1x50"),
    "DeadLetters": _appears(f"offhook_bus_dead_letters_total{{{_READER}}}"),
    "NoticesUnheard": _appears('offhook_bus_unheard_total{topic="telephony.call-notices.v1"}'),
    # --- stores and Redis
    "StoreFails": _one(f'offhook_store_errors_total{{{_TRACKER},operation="apply"}}', "0+6x60", "0x10 1x50"),
    "OutboxWaits": _one(f"offhook_outbox_pending{{{_TRACKER}}}", "500x60", "500x10 0x50"),
    "RedisAway": _one(f'offhook_redis_errors_total{{{_GATEWAY},operation="marks"}}', "0+60x60", "0x10 2x50"),
    # --- providers and numbers
    "ProviderRefuses": _parts("offhook_provider_requests_total", 'provider="vonage",operation="dial"', 'outcome="unavailable"', 'outcome="ok"'),
    "ProviderSlow": _slow("offhook_provider_request_seconds", 'provider="vonage",operation="dial"', "1.0", "10.0"),
    "ProviderThrottles": _one('offhook_provider_throttled_total{provider="twilio"}', "0+2x80", "0x10 3x70", at=60),
    "CredentialsRefused": _appears('offhook_provider_requests_total{provider="twilio",operation="dial",outcome="credentials"}'),
    "CommandsFail": _parts("offhook_commands_total", 'provider="twilio",command="originate"', 'outcome="failed"', 'outcome="done"'),
    "NumbersNotInSync": _one('offhook_numbers{job="number-sync",instance="n1",state="failed"}', "2x60", "2x20 0x40", at=45),
    "NumbersDriftAgain": _one('offhook_number_drift_total{provider="twilio",outcome="found"}', "0x10 0+1x100", "0x10 2x100", at=100),
    # --- recordings
    "RecordingsHaveGaps": _appears('offhook_media_taps_total{outcome="dropped"}'),
    "RecorderDoesNotStore": Case(
        {'offhook_media_taps_total{outcome="sent"}': "0+60x60", 'offhook_recorder_taps_total{outcome="stored"}': "5x60"},
        {'offhook_media_taps_total{outcome="sent"}': "0+60x60", 'offhook_recorder_taps_total{outcome="stored"}': "0+60x60"},
        50,
    ),
}  # fmt: skip
# ruff: noqa: E501 - one case is one line where it fits
