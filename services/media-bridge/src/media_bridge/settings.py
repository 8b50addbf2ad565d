"""The bridge's settings, beside those every service has."""

import socket
from typing import Annotated, ClassVar

from pydantic import Field, field_validator

from offhook.identities import ID_PATTERN, new_id
from offhook.settings import AgentDiallerSettings


def _bridge_id() -> str:
    """The pod's name, and something that tells this process from the one before it."""
    host = "".join(char if char.isalnum() or char in "-_" else "-" for char in socket.gethostname())
    return f"{host[:48]}-{new_id()[:8]}"


class BridgeSettings(AgentDiallerSettings):
    SECRETS: ClassVar[frozenset[str]] = frozenset({"keyring", "token_key"})

    bridge_id: str = Field(
        default_factory=_bridge_id, pattern=ID_PATTERN, description="this process's name, one of its own"
    )
    admin_host: str = Field("127.0.0.1", description="the address of health and metrics")
    admin_port: int = Field(
        8081, ge=0, le=65535, description="the port of health and metrics; 0 takes a free one"
    )
    drain_timeout_s: Annotated[float, Field(ge=0, le=24 * 3600)] = Field(
        600.0, description="after SIGTERM, how long live calls may go on here before they are handed over"
    )
    extra_origins: tuple[str, ...] = Field(
        (),
        description='further public base URLs providers may connect to, as JSON: ["https://old.example.com"]',
    )
    max_sessions: int = Field(1000, ge=1, le=100_000, description="calls at once; more are refused with 503")
    start_timeout_s: float = Field(
        5.0, gt=0, le=60, description="how long an accepted socket may stay without its start message"
    )
    silence_timeout_s: float = Field(
        5.0,
        gt=0.5,
        le=120,
        description="how long no caller audio at all may come before the socket counts as dead",
    )
    agent_connect_timeout_s: float = Field(
        5.0, gt=0, le=60, description="how long an agent may take to accept a call"
    )
    agent_ping_s: float = Field(
        5.0,
        gt=0,
        le=300,
        description="after so long without a word from the agent it is pinged, and lost if it is"
        " silent for as long again",
    )
    agent_attempts: int = Field(
        7,
        ge=1,
        le=50,
        description="dials in a row without success before the caller gets the fallback; with the pauses between them 7"
        " outlast an agent's restart of ten seconds",
    )
    agent_retry_s: float = Field(
        0.25, gt=0, le=30, description="pause before the second dial of an agent; doubles up to 4 s"
    )
    comfort_after_s: float = Field(
        1.5, ge=0, le=60, description="how long the caller waits for an agent before a soft tone is played"
    )
    lead_ms: int = Field(
        80, ge=20, le=1000, description="how far ahead of the caller's ear the carrier is fed"
    )
    max_agent_audio_s: int = Field(60, ge=1, le=600, description="agent audio held for one call")
    caller_memory_s: float = Field(
        4.0, ge=0.2, le=15, description="caller audio remembered for an agent that comes late or takes over"
    )
    max_tap_mb: int = Field(
        32,
        ge=1,
        le=4096,
        description="MiB of audio of recorded calls that may wait for Kafka; what does not fit is a gap in the recording",
    )
    redis_timeout_s: float = Field(0.5, gt=0, le=5, description="how long a starting call waits for Redis")

    @field_validator("extra_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, _, rest = origin.partition("://")
            if scheme not in ("http", "https") or not rest or "/" in rest.rstrip("/"):
                raise ValueError(f"expected https://host[:port], found {origin[:200]!r}")
        return value
