"""A Kafka node with TLS, SCRAM and access control, as in production: who is not allowed to, cannot.

Clients connect to `bootstrap` (SASL_SSL, SCRAM-SHA-512) or `mutual_tls` (SSL, with a certificate of `ca`). Everything
is denied to them but what `allow` has allowed. `plain` is for the tool itself: whoever connects there may do anything.
"""

import secrets
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import trustme
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from offhook.topics import Access, access
from offhook_dev.errors import DevError
from offhook_dev.kafka import KafkaServer
from offhook_dev.ports import LOOPBACK, free_port
from offhook_dev.servers import Say, say_on_stderr

_LISTENERS: Final = """\
listeners=SECURED://{host}:{port},MUTUAL://{host}:{mutual_port},PLAINTEXT://{host}:{plain_port},\\
  CONTROLLER://{host}:{controller_port}
advertised.listeners=SECURED://{host}:{port},MUTUAL://{host}:{mutual_port},PLAINTEXT://{host}:{plain_port}
listener.security.protocol.map=SECURED:SASL_SSL,MUTUAL:SSL,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT

sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.secured.scram-sha-512.sasl.jaas.config=\\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location={keys}/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={keys}/ca.pem
listener.name.mutual.ssl.client.auth=required
# CN=name,O=… is the user `name`.
ssl.principal.mapping.rules=RULE:^(?:.*,)?CN=([^,]+).*$/$1/

authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:ANONYMOUS
"""
# Kafka's numbers: org.apache.kafka.common.{resource.ResourceType, resource.PatternType, acl.AclOperation}
_RESOURCES: Final = {"topic": 2, "group": 3, "cluster": 4}
_LITERAL: Final = 3
_OPERATIONS: Final = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Describe": 8,
    "DescribeConfigs": 10,
    "IdempotentWrite": 12,
}
_ALLOW: Final = 3


class SecuredKafka(KafkaServer):
    """One node; `users` get a password each (`password`). A user of mutual TLS is whom its certificate names."""

    name = "secured-kafka"

    def __init__(self, directory: Path, users: Sequence[str], *, say: Say = say_on_stderr) -> None:
        super().__init__(directory, say=say)
        self._plain, self._mutual = free_port(), free_port()
        self._passwords = {user: secrets.token_urlsafe(16) for user in users}
        self.ca = trustme.CA()

    @property
    def mutual_tls(self) -> str:
        return f"{LOOPBACK}:{self._mutual}"

    @property
    def plain(self) -> str:
        return f"{LOOPBACK}:{self._plain}"

    @property
    def ca_file(self) -> Path:
        """The authority that signed the broker's certificate."""
        return self.directory / "ca.pem"

    def password(self, user: str) -> str:
        return self._passwords[user]

    def environment(self, user: str) -> dict[str, str]:
        """The settings of a service that is `user`."""
        return {
            "OFFHOOK_KAFKA_BOOTSTRAP": self.bootstrap,
            "OFFHOOK_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "OFFHOOK_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "OFFHOOK_KAFKA_SASL_USERNAME": user,
            "OFFHOOK_KAFKA_SASL_PASSWORD": self.password(user),
            "OFFHOOK_KAFKA_CA_FILE": str(self.ca_file),
        }

    def certificate(self, user: str) -> tuple[Path, Path]:
        """A certificate of `ca` that names the user, and its key: PEM files."""
        issued = self.ca.issue_cert(f"{user}.example.com", common_name=user)
        certificate, key = self.directory / f"{user}.pem", self.directory / f"{user}.key"
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    async def allow(self, user: str, rules: Iterable[Access]) -> None:
        """Allow `user` what the rules say. Raises `DevError`."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.plain)
        await admin.start()
        try:
            for rule in rules:
                for operation in rule.operations:
                    request = CreateAclsRequest(
                        _RESOURCES[rule.resource], rule.name, _LITERAL,
                        f"User:{user}", "*", _OPERATIONS[operation], _ALLOW,
                    )  # fmt: skip
                    answer = await admin._client.send(admin._client.get_random_node(), request)
                    ((code, message),) = answer.creation_responses
                    if code:
                        raise DevError(f"{rule} cannot be allowed: {message or for_code(code).__name__}")
        finally:
            await admin.close()

    async def allow_services(self, *services: str) -> None:
        """Allow each of them what `offhook.topics.access` says, and nothing else."""
        for service in services:
            await self.allow(service, access(service))

    def _prepare(self) -> None:
        self.ca.cert_pem.write_to_path(self.ca_file)
        broker = self.ca.issue_cert(LOOPBACK)
        # Kafka reads PKCS #8 only.
        key = load_pem_private_key(broker.private_key_pem.bytes(), None)
        text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.directory / "broker.pem").write_bytes(
            text + b"".join(one.bytes() for one in broker.cert_chain_pems)
        )
        super()._prepare()

    def _listeners(self) -> str:
        return _LISTENERS.format(
            host=LOOPBACK, port=self.port, mutual_port=self._mutual, plain_port=self._plain,
            controller_port=self.controller_port, keys=self.directory,
        )  # fmt: skip

    def _format_options(self) -> Sequence[str]:
        return [
            f"--add-scram=SCRAM-SHA-512=[name={user},password={password}]"
            for user, password in self._passwords.items()
        ]

    def _plain_port(self) -> int:
        return self._plain
