"""Whether a process should be given work: what `/readyz` answers with."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol


class HealthReport(Protocol):
    """What `Bus.health()` returns."""

    @property
    def ready(self) -> bool: ...

    @property
    def problems(self) -> Sequence[str]: ...


class HasHealth(Protocol):
    """The part of the bus that readiness needs."""

    def health(self) -> HealthReport: ...


Check = Callable[[], Iterable[str]]
"""Returns what is wrong right now, one sentence each; nothing when all is well. It must not wait."""


class Readiness:
    """Ready is: not draining, the bus is ready, and no check objects."""

    def __init__(self, bus: HasHealth | None, checks: Iterable[Check] = ()) -> None:
        self.draining = False
        self._bus = bus
        self._checks = tuple(checks)

    def problems(self) -> tuple[str, ...]:
        """Why the process is not ready; empty when it is."""
        found = ["draining: the process is about to end"] if self.draining else []
        if self._bus is not None:
            health = self._bus.health()
            if not health.ready:
                found.extend(health.problems or ("the bus is not ready",))
        for check in self._checks:
            found.extend(check())
        return tuple(found)

    def degradations(self) -> tuple[str, ...]:
        """What is wrong although the process is ready: it works, but not as well as it should."""
        if self._bus is None:
            return ()
        health = self._bus.health()
        return tuple(health.problems) if health.ready else ()
