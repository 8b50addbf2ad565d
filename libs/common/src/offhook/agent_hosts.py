"""Which hosts may be dialled as agents. A workflow's URL is its owner's to choose; what it leads to is not.

Names are compared with the patterns the operator gave, where a workflow is saved and where an agent is dialled. Addresses
are judged when they are dialled, and the one that was judged is the one connected to: a name that resolves to something
else the next moment (DNS rebinding) gains nothing.
"""

import asyncio
import ipaddress
import re
import socket
from typing import Final

_MAX_PATTERNS: Final = 200
_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
# Clouds answer there with the machine's own credentials. 169.254.169.254 and its like are link-local; these are not.
_METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "168.63.129.16"))
)
# RFC 6052, RFC 8215 and, long deprecated, RFC 4291: the last 32 bits are an IPv4 address.
_WITH_IPV4: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class AgentHostError(ConnectionError):
    """The host may not be an agent: says which, and whose decision that is."""


class AgentHosts:
    """`patterns`: names and addresses separated by commas; `*.example.com` is every name below it. Empty: any name.

    Raises `ValueError` for a pattern that is none.
    """

    def __init__(self, patterns: str = "") -> None:
        found = [_plain(part.strip()) for part in patterns.split(",") if part.strip()]
        if len(found) > _MAX_PATTERNS:
            raise ValueError(f"expected at most {_MAX_PATTERNS} patterns, found {len(found)}")
        for one in found:
            if _address(one) is None and _NAME.fullmatch(one) is None:
                raise ValueError(
                    f"expected names such as agent.example.com or *.agents.svc, found {one[:100]!r}"
                )
        self._exact = frozenset(one for one in found if not one.startswith("*."))
        self._below = tuple(one[1:] for one in found if one.startswith("*."))

    def check(self, host: str) -> None:
        """Raises `AgentHostError` for a name or address that may not be an agent, as far as that shows without asking DNS."""
        name = _plain(host)
        if (
            (self._exact or self._below)
            and name not in self._exact
            and not name.endswith(self._below or ("\n",))
        ):
            raise AgentHostError(
                f"{host[:200]} is not among the hosts that may be agents here: the operator lists them in OFFHOOK_AGENT_HOSTS"
            )
        address = _address(name)
        if address is not None:
            _check_address(host, address)

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connection to the first address of `host` that takes one. Raises `AgentHostError` when one of them may not be
        an agent, and `OSError`. Bound the wait.
        """
        self.check(host)
        loop = asyncio.get_running_loop()
        answers = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for *_, place in answers:
            # One of several is enough: a name of an honest agent has no such address.
            _check_address(host, ipaddress.ip_address(str(place[0]).partition("%")[0]))
        failure: OSError = OSError(f"{host[:200]} has no address")
        for family, kind, protocol, _, place in answers:
            made = socket.socket(family, kind, protocol)
            made.setblocking(False)
            try:
                await loop.sock_connect(made, place)
            except OSError as error:
                made.close()
                failure = error
            except BaseException:
                made.close()
                raise
            else:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return made
        raise failure


def _plain(host: str) -> str:
    """Each name and address in one of the ways in which it may be written."""
    name = host.lower().rstrip(".")
    address = _address(name.removeprefix("[").removesuffix("]"))
    return name if address is None else str(address)


def _address(text: str) -> _Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _check_address(host: str, address: _Address) -> None:
    if isinstance(address, ipaddress.IPv6Address):
        # The IPv4 address that such an address leads to is what counts.
        if address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        elif any(address in network for network in _WITH_IPV4) and int(address) > 0xFFFF:
            address = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address.is_link_local or address.is_multicast or address in _METADATA:
        raise AgentHostError(
            f"{host[:200]} leads to {address}, where no agent may be: link-local, multicast and metadata addresses are never"
            " dialled"
        )
