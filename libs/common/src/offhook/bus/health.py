"""How the bus is doing, in words an operator can act on."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Health:
    """`ready`: the service may take work. `problems`: sentences; there can be problems while ready.

    Once ready, a bus stays ready while Kafka is away: directories keep what they know and the outlet spools,
    so taking the service out of rotation would lose calls that can still be served. A blown fuse ends
    readiness.
    """

    ready: bool
    problems: list[str] = field(default_factory=list)
