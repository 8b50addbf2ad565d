"""The simulation as a file: YAML in, a `SimConfig` and provisioned carriers out."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from carrier_sim.callee import AnsweredBy, Callee, Outcome
from carrier_sim.caller import Caller
from carrier_sim.config import SimConfig
from carrier_sim.faults import Faults
from carrier_sim.rest_faults import RestFault
from carrier_sim.twilio.accounts import AccountStatus

if TYPE_CHECKING:
    from carrier_sim.sim import CarrierSim

Method = Literal["GET", "POST"]


class ProvisionError(Exception):
    """The file cannot be used; the message says where and why."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class TwilioNumber(_Part):
    """A phone number and what the customer set for it."""

    number: str
    friendly_name: str | None = None
    voice_url: str = ""
    voice_method: Method = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: Method = "POST"
    status_callback: str = ""
    status_callback_method: Method = "POST"
    voice_application_sid: str = ""
    trunk_sid: str | None = None
    voice: bool = True


class TwilioAccount(_Part):
    """`requests_per_s`: how many REST requests a second it may make; more are answered with 429."""

    account_sid: str
    auth_token: str
    api_keys: dict[str, str] = Field(default_factory=dict)
    friendly_name: str = "Simulated account"
    status: AccountStatus = "active"
    requests_per_s: float | None = None
    faults: "FaultsEntry | None" = None
    numbers: list[TwilioNumber] = Field(default_factory=list)


class VonageApplication(_Part):
    """One of `public_key` (PEM), `public_key_file` and `private_key_file` is needed.

    `requests_per_s`: how many REST requests a second the account (the API key, also of other applications) may make.
    `spare_numbers`: belong to the account and are linked to no application.
    """

    application_id: str
    api_key: str
    api_secret: str
    signature_secret: str | None = None
    public_key: str | None = None
    public_key_file: Path | None = None
    private_key_file: Path | None = None
    answer_url: str | None = None
    answer_method: Method = "GET"
    event_url: str | None = None
    event_method: Method = "POST"
    fallback_answer_url: str | None = None
    fallback_method: Method = "GET"
    signed_callbacks: bool = True
    requests_per_s: float | None = None
    faults: "FaultsEntry | None" = None
    numbers: list[str] = Field(default_factory=list)
    spare_numbers: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _one_key(self) -> "VonageApplication":
        given = [self.public_key, self.public_key_file, self.private_key_file]
        if sum(key is not None for key in given) != 1:
            raise ValueError("exactly one of public_key, public_key_file and private_key_file is needed")
        return self


class Twilio(_Part):
    accounts: list[TwilioAccount] = Field(default_factory=list)


class Vonage(_Part):
    applications: list[VonageApplication] = Field(default_factory=list)


class CalleeEntry(_Part):
    """`caller`: the script, as `Caller.from_data` reads it."""

    answer_after_s: float = 0.3
    outcome: Outcome = "answer"
    answered_by: AnsweredBy = "human"
    greeting_s: float = 0.0
    caller: Any = None
    faults: "FaultsEntry | None" = None

    def callee(self) -> Callee:
        faults = self.faults.faults() if self.faults else None
        caller = Caller.from_data(self.caller)
        return Callee(self.answer_after_s, self.outcome, caller, self.answered_by, self.greeting_s, faults)


class FaultsEntry(_Part):
    """See `Faults`."""

    duplicate: float = 0.0
    drop: float = 0.0
    delay: float = 0.0
    delay_s: tuple[float, float] = (0.2, 1.5)
    reorder: float = 0.0
    duplicate_instructions: float = 0.0
    kill_media_after_s: float | None = None
    half_open_media_after_s: float | None = None
    media_faults_per_call: int = 1
    seed: int = 0

    def faults(self) -> Faults:
        return Faults(**self.model_dump())


class Simulation(_Part):
    """The whole file. The settings are those of `SimConfig`; `callees` by number, `default` for everybody else."""

    host: str = "127.0.0.1"
    port: int = 0
    hosts: tuple[str, ...] = ()
    tls: bool = True
    allow_plain: bool = False
    home: Path | None = None
    trust: Path | None = None
    trust_system: bool = True
    resolve: dict[str, str] = Field(default_factory=dict)
    upgrade_signature: Literal["as-written", "without-port", "trailing-slash"] = "as-written"
    rate_limits: bool = False
    hangup_guard_s: float = 2.0
    price_after_s: float = 1.0
    patience: float = Field(1.0, gt=0)
    twilio: Twilio = Field(default_factory=Twilio)
    vonage: Vonage = Field(default_factory=Vonage)
    callees: dict[str, CalleeEntry] = Field(default_factory=dict)
    faults: FaultsEntry = Field(default_factory=FaultsEntry)
    rest_faults: list[RestFault] = Field(default_factory=list)

    def config(self, **overriding: Any) -> SimConfig:
        """The settings; what is given (and not None) overrides the file."""
        settings = self.model_dump(exclude={"twilio", "vonage", "callees", "faults", "rest_faults"})
        settings |= {name: value for name, value in overriding.items() if value is not None}
        return SimConfig(**settings, faults=self.faults.faults())

    def provision(self, sim: "CarrierSim") -> None:
        """Give the carriers their customers, and the callees their manners."""
        for entry in self.twilio.accounts:
            account = sim.twilio.add_account(entry.account_sid, entry.auth_token)
            account.api_keys.update(entry.api_keys)
            account.friendly_name, account.status = entry.friendly_name, entry.status
            account.faults = entry.faults.faults() if entry.faults else None
            if entry.requests_per_s is not None:
                sim.limit_requests(entry.account_sid, entry.requests_per_s)
            for number in entry.numbers:
                urls = number.model_dump(exclude={"number"}, exclude_none=True)
                account.add_number(number.number, **urls)
        for wanted in self.vonage.applications:
            webhooks = wanted.model_dump(
                include={
                    "answer_url", "answer_method", "event_url", "event_method",
                    "fallback_answer_url", "fallback_method",
                }
            )  # fmt: skip
            application = sim.vonage.add_application(
                wanted.application_id,
                api_key=wanted.api_key,
                api_secret=wanted.api_secret,
                signature_secret=wanted.signature_secret,
                public_key=wanted.public_key
                or (wanted.public_key_file.read_text() if wanted.public_key_file else None),
                private_key=wanted.private_key_file.read_text() if wanted.private_key_file else None,
                **webhooks,
            )
            application.faults = wanted.faults.faults() if wanted.faults else None
            application.voice["signed_callbacks"] = wanted.signed_callbacks
            if wanted.requests_per_s is not None:
                sim.limit_requests(wanted.api_key, wanted.requests_per_s)
            for msisdn in wanted.numbers:
                sim.vonage.add_number(application, msisdn)
            for msisdn in wanted.spare_numbers:
                sim.vonage.add_number(None, msisdn, api_key=wanted.api_key)
        sim.rest_faults = self.rest_faults
        for who, manners in self.callees.items():
            if who == "default":
                sim.callees.default = manners.callee()
            else:
                sim.callees[who] = manners.callee()


def read(path: Path) -> Simulation:
    """Read a simulation file. Relative paths in it are relative to it. Raises `ProvisionError`."""
    try:
        data = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ProvisionError(f"{path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ProvisionError(f"{path} is not YAML: {error}") from error
    if not isinstance(data, Mapping):
        raise ProvisionError(f"{path}: a mapping is expected at the top")
    try:
        simulation = Simulation.model_validate(data)
        for entry in simulation.callees.values():
            entry.callee()
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ProvisionError(f"{path}: {where}: {first['msg']}") from error
    except ValueError as error:
        raise ProvisionError(f"{path}: {error}") from error
    return _resolved(simulation, path.parent)


def _resolved(simulation: Simulation, base: Path) -> Simulation:
    for name in ("home", "trust"):
        if (value := getattr(simulation, name)) is not None:
            setattr(simulation, name, base / value)
    for application in simulation.vonage.applications:
        for name in ("public_key_file", "private_key_file"):
            if (value := getattr(application, name)) is not None:
                setattr(application, name, base / value)
    return simulation
