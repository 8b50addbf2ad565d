"""Twilio's customers: accounts and their phone numbers."""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from carrier_sim.faults import Faults
from carrier_sim.room import Rooms
from carrier_sim.twilio.fields import new_sid


@dataclass(slots=True)
class Number:
    """An IncomingPhoneNumber. URLs that are not set are empty strings, as in Twilio's answers."""

    sid: str
    phone_number: str
    friendly_name: str
    created: datetime
    updated: datetime
    voice_url: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    status_callback: str = ""
    status_callback_method: str = "POST"
    voice_application_sid: str = ""
    trunk_sid: str | None = None
    voice: bool = True

    def change(self, **settings: Any) -> None:
        """Change settings as their owner would elsewhere. Raises `ValueError` for what a number has not, and changes nothing."""
        for name in settings:
            if name not in CHANGEABLE:
                raise ValueError(f"a number has no {name!r}")
        for name, value in settings.items():
            setattr(self, name, value)
        self.updated = datetime.now(UTC)


# What the owner of a number can set, `voice` (whether it can take calls at all) included.
CHANGEABLE = frozenset(
    {
        "friendly_name", "voice_url", "voice_method", "voice_fallback_url", "voice_fallback_method",
        "status_callback", "status_callback_method", "voice_application_sid", "trunk_sid", "voice",
    }
)  # fmt: skip

AccountStatus = Literal["active", "suspended", "closed"]


@dataclass(slots=True)
class Account:
    """An account. `api_keys` are further credentials for REST (SID → secret); only the Auth Token signs webhooks.

    `status`: an account that is not active is shown, and everything else about it refused (20005). `faults`: those of its
    calls, where a call has none of its own. `rooms`: its conferences.
    """

    sid: str
    auth_token: str
    friendly_name: str = "Simulated account"
    status: AccountStatus = "active"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    api_keys: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    verified_callers: set[str] = field(default_factory=set)
    faults: Faults | None = None
    rooms: Rooms = field(default_factory=Rooms)

    def add_number(self, e164: str, **urls: Any) -> Number:
        """A phone number; `urls` as the REST API names them, in snake case (`voice_url`, `status_callback`, …)."""
        if not e164.startswith("+") or not e164[1:].isdigit():
            raise ValueError(f"a number in E.164 form is expected (+14155550100), got {e164!r}")
        now = datetime.now(UTC)
        number = Number(sid=new_sid("PN"), phone_number=e164, friendly_name=e164, created=now, updated=now)
        number.change(**urls)
        self.numbers[number.sid] = number
        return number

    def number(self, e164: str) -> Number | None:
        return next((n for n in self.numbers.values() if n.phone_number == e164), None)

    def accepts(self, user: str, password: str) -> bool:
        """Whether HTTP Basic credentials open this account."""
        known = self.auth_token if user == self.sid else self.api_keys.get(user, "")
        return bool(known) and secrets.compare_digest(password.encode(), known.encode())
