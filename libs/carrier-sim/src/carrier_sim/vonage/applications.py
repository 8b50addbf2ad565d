"""Vonage's customers: applications with their webhooks, the accounts that own them, and their numbers."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from carrier_sim.faults import Faults
from carrier_sim.room import Rooms


@dataclass(slots=True)
class Number:
    """A virtual number. `msisdn`: digits only. `fields`: what `/number/update` set, in the API's names.

    `voice`: whether it can take calls at all.
    """

    msisdn: str
    country: str
    api_key: str
    app_id: str | None = None
    fields: dict[str, str] = field(default_factory=dict)
    voice: bool = True

    @property
    def forwarded(self) -> str | None:
        """`sip` or `tel` when calls go there, whatever application the number is linked to."""
        kind = self.fields.get("voiceCallbackType")
        return kind if kind in ("sip", "tel") else None


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook as it will be called: seconds to connect and to wait for the answer."""

    address: str
    method: Literal["GET", "POST"]
    connect_s: float
    read_s: float


@dataclass(slots=True)
class Application:
    """An application. `resource` is the object of the Applications API without its key and links, replaced as a whole by PUT.

    `faults`: those of its calls, where a call has none of its own. `rooms`: its named conversations. `has_number`: whether a
    number (digits) is linked to it.
    """

    id: str
    public_key: str
    api_key: str
    api_secret: str
    signature_secret: str | None
    resource: dict[str, Any]
    faults: Faults | None = None
    rooms: Rooms = field(default_factory=Rooms)
    has_number: Callable[[str], bool] = field(default=lambda number: False)

    @property
    def voice(self) -> dict[str, Any]:
        voice: dict[str, Any] = self.resource.get("capabilities", {}).get("voice", {})
        return voice

    @property
    def signs(self) -> bool:
        """Voice webhooks are signed unless the application says otherwise."""
        return self.signature_secret is not None and self.voice.get("signed_callbacks", True) is not False

    def webhook(self, name: Literal["answer_url", "fallback_answer_url", "event_url"]) -> Webhook | None:
        """A webhook of the voice capability, with the defaults of the documentation; None when it is not set."""
        entry = self.voice.get("webhooks", {}).get(name)
        if not entry or not entry.get("address"):
            return None
        event = name == "event_url"
        return Webhook(
            entry["address"],
            entry.get("http_method") or ("POST" if event else "GET"),
            entry.get("connection_timeout", 1000) / 1000,
            entry.get("socket_timeout", 10_000 if event else 5000) / 1000,
        )


def new_application(
    application_id: str,
    public_key: str,
    api_key: str,
    api_secret: str,
    signature_secret: str | None,
    webhooks: Mapping[str, Any],
) -> Application:
    """An application with a voice capability. `public_key`: PEM. Raises `ValueError` when an argument cannot be right."""
    uuid.UUID(application_id)
    return Application(
        application_id,
        checked_public_key(public_key),
        api_key,
        api_secret,
        signature_secret,
        {
            "name": "Simulated application",
            "capabilities": {"voice": {"webhooks": dict(webhooks), "signed_callbacks": True}},
            "privacy": {"improve_ai": False},
        },
    )


def new_private_key() -> str:
    """A fresh private key (PEM), as the dashboard generates one and shows it once."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode("ascii")


def checked_public_key(pem: str) -> str:
    """The same, if it is a public key (PEM). Raises `ValueError`."""
    serialization.load_pem_public_key(pem.encode())
    return pem


def public_half(private_key: str) -> str:
    """The public key (PEM) of a private one."""
    key = serialization.load_pem_private_key(private_key.encode(), password=None)
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode("ascii")
    )


def msisdn(number: str) -> str:
    """A number as Vonage writes it: digits only. Anything that is not a number (`anonymous`) stays as it is."""
    digits = number.removeprefix("+")
    return digits if digits.isdigit() else number


def is_webhook_url(url: str, *, allow_plain: bool) -> bool:
    """Whether Vonage would accept the URL of a webhook: absolute, https (or http where that is allowed)."""
    parts = urlsplit(url)
    return parts.scheme in (("https", "http") if allow_plain else ("https",)) and bool(parts.hostname)
