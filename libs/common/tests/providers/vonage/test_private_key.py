"""A private key is understood in the forms people paste it in, and what is none is told in words."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import ValidationError

from offhook.providers.vonage.credentials import VonageCredentials
from offhook.providers.vonage.private_key import is_pair, normalised

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
OPEN = serialization.NoEncryption()


@pytest.fixture(scope="module")
def key(private_key):
    return serialization.load_pem_private_key(private_key.encode(), None)


@pytest.fixture(scope="module")
def pkcs1(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL, OPEN).decode()


def public(key):
    return key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


@pytest.mark.parametrize(
    "pasted",
    [
        lambda pem: pem,
        lambda pem: pem.strip(),
        lambda pem: "\n\n  " + pem.replace("\n", "\n   ") + "  ",
        lambda pem: pem.replace("\n", "\r\n"),
        lambda pem: pem.replace("\n", "\\n"),
        lambda pem: pem.replace("\n", "\\r\\n"),
        lambda pem: pem.replace("\n", " "),
        lambda pem: f'"{pem.strip()}"',
        lambda pem: pem.replace("\n", "\n\n"),
        lambda pem: f"Bag Attributes\n    friendlyName: x\n{pem}",
    ],
)
def test_a_pasted_key_is_mended(private_key, pkcs1, pasted):
    assert normalised(pasted(private_key)) == private_key
    assert normalised(pasted(pkcs1)) == private_key


def test_the_credentials_hold_the_key_as_the_sdk_takes_it(private_key, pkcs1):
    credentials = VonageCredentials(
        application_id="app-1", private_key=pkcs1, api_key="k", signature_secret="s"
    )
    assert credentials.private_key == private_key


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda key: "private.key", "expected a PEM file"),
        (lambda key: "", "expected a PEM file"),
        (lambda key: "-----BEGIN PRIVATE KEY-----\nMIIE", "expected a PEM file"),
        (lambda key: "-----BEGIN DSA KEY-----\nMIIE\n-----END DSA KEY-----", "expected a PEM file"),
        (public, "public key"),
        (
            lambda key: key.private_bytes(
                PEM, PKCS8, serialization.BestAvailableEncryption(b"password")
            ).decode(),
            "password",
        ),
        (
            lambda key: key.private_bytes(
                PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.BestAvailableEncryption(b"password"),
            ).decode(),
            "password",
        ),
        (
            lambda key: key.private_bytes(PEM, serialization.PrivateFormat.OpenSSH, OPEN).decode(),
            "SSH key",
        ),
        (
            lambda key: ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, OPEN).decode(),
            "not an RSA key",
        ),
        (
            lambda key: key.private_bytes(PEM, PKCS8, OPEN).decode()[:300] + "\n-----END PRIVATE KEY-----",
            "damaged",
        ),
        (
            lambda key: key.private_bytes(PEM, PKCS8, OPEN).decode().replace("M", "!", 1).replace("=", ""),
            "damaged",
        ),
    ],
)
def test_what_is_not_the_private_key_is_told_in_words_and_never_quoted(key, make, words):
    text = make(key)
    with pytest.raises(ValueError, match=words) as caught:
        normalised(text)
    quoted = text.splitlines()[1:2]
    assert not any(line in str(caught.value) for line in quoted)
    if text:
        with pytest.raises(ValidationError, match=words) as refused:
            VonageCredentials(application_id="a", private_key=text, api_key="k", signature_secret="s")
        assert not any(line in str(refused.value) for line in quoted)


def test_a_pair_is_told_from_two_strangers_and_from_what_is_no_key(private_key, key):
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert is_pair(private_key, public(key)) is True
    assert is_pair(private_key, f"  {public(key)}\n") is True
    assert is_pair(private_key, public(other)) is False
    assert is_pair(private_key, "PEM") is None
    assert is_pair("PEM", public(key)) is None
