"""What a simulation is given: where it listens, whom it trusts, and (from a file) who its customers are."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from carrier_sim.faults import Faults


@dataclass(slots=True)
class SimConfig:
    """Settings of one simulation.

    `host`, `port`: where its REST APIs listen (port 0: any free one). `hosts`: further names on its certificate.
    `allow_plain`: http and ws are allowed, as no real carrier does; `tls=False` (the simulator itself speaks
    plain HTTP) needs it.
    `home`: a directory for the throw-away authority's certificate (default: a temporary one).
    `trust`: a PEM file with authorities the carrier accepts beside its own; `trust_system`: the system's too.
    `resolve`: host → `address:port`, so that a public name can be served from this machine.
    `upgrade_signature`: which form of the stream's URL Twilio signs; the documentation leaves it open, so try all of them.
    `rate_limits`: Twilio starts one outbound call a second, Vonage refuses the fourth request for a call in a second (429).
    `hangup_guard_s`: how long after a call's creation Vonage refuses to end it (400).
    `price_after_s`: how long after a call's end Twilio shows its price (real ones take minutes).
    `patience`: how many times longer than a real carrier it waits for connections and answers, where the machine is too busy
    for the real limits.
    """

    host: str = "127.0.0.1"
    port: int = 0
    hosts: tuple[str, ...] = ()
    tls: bool = True
    allow_plain: bool = False
    home: Path | None = None
    trust: Path | None = None
    trust_system: bool = True
    resolve: Mapping[str, str] = field(default_factory=dict)
    upgrade_signature: Literal["as-written", "without-port", "trailing-slash"] = "as-written"
    rate_limits: bool = False
    hangup_guard_s: float = 2.0
    price_after_s: float = 1.0
    patience: float = 1.0
    max_call_s: float = 4 * 3600.0
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        if not self.tls and not self.allow_plain:
            raise ValueError("tls=False needs allow_plain=True: real carriers speak TLS only")
