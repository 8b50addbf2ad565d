"""A throw-away certificate authority: carriers speak TLS only, so the simulator does too."""

import ssl
from pathlib import Path

import trustme


class Authority:
    """Issues certificates for the simulator's own REST API, and for a customer's application in a test.

    `ca_pem` is the file whoever calls the simulator must trust (`REQUESTS_CA_BUNDLE`, `SSL_CERT_FILE`, …).
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ca = trustme.CA(organization_name="Carrier simulator, for tests only")
        self.ca_pem = directory / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca_pem))

    def server_context(self, *hosts: str) -> ssl.SSLContext:
        """A server context with a fresh certificate for `hosts` (names or addresses)."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*hosts).configure_cert(context)
        return context

    def certificate_files(self, *hosts: str) -> tuple[Path, Path]:
        """The same as files: certificate chain and private key, both PEM."""
        stem = "".join(c if c.isalnum() else "-" for c in hosts[0])
        chain, key = self._directory / f"{stem}.pem", self._directory / f"{stem}-key.pem"
        issued = self._ca.issue_cert(*hosts)
        chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(str(key))
        return chain, key

    def client_context(self, trust: Path | None, *, system: bool) -> ssl.SSLContext:
        """What the carrier trusts when it calls the customer: this authority, `trust` (a PEM file), the system's."""
        context = ssl.create_default_context() if system else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        if trust is not None:
            context.load_verify_locations(cafile=str(trust))
        return context
