"""What number-sync is told, beside what every service is told."""

from typing import Annotated, ClassVar, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from offhook.settings import AgentDiallerSettings

_DRIVERS: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")


class NumberSyncSettings(AgentDiallerSettings):
    """Environment variables with the prefix `OFFHOOK_`."""

    SECRETS: ClassVar[frozenset[str]] = frozenset({"keyring", "session_key"})

    listen_port: int = Field(8083, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    database_url: SecretStr | None = Field(
        None,
        description="sqlite+aiosqlite:///path or postgresql+asyncpg://…; not set: SQLite in the state directory",
    )
    public_url: str | None = Field(
        None, description="where providers reach this installation, e.g. https://voice.example.com"
    )
    tunnel_metrics_url: str | None = Field(
        None,
        description="the metrics address of cloudflared, e.g. http://tunnel:20241: without a public URL, the name of "
        "its quick tunnel is followed",
    )
    twilio_api_url: str | None = Field(None, description="another server in place of Twilio's REST API")
    vonage_api_url: str | None = Field(None, description="another server in place of Vonage's REST API")
    provider_timeout_s: Annotated[float, Field(gt=0, le=60)] = Field(
        10.0, description="how long a provider may be silent during a request"
    )
    provider_deadline_s: Annotated[float, Field(gt=0, le=120)] = Field(
        25.0, description="how long a request to a provider may take altogether"
    )
    provider_concurrency: Annotated[int, Field(ge=2, le=256)] = Field(
        16, description="requests to providers at a time; one configuration gets at most half of them"
    )
    originate_max_age_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        120.0,
        description="an order to dial that is older than this is refused: nobody waits for the call any more",
    )
    outcome_grace_s: Annotated[float, Field(ge=0, le=600)] = Field(
        45.0,
        description="how long after the provider was asked a dial or a transfer without an answer may take to show life;"
        " longer than OFFHOOK_PROVIDER_DEADLINE_S",
    )
    user_max_concurrent_calls: int | None = Field(
        None, ge=0, description="calls of one user that may be live at a time, in and out; not set: no limit"
    )
    user_max_calls_per_s: Annotated[float, Field(ge=0)] | None = Field(
        None, description="calls of one user that may begin within a second; not set: no limit"
    )
    sync_rate_per_s: Annotated[float, Field(gt=0, le=100)] = Field(
        4.0,
        description="requests per second to a provider for one account, at most, to keep its numbers in sync",
    )
    sync_interval_s: Annotated[float, Field(ge=1, le=86400)] = Field(
        180.0, description="how often every number is compared with what its provider holds"
    )
    sync_retry_s: Annotated[float, Field(gt=0, le=3600)] = Field(
        5.0,
        description="how long after a comparison that got no usable answer the next one comes; doubled each time",
    )

    @field_validator("database_url")
    @classmethod
    def _known_driver(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        try:
            driver = make_url(value.get_secret_value()).drivername
        except ArgumentError:
            # From None: the URL may hold a password.
            raise ValueError("this is not a database URL") from None
        if driver not in _DRIVERS:
            raise ValueError(f"the URL must begin with {' or '.join(_DRIVERS)}, found {driver[:40]!r}")
        return value

    @field_validator("public_url")
    @classmethod
    def _origin_only(cls, value: str | None) -> str | None:
        return None if value is None else public_origin(value)

    @field_validator("twilio_api_url", "vonage_api_url", "tunnel_metrics_url")
    @classmethod
    def _http_url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("expected a URL that begins with http:// or https://")
        return value

    @model_validator(mode="after")
    def _grace_after_deadline(self) -> Self:
        if self.outcome_grace_s <= self.provider_deadline_s:
            raise ValueError(
                f"OFFHOOK_OUTCOME_GRACE_S ({self.outcome_grace_s:g}) must be longer than OFFHOOK_PROVIDER_DEADLINE_S "
                f"({self.provider_deadline_s:g}): until then the provider may still answer"
            )
        return self

    @property
    def database(self) -> str:
        """The database's URL."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.state_dir / 'number-sync.sqlite3'}"

    def api_url(self, provider: str) -> str | None:
        """What replaces the provider's REST API; None is the real one."""
        url: str | None = getattr(self, f"{provider}_api_url", None)
        return url


def public_origin(text: str) -> str:
    """A public base URL without trailing slash: scheme, host and port only, because signatures are compared over
    `origin + path`. Raises `ValueError`."""
    text = text.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError("this is not a URL; it looks like https://voice.example.com") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected scheme and host, as in https://voice.example.com")
    if "@" in parts.netloc:
        raise ValueError("a user name or password cannot be part of it")
    if parts.path or parts.query or parts.fragment:
        raise ValueError("expected no path, query or fragment: the paths are fixed")
    return f"{parts.scheme}://{parts.netloc.lower()}"
