"""How much of everything a number of live calls needs: the arithmetic of docs/deploy/sizing.md.

Measured figures are those of docs/performance.md; the others are assumptions, and the page says which is which.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Final

# Measured, one core each.
CALLS_A_CORE: Final = 300
WEBHOOKS_A_CORE_S: Final = 1775
EVENTS_A_CORE_S: Final = 5940
# Four calls of the demo were 105 records on the topics of calls and of the webhook log.
RECORDS_A_CALL: Final = 105 / 4

# What is planned with: room for a third zone's calls, for bursts, and for catching up.
ZONES: Final = 3
CALLS_A_POD: Final = CALLS_A_CORE * (ZONES - 1) // ZONES
WEBHOOKS_A_POD_S: Final = 300
EVENTS_A_POD_S: Final = 3000

# Assumed.
CALL_S: Final = 180
WEBHOOKS_A_CALL: Final = 6
PEAK: Final = 2
RECORD_BYTES: Final = 1000
RETENTION_S: Final = 7 * 24 * 3600
REPLICAS: Final = 3
RECORDED_SHARE: Final = 0.1
TAP_BYTES_S: Final = 16_000  # two channels of mu-law at 8 kHz
BROKER_BYTES_S: Final = 60e6  # written by one broker, copies included
STORED_BYTES_A_CALL: Final = 40_000
NETWORK_BITS_A_CALL: Final = 1e6  # of a bridge: both sockets, in and out
REDIS_RENEWAL_S: Final = 5

STEPS: Final = (100, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Size:
    """What `calls` live calls at a time need."""

    calls: int

    @property
    def started_s(self) -> float:
        """Calls that begin in a second, on average."""
        return self.calls / CALL_S

    @property
    def webhooks_s(self) -> float:
        return self.started_s * WEBHOOKS_A_CALL

    @property
    def records_s(self) -> float:
        return self.started_s * RECORDS_A_CALL

    @property
    def taps_bytes_s(self) -> float:
        return self.calls * RECORDED_SHARE * TAP_BYTES_S

    @property
    def bridges(self) -> int:
        return max(ZONES, ceil(self.calls / CALLS_A_POD))

    @property
    def gateways(self) -> int:
        return max(ZONES, ceil(self.webhooks_s * PEAK / WEBHOOKS_A_POD_S))

    @property
    def trackers(self) -> int:
        return max(ZONES, ceil(self.records_s * PEAK / EVENTS_A_POD_S))

    @property
    def partitions(self) -> int:
        """Twice as many as there are readers, in twelves: a topic is not given more while calls are live."""
        return 12 * ceil(max(12, 2 * self.trackers) / 12)

    @property
    def brokers(self) -> int:
        written = (self.records_s * RECORD_BYTES + self.taps_bytes_s) * REPLICAS
        return max(REPLICAS, ceil(written / BROKER_BYTES_S))

    @property
    def broker_disk_bytes(self) -> float:
        """A week of records and an hour of taps, as if the peak lasted as long."""
        kept = self.records_s * RECORD_BYTES * RETENTION_S + self.taps_bytes_s * 3600
        return kept * REPLICAS / self.brokers

    @property
    def store_bytes_day(self) -> float:
        """What call-tracker's database grows by in a day of eight such hours."""
        return self.started_s * 8 * 3600 * STORED_BYTES_A_CALL

    @property
    def redis_s(self) -> float:
        """Operations: each session is renewed, and a call begins and ends with about ten."""
        return self.calls / REDIS_RENEWAL_S + self.started_s * 10

    @property
    def network_bits_s(self) -> float:
        return self.calls * NETWORK_BITS_A_CALL


def table() -> str:
    """The table of the page."""
    rows: tuple[tuple[str, Callable[[Size], str]], ...] = (
        ("calls that begin, a second", lambda size: _number(size.started_s)),
        ("webhooks, a second", lambda size: _number(size.webhooks_s)),
        ("records on Kafka, a second", lambda size: _number(size.records_s)),
        ("media-bridge pods", lambda size: _number(size.bridges)),
        ("webhook-gateway pods", lambda size: _number(size.gateways)),
        ("call-tracker pods", lambda size: _number(size.trackers)),
        ("partitions of each topic", lambda size: _number(size.partitions)),
        ("taps, a tenth of the calls recorded", lambda size: _bytes(size.taps_bytes_s) + "/s"),
        ("brokers", lambda size: _number(size.brokers)),
        ("disk of each broker", lambda size: _bytes(size.broker_disk_bytes)),
        ("call-tracker's database, growth a day", lambda size: _bytes(size.store_bytes_day)),
        ("Redis, operations a second", lambda size: _number(size.redis_s)),
        ("network of all bridges", lambda size: f"{_number(size.network_bits_s / 1e9)} Gbit/s"),
    )
    sizes = [Size(calls) for calls in STEPS]
    lines = ["| calls at a time | " + " | ".join(f"{calls:,}" for calls in STEPS) + " |", "|---" * 5 + "|"]
    lines += [f"| {name} | " + " | ".join(show(size) for size in sizes) + " |" for name, show in rows]
    return "\n".join(lines)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{_number(value)} {unit}"
        value /= 1000
    return f"{_number(value)} TB"
