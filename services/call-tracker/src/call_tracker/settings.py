"""What call-tracker is told, beside what every service is told."""

from typing import Annotated, ClassVar, Final

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from call_tracker.actions import UserLimits
from call_tracker.recording.settings import StorageSettings
from offhook.identities import is_id

_DRIVERS: Final = ("sqlite+aiosqlite", "postgresql+asyncpg")


class TrackerSettings(StorageSettings):
    """Environment variables with the prefix `OFFHOOK_`."""

    SECRETS: ClassVar[frozenset[str]] = frozenset({"session_key"})

    listen_port: int = Field(8082, ge=0, le=65535, description="the port to listen on; 0 takes a free one")
    database_url: SecretStr | None = Field(
        None,
        description="sqlite+aiosqlite:///path or postgresql+asyncpg://…; not set: SQLite in the state directory",
    )
    batch_size: int = Field(1000, ge=1, le=5000, description="events stored in one transaction at most")
    batch_wait_s: Annotated[float, Field(ge=0.001, le=5)] = Field(
        0.02, description="how long to wait for more events of a batch"
    )
    idempotency_keep_h: int = Field(
        48, ge=24, le=24 * 30, description="hours for which a repeated request gets the answer of the first"
    )

    trace_url_template: str | None = Field(
        None,
        max_length=2000,
        description="where a call's trace is looked at, with {trace_id} in it; not set: pages link no traces",
    )

    logs_url_template: str | None = Field(
        None,
        max_length=2000,
        description="where a call's log lines are looked at, with {workflow_run_id} or {trace_id} in it; not set: pages link"
        " no logs",
    )

    @field_validator("trace_url_template", "logs_url_template")
    @classmethod
    def _usable_template(cls, value: str | None, info: ValidationInfo) -> str | None:
        if not value:
            return None
        ids = (
            ("{trace_id}",)
            if info.field_name == "trace_url_template"
            else ("{workflow_run_id}", "{trace_id}")
        )
        if not value.startswith(("https://", "http://")) or not any(one in value for one in ids):
            raise ValueError(f"this must be an http(s) URL with {' or '.join(ids)} in it")
        return value

    calls_keep_days: Annotated[float, Field(gt=0, le=36_500)] = Field(
        400.0, description="days for which ended calls and their events are kept"
    )
    silence_factor: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="multiplies how long a call may be silent before its provider is asked; less than 1 in tests and demos only",
    )
    user_max_concurrent_calls: int | None = Field(
        None, ge=0, description="calls of one user that may be live at a time, in and out; not set: no limit"
    )
    user_max_calls_per_s: Annotated[float, Field(ge=0)] | None = Field(
        None, description="calls of one user that may begin within a second; not set: no limit"
    )

    operators: str = Field(
        "",
        max_length=4096,
        description="ids of users who see all webhooks and dead letters, not only those of their own accounts and calls,"
        " separated by commas",
    )
    webhooks_keep_days: Annotated[float, Field(gt=0, le=366)] = Field(
        7.0, description="days for which entries of the webhook log are kept"
    )
    webhooks_max_rows: int = Field(
        200_000, ge=100, description="entries of the webhook log kept at most, verified and refused each"
    )
    dead_letters_keep_days: Annotated[float, Field(gt=0, le=366)] = Field(
        30.0, description="days for which dead letters are kept"
    )
    dead_letters_max_rows: int = Field(10_000, ge=100, description="dead letters kept at most")

    @field_validator("operators")
    @classmethod
    def _are_ids(cls, value: str) -> str:
        for part in value.split(","):
            if part.strip() and not is_id(part.strip()):
                raise ValueError(f"expected user ids separated by commas, found {part.strip()[:80]!r}")
        return value

    @property
    def operator_ids(self) -> frozenset[str]:
        """The users who see everything."""
        return frozenset(part.strip() for part in self.operators.split(",") if part.strip())

    @field_validator("database_url")
    @classmethod
    def _known_driver(cls, value: SecretStr | None) -> SecretStr | None:
        objection = None if value is None else cls.objection_to_url(value.get_secret_value())
        if objection is not None:
            # From None: the URL may hold a password.
            raise ValueError(objection) from None
        return value

    @staticmethod
    def objection_to_url(text: str) -> str | None:
        """Why this is not the URL of a database that can be used; None if it is. Never repeats the URL."""
        try:
            url = make_url(text)
        except ArgumentError:
            return "this is not a database URL"
        if url.drivername not in _DRIVERS:
            return f"the URL must begin with {' or '.join(_DRIVERS)}, found {url.drivername[:40]!r}"
        if url.drivername == "sqlite+aiosqlite" and url.database in (None, "", ":memory:"):
            return "SQLite needs a file: what is acknowledged must survive the process"
        return None

    @property
    def user_limits(self) -> UserLimits:
        """What each user may have."""
        return UserLimits(self.user_max_concurrent_calls, self.user_max_calls_per_s)

    @property
    def database(self) -> str:
        """The database's URL."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite+aiosqlite:///{self.state_dir / 'call-tracker.sqlite3'}"
