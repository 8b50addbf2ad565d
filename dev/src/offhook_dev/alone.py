"""Tests that need the whole machine: in a run with several workers, no other test runs while one of them does.

Audio in real time is lost on a processor that others keep busy, and a test of it would then tell of the machine.
"""

import fcntl
import tempfile
from pathlib import Path
from typing import Final, TextIO

_NAME: Final = "offhook-tests-turns-"


class Turns:
    """Who may run, between the workers of one run. `enter` waits, and `leave` follows each `enter`."""

    def __init__(self, run: str) -> None:
        base = Path(tempfile.gettempdir()) / f"{_NAME}{run}"
        # Whoever wants to be alone keeps the door while those inside finish: so it is not overtaken for ever.
        self._door, self._room = (base.with_suffix(suffix).open("w") for suffix in (".door", ".room"))
        self._alone = False

    def enter(self, *, alone: bool) -> None:
        if self._alone and alone:
            return  # still here from the test before
        _lock(self._door, fcntl.LOCK_EX)
        _lock(self._room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        _lock(self._door, fcntl.LOCK_UN)
        self._alone = alone

    def leave(self) -> None:
        _lock(self._room, fcntl.LOCK_UN)
        self._alone = False

    def remove(self) -> None:
        """The run is over."""
        for file in (self._door, self._room):
            file.close()
            Path(file.name).unlink(missing_ok=True)


def _lock(file: TextIO, operation: int) -> None:
    fcntl.flock(file, operation)
