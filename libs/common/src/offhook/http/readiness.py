"""How a process is: whether it should be given work (`/readyz`), and whether its start is over (`/startupz`)."""

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
    """Ready is: started, not draining, the bus is ready, and no check objects.

    `starting` is true while the application's lifespan has not come through; `waiting_for` is what it waits for
    then, which the lifespan tells with `wait_for`.
    """

    def __init__(self, bus: HasHealth | None, checks: Iterable[Check] = ()) -> None:
        self.starting = False
        self.waiting_for: str | None = None
        self.draining = False
        self._bus = bus
        self._checks = tuple(checks)
        self._has_started = False

    def wait_for(self, reason: str | None) -> None:
        """Tell what the lifespan waits for, in a sentence; None: nothing any more."""
        self.waiting_for = reason

    @property
    def has_started(self) -> bool:
        """Whether everything that a start needs was there once: the schema, the topics, the directories read to their
        ends. It never becomes false again: what goes away later is a matter of readiness.
        """
        if not self._has_started:
            self._has_started = not self.starting
        return self._has_started

    def problems(self) -> tuple[str, ...]:
        """Why the process is not ready; empty when it is."""
        found = ["draining: the process is about to end"] if self.draining else []
        if self.starting:
            # What the checks ask about may not be there yet.
            return (*found, *self._start_problems())
        if self._bus is not None:
            health = self._bus.health()
            if not health.ready:
                found.extend(health.problems or ("the bus is not ready",))
        for check in self._checks:
            found.extend(check())
        return tuple(found)

    def _start_problems(self) -> tuple[str, ...]:
        bus = () if self._bus is None else tuple(self._bus.health().problems)
        waiting = () if self.waiting_for is None else (self.waiting_for,)
        return (*waiting, *bus) or ("the process is starting",)

    def degradations(self) -> tuple[str, ...]:
        """What is wrong although the process is ready: it works, but not as well as it should."""
        if self._bus is None:
            return ()
        health = self._bus.health()
        return tuple(health.problems) if health.ready else ()
