"""Credentials at rest: AES-256-GCM under named keys, so that a key can be replaced while sealed texts exist.

A sealed text is `v1.<key id>.<base64url(nonce ‖ ciphertext ‖ tag)>`. The first key of the ring seals; every
key opens. To rotate: put a new key first, let services seal again what `is_current` calls old, then remove
the old key.

The *context* is authenticated but not stored: a text sealed for one configuration does not open as another's,
so a sealed text copied between rows or records is worthless.
"""

import base64
import binascii
import re
import secrets
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from offhook.errors import KeyringError

__all__ = ["Keyring", "KeyringError", "decode_base64", "new_key"]

KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12  # NIST SP 800-38D, 5.2.1.1: 96 bits is the length GCM is made for
_VERSION: Final = "v1"
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


class Keyring:
    """Seals and opens short texts. Its repr names key ids only."""

    def __init__(self, keys: dict[str, bytes]) -> None:
        """`keys` by id, the sealing one first; each 32 bytes. Raises `KeyringError`."""
        if not keys:
            raise KeyringError("the keyring has no key")
        for key_id, key in keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise KeyringError("a key id must be 1 to 32 of A-Z a-z 0-9 _ -")
            if len(key) != KEY_BYTES:
                raise KeyringError(f"key {key_id!r} has {len(key)} bytes, expected {KEY_BYTES}")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        self._current = next(iter(keys))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `id:base64key[,id:base64key…]`. Raises `KeyringError`, which never repeats a key."""
        keys: dict[str, bytes] = {}
        for position, part in enumerate(text.split(","), start=1):
            key_id, colon, encoded = part.strip().partition(":")
            if not colon:
                raise KeyringError(f"entry {position} of the keyring is not id:base64key")
            if key_id in keys:
                raise KeyringError(f"the keyring has two keys named {key_id!r}")
            try:
                keys[key_id] = decode_base64(encoded)
            except ValueError as error:
                raise KeyringError(f"entry {position} of the keyring is not base64") from error
        return cls(keys)

    @property
    def current(self) -> str:
        """The id of the key that seals."""
        return self._current

    def is_current(self, sealed: str) -> bool:
        """Whether `sealed` was sealed with the current key; if not, open it and seal it again when
        convenient.
        """
        return sealed.startswith(self.current_prefix)

    @property
    def current_prefix(self) -> str:
        """What every text begins with that was sealed with the current key."""
        return f"{_VERSION}.{self._current}."

    def seal(self, plaintext: bytes | str, *, context: str) -> str:
        """Seal `plaintext` for `context` (the id of the record it belongs to; not empty)."""
        data = plaintext.encode() if isinstance(plaintext, str) else plaintext
        nonce = secrets.token_bytes(_NONCE_BYTES)
        body = nonce + self._ciphers[self._current].encrypt(nonce, data, _associated(self._current, context))
        return f"{_VERSION}.{self._current}.{base64.urlsafe_b64encode(body).rstrip(b'=').decode()}"

    def open(self, sealed: str, *, context: str) -> str:
        """The plaintext, as text. Raises `KeyringError`: unknown key, other context, or changed since it was
        sealed.
        """
        return self.open_bytes(sealed, context=context).decode()

    def open_bytes(self, sealed: str, *, context: str) -> bytes:
        """Like `open`, for plaintexts that are not text."""
        version, _, rest = sealed.partition(".")
        key_id, dot, encoded = rest.partition(".")
        if version != _VERSION or not dot:
            raise KeyringError("this is not a sealed text (expected v1.<key id>.<data>)")
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            known = ", ".join(self._ciphers)
            raise KeyringError(f"sealed with key {key_id[:32]!r}, but the keyring has only: {known}")
        try:
            body = decode_base64(encoded)
            return cipher.decrypt(body[:_NONCE_BYTES], body[_NONCE_BYTES:], _associated(key_id, context))
        except (InvalidTag, ValueError) as error:
            raise KeyringError("the sealed text was changed, or belongs to another record") from error

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"


def new_key(key_id: str) -> str:
    """A fresh keyring entry, `id:base64key`, ready for the setting."""
    return f"{key_id}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"


def decode_base64(text: str) -> bytes:
    """Base64 in the standard or the URL alphabet, padded or not. Raises `ValueError` for anything else."""
    normal = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(normal + "=" * (-len(normal) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("not base64") from error


def _associated(key_id: str, context: str) -> bytes:
    if not context:
        raise ValueError("a sealed text needs a context")
    return f"offhook\n{_VERSION}\n{key_id}\n{context}".encode()
