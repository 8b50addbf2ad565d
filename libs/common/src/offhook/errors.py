"""The errors shared by every service. Each carries a sentence for people; none carries a secret.

    OffhookError
    ├── SettingsError        an environment variable is missing or wrong
    ├── KeyringError         a sealed text cannot be opened, or a keyring cannot be read
    └── TokenError           a media token is not believed

What an HTTP client gets to see is `offhook.http.Problem`; what a provider's adapter objects to is
`offhook.providers.base.ProviderError`.
"""

from enum import StrEnum


class OffhookError(Exception):
    """Base of the errors below."""


class SettingsError(OffhookError):
    """Settings are missing or wrong. `problems` has one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class KeyringError(OffhookError):
    """A keyring setting is malformed, or a sealed text does not open: says which, never what was in it."""


class TokenFault(StrEnum):
    """Why a media token was not believed."""

    MISSING = "token-missing"
    MALFORMED = "token-malformed"
    FORGED = "token-forged"
    EXPIRED = "token-expired"
    FOREIGN_RUN = "token-of-another-run"
    FOREIGN_ACCOUNT = "token-of-another-account"
    FOREIGN_CALL = "token-of-another-call"


class TokenError(OffhookError):
    """A media token is not believed. `reason` may be logged and counted; the token itself may not."""

    def __init__(self, reason: TokenFault) -> None:
        super().__init__(reason.value)
        self.reason = reason
