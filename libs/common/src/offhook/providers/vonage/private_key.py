"""The private key of a Vonage application: the forms people paste it in, and its public half.

Vonage signs and verifies with RS256, so the key is an RSA key; its SDK takes it as PKCS#8 PEM only.
"""

import base64
import binascii
import re
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{1,40})-----(.*?)-----END \1-----", re.DOTALL)
_SPACE: Final = re.compile(r"\s+")
_EXPECTED: Final = "expected a PEM file from -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----"
# What people take for the private key.
_OTHERS: Final = {
    "PUBLIC KEY": "this is the public key; expected the private one, from the private.key file",
    "RSA PUBLIC KEY": "this is the public key; expected the private one, from the private.key file",
    "CERTIFICATE": "this is a certificate; expected the application's private key",
    "ENCRYPTED PRIVATE KEY": "the key is locked with a password; expected it without",
    "OPENSSH PRIVATE KEY": "this is an SSH key; expected the application's private key",
    "EC PRIVATE KEY": "this is an elliptic curve key; expected an RSA key",
}


def normalised(text: str) -> str:
    r"""The key as PKCS#8 PEM, from PKCS#8 or PKCS#1 PEM with lost or doubled line breaks, `\n` in two characters,
    stray spaces, quotes and words around it. Raises `ValueError`, which never quotes the key."""
    found = _PEM.search(text.replace("\\r", "").replace("\\n", "\n"))
    if found is None:
        raise ValueError(_EXPECTED)
    label, body = found.group(1), found.group(2)
    if label in _OTHERS:
        raise ValueError(_OTHERS[label])
    if label == "RSA PRIVATE KEY" and "ENCRYPTED" in body:
        raise ValueError(_OTHERS["ENCRYPTED PRIVATE KEY"])
    if label not in ("PRIVATE KEY", "RSA PRIVATE KEY"):
        raise ValueError(_EXPECTED)
    try:
        packed = base64.b64decode(_SPACE.sub("", body), validate=True)
        key = serialization.load_der_private_key(packed, password=None)
    except (binascii.Error, ValueError, TypeError, UnsupportedAlgorithm):
        # Without the error's words, which may quote the key.
        raise ValueError("the key is damaged: a part of it is missing or was changed") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("this is not an RSA key; expected the application's private key")
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def is_pair(private_key: str, public_key: str) -> bool | None:
    """Whether the public key (PEM) is the private one's other half; None where it cannot be read."""
    try:
        private = serialization.load_pem_private_key(private_key.encode(), password=None)
        public = serialization.load_pem_public_key(public_key.strip().encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    shape = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.public_key().public_bytes(*shape) == public.public_bytes(*shape)
