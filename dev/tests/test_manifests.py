"""What is deployed on Kubernetes: rendered as `kubectl apply -k` would, and judged by schemas, checkov and our own policies."""

import shutil
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any, NoReturn

import pytest
import yaml

from offhook_dev.docs import stale
from offhook_dev.errors import DevError
from offhook_dev.kubernetes import (
    checkov,
    configuration,
    generated,
    messaging,
    network,
    pods,
    routing,
    schemas,
    watching,
)
from offhook_dev.kubernetes.rendered import FOLDER, OVERLAYS, Rendered, container_of, pod_of, render
from offhook_dev.pytest_plugin import real_is_required
from offhook_dev.stack import repository

pytestmark = [pytest.mark.real, pytest.mark.manifests]

Policy = Callable[[Rendered], Iterator[str]]
POLICIES: tuple[Policy, ...] = tuple(
    policy
    for module in (pods, configuration, network, routing, messaging, watching)
    for policy in module.POLICIES
)
# A cluster without Gateway API, and one that keeps recordings on a volume of its own.
INGRESS = """
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: offhook
resources: [../local]
components: [../../components/ingress, ../../components/tls]
configMapGenerator:
  - name: number-sync-settings
    behavior: merge
    literals: ["OFFHOOK_PUBLIC_URL=https://voice.example.com"]
"""


@pytest.fixture(scope="module")
def overlays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Rendered]:
    folder = repository() / FOLDER
    copy = tmp_path_factory.mktemp("deploy") / "k8s"
    shutil.copytree(folder, copy)
    shutil.copytree(repository() / "deploy" / "grafana", copy.parent / "grafana")
    ingress = copy / "overlays" / "ingress"
    ingress.mkdir()
    (ingress / "kustomization.yaml").write_text(INGRESS)
    found = {name: render(folder / "overlays" / name) for name in OVERLAYS}
    return found | {"ingress": render(ingress)}


ALL = (*OVERLAYS, "ingress")


# --- judged by others


@pytest.fixture(scope="module")
def published_schemas() -> None:
    try:
        schemas.require_folder()
    except DevError as error:
        _do_without(error)


@pytest.fixture(scope="module")
def installed_checkov() -> None:
    try:
        checkov.install()
    except DevError as error:
        _do_without(error)


def _do_without(error: DevError) -> NoReturn:
    if real_is_required():
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))


@pytest.mark.usefixtures("published_schemas")
@pytest.mark.parametrize("overlay", ALL)
def test_every_object_is_valid_by_the_schema_of_its_kind(overlays: dict[str, Rendered], overlay: str) -> None:
    assert [words for manifest in overlays[overlay] for words in schemas.objections(manifest)] == []


def test_every_component_is_part_of_something_that_is_judged(overlays: dict[str, Rendered]) -> None:
    named = "".join(
        path.read_text() for path in (repository() / FOLDER).glob("overlays/*/kustomization.yaml")
    )
    for component in (repository() / FOLDER / "components").iterdir():
        assert f"components/{component.name}" in named + INGRESS


@pytest.mark.usefixtures("installed_checkov")
def test_checkov_objects_to_what_is_wrong_and_to_nothing_else(
    overlays: dict[str, Rendered], tmp_path: Path
) -> None:
    wrong = deepcopy(overlays["production"].workload("number-sync"))
    wrong["metadata"]["name"] = "wrong"
    container_of(wrong)["securityContext"]["privileged"] = True
    manifests = [wrong, *(one for name in OVERLAYS for one in overlays[name])]
    path = tmp_path / "manifests.yaml"
    path.write_text("---\n".join(map(yaml.safe_dump, manifests)))
    assert {words.split(":")[0] for words in checkov.objections(path)} == {
        "CKV_K8S_16 Deployment.offhook.wrong"
    }


# --- judged by us


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.__name__)
@pytest.mark.parametrize("overlay", ALL)
def test_policies_hold(overlays: dict[str, Rendered], overlay: str, policy: Policy) -> None:
    assert list(policy(overlays[overlay])) == []


def test_the_adapter_asks_the_prometheus_that_reads_the_pods(overlays: dict[str, Rendered]) -> None:
    (rule,) = overlays["production"].get("NetworkPolicy", "metrics")["spec"]["ingress"]
    namespace = rule["from"][0]["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
    assert watching.adapter_asks() == namespace


def test_generated_manifests_are_what_the_code_says() -> None:
    assert not set(stale(repository())) & set(generated.pages())


def test_a_kustomization_that_cannot_be_rendered_is_named(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [nothing.yaml]\n")
    with pytest.raises(DevError, match=r"nothing\.yaml"):
        render(tmp_path)


# --- and the judges can say no


def _workload(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Rendered], object]:
    return lambda rendered: change(rendered.workload(name))


def _pod(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Rendered], object]:
    return lambda rendered: change(pod_of(rendered.workload(name)))


def _container(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Rendered], object]:
    return lambda rendered: change(container_of(rendered.workload(name)))


def _object(kind: str, name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Rendered], object]:
    return lambda rendered: change(rendered.get(kind, name))


def _config(service: str, **variables: str) -> Callable[[Rendered], object]:
    def change(rendered: Rendered) -> None:
        (source, *_) = [
            one["configMapRef"]["name"]
            for one in container_of(rendered.workload(service))["envFrom"]
            if one.get("configMapRef", {}).get("name", "").startswith(f"{service}-settings")
        ]
        rendered.get("ConfigMap", source)["data"].update(variables)

    return change


def _drop(kind: str, name: str) -> Callable[[Rendered], object]:
    return lambda rendered: rendered.manifests.remove(rendered.get(kind, name))


def _rule(rendered: Rendered, route: str) -> dict[str, Any]:
    found: dict[str, Any] = rendered.get("HTTPRoute", route)["spec"]["rules"][0]
    return found


MUTATIONS: dict[str, tuple[Policy, str, Callable[[Rendered], object]]] = {
    "namespace-baseline": (
        pods.restricted, "enforce the restricted",
        lambda r: r.of("Namespace")[0]["metadata"]["labels"].update(
            {"pod-security.kubernetes.io/enforce": "baseline"}),
    ),
    "root": (
        pods.restricted, "may run as root",
        _pod("webhook-gateway", lambda pod: pod["securityContext"].pop("runAsNonRoot")),
    ),
    "other-user": (
        pods.restricted, "does not run as 10001",
        _pod("prepare", lambda pod: pod["securityContext"].update(runAsUser=0)),
    ),
    "no-seccomp": (
        pods.restricted, "seccomp", _pod("recorder", lambda pod: pod["securityContext"].pop("seccompProfile")),
    ),
    "capabilities": (
        pods.restricted, "keeps privileges",
        _container("call-tracker", lambda c: c["securityContext"].pop("capabilities")),
    ),
    "writable-root": (
        pods.restricted, "write to its root",
        _container("media-bridge", lambda c: c["securityContext"].update(readOnlyRootFilesystem=False)),
    ),
    "host-path": (
        pods.restricted, "hostPath",
        _pod("media-bridge", lambda pod: pod["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
    ),
    "token": (
        pods.no_token, "service account token",
        _pod("number-sync", lambda pod: pod.update(automountServiceAccountToken=True)),
    ),
    "service-links": (
        pods.no_token, "environment variables", _pod("call-tracker", lambda pod: pod.pop("enableServiceLinks")),
    ),
    "shared-account": (
        pods.no_token, "no service account of its own",
        _pod("recorder", lambda pod: pod.update(serviceAccountName="call-tracker")),
    ),
    "bare-image": (
        pods.images, "does not name", _container("media-bridge", lambda c: c.update(image="offhook:dev")),
    ),
    "two-versions": (
        pods.images, "one image is expected",
        _container("media-bridge", lambda c: c.update(image="registry.example.com/offhook:0.0.9")),
    ),
    "no-requests": (
        pods.resources, "how much cpu", _container("number-sync", lambda c: c["resources"]["requests"].pop("cpu")),
    ),
    "no-memory-limit": (
        pods.resources, "no memory limit",
        _container("prepare", lambda c: c["resources"]["limits"].pop("memory")),
    ),
    "cpu-limit": (
        pods.resources, "has a CPU limit",
        _container("media-bridge", lambda c: c["resources"]["limits"].update(cpu="2")),
    ),
    "liveness-asks-readiness": (
        pods.probes, "the livenessProbe",
        _container("call-tracker", lambda c: c["livenessProbe"]["httpGet"].update(path="/readyz")),
    ),
    "probe-of-the-media-port": (
        pods.probes, "at the port admin",
        _container("media-bridge", lambda c: c["readinessProbe"]["httpGet"].update(port="media")),
    ),
    "no-startup-probe": (
        pods.probes, "the startupProbe", _container("recorder", lambda c: c.pop("startupProbe")),
    ),
    "hangs-for-hours": (
        pods.what_hangs_is_ended_soon, "up to 14460 s when it hangs",
        _container("media-bridge", lambda c: c["livenessProbe"].pop("terminationGracePeriodSeconds", None)),
    ),
    "short-grace": (
        pods.ends_in_order, "is killed after 600 s",
        _pod("media-bridge", lambda pod: pod.update(terminationGracePeriodSeconds=600)),
    ),
    "longer-drain": (
        pods.ends_in_order, "is killed after",
        _config("webhook-gateway", OFFHOOK_DRAIN_DELAY_S="30"),
    ),
    "no-pre-stop": (
        pods.ends_in_order, "before load balancers",
        _container("webhook-gateway", lambda c: c.pop("lifecycle")),
    ),
    "no-last-answers": (
        pods.ends_in_order, "before its answers",
        _config("call-tracker", OFFHOOK_DRAIN_DELAY_S="0"),
    ),
    "no-budget": (pods.disruption, "0 disruption budgets", _drop("PodDisruptionBudget", "media-bridge")),
    "one-zone": (
        pods.disruption, "not spread",
        _pod("call-tracker", lambda pod: pod["topologySpreadConstraints"].pop(0)),
    ),
    "fewer-while-updating": (
        pods.disruption, "fewer pods",
        _workload("media-bridge", lambda w: w["spec"]["strategy"]["rollingUpdate"].update(maxUnavailable=1)),
    ),
    "evictable": (
        pods.calls_are_kept, "Cluster Autoscaler",
        _workload("media-bridge", lambda w: w["spec"]["template"]["metadata"]["annotations"].pop(
            "cluster-autoscaler.kubernetes.io/safe-to-evict")),
    ),
    "spool-in-the-pod": (
        pods.spool_is_kept, "goes with the pod",
        _workload("webhook-gateway", lambda w: w["spec"].update(volumeClaimTemplates=[])),
    ),
    "small-claim": (
        pods.spool_is_kept, "no room for the spool",
        _config("webhook-gateway", OFFHOOK_SPOOL_MAX_BYTES=str(2**30)),
    ),
    "replicas-and-autoscaler": (
        pods.replicas, "several decide", _workload("media-bridge", lambda w: w["spec"].update(replicas=3)),
    ),
    "two-autoscalers": (
        pods.replicas, "several decide",
        _object("ScaledObject", "call-tracker",
                lambda s: s["spec"]["scaleTargetRef"].update(name="webhook-gateway")),
    ),
    "fewer-than-zones": (
        pods.replicas, "fewer pods than there are zones",
        _workload("number-sync", lambda w: w["spec"].update(replicas=2)),
    ),
    "misspelt-setting": (
        configuration.settings_exist, "OFFHOOK_MAX_SESSION,",
        _config("media-bridge", OFFHOOK_MAX_SESSION="300"),
    ),
    "somebody-elses-setting": (
        configuration.settings_exist, "OFFHOOK_MAX_SESSIONS,",
        _config("call-tracker", OFFHOOK_MAX_SESSIONS="300"),
    ),
    "impossible-value": (
        configuration.services_can_start, "media-bridge: OFFHOOK_MAX_SESSIONS is wrong",
        _config("media-bridge", OFFHOOK_MAX_SESSIONS="many"),
    ),
    "missing-secret": (
        configuration.services_can_start, "OFFHOOK_TOKEN_KEY is not set",
        _object("ExternalSecret", "media-bridge", lambda e: e["spec"]["data"].pop(1)),
    ),
    "nobody-on-call": (
        configuration.somebody_is_on_call, "names nobody",
        _config("call-tracker", OFFHOOK_OPERATORS=""),
    ),
    "other-port": (
        configuration.services_can_start, "but listens at",
        _config("number-sync", OFFHOOK_LISTEN_PORT="8083"),
    ),
    "health-on-the-loopback": (
        configuration.services_can_start, "tells its health to nobody",
        _config("media-bridge", OFFHOOK_ADMIN_HOST="127.0.0.1"),
    ),
    "state-nowhere": (
        configuration.services_can_start, "cannot write",
        _container("recorder", lambda c: c.update(volumeMounts=c["volumeMounts"][1:])),
    ),
    "too-many-secrets": (
        configuration.secrets_are_needed, "call-tracker is given the keyring",
        _object("ExternalSecret", "call-tracker", lambda e: e["spec"]["data"].append(
            {"secretKey": "OFFHOOK_KEYRING", "remoteRef": {"key": "offhook/shared"}})),
    ),
    "shared-secret": (
        configuration.secrets_are_needed, "recorder reads the secret call-tracker",
        _container("recorder", lambda c: c["envFrom"].append({"secretRef": {"name": "call-tracker"}})),
    ),
    "secret-in-a-config-map": (
        configuration.secrets_are_needed, "in clear",
        _config("call-tracker", OFFHOOK_DATABASE_URL="postgresql+asyncpg://u:p@h/d"),
    ),
    "missing-config-map": (
        configuration.references_exist, "needs the ConfigMap",
        _container("prepare", lambda c: c["envFrom"].append({"configMapRef": {"name": "nothing"}})),
    ),
    "missing-key": (
        configuration.references_exist, "needs passwort",
        _container("prepare", lambda c: c["env"][1]["valueFrom"]["secretKeyRef"].update(key="passwort")),
    ),
    "two-places": (
        configuration.one_place_of_recordings, "different places",
        _config("recorder", OFFHOOK_RECORDINGS_S3_PREFIX="elsewhere"),
    ),
    "not-denied": (network.denied_by_default, "no policy denies", _drop("NetworkPolicy", "default-deny")),
    "unselected": (
        network.denied_by_default, "no network policy is about prepare",
        lambda r: [_drop("NetworkPolicy", name)(r) for name in r.names("NetworkPolicy") - {"default-deny"}],
    ),
    "everybody-outside": (
        network.outside_is_for_two, "webhook-gateway reaches the outside",
        _object("NetworkPolicy", "outside", lambda p: p["spec"].update(podSelector={})),
    ),
    "nobody-outside": (
        network.outside_is_for_two, "media-bridge does not reach", _drop("NetworkPolicy", "outside"),
    ),
    "metadata-service": (
        network.outside_is_for_two, "metadata service",
        _object("NetworkPolicy", "outside", lambda p: p["spec"]["egress"][0]["to"][0]["ipBlock"].pop("except")),
    ),
    "range-of-servers": (
        network.private_addresses_are_named, "media-bridge to anything in 10.0.0.0/8",
        _object("NetworkPolicy", "to-redis-outside",
                lambda p: p["spec"]["egress"][0]["to"][0]["ipBlock"].update(cidr="10.0.0.0/8")),
    ),
    "open-door": (
        network.only_the_ingress_reaches_in, "call-tracker is reached from anywhere",
        _object("NetworkPolicy", "from-ingress", lambda p: p["spec"]["ingress"][0].pop("from")),
    ),
    "open-admin": (
        network.only_the_ingress_reaches_in, "media-bridge is entered at",
        _object("NetworkPolicy", "media-from-ingress", lambda p: p["spec"]["ingress"][0]["ports"].append(
            {"port": "admin"})),
    ),
    "recorder-and-redis": (
        network.servers_are_reached, "recorder reaches redis",
        _object("NetworkPolicy", "to-redis", lambda p: p["spec"].update(podSelector={})),
    ),
    "service-without-pods": (
        network.services_have_pods, "has 0 workloads",
        _object("Service", "media-bridge", lambda s: s["spec"]["selector"].update(tier="x")),
    ),
    "public-health": (
        network.services_have_pods, "to everybody",
        _object("Service", "media-bridge", lambda s: s["spec"]["ports"].append({"port": 1, "targetPort": "admin"})),
    ),
    "missing-route": (
        routing.routes_are_the_table, "leads to None",
        lambda r: r.get("HTTPRoute", "pages")["spec"]["rules"].pop(0),
    ),
    "swapped-route": (
        routing.routes_are_the_table, "leads to webhook-gateway, the table says media-bridge",
        lambda r: _rule(r, "media")["backendRefs"][0].update(name="webhook-gateway"),
    ),
    "export-of-calls": (
        routing.routes_are_the_table, "/calls.csv leads to None",
        lambda r: [
            rule.update(matches=[one for one in rule["matches"] if one["path"]["value"] != "/calls.csv"])
            for rule in r.get("HTTPRoute", "pages")["spec"]["rules"]
        ],
    ),
    "time-limit-of-calls": (
        routing.calls_are_not_cut, "time limit", lambda r: _rule(r, "media").update(timeouts={"request": "1h"}),
    ),
    "idle-calls": (
        routing.calls_are_not_cut, "streamIdleTimeout of audio is None",
        _object("BackendTrafficPolicy", "media", lambda p: p["spec"]["timeout"]["http"].pop("streamIdleTimeout")),
    ),
    "default-breaker": (
        routing.calls_are_not_cut, "maxConnections of audio is 1024",
        _object("BackendTrafficPolicy", "media", lambda p: p["spec"].pop("circuitBreaker")),
    ),
    "one-limit-for-all": (
        routing.calls_are_not_cut, "no limits of their own",
        _object("BackendTrafficPolicy", "media", lambda p: p["spec"].pop("rateLimit")),
    ),
    "one-bucket-for-all": (
        routing.a_flood_is_its_senders, "one source uses up what webhooks",
        _object("BackendTrafficPolicy", "webhooks", lambda p: p["spec"].update(
            rateLimit={"local": {"rules": [{"limit": {"requests": 2000, "unit": "Second"}}]}})),
    ),
    "low-limit-of-all": (
        routing.a_flood_is_its_senders, "a few sources use up what media",
        _object("BackendTrafficPolicy", "media", lambda p: p["spec"]["rateLimit"]["local"]["rules"][-1].update(
            limit={"requests": 300, "unit": "Second"})),
    ),
    "merged-slashes": (
        routing.urls_are_passed_on, "changes the path",
        _object("ClientTrafficPolicy", "offhook", lambda p: p["spec"].pop("path")),
    ),
    "other-name": (
        routing.one_public_name, "routes and certificates are for",
        _config("number-sync", OFFHOOK_PUBLIC_URL="https://calls.example.com"),
    ),
    "missing-topic": (
        messaging.topics_are_ours, "telephony.numbers.v1 is missing", _drop("KafkaTopic", "telephony.numbers.v1"),
    ),
    "deleted-numbers": (
        messaging.topics_are_ours, "telephony.numbers.v1 has the settings",
        _object("KafkaTopic", "telephony.numbers.v1",
                lambda t: t["spec"]["config"].update({"cleanup.policy": "delete"})),
    ),
    "too-many-rights": (
        messaging.users_have_their_rights, "recorder has Read on the topic telephony.configurations.v1",
        _object("KafkaUser", "recorder", lambda u: u["spec"]["authorization"]["acls"].append(
            {"resource": {"type": "topic", "name": "telephony.configurations.v1"}, "operations": ["Read"]})),
    ),
    "too-few-rights": (
        messaging.users_have_their_rights, "webhook-gateway lacks",
        _object("KafkaUser", "webhook-gateway", lambda u: u["spec"]["authorization"]["acls"].pop(0)),
    ),
    "no-tls": (
        messaging.services_sign_in, "SECURITY_PROTOCOL=SASL_PLAINTEXT",
        _config("media-bridge", OFFHOOK_KAFKA_SECURITY_PROTOCOL="SASL_PLAINTEXT"),
    ),
    "other-group": (
        messaging.lag_is_of_our_group, "nobody reads as",
        _object("ScaledObject", "call-tracker",
                lambda s: s["spec"]["triggers"][0]["metadata"].update(consumerGroup="tracker")),
    ),
    "name-of-one-namespace": (
        messaging.lag_is_of_our_group, "KEDA asks in its own namespace",
        _object("ScaledObject", "call-tracker",
                lambda s: s["spec"]["triggers"][0]["metadata"].update(bootstrapServers="a.b:9093,offhook-kafka:9093")),
    ),
    "unknown-metric": (
        watching.autoscalers_count_what_exists, "nobody serves offhook_calls",
        _object("HorizontalPodAutoscaler", "media-bridge", lambda h: h["spec"]["metrics"][0]["pods"].update(
            metric={"name": "offhook_calls"})),
    ),
    "no-room": (
        watching.room_for_a_zone, "leave no room",
        _config("media-bridge", OFFHOOK_MAX_SESSIONS="250"),
    ),
    "unwatched-bridge": (
        watching.every_pod_is_watched, "media-bridge is read at",
        _object("PodMonitor", "offhook", lambda m: m["spec"]["podMetricsEndpoints"].pop(1)),
    ),
    "dashboard-left-out": (
        watching.dashboards_are_ours, "media.json is not",
        _drop("GrafanaDashboard", "media"),
    ),
    "softened-alert": (
        watching.rules_are_ours, "differ",
        _object("PrometheusRule", "offhook-alerts", lambda r: r["spec"]["groups"][0]["rules"].pop(0)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTATIONS)
def test_policies_can_object(overlays: dict[str, Rendered], name: str) -> None:
    policy, words, change = MUTATIONS[name]
    rendered = deepcopy(overlays["production-strimzi"])
    change(rendered)
    assert any(words in complaint for complaint in policy(rendered))


def test_every_policy_is_shown_to_object() -> None:
    assert {policy for policy, _, _ in MUTATIONS.values()} == set(POLICIES)


@pytest.mark.usefixtures("published_schemas")
@pytest.mark.parametrize(
    ("kind", "name", "change", "words"),
    [
        ("Deployment", "media-bridge", lambda o: o["spec"].update(replica=3), "replica"),
        ("StatefulSet", "webhook-gateway", lambda o: o["spec"].pop("serviceName"), "serviceName"),
        ("HTTPRoute", "media", lambda o: o["spec"]["rules"][0].update(timeout="0s"), "timeout"),
        ("BackendTrafficPolicy", "media", lambda o: o["spec"]["timeout"]["http"].update(idle="0s"), "idle"),
        ("KafkaTopic", "telephony.numbers.v1", lambda o: o["spec"].update(partitions="12"), "12"),
        ("PodMonitor", "offhook", lambda o: o.update(kind="PodMonitors"), "nobody has a schema"),
    ],
)
def test_schemas_can_object(
    overlays: dict[str, Rendered],
    kind: str,
    name: str,
    change: Callable[[dict[str, Any]], object],
    words: str,
) -> None:
    manifest = deepcopy(overlays["production-strimzi"].get(kind, name))
    change(manifest)
    assert any(words in complaint for complaint in schemas.objections(manifest))
