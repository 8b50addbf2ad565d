"""A real server as a child process: started, watched until ready, paused, killed, stopped, and never left
behind.

Every server gets a parent-death signal, so that even `kill -9` of the parent ends it. The kernel sends that
signal when the *thread* that forked the child ends; children are therefore forked by one thread that lives as
long as the process.
"""

import asyncio
import contextlib
import ctypes
import os
import pwd
import queue
import signal
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self

from offhook_dev.errors import DevError
from offhook_dev.ports import free_port, port_is_free

_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None, use_errno=True)
# Of their own: what is to end must not wait behind what starts, in the few threads that everybody shares.
_stoppers: Final = ThreadPoolExecutor(max_workers=32, thread_name_prefix="stopper")

Say = Callable[[str], None]


def say_on_stderr(sentence: str) -> None:
    """Progress for a person at a terminal."""
    print(f"  {sentence}", file=sys.stderr, flush=True)


class Server(ABC):
    """One server with a directory for all of its files. A stopped one can be started again: same port, same
    data.

    `start` and `stop` are for event loops; `start_now` and `stop_now` are the same, blocking.
    """

    name: str
    _ready_within_s: float = 180.0
    _stop_signal = signal.SIGTERM
    _death_signal = signal.SIGKILL

    def __init__(self, directory: Path, *, port: int | None = None) -> None:
        self.directory = directory.absolute()
        self.port = port or free_port()
        self.log = self.directory / f"{self.name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    # What a kind of server has to say about itself.

    @abstractmethod
    def _prepare(self) -> None:
        """Write configuration and make data directories, if that has not been done."""

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The command line."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether it accepts work. Called a few times a second until True; must not take longer than seconds."""

    def _user(self) -> str | None:
        """The system user to run as; None: the same as this process."""
        return None

    def _environment(self) -> dict[str, str] | None:
        """The environment of the process; None: the same as this process."""
        return None

    # What can be done with it.

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """What the process ended with (negative: the signal that ended it); None while it runs, or if it never did."""
        return self._process.poll() if self._process is not None else None

    async def start(self) -> Self:
        """Start it and wait until it accepts work. Raises `DevError`."""
        return await asyncio.to_thread(self.start_now)

    async def stop(self) -> None:
        """End it in order. Safe when it is not running."""
        await asyncio.get_running_loop().run_in_executor(_stoppers, self.stop_now)

    def start_now(self) -> Self:
        """Like `start`, blocking."""
        if self.running:
            return self
        if not port_is_free(self.port):
            raise DevError(
                f"{self.name} cannot use port {self.port}: another program does; stop that program."
            )
        self.directory.mkdir(parents=True, exist_ok=True)
        self._prepare()
        self._process = self._spawn()
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def stop_now(self, grace_s: float = 15.0) -> None:
        """Like `stop`, blocking. After `grace_s` it is killed."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self.resume()  # a paused process would not hear the signal
            self._process.send_signal(self._stop_signal)
            try:
                self._process.wait(grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would (SIGKILL to its whole group)."""
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers, as behind a dead network."""
        if self.running and self._process is not None:
            os.killpg(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        if self.running and self._process is not None:
            os.killpg(self._process.pid, signal.SIGCONT)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(port={self.port}, pid={self.pid})"

    def _spawn(self) -> subprocess.Popen[bytes]:
        # The group is its own: Ctrl-C in the terminal is the parent's to handle, and `kill` reaches grandchildren.
        parent = os.getpid()

        def in_the_child() -> None:
            _libc.prctl(_PR_SET_PDEATHSIG, int(self._death_signal))
            if os.getppid() != parent:  # the parent ended before the signal was asked for
                os._exit(1)

        user = self._user()
        account = pwd.getpwnam(user) if user else None
        with self.log.open("ab") as log:
            return in_spawning_thread(
                lambda: subprocess.Popen(
                    self._command(),
                    cwd=self.directory,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    user=account.pw_uid if account else None,
                    group=account.pw_gid if account else None,
                    extra_groups=[] if account else None,
                    preexec_fn=in_the_child,
                )
            )

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self._ready_within_s
        while not self._answers():
            code = self._process.poll()
            if code is not None:
                raise DevError(f"{self.name} ended with {code} instead of starting: {self._last_words()}")
            if time.monotonic() > deadline:
                raise DevError(
                    f"{self.name} did not accept work within {self._ready_within_s:.0f} s: {self._last_words()}"
                )
            time.sleep(0.05)

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return f"{lines[-1][:300] if lines else 'it said nothing'} (see {self.log})"


_spawning: queue.SimpleQueue[tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]]
_spawning = queue.SimpleQueue()
_spawner_lock = threading.Lock()
_spawner: threading.Thread | None = None


def in_spawning_thread(spawn: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Call `spawn` in the one thread that ends only with this process, and return what it made."""
    global _spawner
    with _spawner_lock:
        if _spawner is None or not _spawner.is_alive():
            _spawner = threading.Thread(target=_spawn_for_ever, name="spawner", daemon=True)
            _spawner.start()
    made: Future[subprocess.Popen[bytes]] = Future()
    _spawning.put((spawn, made))
    return made.result()


def _spawn_for_ever() -> None:
    while True:
        spawn, made = _spawning.get()
        try:
            made.set_result(spawn())
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            made.set_exception(error)
