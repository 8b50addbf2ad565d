"""What must be known of a Vonage application, as people enter it."""

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from offhook.providers.vonage.credentials import VonageCredentials, account_of


def test_an_application_is_the_same_in_capitals() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    entered = VonageCredentials(
        application_id=" AAAAAAAA-BBBB-4CCC-8DDD-0123456789AB ",
        private_key=pem,
        api_key="abcd1234",
        signature_secret="canary-signature-secret-0123456789",
    )
    # Vonage's tokens say it in small letters, and the configuration is looked up by them.
    assert account_of(entered.model_dump()) == "aaaaaaaa-bbbb-4ccc-8ddd-0123456789ab"
