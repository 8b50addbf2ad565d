"""What an adapter, or a provider's REST API, can object to: one small tree."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Literal


class ProviderError(Exception):
    """Base of what an adapter can object to."""


class SignatureFault(StrEnum):
    """Why a request was not believed."""

    MISSING = "signature-missing"
    MALFORMED = "signature-malformed"
    MISMATCH = "signature-mismatch"
    BODY_MISMATCH = "body-hash-mismatch"
    WRONG_ACCOUNT = "wrong-account"
    WRONG_ISSUER = "wrong-issuer"
    TOO_OLD = "token-too-old"
    FROM_THE_FUTURE = "token-from-the-future"


class SignatureError(ProviderError):
    """The request is not proven to come from the provider.

    `tried` are the URL forms the signature was compared with, for the operator's webhook log.
    """

    def __init__(self, fault: SignatureFault, message: str, tried: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.fault = fault
        self.tried = tuple(tried)


class RequestError(ProviderError):
    """The provider's request (already verified, or not yet) cannot be understood. Says what was expected and
    what came."""


class InstructionError(ProviderError):
    """A plan cannot be said in the provider's language: says which limit of the provider it breaks."""


class MediaError(ProviderError):
    """A media message broke the provider's protocol so badly that the session cannot go on."""


class RestError(ProviderError):
    """A provider's REST API refused or failed.

    `kind`: `credentials` (wrong or suspended), `rejected` (the provider will never accept this), `unsupported` (the
    provider has no such thing), `gone` (no such call, or it has ended), `too-early` (the call is not that far yet:
    try again in seconds), `busy` (429: retry later), `unavailable` (5xx, retry later), `unknown-outcome` (the answer
    was lost: it may or may not have happened).
    """

    def __init__(
        self,
        kind: Literal[
            "credentials",
            "rejected",
            "unsupported",
            "gone",
            "too-early",
            "busy",
            "unavailable",
            "unknown-outcome",
        ],
        code: str,
        message: str,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.retry_after_s = retry_after_s
