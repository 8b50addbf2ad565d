"""What is demanded of every pod, and of the pods of our services: each policy tells what is wrong, a sentence each."""

from collections.abc import Iterator
from typing import Any, Final

from offhook_dev.kubernetes.rendered import (
    Manifest,
    Rendered,
    container_of,
    is_ours,
    labels_of,
    pod_of,
    selects,
)

_PROBES: Final = {"startupProbe": "/startupz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
_OUR_USER: Final = 10001
_IN_FLIGHT_S: Final = 5  # offhook.http.server: what requests in flight get after the drain
_MARGIN_S: Final = 10
_ZONES: Final = 3
_LONG_S: Final = 300  # nobody waits so long for a process that hangs
_RESTRICTED_VOLUMES: Final = frozenset(
    {"configMap", "emptyDir", "persistentVolumeClaim", "projected", "secret", "downwardAPI", "ephemeral"}
)


def restricted(rendered: Rendered) -> Iterator[str]:
    """The restricted pod security standard, which the namespace enforces, and more than it asks for."""
    (namespace,) = rendered.of("Namespace")
    for mode in ("enforce", "audit", "warn"):
        if namespace["metadata"]["labels"].get(f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"the namespace does not {mode} the restricted standard"
    for workload in rendered.workloads():
        name, pod, container = _parts(workload)
        security = pod.get("securityContext", {})
        own = container.get("securityContext", {})
        if security.get("runAsNonRoot") is not True or own.get("runAsNonRoot") is not True:
            yield f"{name} may run as root"
        if is_ours(workload) and (
            security.get("runAsUser") != _OUR_USER or security.get("runAsGroup") != _OUR_USER
        ):
            yield f"{name} does not run as {_OUR_USER}"
        if security.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{name} has no seccomp profile"
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} keeps privileges"
        if own.get("readOnlyRootFilesystem") is not True and not _may_write_root(workload):
            yield f"{name} may write to its root file system"
        if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name} shares the host's namespaces"
        for volume in pod.get("volumes", ()):
            if not (set(volume) - {"name"}) <= _RESTRICTED_VOLUMES:
                yield f"{name} mounts {sorted(volume)}"


def no_token(rendered: Rendered) -> Iterator[str]:
    """Nobody here talks to the API server, nor is told of services by environment variables."""
    for workload in rendered.workloads():
        name, pod, _ = _parts(workload)
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name} gets a service account token"
        if pod.get("enableServiceLinks") is not False:
            yield f"{name} gets the addresses of all services as environment variables"
        account = pod.get("serviceAccountName", "default")
        if is_ours(workload):
            if account != workload["metadata"]["name"] or account not in rendered.names("ServiceAccount"):
                yield f"{name} has no service account of its own"
            elif rendered.get("ServiceAccount", account).get("automountServiceAccountToken") is not False:
                yield f"the service account {account} mounts its token"


def images(rendered: Rendered) -> Iterator[str]:
    """One version everywhere, from where the overlay says."""
    ours = set()
    for workload in rendered.workloads():
        name, _, container = _parts(workload)
        repository, _, tag = container["image"].rpartition(":")
        if "/" not in repository or tag in ("", "latest"):
            yield f"{name} has the image {container['image']}, which the overlay's `images` does not name"
        if is_ours(workload):
            ours.add(container["image"])
    if len(ours) != 1:
        yield f"one image is expected for all services, found {sorted(ours)}"


def resources(rendered: Rendered) -> Iterator[str]:
    """Everything asks for what it needs, and has a limit of memory. Nobody has one of CPU: see base/webhook-gateway."""
    for workload in rendered.workloads():
        name, _, container = _parts(workload)
        wanted = container.get("resources", {})
        missing = {"cpu", "memory", "ephemeral-storage"} - set(wanted.get("requests", ()))
        if missing:
            yield f"{name} does not say how much {', '.join(sorted(missing))} it needs"
        if "memory" not in wanted.get("limits", ()):
            yield f"{name} has no memory limit"
        if "cpu" in wanted.get("limits", ()):
            yield f"{name} has a CPU limit"


def probes(rendered: Rendered) -> Iterator[str]:
    """Three probes on three different facts, at the port where health is told."""
    for workload in rendered.services():
        name, _, container = _parts(workload)
        ports = {port["name"] for port in container.get("ports", ())}
        health = "admin" if workload["metadata"]["name"] == "media-bridge" else "http"
        for probe, path in _PROBES.items():
            asked = container.get(probe, {}).get("httpGet", {})
            if asked.get("path") != path or asked.get("port") != health or health not in ports:
                yield f"{name}: the {probe} is {asked}, expected {path} at the port {health}"


def what_hangs_is_ended_soon(rendered: Rendered) -> Iterator[str]:
    """A grace period for a drain is none for a process that has failed its liveness: it hears no SIGTERM and drains nothing."""
    for workload in rendered.services():
        name, pod, container = _parts(workload)
        grace = pod.get("terminationGracePeriodSeconds", 30)
        if container.get("livenessProbe", {}).get("terminationGracePeriodSeconds", grace) > _LONG_S:
            yield f"{name} keeps its callers for up to {grace} s when it hangs"


def ends_in_order(rendered: Rendered) -> Iterator[str]:
    """The grace period outlasts preStop, the delay, the drain and what is in flight then."""
    for workload in rendered.services():
        name, pod, container = _parts(workload)
        environment = rendered.environment(workload)
        sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        delay = float(environment.get("OFFHOOK_DRAIN_DELAY_S") or 0)
        drain = float(environment.get("OFFHOOK_DRAIN_TIMEOUT_S") or "inf")
        needed = sleep + delay + drain + _IN_FLIGHT_S + _MARGIN_S
        if pod.get("terminationGracePeriodSeconds", 30) < needed:
            yield f"{name} is killed after {pod.get('terminationGracePeriodSeconds', 30)} s; it may need {needed:.0f} s"
        if not _is_called(rendered, workload):
            continue
        if sleep < 5:
            yield f"{name} ends before load balancers have noticed"
        # The bridge's connections are calls: nobody sends a second request on one.
        if delay < 1 and workload["metadata"]["name"] != "media-bridge":
            yield f"{name} closes connections before its answers have said so"


def disruption(rendered: Rendered) -> Iterator[str]:
    """A budget for each service, pods spread over zones and machines, and no step back during an update."""
    for workload in rendered.services():
        name, pod, _ = _parts(workload)
        labels = labels_of(workload)
        budgets = [
            one
            for one in rendered.of("PodDisruptionBudget")
            if selects(one["spec"]["selector"], labels) and one["spec"].get("maxUnavailable") == 1
        ]
        if len(budgets) != 1:
            yield f"{name} has {len(budgets)} disruption budgets of one pod"
        spread = {
            constraint["topologyKey"]
            for constraint in pod.get("topologySpreadConstraints", ())
            if selects(constraint["labelSelector"], labels)
        }
        if not {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} <= spread:
            yield f"{name} is not spread over zones and machines"
        if workload["kind"] == "Deployment":
            update = workload["spec"].get("strategy", {}).get("rollingUpdate", {})
            if update.get("maxUnavailable") != 0 or not update.get("maxSurge"):
                yield f"{name} has fewer pods while it is updated"


def calls_are_kept(rendered: Rendered) -> Iterator[str]:
    """What media-bridge needs so that nobody's call is cut."""
    bridge = rendered.workload("media-bridge")
    template = bridge["spec"]["template"]
    if bridge["kind"] != "Deployment":
        yield "media-bridge is updated pod by pod, a drain each"
    annotations = template["metadata"].get("annotations", {})
    if annotations.get("cluster-autoscaler.kubernetes.io/safe-to-evict") != "false":
        yield "Cluster Autoscaler may evict media-bridge"
    if annotations.get("karpenter.sh/do-not-disrupt") != "true":
        yield "Karpenter may evict media-bridge"


def spool_is_kept(rendered: Rendered) -> Iterator[str]:
    """What the gateway acknowledged is on a volume that outlives its pod, and there is room for it."""
    gateway = rendered.workload("webhook-gateway")
    name, _, container = _parts(gateway)
    environment = rendered.environment(gateway)
    mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", ())}
    volume = mounts.get(environment.get("OFFHOOK_STATE_DIR") or "")
    claims = {
        claim["metadata"]["name"]: claim["spec"]["resources"]["requests"]["storage"]
        for claim in gateway["spec"].get("volumeClaimTemplates", ())
    }
    if volume not in claims:
        yield f"{name} spools to what goes with the pod"
    elif quantity(claims[volume]) < 2 * int(environment.get("OFFHOOK_SPOOL_MAX_BYTES") or 0):
        yield f"{name}: the claim has no room for the spool"
    kept = gateway["spec"].get("persistentVolumeClaimRetentionPolicy", {})
    if kept.get("whenScaled", "Retain") != "Retain" or kept.get("whenDeleted", "Retain") != "Retain":
        yield f"{name}: claims are deleted with what is in them"


def replicas(rendered: Rendered) -> Iterator[str]:
    """Who decides how many: one autoscaler, or the overlay, never both. In production nobody has fewer than zones."""
    scalers: dict[str, list[int]] = {}
    for one in rendered.of("HorizontalPodAutoscaler"):
        scalers.setdefault(one["spec"]["scaleTargetRef"]["name"], []).append(
            one["spec"].get("minReplicas", 1)
        )
    for one in rendered.of("ScaledObject"):
        scalers.setdefault(one["spec"]["scaleTargetRef"]["name"], []).append(
            one["spec"].get("minReplicaCount", 0)
        )
    for workload in rendered.services():
        name = workload["metadata"]["name"]
        least = scalers.pop(name, [])
        own = workload["spec"].get("replicas")
        if len(least) > 1 or (least and own is not None):
            yield f"{name}: several decide how many there are"
        if scaled_at_all(rendered) and (least[0] if least else own or 1) < _ZONES:
            yield f"{name} has fewer pods than there are zones"
    if scalers:
        yield f"autoscalers without a workload: {sorted(scalers)}"


def scaled_at_all(rendered: Rendered) -> bool:
    """Whether this is meant for production."""
    return bool(rendered.of("HorizontalPodAutoscaler", "ScaledObject"))


def quantity(text: str) -> int:
    """Bytes of `512Mi`, `1Gi`, `1024`. Raises `ValueError`."""
    for suffix, factor in (("Ki", 2**10), ("Mi", 2**20), ("Gi", 2**30), ("Ti", 2**40)):
        if text.endswith(suffix):
            return int(text.removesuffix(suffix)) * factor
    return int(text)


def _parts(workload: Manifest) -> tuple[str, Manifest, dict[str, Any]]:
    name = f"{workload['kind']}/{workload['metadata']['name']}"
    return name, pod_of(workload), container_of(workload)


def _is_called(rendered: Rendered, workload: Manifest) -> bool:
    return any(
        selects({"matchLabels": one["spec"]["selector"]}, labels_of(workload))
        for one in rendered.of("Service")
    )


def _may_write_root(workload: Manifest) -> bool:
    """Somebody else's image that cannot do without says so, in checkov's words."""
    if is_ours(workload):
        return False
    annotations = workload["metadata"].get("annotations", {})
    return any(value.startswith("CKV_K8S_22=") for value in annotations.values())


POLICIES: Final = (
    restricted, no_token, images, resources, probes, what_hangs_is_ended_soon, ends_in_order, disruption, calls_are_kept,
    spool_is_kept, replicas,
)  # fmt: skip
