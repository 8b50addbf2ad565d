"""What a phone number ("line") is set to at its provider, and what it should be set to: plain data and pure rules.

Settings go by the provider's own names (Twilio `VoiceUrl`, Vonage `app_id`): an operator finds them again in the
provider's console, and nothing outside a provider's room needs to know what they mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from offhook.providers.errors import RestError

Settings = Mapping[str, str]
"""The provider's own setting names to values; '' is "not set"."""


@dataclass(frozen=True, slots=True)
class LineUrls:
    """Where the provider is to ask when a call comes in, when that fails, and where to report. Absolute, public,
    without fragment."""

    inbound: str
    fallback: str
    status: str


@dataclass(frozen=True, slots=True)
class Line:
    """One phone number as the provider holds it.

    `reference` is the provider's own id of it (Twilio `PN…`; Vonage: the digits), `name` what the customer calls it
    there. `voice`: it can take calls. `country` is ISO 3166 alpha-2, '' where the provider does not tell.
    `settings` are all that matter for calls: those we set, and those that overrule them.
    """

    e164: str
    reference: str
    name: str
    voice: bool
    settings: Settings
    country: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a number must be set to (`line`), and what belongs to all numbers of the account's application (`shared`)."""

    line: Settings
    shared: Settings


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a number cannot be as wanted. `code` is one of the documented list, `sentence` says what is so, `remedy`
    what the operator can do about it; neither has a secret in it."""

    code: str
    sentence: str
    remedy: str


@dataclass(frozen=True, slots=True)
class AccountFacts:
    """What the credentials opened: the account's (or application's) name at the provider, and its id."""

    name: str
    account: str


class Lines(Protocol):
    """A provider's rules about phone numbers. Implemented by `offhook.providers.<name>.lines`."""

    def wanted(self, credentials: Mapping[str, str], urls: LineUrls) -> Wanted:
        """The settings with which calls reach us."""

    def obstacle(self, line: Line) -> Obstacle | None:
        """What keeps our settings from having an effect: something that overrules them, or no voice at all."""

    def explain(self, error: RestError) -> Obstacle:
        """Any error of the provider's REST API, for an operator."""

    def same(self, setting: str, wanted: str, found: str) -> bool:
        """Whether two values of a setting mean the same to the provider."""

    def url_of(self, setting: str) -> str | None:
        """The setting with the URL that is asked by this HTTP method; None: the setting is no method of a URL."""
