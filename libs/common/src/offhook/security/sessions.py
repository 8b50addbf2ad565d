"""Logins: what a browser holds after somebody has shown an API key. Pure: the caller brings clock and nonce.

Nothing is stored here. The cookie is a statement with a MAC: this user, logged in with this key, until then. It is
believed as long as the key is one: revoking the key ends its sessions in every service. What proves that a request
comes from one of our own pages (CSRF) is a second MAC over the same statement, which only our pages are told.

Layout: `s1.<user>.<key reference>.<issued>.<expires>.<nonce>.<base64url(HMAC-SHA256)>`.
"""

import base64
import hmac
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import SecretStr
from starlette.requests import HTTPConnection

from offhook.identities import is_id
from offhook.security.api_keys import ApiKeys, KeyHolder
from offhook.security.keyring import decode_base64

COOKIE: Final = "offhook_session"
LIFETIME_S: Final = 12 * 3600
MIN_KEY_BYTES: Final = 32
_MAX_COOKIE_CHARS: Final = 400
_VERSION: Final = "s1"
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_REFERENCE = re.compile(r"[0-9a-f]{32}")
_SECONDS = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class Session:
    """A login that is believed. Times are Unix time in seconds."""

    holder: KeyHolder
    issued_at: int
    expires_at: int
    nonce: str

    @property
    def statement(self) -> str:
        who = f"{self.holder.user_id}.{self.holder.reference}"
        return f"{_VERSION}.{who}.{self.issued_at}.{self.expires_at}.{self.nonce}"


class Sessions:
    """Opens and believes sessions. `clock` gives Unix time in seconds."""

    def __init__(
        self,
        session_key: SecretStr | str,
        api_keys: ApiKeys,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`session_key`: the setting, base64 of at least 32 bytes; several, separated by commas, while one
        replaces another: the first signs, all are believed. Raises `ValueError` without repeating it.
        """
        keys = parse_session_key(session_key)
        # Keys of their own for each purpose: what is signed for one is never believed as another.
        self._session_keys = _derived(keys, "session")
        self._csrf_keys = _derived(keys, "csrf")
        self._notice_keys = _derived(keys, "notice")
        self._api_keys = api_keys
        self._clock = clock

    def open(self, holder: KeyHolder, *, nonce: str) -> str:
        """The cookie of a new session. `nonce`: fresh and unguessable, 16 to 64 of `A-Z a-z 0-9 _ -`."""
        if not is_id(holder.user_id) or not _REFERENCE.fullmatch(holder.reference):
            raise ValueError("not a key's holder")
        if not _NONCE.fullmatch(nonce):
            raise ValueError("a nonce must be 16 to 64 of A-Z a-z 0-9 _ -")
        now = int(self._clock())
        statement = Session(holder, now, now + LIFETIME_S, nonce).statement
        return f"{statement}.{_mac(self._session_keys[0], statement)}"

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None when it is forged, over, or its key is no longer one of that user."""
        if len(cookie) > _MAX_COOKIE_CHARS or not cookie.isascii():
            return None
        statement, _, mac = cookie.rpartition(".")
        # The MAC comes first: nothing of an unproven cookie is interpreted.
        if not _matches(self._session_keys, statement, mac):
            return None
        version, user_id, reference, issued, expires, nonce = statement.split(".")
        session = Session(KeyHolder(user_id, reference), int(issued), int(expires), nonce)
        now = self._clock()
        if version != _VERSION or not session.issued_at - 60 <= now < session.expires_at:
            return None
        return session if self._api_keys.is_held(session.holder) else None

    def of_request(self, request: HTTPConnection) -> Session | None:
        """The session a request comes with."""
        cookie = request.cookies.get(COOKIE)
        return None if cookie is None else self.read(cookie)

    def csrf(self, session: Session) -> str:
        """What the session's pages send back with everything that changes something."""
        return _mac(self._csrf_keys[0], session.statement)

    def csrf_matches(self, session: Session, token: str) -> bool:
        """Whether `token` is this session's, in constant time."""
        return _matches(self._csrf_keys, session.statement, token)

    def sign(self, text: str) -> str:
        """`text` with a MAC, to be kept by a browser: short notices, so that nobody else can put words on our pages."""
        encoded = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
        return f"{encoded}.{_mac(self._notice_keys[0], encoded)}"

    def signed(self, value: str) -> str | None:
        """The text that `sign` was given, or None."""
        encoded, _, mac = value.rpartition(".")
        if not encoded or not value.isascii() or not _matches(self._notice_keys, encoded, mac):
            return None
        return decode_base64(encoded).decode()

    def __repr__(self) -> str:
        return f"Sessions({len(self._session_keys)} keys)"


def parse_session_key(setting: SecretStr | str) -> tuple[bytes, ...]:
    """Read the setting `session_key`. Raises `ValueError`, which never repeats it."""
    text = setting.get_secret_value() if isinstance(setting, SecretStr) else setting
    keys = tuple(decode_base64(part) for part in text.split(","))
    if any(len(key) < MIN_KEY_BYTES for key in keys):
        raise ValueError(f"a session key must have at least {MIN_KEY_BYTES} bytes, as base64")
    return keys


def _derived(keys: tuple[bytes, ...], purpose: str) -> tuple[bytes, ...]:
    return tuple(hmac.digest(key, f"offhook {purpose} {_VERSION}".encode(), "sha256") for key in keys)


def _mac(key: bytes, statement: str) -> str:
    digest = hmac.digest(key, statement.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _matches(keys: tuple[bytes, ...], statement: str, mac: str) -> bool:
    return any(hmac.compare_digest(_mac(key, statement).encode(), mac.encode()) for key in keys)
