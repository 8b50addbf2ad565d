"""What number-sync asks a provider's REST API for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from offhook.events.calls import MachineDetection
from offhook.providers.lines import AccountFacts, Line, Settings
from offhook.providers.seen import Seen

MAX_ONE_BY_ONE: Final = 5
"""So many numbers are asked for by name; for more, the whole list is cheaper."""


@dataclass(frozen=True, slots=True)
class Dial:
    """An outbound call to place. URLs absolute and public.

    `time_limit_s` counts from the answer; None is the provider's own limit. Who answered is told to `amd_url` (Twilio)
    or, where a provider has but one URL for all it tells, to `status_url` (Vonage); the call goes on meanwhile.
    """

    from_number: str
    to_number: str
    answer_url: str
    status_url: str
    fallback_url: str
    ring_timeout_s: int = 60
    time_limit_s: int | None = None
    machine_detection: MachineDetection = "off"
    amd_url: str = ""


@dataclass(frozen=True, slots=True)
class Dialled:
    """The provider's acceptance of an outbound call."""

    provider_call_id: str
    conversation_id: str | None
    provider_status: str


class Rest(Protocol):
    """A provider's REST API for one account, through the vendor's official SDK. Blocking: call it in a
    thread.

    `offhook.providers.<name>.rest` holds it; it is imported by number-sync only, so that nothing else needs
    the SDKs. Everything raises `RestError`; `Lines.explain` has the words for it.
    """

    def dial(self, dial: Dial) -> Dialled:
        """Place a call."""

    def hang_up(self, provider_call_id: str) -> None:
        """End the call. One that has already ended is `RestError(kind="gone")`; one that the provider cannot end yet
        `too-early`."""

    def look_at(self, provider_call_id: str) -> Seen | None:
        """What the provider knows of the call. None: it knows no such call."""

    def find(self, from_number: str, to_number: str, after: datetime, before: datetime) -> list[Seen]:
        """The calls placed through the API between these two numbers (E.164) that began in that time, newest first.

        Both ends count, and times are the provider's, to a second at best: leave a margin for its clock. A call whose
        beginning the provider does not tell (it is queued, or goes on) is among them. A list longer than is ever read
        is `RestError(kind="unavailable", code="too-many-calls")`: an incomplete one would pass for "no such call".
        """

    def transfer(self, provider_call_id: str, document: str) -> None:
        """Have a call that was answered go on with `document`, one of the adapter's `Documents`.

        `RestError` kinds to expect: `gone` (there is no such call, or it is over), `too-early` (not answered yet),
        `unknown-outcome` (repeated, it might ring a phone twice).
        """

    def send_digits(self, provider_call_id: str, digits: str) -> None:
        """Press keys (`0-9 * #`, `w` waits half a second). `RestError(kind="unsupported")` where the adapter's
        `dtmf_out` is not `rest`."""

    def check(self) -> AccountFacts:
        """Try the credentials, all of them. What is wrong with them is `RestError(kind="credentials")`."""

    def lines(self, e164s: Sequence[str] | None = None) -> list[Line]:
        """All numbers of the account, page by page; or these (up to `MAX_ONE_BY_ONE` are asked for one by one). One
        that is not the account's is left out."""

    def shared(self) -> Settings:
        """What all numbers of the account's application have in common; {} where there is no such thing."""

    def set_line(self, line: Line, settings: Settings) -> Line:
        """Change these settings of a number, and no other. Returns the number as the provider now holds it.

        `line` as `lines` has just read it: a provider may forget what is not sent along (Vonage).

        A number that is not the account's is `RestError(kind="gone")`.
        """

    def set_shared(self, settings: Settings) -> Settings:
        """Change these settings of the application and nothing else in it. Returns what the provider now holds."""


class RestFactory(Protocol):
    """Makes a `Rest`.

    `base_url` replaces scheme, host and port of the provider's API; None is the real provider. `pace` is called,
    in the request's thread, before every request that leaves: it may wait. Raises `RestError`.
    """

    def __call__(
        self,
        credentials: Mapping[str, str],
        base_url: str | None = None,
        timeout_s: float = 10,
        pace: Callable[[], None] | None = None,
    ) -> Rest: ...
