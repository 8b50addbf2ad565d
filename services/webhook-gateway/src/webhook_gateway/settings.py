"""The gateway's settings, beside those every service has."""

from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from offhook.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    SECRETS: ClassVar[frozenset[str]] = frozenset({"keyring", "token_key"})

    extra_origins: tuple[str, ...] = Field(
        (), description='further public base URLs providers may call, as JSON: ["https://old.example.com"]'
    )
    max_body_bytes: int = Field(
        64 * 1024, ge=1024, le=1024 * 1024, description="the longest webhook body taken"
    )
    body_timeout_s: float = Field(
        5.0, gt=0, le=60, description="how long a webhook's body may take to arrive"
    )
    media_token_ttl_s: int = Field(
        120, ge=10, le=3600, description="how long after the instructions the provider may connect the audio"
    )
    reconnect_window_s: int = Field(
        60, ge=5, le=3600, description="the window in which connects of a call count"
    )
    reconnect_limit: int = Field(
        10,
        ge=1,
        le=1000,
        description="connects of one call in the window, before the caller hears the fallback",
    )
    user_max_concurrent_calls: int | None = Field(
        None, ge=0, description="calls of one user that may be live at a time, in and out; not set: no limit"
    )
    user_max_calls_per_s: Annotated[float, Field(ge=0)] | None = Field(
        None, description="calls of one user that may begin within a second; not set: no limit"
    )
    spool_max_bytes: int = Field(
        256 * 1024 * 1024,
        ge=4096,
        description="how large the spool may grow while Kafka is away (about 1 KB an event)",
    )
    redis_timeout_s: float = Field(0.25, gt=0, le=5, description="how long a webhook waits for Redis")

    @field_validator("extra_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest.rstrip("/"):
                raise ValueError(f"expected https://host[:port], found {origin[:200]!r}")
        return value
