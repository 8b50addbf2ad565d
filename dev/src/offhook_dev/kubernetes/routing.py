"""The public address on Kubernetes leads where the routing table says, and cuts nobody."""

from collections.abc import Iterator
from typing import Any, Final

from offhook_dev.edge import ROUTES, Route
from offhook_dev.kubernetes.rendered import Manifest, Rendered

# Addresses of services below or beside the table's entries, where element-wise and plain prefixes may differ.
_BELOW: Final = ("", "/x", "/x/y", ".csv", "-x", "x")


def sample_paths() -> list[str]:
    """Every path of the table, what is below it, and what only looks like it."""
    found = {route.path for route in ROUTES} | {"/", "/nothing", "/api/v1/", "/telephony"}
    found |= {route.path.rstrip("/") + below for route in ROUTES for below in _BELOW}
    return sorted(path for path in found if path)


def by_table(path: str) -> str | None:
    """The service the table gives a path to: the first match wins. None: nobody's."""
    for route in ROUTES:
        if path == route.path if route.exact else _below(path, route):
            return route.service
    return None


def by_gateway(rendered: Rendered, path: str) -> str | None:
    """What the Gateway API makes of the HTTPRoutes: an exact match before prefixes, the longest prefix before others."""
    found: list[tuple[bool, int, str]] = []
    for route in _routes(rendered):
        for rule in route["spec"]["rules"]:
            for match in rule["matches"]:
                kind, value = match["path"]["type"], match["path"]["value"]
                if path == value if kind == "Exact" else _element_prefix(path, value):
                    found.append((kind == "Exact", len(value), rule["backendRefs"][0]["name"]))
    return max(found)[2] if found else None


def by_ingress(rendered: Rendered, path: str) -> str | None:
    """The same of the Ingress alternative."""
    found: list[tuple[bool, int, str]] = []
    for ingress in rendered.of("Ingress"):
        for rule in ingress["spec"]["rules"]:
            for entry in rule["http"]["paths"]:
                exact = entry["pathType"] == "Exact"
                if path == entry["path"] if exact else _element_prefix(path, entry["path"]):
                    found.append((exact, len(entry["path"]), entry["backend"]["service"]["name"]))
    return max(found)[2] if found else None


def routes_are_the_table(rendered: Rendered) -> Iterator[str]:
    """Wherever there are routes, they lead to the same services as the table."""
    for kind, ask in (("HTTPRoute", by_gateway), ("Ingress", by_ingress)):
        if not rendered.of(kind):
            continue
        for path in sample_paths():
            expected, found = by_table(path), ask(rendered, path)
            if found != expected:
                yield f"{kind}: {path} leads to {found}, the table says {expected}"
    services = {one["metadata"]["name"]: one for one in rendered.of("Service")}
    for route in _routes(rendered):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                ports = [port["port"] for port in services[backend["name"]]["spec"]["ports"]]
                if backend["port"] not in ports:
                    yield f"{backend['name']} has no port {backend['port']}"


def calls_are_not_cut(rendered: Rendered) -> Iterator[str]:
    """No timeout of the gateway ends a call, and no limit that was made for webhooks refuses one."""
    if not _routes(rendered):
        return
    policies = _traffic(rendered)
    media = policies.get("media", {})
    if any(
        rule.get("timeouts", {}).get("request") != "0s"
        for rule in rendered.get("HTTPRoute", "media")["spec"]["rules"]
    ):
        yield "requests for audio have a time limit"
    http = media.get("timeout", {}).get("http", {})
    for name in ("requestTimeout", "maxStreamDuration", "streamIdleTimeout"):
        if http.get(name) != "0s":
            yield f"{name} of audio is {http.get(name)}"
    if {"type": "websocket"} not in media.get("httpUpgrade", []):
        yield "audio is not upgraded to a WebSocket"
    breaker = media.get("circuitBreaker", {})
    for name in ("maxConnections", "maxParallelRequests"):
        if breaker.get(name, 1024) < 10_000:
            yield f"{name} of audio is {breaker.get(name, 1024)} for each proxy"
    if media.get("rateLimit") in (None, policies.get("webhooks", {}).get("rateLimit")):
        yield "audio and webhooks have no limits of their own"
    for policy in rendered.of("ClientTrafficPolicy"):
        connection = policy["spec"].get("connection", {}).get("connectionLimit", {})
        if "maxConnectionDuration" in connection or "maxStreamDuration" in connection:
            yield "connections from outside have a time limit"
        if "h2" in policy["spec"].get("tls", {}).get("alpnProtocols", ["h2"]):
            yield "carriers are offered HTTP/2, in which a WebSocket is something else"


def a_flood_is_its_senders(rendered: Rendered) -> Iterator[str]:
    """Whoever sends too much is refused; carriers, who do not repeat what was, are not refused with him."""
    if not _routes(rendered):
        return
    policies = _traffic(rendered)
    for name in ("media", "webhooks"):
        rules = policies.get(name, {}).get("rateLimit", {}).get("local", {}).get("rules", ())
        of_one: dict[str, int] = {}
        of_all: list[int] = []
        for rule in rules:
            limit = rule["limit"]["requests"] if rule["limit"]["unit"] == "Second" else 0
            (selector,) = rule.get("clientSelectors", [{}])
            source = selector.get("sourceCIDR", {})
            if source.get("type") == "Distinct":
                of_one[source["value"]] = limit
            else:
                of_all.append(limit)
        if set(of_one) != {"0.0.0.0/0", "::/0"}:
            yield f"one source uses up what {name} may be asked by all"
        elif min(of_all, default=0) < 5 * max(of_one.values()):
            yield f"a few sources use up what {name} may be asked by all"


def urls_are_passed_on(rendered: Rendered) -> Iterator[str]:
    """Carriers sign the URL as they wrote it."""
    if not _routes(rendered):
        return
    paths = [policy["spec"].get("path", {}) for policy in rendered.of("ClientTrafficPolicy")]
    if {"escapedSlashesAction": "KeepUnchanged", "disableMergeSlashes": True} not in paths:
        yield "the gateway changes the path that was signed"
    for route in _routes(rendered):
        if any("filters" in rule for rule in route["spec"]["rules"]):
            yield f"the route {route['metadata']['name']} changes requests"


def one_public_name(rendered: Rendered) -> Iterator[str]:
    """Routes, listeners and the certificate have the name of the public URL."""
    names = {name for route in rendered.of("HTTPRoute") for name in route["spec"]["hostnames"]}
    names |= {name for one in rendered.of("Certificate") for name in one["spec"]["dnsNames"]}
    names |= {listener["hostname"] for one in rendered.of("Gateway") for listener in one["spec"]["listeners"]}
    names |= {rule["host"] for one in rendered.of("Ingress") for rule in one["spec"]["rules"]}
    public = rendered.environment(rendered.workload("number-sync"))["OFFHOOK_PUBLIC_URL"] or ""
    if names and names != {public.removeprefix("https://")}:
        yield f"the public URL is {public}; routes and certificates are for {sorted(names)}"


def _routes(rendered: Rendered) -> list[Manifest]:
    """Those that lead to a service."""
    return [
        one for one in rendered.of("HTTPRoute") if all("backendRefs" in rule for rule in one["spec"]["rules"])
    ]


def _traffic(rendered: Rendered) -> dict[str, dict[str, Any]]:
    return {
        target["name"]: policy["spec"]
        for policy in rendered.of("BackendTrafficPolicy")
        for target in policy["spec"]["targetRefs"]
    }


def _below(path: str, route: Route) -> bool:
    """As services see it: below the entry, and not beside it (`/callsx` is nobody's)."""
    return _element_prefix(path, route.path)


def _element_prefix(path: str, prefix: str) -> bool:
    prefix = prefix.rstrip("/")
    return path == prefix or path.startswith(prefix + "/")


POLICIES: Final = (
    routes_are_the_table, calls_are_not_cut, a_flood_is_its_senders, urls_are_passed_on, one_public_name,
)  # fmt: skip
