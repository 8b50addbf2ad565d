"""Tests that need the whole machine: in a run with several workers, no other test runs while one of them does.

Audio in real time is lost on a processor that others keep busy, and a test of it would then tell of the machine.
"""

import fcntl
from pathlib import Path


class Turns:
    """Who may run, between the workers of one run, which have `folder` in common. `enter` waits, and `leave` follows each
    `enter`; the end of a process leaves, too."""

    def __init__(self, folder: Path) -> None:
        # Whoever wants to be alone keeps the door while those inside finish: so it is not overtaken for ever.
        self._door, self._room = ((folder / name).open("w") for name in ("turns.door", "turns.room"))
        self._alone = False

    def enter(self, *, alone: bool) -> None:
        if self._alone and alone:
            return  # still here from the test before
        fcntl.flock(self._door, fcntl.LOCK_EX)
        fcntl.flock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(self._door, fcntl.LOCK_UN)
        self._alone = alone

    def leave(self) -> None:
        fcntl.flock(self._room, fcntl.LOCK_UN)
        self._alone = False

    def close(self) -> None:
        self._door.close()
        self._room.close()
