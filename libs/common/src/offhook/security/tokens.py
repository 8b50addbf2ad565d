"""Media tokens: what lets a provider's audio socket into one call, once, for minutes.

The WebSocket paths carry no secret, so the gateway puts a token in-band into its instructions (Twilio
`<Parameter>`, Vonage NCCO `headers`) and the bridge verifies it when the stream starts. It is bound to the
run, the account and the provider's call, so a token seen in one call opens no other. That it is used only
once is the bridge's business: it remembers the nonce.

Layout: `m1.<run>.<expires>.<nonce>.<base64url(account NUL call id)>.<base64url(HMAC-SHA256)>`. Twilio allows
500 characters for a parameter's name and value together; a token has fewer than 300.
"""

import base64
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

from pydantic import SecretStr

from offhook.errors import TokenError, TokenFault
from offhook.identities import is_id
from offhook.security.keyring import decode_base64

__all__ = ["MediaToken", "MediaTokens", "TokenError", "TokenFault"]

MIN_KEY_BYTES: Final = 32
MAX_TOKEN_CHARS: Final = 299
_VERSION: Final = "m1"
_NONCE = re.compile(r"[A-Za-z0-9_-]{8,40}")
_EXPIRES = re.compile(r"[0-9]{1,12}")


@dataclass(frozen=True, slots=True)
class MediaToken:
    """A token that was verified. `expires_at` is Unix time in seconds."""

    workflow_run_id: str
    account: str
    provider_call_id: str
    expires_at: int
    nonce: str


class MediaTokens:
    """Mints and verifies media tokens. Without clock or randomness: the caller brings both."""

    def __init__(self, key: bytes, *, also: Iterable[bytes] = ()) -> None:
        """`key` mints; `also` are older keys whose tokens are still believed. Each has at least 32 bytes."""
        keys = (key, *also)
        if any(len(one) < MIN_KEY_BYTES for one in keys):
            raise ValueError(f"a token key must have at least {MIN_KEY_BYTES} bytes")
        # A key of its own for this purpose, should the same secret ever serve another.
        self._keys = tuple(hmac.digest(one, b"offhook media token m1", "sha256") for one in keys)

    @classmethod
    def parse(cls, setting: SecretStr | str) -> Self:
        """Read the setting `token_key`: base64, or several separated by commas, the minting one first."""
        text = setting.get_secret_value() if isinstance(setting, SecretStr) else setting
        first, *others = [decode_base64(part) for part in text.split(",")]
        return cls(first, also=others)

    def mint(
        self, workflow_run_id: str, account: str, provider_call_id: str, expires_at: int, nonce: str
    ) -> str:
        """A token of fewer than 300 characters. `nonce`: fresh, unguessable, 8 to 40 of `A-Z a-z 0-9 _ -`."""
        if not is_id(workflow_run_id):
            raise ValueError("not a workflow run id")
        if not _NONCE.fullmatch(nonce):
            raise ValueError("a nonce must be 8 to 40 of A-Z a-z 0-9 _ -")
        if "\0" in account:
            raise ValueError("an account cannot contain NUL")
        who = _encode(f"{account}\0{provider_call_id}".encode())
        signed = f"{_VERSION}.{workflow_run_id}.{expires_at}.{nonce}.{who}"
        token = f"{signed}.{_mac(self._keys[0], signed)}"
        if len(token) > MAX_TOKEN_CHARS:
            raise ValueError("account and call id are too long for a media token")
        return token

    def verify(
        self,
        token: str,
        *,
        workflow_run_id: str,
        account: str | None,
        provider_call_id: str | None,
        now: float,
    ) -> MediaToken:
        """What `token` grants. `now` is Unix time in seconds. Raises `TokenError`.

        None for `account` or `provider_call_id` means that the socket does not say it (Vonage names no
        account): the token's own word is then in the result.
        """
        if not token:
            raise TokenError(TokenFault.MISSING)
        parts = token.split(".") if len(token) <= MAX_TOKEN_CHARS and token.isascii() else []
        if len(parts) != 6 or parts[0] != _VERSION or not _EXPIRES.fullmatch(parts[2]):
            raise TokenError(TokenFault.MALFORMED)
        signed, _, mac = token.rpartition(".")
        # The MAC comes first: nothing of an unproven token is interpreted.
        if not any(hmac.compare_digest(_mac(key, signed), mac) for key in self._keys):
            raise TokenError(TokenFault.FORGED)
        token_account, _, token_call = decode_base64(parts[4]).decode().partition("\0")
        granted = MediaToken(parts[1], token_account, token_call, int(parts[2]), parts[3])
        if granted.workflow_run_id != workflow_run_id:
            raise TokenError(TokenFault.FOREIGN_RUN)
        if account is not None and granted.account != account:
            raise TokenError(TokenFault.FOREIGN_ACCOUNT)
        if provider_call_id is not None and granted.provider_call_id != provider_call_id:
            raise TokenError(TokenFault.FOREIGN_CALL)
        if now >= granted.expires_at:
            raise TokenError(TokenFault.EXPIRED)
        return granted


def _mac(key: bytes, signed: str) -> str:
    return _encode(hmac.digest(key, signed.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
