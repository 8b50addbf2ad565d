"""One address in front of the four services: a real Envoy with the routing table of the architecture.

The same port speaks HTTP to people and HTTPS to providers (it looks at the first byte), so that the public URL of the
embedded stack is an `https://` one, as real providers demand.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import trustme

from offhook_dev.errors import DevError


@dataclass(frozen=True, slots=True)
class Route:
    """Which service answers below a path (or, if `exact`, at it). `pages`: people look at it, and some of it is live."""

    path: str
    service: str
    exact: bool = False
    pages: bool = False


# First match wins. `/telephony/` ends in a slash: `/telephony-configurations` is another service's.
ROUTES: Final = (
    Route("/api/v1/telephony/ws/", "media-bridge"),
    Route("/api/v1/telephony/", "webhook-gateway"),
    Route("/api/v1/telephony-configurations", "number-sync"),
    Route("/api/v1/workflows", "number-sync"),
    Route("/api/v1/calls", "call-tracker"),
    Route("/api/v1/webhooks", "call-tracker"),
    Route("/api/v1/dead-letters", "call-tracker"),
    Route("/telephony-configurations", "number-sync", pages=True),
    Route("/workflows", "number-sync", pages=True),
    # Of its own, because a Kubernetes route's prefix ends at a slash: `/calls` is not the beginning of `/calls.csv` there.
    Route("/calls.csv", "call-tracker", exact=True, pages=True),
    Route("/calls", "call-tracker", pages=True),
    Route("/webhooks", "call-tracker", pages=True),
    Route("/dead-letters", "call-tracker", pages=True),
    Route("/assets/", "number-sync", pages=True),
    Route("/login", "number-sync", exact=True, pages=True),
    Route("/logout", "number-sync", exact=True, pages=True),
    Route("/", "number-sync", exact=True, pages=True),
)
_PAGE_IDLE: Final = "60s"
_TYPES: Final = "type.googleapis.com/envoy"
_READ_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files of the edge's certificate chain and private key, and of the authority that vouches for it."""

    chain: Path
    key: Path
    authority: Path


def make_certificate(home: Path, *names: str) -> Certificate:
    """A certificate for this machine, and for further `names`, from a throw-away authority, made anew at each start."""
    home.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA(organization_name="Offhook development")
    issued = authority.issue_cert("localhost", "127.0.0.1", *names)
    made = Certificate(home / "edge.crt", home / "edge.key", home / "edge-authority.pem")
    made.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    made.key.touch(mode=0o600)
    made.key.write_bytes(issued.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(made.authority))
    return made


def _retries(*more: str) -> dict[str, Any]:
    """Only what the service has surely not begun is sent again, and to another instance."""
    return {
        "retry_on": ",".join(("connect-failure", "reset-before-request", *more)),
        "num_retries": 3,
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": f"{_TYPES}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 5,
    }


def _route(route: Route) -> dict[str, Any]:
    action: dict[str, Any] = {"cluster": route.service, "timeout": "20s", "retry_policy": _retries()}
    if route.service == "media-bridge":
        # A call may last for hours and be silent: neither the request nor an idle stream may be cut.
        action |= {"timeout": "0s", "idle_timeout": "0s", "upgrade_configs": [{"upgrade_type": "websocket"}]}
        # A bridge says 503 before it has begun anything: it is full, or about to end.
        action["retry_policy"] = _retries("retriable-status-codes") | {"retriable_status_codes": [503]}
    elif route.pages:
        # A live page is one answer without end, in which something is said every 15 s (`offhook.web.live`).
        action |= {"timeout": "0s", "idle_timeout": _PAGE_IDLE}
    return {"match": {"path" if route.exact else "prefix": route.path}, "route": action}


def envoy_config(
    port: int,
    upstreams: Mapping[str, int],
    certificate: Certificate,
    admin_port: int,
    endpoints: Path | None = None,
) -> dict[str, Any]:
    """Envoy's bootstrap document. `upstreams` maps each service's name to its port on the loopback.

    With `endpoints`, a folder, the ports are those that `write_endpoints` says there at each moment.
    """
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "codec_type": "HTTP1",
        # Signatures cover the URL as it was written: the path is passed on untouched.
        "normalize_path": False,
        "use_remote_address": True,
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "offhook",
                    "domains": ["*"],
                    "routes": [
                        *(_route(route) for route in ROUTES),
                        {
                            "match": {"prefix": "/"},
                            "direct_response": {
                                "status": 404,
                                "body": {"inline_string": "nothing is served here\n"},
                            },
                        },
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    filters = [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["http/1.1"],
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": str(certificate.chain)},
                    "private_key": {"filename": str(certificate.key)},
                }
            ],
        },
    }
    return {
        "node": {"id": "edge", "cluster": "offhook"},
        "admin": {"address": _address(admin_port)},
        "static_resources": {
            "listeners": [
                {
                    "name": "edge",
                    "address": _address(port),
                    "listener_filters": [
                        {
                            "name": "envoy.filters.listener.tls_inspector",
                            "typed_config": {
                                "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
                            },
                        }
                    ],
                    "filter_chains": [
                        {
                            "filter_chain_match": {"transport_protocol": "tls"},
                            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                            "filters": filters,
                        },
                        {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": filters},
                    ],
                }
            ],
            "clusters": [_cluster(name, upstream, endpoints) for name, upstream in upstreams.items()],
        },
    }


def _cluster(name: str, upstream: int, endpoints: Path | None) -> dict[str, Any]:
    if endpoints is None:
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "1s",
            "load_assignment": _assignment(name, (upstream,)),
        }
    source = {
        "path_config_source": {"path": str(_endpoints_file(endpoints, name))},
        "resource_api_version": "V3",
    }
    return {
        "name": name,
        "type": "EDS",
        "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": source},
    }


def write_endpoints(folder: Path, service: str, ports: Sequence[int]) -> None:
    """Say where a service is from now on, as a Kubernetes Service changes with its pods. Envoy notices by itself, and
    `routed` when: no new request goes to an instance that is not named any more, and what it has it keeps."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _endpoints_file(folder, service)
    kind = f"{_TYPES}.config.endpoint.v3.ClusterLoadAssignment"
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps({"resources": [{"@type": kind, **_assignment(service, ports)}]}))
    os.replace(fresh, path)  # Envoy watches for moves only: a file half written is never read


async def routed(admin_port: int, service: str, ports: Sequence[int]) -> None:
    """Wait until Envoy sends new requests for the service to these ports and no others. Raises `DevError`."""
    seen: list[int] | None = None
    base_url = f"http://127.0.0.1:{admin_port}"
    async with httpx.AsyncClient(base_url=base_url, timeout=_READ_WITHIN_S, trust_env=False) as admin:
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                while seen != sorted(ports):
                    with contextlib.suppress(httpx.TransportError):  # not yet
                        seen = await _hosts(admin, service)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise DevError(f"the edge sends {service} to {seen}, and not to {sorted(ports)}") from None


async def _hosts(admin: httpx.AsyncClient, service: str) -> list[int]:
    clusters = (await admin.get("/clusters", params={"format": "json"})).json()["cluster_statuses"]
    (cluster,) = (one for one in clusters if one["name"] == service)
    hosts = cluster.get("host_statuses", ())
    return sorted(host["address"]["socket_address"]["port_value"] for host in hosts)


def _endpoints_file(folder: Path, service: str) -> Path:
    return folder / f"{service}.json"


def _assignment(service: str, ports: Sequence[int]) -> dict[str, Any]:
    instances = [{"endpoint": {"address": _address(port)}} for port in ports]
    return {"cluster_name": service, "endpoints": [{"lb_endpoints": instances}]}


def write_envoy_config(path: Path, config: dict[str, Any]) -> None:
    """Envoy reads JSON as it reads YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=1))


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
