"""Accounts at a provider, in this process: what they hold, what they were asked, and how they misbehave.

The rules are the real adapters'; only the REST calls are played.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from offhook.providers.base import Line, RestError, Settings

TWILIO_LINE = dict.fromkeys(
    (
        "VoiceUrl",
        "VoiceMethod",
        "VoiceFallbackUrl",
        "VoiceFallbackMethod",
        "StatusCallback",
        "StatusCallbackMethod",
        "VoiceApplicationSid",
        "TrunkSid",
    ),
    "",
)


@dataclass
class Account:
    """`faults` are raised by the next requests, one each (None: this one works); `asked` is every request; `before`
    runs in the request's thread, before it has any effect."""

    lines: dict[str, Line] = field(default_factory=dict)
    shared: dict[str, str] = field(default_factory=dict)
    faults: list[Exception | None] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)
    before: Callable[[str], object] = lambda operation: None
    always: Exception | None = None
    deaf: bool = False  # accepts, and changes nothing

    def own(self, *e164s: str, **settings: str) -> "Account":
        for e164 in e164s:
            self.lines[e164] = Line(e164, f"PN{e164[1:]}", "Main", True, {**TWILIO_LINE, **settings})
        return self

    def set(self, e164: str, **settings: str) -> None:
        """Somebody else changes it."""
        line = self.lines[e164]
        self.lines[e164] = replace(line, settings={**line.settings, **settings})

    def pushes(self, e164: str | None = None) -> list[dict[str, str]]:
        made = [what for operation, what in self.asked if operation == "set-line"]
        return [settings for number, settings in made if e164 in (None, number)]


class Accounts:
    """`rest_of` for the reconciler; accounts are found by their Account SID or application id."""

    def __init__(self) -> None:
        self.held: dict[str, Account] = {}
        self._lock = threading.Lock()

    def __getitem__(self, account: str) -> Account:
        return self.held.setdefault(account, Account())

    def rest_of(self, provider: str) -> Callable[..., "ScriptedRest"]:
        def make(
            credentials: Mapping[str, str],
            base_url: str | None = None,
            timeout_s: float = 10,
            pace: Callable[[], None] | None = None,
        ) -> ScriptedRest:
            account = credentials.get("account_sid") or credentials["application_id"]
            return ScriptedRest(self[account], self._lock, pace or (lambda: None))

        return make


class ScriptedRest:
    def __init__(self, account: Account, lock: threading.Lock, pace: Callable[[], None]) -> None:
        self._account = account
        self._lock = lock
        self._pace = pace

    def _request(self, operation: str, what: Any = None) -> None:
        self._pace()
        with self._lock:
            self._account.asked.append((operation, what))
            fault = self._account.faults.pop(0) if self._account.faults else self._account.always
        self._account.before(operation)
        if fault is not None:
            raise fault

    def lines(self, e164s: Sequence[str] | None = None) -> list[Line]:
        self._request("lines", None if e164s is None else tuple(e164s))
        return [line for e164, line in self._account.lines.items() if e164s is None or e164 in e164s]

    def shared(self) -> Settings:
        self._request("shared")
        return dict(self._account.shared)

    def set_line(self, line: Line, settings: Settings) -> Line:
        self._request("set-line", (line.e164, dict(settings)))
        if line.e164 not in self._account.lines:
            raise RestError("gone", "20404", "no such number")
        if not self._account.deaf:
            self._account.set(line.e164, **settings)
        return self._account.lines[line.e164]

    def set_shared(self, settings: Settings) -> Settings:
        self._request("set-shared", dict(settings))
        self._account.shared |= settings
        return dict(self._account.shared)
