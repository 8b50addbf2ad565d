"""A program of ours (a service, the agent, the edge, the simulator) as a watched child process."""

import os
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from offhook_dev.servers import Server

# The environment's proxy is for the outside; health is asked on the loopback.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Program(Server):
    """Ready when `ready_url` is answered with 200. Logs go to `<home>/logs/<name>.log`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        home: Path,
        *,
        port: int,
        ready_url: str,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        super().__init__(home / "logs", port=port)
        self._argv = list(command)
        self._ready_url = ready_url
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}

    def _prepare(self) -> None:
        pass

    def _command(self) -> Sequence[str]:
        return self._argv

    def _environment(self) -> dict[str, str]:
        return self._env

    def _answers(self) -> bool:
        try:
            with _opener.open(self._ready_url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
