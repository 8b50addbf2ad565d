"""Child processes of the development stack: started with a log file, watched until ready, and never left behind.

A child gets a parent-death signal, so that even `kill -9` of the stack leaves nothing running.
"""

import asyncio
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from offhook_dev.errors import DevError

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)

Ready = Callable[[], Awaitable[bool]]


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Ctrl-C in the terminal is the stack's to handle: it ends its children in order.
    os.setpgid(0, 0)


class Child:
    """One process with a name, a log file and a way to tell that it is ready."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        ready: Ready | None = None,
        ready_within_s: float = 30.0,
    ) -> None:
        self.name = name
        self.log = log
        self._argv = list(argv)
        self._env = {**os.environ, **(env or {})}
        self._ready = ready
        self._ready_within_s = ready_within_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Start it, without waiting. The log is appended to, so that a restart keeps what came before."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._env,
                preexec_fn=_die_with_parent,
            )

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises `DevError` with the last lines of its log when it is not."""
        self.spawn()
        await self.wait_ready()

    async def wait_ready(self) -> None:
        deadline = time.monotonic() + self._ready_within_s
        while self._ready is not None and not await self._ready():
            if not self.running():
                raise DevError(f"{self.name} ended at once: {self._last_words()}")
            if time.monotonic() > deadline:
                raise DevError(
                    f"{self.name} was not ready within {self._ready_within_s:.0f} s: {self._last_words()}"
                )
            await asyncio.sleep(0.05)

    def kill(self, with_signal: int = signal.SIGKILL) -> None:
        """Send a signal to this one process, by pid."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, with_signal)

    async def stop(self, grace_s: float = 10.0) -> int | None:
        """SIGTERM, wait, SIGKILL after `grace_s`. Returns the exit code."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.terminate()
            deadline = time.monotonic() + grace_s
            while self._process.poll() is None and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            if self._process.poll() is None:
                self._process.kill()
                await asyncio.to_thread(self._process.wait)
        return self._process.returncode

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"{lines[-1] if lines else 'it said nothing'} (log: {self.log})"
