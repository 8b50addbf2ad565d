"""Settings: environment variables with the prefix `OFFHOOK_`, the same on a laptop, in compose and on
Kubernetes.

A service subclasses `ServiceSettings`, says in `SECRETS` which of the shared secrets it needs, and calls
`load_settings`. A secret that a service does not need may be absent, and on Kubernetes should be.
"""

import sys
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from offhook import kafka_security
from offhook.agent_hosts import AgentHosts
from offhook.errors import KeyringError, SettingsError
from offhook.kafka_security import KafkaSecurity
from offhook.security.api_keys import ApiKeys
from offhook.security.keyring import Keyring
from offhook.security.sessions import parse_session_key
from offhook.security.tokens import MediaTokens

__all__ = [
    "PREFIX",
    "AgentDiallerSettings",
    "ServiceSettings",
    "SettingsError",
    "load_settings",
    "read_settings",
]

PREFIX: Final = "OFFHOOK_"
_EMPTY: Final = SecretStr("")

SettingsT = TypeVar("SettingsT", bound="ServiceSettings")


class ServiceSettings(BaseSettings):
    """What every service is told. Seconds end in `_s`; secrets never appear in errors, logs or the repr."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    # The shared secrets this service cannot do without; a subclass narrows it.
    SECRETS: ClassVar[frozenset[str]] = frozenset({"keyring", "token_key", "api_keys"})

    kafka_bootstrap: str = Field(
        "127.0.0.1:9092", description="Kafka brokers to begin with, host:port[,host:port…]"
    )
    kafka_security_protocol: kafka_security.Protocol = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, as the brokers' listener has it"
    )
    kafka_sasl_mechanism: kafka_security.Mechanism | None = Field(
        None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    kafka_sasl_username: str | None = Field(None, max_length=1000, description="who this service is to Kafka")
    kafka_sasl_password: SecretStr = Field(_EMPTY, description="its password")
    kafka_ca_file: Path | None = Field(
        None,
        description="the authorities that sign the brokers' certificates, PEM; not set: those of the system",
    )
    kafka_cert_file: Path | None = Field(
        None, description="the certificate this service shows Kafka (mutual TLS), PEM"
    )
    kafka_key_file: Path | None = Field(None, description="the certificate's private key, PEM, not encrypted")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="the Redis server, redis:// or rediss://")
    keyring: SecretStr = Field(
        _EMPTY,
        description="the keys that seal credentials, id:base64key[,…] with 32-byte keys, the first one seals",
    )
    token_key: SecretStr = Field(
        _EMPTY,
        description="the key of the media tokens, base64 of at least 32 bytes; several, separated by commas: the first one makes "
        "tokens, all are believed (docs/deploy/kubernetes.md, Rotation)",
    )
    api_keys: SecretStr = Field(
        _EMPTY,
        description="who may use the API beside the keys of `offhook keys`, user_id:sha256hex-of-the-key[,…]",
    )
    session_key: SecretStr = Field(
        _EMPTY, description="the key of the logins' cookies, base64 of at least 32 bytes"
    )
    listen_host: str = Field("127.0.0.1", description="the address to listen on (0.0.0.0 in a container)")
    listen_port: int = Field(8080, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    log_format: Literal["json", "console"] = Field(
        "json", description="json for machines, console for people"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least important level logged"
    )
    state_dir: Path = Field(
        Path("var/state"), description="a directory of this process's own, kept over restarts"
    )
    replication_factor: int = Field(
        1, ge=1, le=10, description="replicas of the topics created (3 in production)"
    )
    auto_prepare: bool = Field(
        True,
        description="create missing topics and migrate the database at the start; false: wait until `offhook prepare` has",
    )
    partitions: int = Field(12, ge=1, le=1000, description="partitions of the topics created")
    drain_delay_s: Annotated[float, Field(ge=0, le=300)] = Field(
        0.0,
        description="after SIGTERM, how long to go on while load balancers notice that /readyz says no",
    )
    drain_timeout_s: Annotated[float, Field(ge=0, le=24 * 3600)] = Field(
        20.0, description="after that, how long to wait for calls and requests to finish"
    )

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _any_case(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @field_validator("kafka_bootstrap")
    @classmethod
    def _host_and_port(cls, value: str) -> str:
        for part in value.split(","):
            host, _, port = part.strip().rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"expected host:port[,host:port…], found {value[:200]!r}")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_scheme(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("expected a URL that begins with redis://, rediss:// or unix://")
        return value

    @field_validator("kafka_security_protocol", "kafka_sasl_mechanism", mode="before")
    @classmethod
    def _upper_case(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @property
    def kafka_security(self) -> KafkaSecurity:
        """How to connect to Kafka."""
        return KafkaSecurity(
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_sasl_username,
            self.kafka_sasl_password.get_secret_value(),
            self.kafka_ca_file,
            self.kafka_cert_file,
            self.kafka_key_file,
        )

    @model_validator(mode="after")
    def _kafka_security_is_whole(self) -> Self:
        if problems := kafka_security.objections(self.kafka_security, PREFIX):
            raise ValueError("\n".join(problems))
        return self

    @model_validator(mode="after")
    def _secrets_are_usable(self) -> Self:
        problems = []
        for name, parse in (
            ("keyring", Keyring.parse),
            ("token_key", MediaTokens.parse),
            ("api_keys", ApiKeys),
            ("session_key", parse_session_key),
        ):
            text: str = getattr(self, name).get_secret_value()
            if not text:
                if name in self.SECRETS:
                    problems.append(
                        f"{PREFIX}{name.upper()} is not set: {type(self).model_fields[name].description}"
                    )
                continue
            try:
                parse(text)
            except (KeyringError, ValueError) as error:
                problems.append(f"{PREFIX}{name.upper()} is not usable: {error}")
        if problems:
            raise ValueError("\n".join(problems))
        return self


class AgentDiallerSettings(ServiceSettings):
    """Of a service that dials agents, or stores where they are."""

    agent_hosts: str = Field(
        "",
        max_length=8192,
        description="hosts that may be agents, separated by commas: agent.example.com, *.agents.svc; not set: any."
        " Link-local and metadata addresses never are",
    )

    @field_validator("agent_hosts")
    @classmethod
    def _are_patterns(cls, value: str) -> str:
        AgentHosts(value)
        return value

    @property
    def allowed_agents(self) -> AgentHosts:
        """Which hosts may be dialled."""
        return AgentHosts(self.agent_hosts)


def read_settings(cls: type[SettingsT], **overrides: Any) -> SettingsT:
    """The settings from the environment; `overrides` win. Raises `SettingsError` with a sentence for each
    problem.
    """
    try:
        return cls(**overrides)
    except ValidationError as error:
        raise SettingsError(tuple(_sentences(cls, error))) from None
    except (
        SourceError
    ) as error:  # a list or mapping that is not JSON; the message names the field, not the value
        raise SettingsError((f"A setting cannot be read: {error}.",)) from None


def load_settings(cls: type[SettingsT], **overrides: Any) -> SettingsT:
    """Like `read_settings`, for a service's start: problems go to stderr, one a line, and the process exits
    with 2.
    """
    try:
        return read_settings(cls, **overrides)
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201 - logging needs the settings that are wrong
        sys.exit(2)


def _sentences(cls: type[ServiceSettings], error: ValidationError) -> list[str]:
    sentences: list[str] = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        message = problem["msg"].removeprefix("Value error, ")
        if not problem["loc"]:  # from a validator of the whole, which names the variables itself
            sentences.extend(message.splitlines())
            continue
        name = str(problem["loc"][0])
        field = cls.model_fields.get(name)
        meaning = f" ({field.description})" if field and field.description else ""
        if problem["type"] == "missing":
            sentences.append(f"{PREFIX}{name.upper()} is not set{meaning}")
        else:
            sentences.append(f"{PREFIX}{name.upper()} is wrong: {message[:1].lower()}{message[1:]}{meaning}")
    return sentences
