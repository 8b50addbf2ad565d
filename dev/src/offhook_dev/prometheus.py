"""A real Prometheus on this machine, with `promtool` and `amtool`, from Debian's packages (unpacked, never installed)."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from offhook_dev import system_packages
from offhook_dev.errors import DevError
from offhook_dev.ports import LOOPBACK
from offhook_dev.servers import Say, Server, say_on_stderr

Tool = Literal["prometheus", "promtool", "amtool"]

_PACKAGES: Final[Mapping[Tool, str]] = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "amtool": "prometheus-alertmanager",
}
_TIMEOUT_S: Final = 300
_VAR: Final = Path(__file__).resolve().parents[3] / "var"


class PrometheusServer(Server):
    """Scrapes `targets` (job, and ports on this machine) every `every_s` seconds, and evaluates `rules` as often."""

    name = "prometheus"

    def __init__(
        self,
        directory: Path,
        targets: Mapping[str, Sequence[int]],
        *,
        rules: Sequence[Path] = (),
        every_s: int = 1,
        port: int | None = None,
        say: Say = say_on_stderr,
    ) -> None:
        super().__init__(directory, port=port)
        self._targets = dict(targets)
        self._rules = tuple(rules)
        self._every_s = every_s
        self._say = say
        self._binary: Path | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def ask(self, path: str, **parameters: str | float) -> Any:
        """The `data` of an answer of its API (`/api/v1/…`). Raises `DevError` with Prometheus' own words."""
        query = urllib.parse.urlencode(parameters)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/api/v1/{path}?{query}", timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise DevError(f"Prometheus refused {query[:500]}: {error.read()[:500].decode()}") from error

    def _prepare(self) -> None:
        self._binary = tool("prometheus", self._say)
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"{LOOPBACK}:{port}" for port in ports]}]}
            for job, ports in self._targets.items()
        ]
        every = {"scrape_interval": f"{self._every_s}s", "evaluation_interval": f"{self._every_s}s"}
        rules = [self._hurried(path) for path in self._rules]
        config = {"global": every, "rule_files": rules, "scrape_configs": jobs}
        (self.directory / "prometheus.yml").write_text(yaml.safe_dump(config, sort_keys=False))

    def _hurried(self, rules: Path) -> str:
        """The rules without their own interval: nobody waits half a minute here."""
        groups = yaml.safe_load(rules.read_text())["groups"]
        for group in groups:
            group.pop("interval", None)
        (self.directory / rules.name).write_text(yaml.safe_dump({"groups": groups}, width=1000))
        return rules.name

    def _command(self) -> Sequence[str]:
        return [
            str(self._binary),
            f"--config.file={self.directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.directory / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        ]

    def _answers(self) -> bool:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def install(say: Say = say_on_stderr) -> None:
    """Make sure that the programs are there. Raises `DevError`."""
    for name in _PACKAGES:
        tool(name, say)


def tool(name: Tool, say: Say = say_on_stderr) -> Path:
    """One of the programs: from the PATH, or from Debian's package, fetched once. Raises `DevError`."""
    if found := shutil.which(name):
        return Path(found)
    home = Path(os.environ.get("OFFHOOK_VAR", _VAR)) / "prometheus"
    binary = home / "usr" / "bin" / name
    if not binary.exists():
        system_packages.unpack(_PACKAGES[name], into=home, reason=f"{name} is missing", say=say)
    return binary


def run_tool(name: Tool, *arguments: str) -> str:
    """What `promtool …` or `amtool …` says. Raises `DevError` with its words when it objects."""
    done = subprocess.run(
        [str(tool(name)), *arguments],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise DevError(f"{name} {arguments[0]} objects: {said[-4000:]}")
    return said
