"""An overlay's workloads as real containers, by `podman play kube`: one pod for each, with what the manifests give it.

What podman (4.3) does otherwise than Kubernetes, and what is done about it:

* It knows no StatefulSet and no Job, and calls the pods of a Deployment otherwise than their Service: every workload is
  played as a Pod of its name, under which the others find it. Replicas, spreading, budgets and policies are not played.
* It runs HTTP probes by `curl`, which no image here has: the probes are taken out, and asked by `probe`.
* It stores a Secret in a form it cannot read back: secrets are created beforehand, in the form it reads.
* It takes the mode of a ConfigMap's files from nobody: where a mode is given, the files are put on disk and mounted.
* It publishes every port of a container on the machine: only those asked for are left.
* `preStop: sleep` does not exist.
"""

import fcntl
import json
import shutil
import time
from contextlib import ExitStack
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from offhook_dev import stand_ins, system_packages
from offhook_dev.containers import Engine
from offhook_dev.errors import DevError
from offhook_dev.kubernetes.rendered import Manifest, Rendered, container_of, pod_of
from offhook_dev.ports import free_port

_NETWORK: Final = "offhook-played"
_PAUSE: Final = "catatonit"
_START_TIMEOUT_S: Final = 300
_STOP_TIMEOUT_S: Final = 120
_PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")
_ASK: Final = """\
import sys, urllib.request
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(opener.open(sys.argv[1], timeout=5).status)
"""


class Played:
    """Start with `with Played(…)`. `published` ports are reached at `address`. One at a time on a machine: pods have the
    names of the services."""

    def __init__(self, engine: Engine, rendered: Rendered, *, published: dict[str, int]) -> None:
        self._engine = engine
        self._rendered = rendered
        self._published = published
        self._home = engine.home / "played"
        self._exit = ExitStack()
        self._ports = {name: free_port() for name in published}

    def __enter__(self) -> Self:
        """Raises `DevError`."""
        try:
            self._start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def address(self, workload: str) -> str:
        """`127.0.0.1:port` of a published one."""
        return f"127.0.0.1:{self._ports[workload]}"

    def run(self, workload: str, *command: str, timeout_s: float = 60) -> str:
        """What a command in its container prints. Raises `DevError` when it fails."""
        return self._engine.podman("exec", _container(workload), *command, timeout_s=timeout_s).stdout

    def probe(self, workload: str, kind: str) -> bool:
        """What the kubelet would learn from a probe."""
        (found,) = [one for one in self._rendered.workloads() if one["metadata"]["name"] == workload]
        container = container_of(found)
        asked = container[kind]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        url = f"http://127.0.0.1:{ports[asked['port']]}{asked['path']}"
        arguments = ("exec", _container(workload), "/opt/offhook/bin/python", "-c", _ASK, url)
        return self._engine.podman(*arguments, check=False).stdout.strip() == "200"

    def state(self, workload: str) -> dict[str, Any]:
        """`Status`, `ExitCode` and more of its container."""
        found: dict[str, Any] = json.loads(
            self._engine.podman("inspect", "--format", "{{json .State}}", _container(workload)).stdout
        )
        return found

    def wait(self, workload: str, *, within_s: float, ready: bool = True) -> None:
        """Until it is ready, or (`ready=False`) has ended. Raises `DevError` with its last words."""
        deadline = time.monotonic() + within_s
        while True:
            state = self.state(workload)
            ended = state["Status"] == "exited"
            if ended and not ready:
                return
            if ready and not ended and self.probe(workload, "readinessProbe"):
                return
            if (ended and ready) or time.monotonic() > deadline:
                raise DevError(f"{workload} is {state['Status']}: {self.log(workload)[-1500:]}")
            time.sleep(1)

    def stop(self, workload: str) -> int:
        """SIGTERM, and the grace period of the manifest. Returns the exit code."""
        (found,) = [one for one in self._rendered.workloads() if one["metadata"]["name"] == workload]
        grace = str(pod_of(found).get("terminationGracePeriodSeconds", 30))
        self._engine.podman("stop", "--time", grace, _container(workload), timeout_s=float(grace) + 30)
        return int(self.state(workload)["ExitCode"])

    def log(self, workload: str) -> str:
        done = self._engine.podman("logs", _container(workload), check=False)
        return done.stdout + done.stderr

    def _start(self) -> None:
        self._engine.home.mkdir(parents=True, exist_ok=True)
        held = self._exit.enter_context((self._engine.home / ".played").open("w"))
        fcntl.flock(held, fcntl.LOCK_EX)
        self._engine.project_images()
        stand_ins.build(self._engine)
        if shutil.which(_PAUSE) is None:
            system_packages.install(_PAUSE, reason="Pods need a process that does nothing", say=print)
        self._sweep()
        self._home.mkdir()
        self._engine.podman("network", "create", _NETWORK)
        for secret in self._rendered.of("Secret"):
            name = secret["metadata"]["name"]
            path = self._home / name
            path.touch(mode=0o600)
            path.write_text(json.dumps(secret["data"]))
            self._engine.podman("secret", "create", name, str(path))
            path.unlink()
        documents = [*self._rendered.of("ConfigMap"), *self._claims(), *self._pods()]
        path = self._home / "pods.yaml"
        path.write_text("\n---\n".join(map(json.dumps, documents)))
        self._engine.podman("play", "kube", "--network", _NETWORK, str(path), timeout_s=_START_TIMEOUT_S)

    def _pods(self) -> list[Manifest]:
        pods = []
        for workload in self._rendered.workloads():
            name = workload["metadata"]["name"]
            spec = deepcopy(pod_of(workload))
            (container,) = spec["containers"]
            for probe in _PROBES:
                container.pop(probe, None)
            container.pop("lifecycle", None)
            spec.pop("topologySpreadConstraints", None)
            if workload["kind"] == "Job":
                spec["restartPolicy"] = "Never"
            volumes = spec.setdefault("volumes", [])
            for claim in workload["spec"].get("volumeClaimTemplates", ()):
                own = {"claimName": f"{claim['metadata']['name']}-{name}-0"}
                volumes.append({"name": claim["metadata"]["name"], "persistentVolumeClaim": own})
            for volume in volumes:
                if "defaultMode" in volume.get("configMap", {}):
                    config = volume.pop("configMap")
                    folder = self._written(config["name"], config["defaultMode"])
                    volume["hostPath"] = {"path": str(folder), "type": "Directory"}
            container["ports"] = [
                port | {"hostPort": self._ports[name], "hostIP": "127.0.0.1"}
                for port in container.get("ports", ())
                if port["containerPort"] == self._published.get(name)
            ]
            pods.append(
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": name, "labels": {"app": name}},
                    "spec": spec,
                }
            )
        return pods

    def _claims(self) -> list[Manifest]:
        found = self._rendered.of("PersistentVolumeClaim")
        for workload in self._rendered.of("StatefulSet"):
            for claim in workload["spec"].get("volumeClaimTemplates", ()):
                name = f"{claim['metadata']['name']}-{workload['metadata']['name']}-0"
                found.append(
                    {
                        "apiVersion": "v1",
                        "kind": "PersistentVolumeClaim",
                        "metadata": {"name": name},
                        "spec": claim["spec"],
                    }
                )
        return found

    def _written(self, config: str, mode: int) -> Path:
        folder = self._home / config
        folder.mkdir()
        for name, text in self._rendered.get("ConfigMap", config)["data"].items():
            (folder / name).write_text(text)
            (folder / name).chmod(mode)
        return folder

    def _end(self) -> None:
        try:
            self._sweep()
        finally:
            self._exit.close()

    def _sweep(self) -> None:
        """Remove what a run has left, this one or one that was killed."""
        for workload in self._rendered.workloads():
            self._engine.podman(
                "pod",
                "rm",
                "--force",
                "--time",
                "0",
                workload["metadata"]["name"],
                check=False,
                timeout_s=_STOP_TIMEOUT_S,
            )
        for claim in self._claims():
            self._engine.podman("volume", "rm", "--force", claim["metadata"]["name"], check=False)
        for secret in self._rendered.names("Secret"):
            self._engine.podman("secret", "rm", secret, check=False)
        self._engine.podman("network", "rm", "--force", _NETWORK, check=False)
        shutil.rmtree(self._home, ignore_errors=True)


def _container(workload: str) -> str:
    """Podman joins the names of pod and container, which are the same here."""
    return f"{workload}-{workload}"
