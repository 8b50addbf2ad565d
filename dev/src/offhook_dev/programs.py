"""A program of ours (a service, the agent, the edge, the simulator) as a watched child process."""

import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from offhook_dev.servers import Server


class Program(Server):
    """Ready when `ready_url` is answered with 200. Logs go to `<home>/logs/<name>.log`.

    `ready_trust`: the authority (PEM) of an `https` one, which may appear only when the program starts.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        home: Path,
        *,
        port: int,
        ready_url: str,
        env: Mapping[str, str] | None = None,
        ready_trust: Path | None = None,
    ) -> None:
        self.name = name
        super().__init__(home / "logs", port=port)
        self._argv = list(command)
        self._ready_url = ready_url
        self._ready_trust = ready_trust
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}

    def _prepare(self) -> None:
        pass

    def _command(self) -> Sequence[str]:
        return self._argv

    def _environment(self) -> dict[str, str]:
        return self._env

    def _answers(self) -> bool:
        # The environment's proxy is for the outside; health is asked on the loopback.
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        if self._ready_trust is not None:
            if not self._ready_trust.exists():
                return False
            context = ssl.create_default_context(cafile=str(self._ready_trust))
            handlers.append(urllib.request.HTTPSHandler(context=context))
        try:
            with urllib.request.build_opener(*handlers).open(self._ready_url, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
