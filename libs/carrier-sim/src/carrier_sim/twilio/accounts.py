"""Twilio's customers: accounts and their phone numbers."""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime

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


@dataclass(slots=True)
class Account:
    """An account. `api_keys` are further credentials for REST (SID → secret); only the Auth Token signs webhooks."""

    sid: str
    auth_token: str
    friendly_name: str = "Simulated account"
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    api_keys: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, Number] = field(default_factory=dict)
    verified_callers: set[str] = field(default_factory=set)

    def add_number(self, e164: str, **urls: str) -> Number:
        """A phone number; `urls` as the REST API names them, in snake case (`voice_url`, `status_callback`, …)."""
        if not e164.startswith("+") or not e164[1:].isdigit():
            raise ValueError(f"a number in E.164 form is expected (+14155550100), got {e164!r}")
        now = datetime.now(UTC)
        number = Number(sid=new_sid("PN"), phone_number=e164, friendly_name=e164, created=now, updated=now)
        for name, value in urls.items():
            if not hasattr(number, name):
                raise ValueError(f"a number has no {name!r}")
            setattr(number, name, value)
        self.numbers[number.sid] = number
        return number

    def number(self, e164: str) -> Number | None:
        return next((n for n in self.numbers.values() if n.phone_number == e164), None)

    def accepts(self, user: str, password: str) -> bool:
        """Whether HTTP Basic credentials open this account."""
        known = self.auth_token if user == self.sid else self.api_keys.get(user, "")
        return bool(known) and secrets.compare_digest(password.encode(), known.encode())
