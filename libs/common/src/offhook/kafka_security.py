"""How this process proves to Kafka who it is, and Kafka to it: TLS, SASL, both or neither."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """Names are Kafka's own. Files are PEM; without `ca_file` the system's authorities are trusted."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism | None = None
    username: str | None = None
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    @property
    def tls(self) -> bool:
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def sasl(self) -> bool:
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def ssl_context(self) -> ssl.SSLContext | None:
        """None without TLS. The broker's certificate must be of an authority that is trusted, and of the name that was
        dialled: there is no setting that turns this off. Raises `OSError` (`ssl.SSLError` is one) for unusable files.
        """
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.cert_file is not None:
            # An encrypted key would ask the terminal for its password; with "" it is an error instead.
            context.load_cert_chain(self.cert_file, self.key_file, password="")
        return context

    def client_options(self) -> dict[str, Any]:
        """The options of every aiokafka client. Raises `OSError` as `ssl_context` does."""
        options: dict[str, Any] = {"security_protocol": self.protocol, "ssl_context": self.ssl_context()}
        if self.sasl:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options


def objections(security: KafkaSecurity, prefix: str) -> list[str]:
    """What is missing, superfluous or unusable, a sentence each; `prefix` is that of the environment variables."""
    name = f"{prefix}KAFKA_"
    protocol = f"{name}SECURITY_PROTOCOL is {security.protocol}"
    found = []
    for_sasl = (
        ("SASL_MECHANISM", security.mechanism),
        ("SASL_USERNAME", security.username),
        ("SASL_PASSWORD", security.password),
    )
    for_tls = (
        ("CA_FILE", security.ca_file),
        ("CERT_FILE", security.cert_file),
        ("KEY_FILE", security.key_file),
    )
    for setting, value in for_sasl:
        if security.sasl and not value:
            found.append(f"{name}{setting} is not set, but {protocol}")
        if value and not security.sasl:
            # Silently connecting without what was meant to protect would be worse than not starting.
            found.append(f"{name}{setting} is set, but {protocol}: SASL_SSL or SASL_PLAINTEXT would use it")
    if not security.tls:
        return [
            *found,
            *(
                f"{name}{setting} is set, but {protocol}: SSL or SASL_SSL would use it"
                for setting, value in for_tls
                if value
            ),
        ]
    unreadable = [
        f"{name}{setting} is wrong: {path} {problem}"
        for setting, path in for_tls
        if path is not None and (problem := _problem_of_file(path))
    ]
    if (security.cert_file is None) != (security.key_file is None):
        found.append(f"{name}CERT_FILE and {name}KEY_FILE go together: set both or none")
    elif not unreadable:
        try:
            security.ssl_context()
        except OSError as error:
            found.append(
                f"{name}CA_FILE, CERT_FILE or KEY_FILE cannot be used ({_reason(error)}): expected PEM files, a certificate"
                " with the key that belongs to it, and a key that is not encrypted"
            )
    return found + unreadable


def _problem_of_file(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return None if file.read(1) else "is empty"
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"


def _reason(error: OSError) -> str:
    return getattr(error, "reason", None) or error.strerror or type(error).__name__
