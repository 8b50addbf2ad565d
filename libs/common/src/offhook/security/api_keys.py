"""Who calls: API keys, of which the installation stores only SHA-256 digests.

A key is 256 random bits, so a plain digest cannot be guessed back; a slow hash would only make every request
slow. Keys come from the setting `api_keys`, for the first one of an installation, and from the directory of the
topic `telephony.api-keys.v1`, where `offhook keys` makes and revokes them.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from offhook.http.problems import Problem
from offhook.identities import is_id

if TYPE_CHECKING:
    from offhook.bus.directory import Directory
    from offhook.records import ApiKeyRecord
    from offhook.security.sessions import Sessions

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_KEY_CHARS: Final = 256
_REFERENCE_CHARS: Final = 32
_BY_REFERENCE: Final = "reference"

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER: Final = "X-CSRF-Token"

_bearer = HTTPBearer(auto_error=False, description="An API key of the installation")


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """Whose key it was. `reference` names the key (the first 128 bits of its digest) and opens nothing."""

    user_id: str
    reference: str


class ApiKeys:
    """The installation's API keys. A user may have several, for rotation."""

    def __init__(self, setting: SecretStr | str, directory: "Directory[ApiKeyRecord] | None" = None) -> None:
        """`setting`: `user_id:sha256hex,…`; empty means that only the directory's keys count. Raises `ValueError`
        without repeating it. A `directory` must be given before the bus starts.
        """
        text = setting.get_secret_value() if isinstance(setting, SecretStr) else setting
        entries: list[tuple[str, bytes]] = []
        for position, part in enumerate((one for one in text.split(",") if one.strip()), start=1):
            user_id, _, digest = part.strip().partition(":")
            if not is_id(user_id) or not _DIGEST.fullmatch(digest.lower()):
                raise ValueError(f"entry {position} of the API keys is not user_id:sha256hex")
            entries.append((user_id, bytes.fromhex(digest)))
        self._entries = tuple(entries)
        self._directory = directory
        if directory is not None:
            directory.add_index(
                _BY_REFERENCE, lambda record: None if record.revoked else record.digest[:_REFERENCE_CHARS]
            )

    def holder_of(self, key: str) -> KeyHolder | None:
        """Whose key this is, or None. Among the keys of the setting it takes the same time whichever it is.

        In the directory a key is looked for by its digest: what the time could tell of a SHA-256 digest says
        nothing about the key.
        """
        digest = hashlib.sha256(key[:_MAX_KEY_CHARS].encode("utf-8", "surrogatepass")).digest()
        reference = digest.hex()[:_REFERENCE_CHARS]
        found: str | None = None
        for user_id, known in self._entries:
            if hmac.compare_digest(digest, known):
                found = user_id
        if self._directory is not None:
            for record in self._directory.by(_BY_REFERENCE, reference):
                if hmac.compare_digest(digest.hex(), record.digest) and found is None:
                    found = record.user_id
        return KeyHolder(found, reference) if found is not None and len(key) <= _MAX_KEY_CHARS else None

    def user_of(self, key: str) -> str | None:
        """The user whose key this is, or None."""
        holder = self.holder_of(key)
        return None if holder is None else holder.user_id

    def is_held(self, holder: KeyHolder) -> bool:
        """Whether the key that `holder` came with is still a key of that user."""
        if any(
            user_id == holder.user_id and digest.hex()[:_REFERENCE_CHARS] == holder.reference
            for user_id, digest in self._entries
        ):
            return True
        return self._directory is not None and any(
            record.user_id == holder.user_id for record in self._directory.by(_BY_REFERENCE, holder.reference)
        )

    def __repr__(self) -> str:
        more = 0 if self._directory is None else len(self._directory)
        return f"ApiKeys({len(self._entries)} keys of the setting, {more} of the directory)"


def new_api_key() -> str:
    """A fresh key for a user. The prefix lets secret scanners and our own log redaction recognise it."""
    return f"ohk_{secrets.token_urlsafe(32)}"


def digest_of(key: str) -> str:
    """What is stored of a key: SHA-256, 64 hexadecimal digits."""
    return hashlib.sha256(key.encode()).hexdigest()


def setting_entry(user_id: str, key: str) -> str:
    """The entry of the setting `api_keys` that lets `key` act as `user_id`."""
    return f"{user_id}:{digest_of(key)}"


def require_user(api_keys: ApiKeys, sessions: "Sessions | None" = None) -> Callable[..., Awaitable[str]]:
    """A FastAPI dependency: the user id of the request's `Authorization: Bearer <key>`, or a 401 problem.

    With `sessions` a login's cookie is as good; a request with it that changes something must also have the
    session's `X-CSRF-Token`, else 403. A bearer key that is wrong is refused whatever the cookie says. What is answered
    is this user's, so no cache is to keep it; a route that returns a response of its own says so itself.
    """

    async def user_id(
        request: Request,
        response: Response,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
    ) -> str:
        response.headers["Cache-Control"] = "no-store"
        if bearer is not None:
            user = api_keys.user_of(bearer.credentials)
            if user is not None:
                return user
        elif sessions is not None and (session := sessions.of_request(request)) is not None:
            if request.method not in SAFE_METHODS and not sessions.csrf_matches(
                session, request.headers.get(CSRF_HEADER, "")
            ):
                raise Problem(403, f"A request with a session cookie needs the page's {CSRF_HEADER} header.")
            return session.holder.user_id
        detail = "Send a valid API key as 'Authorization: Bearer <key>'."
        raise Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})

    return user_id
