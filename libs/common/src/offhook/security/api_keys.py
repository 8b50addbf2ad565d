"""Who calls the API: bearer keys, of which the installation stores only SHA-256 digests.

A key is 256 random bits, so a plain digest cannot be guessed back; a slow hash would only make every request
slow.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from offhook.http.problems import Problem
from offhook.identities import is_id

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_KEY_CHARS: Final = 256
_bearer = HTTPBearer(auto_error=False, description="An API key of the installation")


class ApiKeys:
    """The installation's API keys. A user may have several, for rotation."""

    def __init__(self, setting: SecretStr | str) -> None:
        """`setting`: `user_id:sha256hex,…`; empty means that nobody may call. Raises `ValueError` without
        repeating it.
        """
        text = setting.get_secret_value() if isinstance(setting, SecretStr) else setting
        entries: list[tuple[str, bytes]] = []
        for position, part in enumerate((one for one in text.split(",") if one.strip()), start=1):
            user_id, _, digest = part.strip().partition(":")
            if not is_id(user_id) or not _DIGEST.fullmatch(digest.lower()):
                raise ValueError(f"entry {position} of the API keys is not user_id:sha256hex")
            entries.append((user_id, bytes.fromhex(digest)))
        self._entries = tuple(entries)

    def user_of(self, key: str) -> str | None:
        """The user whose key this is, or None. Takes the same time whichever key it is, and whether it is
        one.
        """
        digest = hashlib.sha256(key[:_MAX_KEY_CHARS].encode()).digest()
        found: str | None = None
        for user_id, known in self._entries:
            if hmac.compare_digest(digest, known):
                found = user_id
        return found if len(key) <= _MAX_KEY_CHARS else None

    def __repr__(self) -> str:
        return f"ApiKeys({len(self._entries)} keys)"


def new_api_key() -> str:
    """A fresh key for a user. The prefix lets secret scanners and our own log redaction recognise it."""
    return f"ohk_{secrets.token_urlsafe(32)}"


def setting_entry(user_id: str, key: str) -> str:
    """The entry of the setting `api_keys` that lets `key` act as `user_id`."""
    return f"{user_id}:{hashlib.sha256(key.encode()).hexdigest()}"


def require_user(api_keys: ApiKeys) -> Callable[..., Awaitable[str]]:
    """A FastAPI dependency: the user id of the request's `Authorization: Bearer <key>`, or a 401 problem."""

    async def user_id(bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> str:
        user = api_keys.user_of(bearer.credentials) if bearer is not None else None
        if user is None:
            detail = "Send a valid API key as 'Authorization: Bearer <key>'."
            raise Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})
        return user

    return user_id
