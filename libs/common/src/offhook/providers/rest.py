"""What number-sync asks a provider's REST API for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from offhook.providers.lines import AccountFacts, Line, Settings

MAX_ONE_BY_ONE: Final = 5
"""So many numbers are asked for by name; for more, the whole list is cheaper."""


@dataclass(frozen=True, slots=True)
class Dial:
    """An outbound call to place. URLs absolute and public."""

    from_number: str
    to_number: str
    answer_url: str
    status_url: str
    fallback_url: str
    ring_timeout_s: int = 60


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
        """End the call. A call that has already ended is `RestError(kind="gone")`."""

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
