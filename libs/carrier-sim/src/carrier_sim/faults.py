"""Faults a test can switch on: what networks and carriers do on bad days."""

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Faults:
    """Probabilities (0 to 1) of what happens to each status callback, and what happens to media sockets.

    `duplicate`: delivered twice. `drop`: never delivered. `delay`: delivered `delay_s` (range, seconds) later.
    `reorder`: held back until the call's next callback was sent (at most two seconds). Requests for instructions are
    never touched, except by `duplicate_instructions`. `kill_media_after_s`: the media socket dies without a word so long
    after its start; `half_open_media_after_s`: it stays open, but nothing more comes or is read. Each of the two
    happens to the first `media_faults_per_call` sockets of a call. The same `seed` gives the same fates to
    the same calls in order.
    """

    duplicate: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    delay_s: tuple[float, float] = (0.2, 1.5)
    reorder: float = 0.0
    duplicate_instructions: float = 0.0
    kill_media_after_s: float | None = None
    half_open_media_after_s: float | None = None
    media_faults_per_call: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        self.delay_s = (float(self.delay_s[0]), float(self.delay_s[1]))
        for name in ("duplicate", "drop", "delay", "reorder", "duplicate_instructions"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(
                    f"fault {name}: a probability from 0 to 1 expected, got {getattr(self, name)}"
                )


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one callback."""

    copies: int = 1
    delay_s: float = 0.0
    held: bool = False


@dataclass(slots=True)
class Fortune:
    """The fates of one call's callbacks; `ordinal` is the call's number within the simulation."""

    faults: Faults
    ordinal: int
    _random: random.Random = field(init=False)
    _instructions: random.Random = field(init=False)

    def __post_init__(self) -> None:
        seed = f"{self.faults.seed}/{self.ordinal}"
        self._random = random.Random(seed)  # noqa: S311 - fates, not secrets
        self._instructions = random.Random(seed + "/instructions")  # noqa: S311

    def next(self) -> Fate:
        """The fate of the next callback."""
        # Always the same number of draws, so that switching one fault on leaves the others' fates as they were.
        drop, twice, late, held, amount = (self._random.random() for _ in range(5))
        if drop < self.faults.drop:
            return Fate(copies=0)
        low, high = self.faults.delay_s
        return Fate(
            copies=2 if twice < self.faults.duplicate else 1,
            delay_s=low + (high - low) * amount if late < self.faults.delay else 0.0,
            held=held < self.faults.reorder,
        )

    def next_instructions(self) -> int:
        """How often the next request for instructions is sent."""
        return 2 if self._instructions.random() < self.faults.duplicate_instructions else 1
