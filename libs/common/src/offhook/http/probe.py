"""`python -m offhook.http.probe [readyz|healthz|startupz]`: ask the service in this container how it is.

For health checks where there is no curl: exit 0 for yes, 1 for no, and what is wrong in one line. It asks the address
the service was told to listen on (`OFFHOOK_ADMIN_PORT` where health has a port of its own, else `OFFHOOK_LISTEN_PORT`).
Imports nothing but the standard library: it runs every few seconds beside the service, on the service's CPU.
"""

import http.client
import json
import os
import sys

_TIMEOUT_S = 3.0
_MAX_ANSWER = 64 * 1024
_MAX_LINE = 1000
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - listening everywhere is listening on the loopback, too


def main(arguments: list[str]) -> int:
    name = arguments[0] if arguments else "readyz"
    if name not in ("readyz", "healthz", "startupz") or len(arguments) > 1:
        print("usage: python -m offhook.http.probe [readyz|healthz|startupz]", file=sys.stderr)  # noqa: T201
        return 2
    host, port = address()
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", f"/{name}")
        answer = connection.getresponse()
        status, body = answer.status, answer.read(_MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        print(f"{name}: {host}:{port} does not answer: {error or type(error).__name__}")  # noqa: T201
        return 1
    finally:
        connection.close()
    print(f"{name}: {said(status, body)}"[:_MAX_LINE])  # noqa: T201 - docker inspect shows it
    return 0 if status == 200 else 1


def address() -> tuple[str, int]:
    """Where the service of this environment tells its health."""
    kind = "ADMIN" if os.environ.get("OFFHOOK_ADMIN_PORT") else "LISTEN"
    host = os.environ.get(f"OFFHOOK_{kind}_HOST") or "127.0.0.1"
    return _ANY.get(host, host), int(os.environ.get(f"OFFHOOK_{kind}_PORT") or "8080")


def said(status: int, body: bytes) -> str:
    """The problems of an answer, in a line."""
    try:
        answer = json.loads(body)
        problems = [*answer.get("problems", ()), *answer.get("degraded", ())]
    except (ValueError, AttributeError):
        problems = []
    return "; ".join(" ".join(str(one).split()) for one in problems) or (
        "ok" if status == 200 else str(status)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
