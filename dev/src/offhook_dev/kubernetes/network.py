"""Who may talk to whom: nothing by default, in through the ingress only, out from two services only."""

import ipaddress
from collections.abc import Iterator
from typing import Any, Final

from offhook_dev.kubernetes.rendered import Manifest, Rendered, container_of, is_ours, labels_of, selects

# Who may reach the outside, and who may be reached through the ingress, and at which port.
OUTSIDE: Final = frozenset({"number-sync", "media-bridge"})
ENTRANCES: Final = {
    "webhook-gateway": "http",
    "media-bridge": "media",
    "call-tracker": "http",
    "number-sync": "http",
}
# Which servers each service uses, by the port they are usually at.
SERVERS: Final = {
    "kafka": frozenset(
        {"webhook-gateway", "media-bridge", "call-tracker", "number-sync", "recorder", "prepare"}
    ),
    "redis": frozenset({"webhook-gateway", "media-bridge", "call-tracker", "number-sync"}),
    "postgres": frozenset({"call-tracker", "number-sync", "recorder", "prepare"}),
}
_PORTS: Final = {"kafka": {9092, 9093}, "redis": {6379}, "postgres": {5432}}
_METADATA: Final = ipaddress.ip_address("169.254.169.254")
_PUBLIC: Final = ipaddress.ip_address("203.0.113.1")
_INGRESS_NAMESPACES: Final = frozenset({"envoy-gateway-system", "haproxy-controller"})
_WATCHERS: Final = frozenset({"monitoring"})


def denied_by_default(rendered: Rendered) -> Iterator[str]:
    """One policy selects everything and allows nothing; every pod has others that say what it needs."""
    everything = [
        one
        for one in rendered.of("NetworkPolicy")
        if one["spec"]["podSelector"] == {} and set(one["spec"]["policyTypes"]) == {"Ingress", "Egress"}
    ]
    if not any("ingress" not in one["spec"] and "egress" not in one["spec"] for one in everything):
        yield "no policy denies everything"
    for workload in rendered.workloads():
        own = [one for one in _policies_of(rendered, workload) if one["spec"]["podSelector"] != {}]
        if not own:
            yield f"no network policy is about {workload['metadata']['name']}"


def outside_is_for_two(rendered: Rendered) -> Iterator[str]:
    """Public addresses are reached by number-sync and media-bridge; the cloud's metadata service by nobody."""
    for workload in rendered.workloads():
        name = workload["metadata"]["name"]
        if labels_of(workload).get("strimzi.io/cluster"):
            continue
        rules = list(_egress(rendered, workload))
        reaches = any(_reaches(rule, _PUBLIC) for rule in rules)
        if reaches != (name in OUTSIDE):
            yield f"{name} {'reaches' if reaches else 'does not reach'} the outside"
        if any(_reaches(rule, _METADATA) for rule in rules):
            yield f"{name} reaches the cloud's metadata service"


def private_addresses_are_named(rendered: Rendered) -> Iterator[str]:
    """Whoever connects to hosts that users name reaches private addresses one by one, and no range of them."""
    for workload in rendered.workloads():
        name = workload["metadata"]["name"]
        if name not in OUTSIDE:
            continue
        for rule in _egress(rendered, workload):
            for peer in rule.get("to", ()):
                cidr = peer.get("ipBlock", {}).get("cidr")
                network = ipaddress.ip_network(cidr) if cidr else None
                if network and network.is_private and network.num_addresses > 1:
                    yield f"a user's agent URL may lead {name} to anything in {cidr}"


def only_the_ingress_reaches_in(rendered: Rendered) -> Iterator[str]:
    """From other namespaces: proxies of the ingress where carriers and people go, and who reads metrics."""
    for workload in rendered.workloads():
        name = workload["metadata"]["name"]
        entrances = set()
        for rule in _ingress(rendered, workload):
            ports = {port["port"] for port in rule.get("ports", ())}
            for peer in rule.get("from", [{}]):
                namespaces = _namespaces(peer)
                if namespaces is None:
                    continue  # of this namespace
                if namespaces and namespaces <= _INGRESS_NAMESPACES:
                    entrances |= ports
                elif is_ours(workload) and not (namespaces and namespaces <= _WATCHERS):
                    yield f"{name} is reached from {sorted(namespaces) or 'anywhere'}"
        if not is_ours(workload):
            continue
        if entrances != ({ENTRANCES[name]} if name in ENTRANCES else set()):
            yield f"{name} is entered at {sorted(entrances)}"


def servers_are_reached(rendered: Rendered) -> Iterator[str]:
    """Kafka, Redis and PostgreSQL: by those who use them, and by nobody else."""
    for workload in rendered.workloads():
        if not is_ours(workload):
            continue
        name = workload["metadata"]["name"]
        ports = {port.get("port") for rule in _egress(rendered, workload) for port in rule.get("ports", ())}
        for server, users in SERVERS.items():
            if bool(ports & _PORTS[server]) != (name in users):
                yield f"{name} {'may not reach' if name in users else 'reaches'} {server}"
        if 53 not in ports:
            yield f"{name} cannot ask for names"


def services_have_pods(rendered: Rendered) -> Iterator[str]:
    """A Service points to pods that have its port, and not to the port of health and metrics."""
    for service in rendered.of("Service"):
        name = service["metadata"]["name"]
        pods = [
            one for one in rendered.workloads()
            if selects({"matchLabels": service["spec"]["selector"]}, labels_of(one))
        ]  # fmt: skip
        if len(pods) != 1:
            yield f"the Service {name} has {len(pods)} workloads"
            continue
        ports = {port["name"] for port in container_of(pods[0]).get("ports", ())}
        for port in service["spec"]["ports"]:
            if port["targetPort"] not in ports:
                yield f"the Service {name} points to the port {port['targetPort']}, which its pods do not have"
            if port["targetPort"] == "admin":
                yield f"the Service {name} shows health and metrics to everybody"


def _policies_of(rendered: Rendered, workload: Manifest) -> list[Manifest]:
    labels = labels_of(workload)
    return [one for one in rendered.of("NetworkPolicy") if selects(one["spec"]["podSelector"], labels)]


def _egress(rendered: Rendered, workload: Manifest) -> Iterator[dict[str, Any]]:
    for policy in _policies_of(rendered, workload):
        yield from policy["spec"].get("egress", ())


def _ingress(rendered: Rendered, workload: Manifest) -> Iterator[dict[str, Any]]:
    for policy in _policies_of(rendered, workload):
        yield from policy["spec"].get("ingress", ())


def _reaches(rule: dict[str, Any], address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    if not rule.get("to"):
        return True
    for peer in rule["to"]:
        block = peer.get("ipBlock")
        if block is None or address not in ipaddress.ip_network(block["cidr"]):
            continue
        if not any(address in ipaddress.ip_network(hole) for hole in block.get("except", ())):
            return True
    return False


def _namespaces(peer: dict[str, Any]) -> set[str] | None:
    """The namespaces a peer is in. None: this one; empty: any."""
    if not peer or "ipBlock" in peer:
        return set()
    selector = peer.get("namespaceSelector")
    if selector is None:
        return None
    found = {value for key, value in selector.get("matchLabels", {}).items() if key.endswith("metadata.name")}
    for expression in selector.get("matchExpressions", ()):
        if expression["key"].endswith("metadata.name") and expression["operator"] == "In":
            found |= set(expression["values"])
    return found


POLICIES: Final = (
    denied_by_default, outside_is_for_two, private_addresses_are_named, only_the_ingress_reaches_in, servers_are_reached,
    services_have_pods,
)  # fmt: skip
