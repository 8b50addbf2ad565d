"""A request that was not accepted, whole, sealed: so that it can be tried again, and read by nobody else.

Bounded: what does not fit into 16 KiB is not kept.
"""

import base64
from typing import Final, Literal

import msgspec

from offhook.errors import KeyringError
from offhook.providers.base import HttpRequest
from offhook.security.keyring import Keyring

CONTEXT: Final = "webhook"
MAX_BYTES: Final = 16 * 1024
_LEFT_OUT: Final = frozenset(
    {"cookie", "connection", "content-length", "accept", "accept-encoding", "user-agent"}
)

Kind = Literal["call", "status", "fallback"]


class KeptRequest(msgspec.Struct, frozen=True):
    """`at` is the Unix time of its arrival, in seconds. The ids are those of its path. `body` is base64."""

    at: float
    kind: Kind
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: str
    workflow_run_id: str | None = None
    workflow_id: str | None = None
    user_id: str | None = None

    def request(self, origins: tuple[str, ...]) -> HttpRequest:
        """The request, as if it had been sent to `origins`."""
        return HttpRequest(
            self.method, origins, self.path, self.query, self.headers, base64.b64decode(self.body)
        )


def keep(
    request: HttpRequest,
    *,
    at: float,
    kind: Kind,
    workflow_run_id: str | None,
    workflow_id: str | None,
    user_id: str | None,
) -> KeptRequest | None:
    """The request to be kept; None when it is too large."""
    if len(request.body) > MAX_BYTES * 3 // 4:
        return None
    headers = {name: value for name, value in request.headers.items() if name not in _LEFT_OUT}
    kept = KeptRequest(
        at, kind, request.method, request.path, request.query, headers,
        base64.b64encode(request.body).decode(), workflow_run_id, workflow_id, user_id,
    )  # fmt: skip
    return kept if len(msgspec.json.encode(kept)) <= MAX_BYTES else None


def seal(kept: KeptRequest, keyring: Keyring) -> str:
    """At most about 22,000 characters."""
    return keyring.seal(msgspec.json.encode(kept), context=CONTEXT)


def unseal(sealed: str, keyring: Keyring) -> KeptRequest:
    """Read it back. Raises `KeyringError`."""
    try:
        return msgspec.json.decode(keyring.open_bytes(sealed, context=CONTEXT), type=KeptRequest)
    except msgspec.MsgspecError as error:
        raise KeyringError("what was sealed is not a request of this version") from error
