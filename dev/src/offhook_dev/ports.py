"""Free ports on the loopback interface."""

import random
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_LOWEST: Final = 10_000
_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")

_promised: set[int] = set()


def free_port() -> int:
    """A TCP port nobody listens on now. It is only promised, not reserved; this process promises none twice.

    It is not of the range that the system gives to outgoing connections: of those, one may be taken by any client
    between the promise and the use, and a stack starts for seconds.
    """
    highest = _first_ephemeral() - 1
    for _ in range(1000):
        port = random.randint(_LOWEST, highest)  # noqa: S311 - not a secret
        if port not in _promised and port_is_free(port):
            _promised.add(port)
            return port
    raise OSError(f"no free port found between {_LOWEST} and {highest}")


def free_ports(count: int) -> list[int]:
    """`count` different free ports."""
    return [free_port() for _ in range(count)]


def port_is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether one could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def _first_ephemeral() -> int:
    try:
        return max(_LOWEST + 1000, int(_RANGE.read_text().split()[0]))
    except (OSError, ValueError, IndexError):
        return 32_768
