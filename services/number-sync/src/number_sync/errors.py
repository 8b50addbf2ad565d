"""What the store and the ledger can object to. Each has a sentence for people; none holds a secret."""


class NumberSyncError(Exception):
    """Base: something asked of number-sync cannot be done."""


class NotFoundError(NumberSyncError):
    """There is no such thing, or it belongs to somebody else: the two must look the same from outside."""


class ConflictError(NumberSyncError):
    """It contradicts something that is stored; says what."""


class OutdatedError(ConflictError):
    """It was changed since whoever wants to change it has looked."""

    def __init__(self) -> None:
        super().__init__(
            "this was changed since the page was loaded; reload the page, look, and make your change again"
        )


class InvalidError(NumberSyncError):
    """A value cannot be accepted. `field` is its name in the request, dotted; the message never holds a secret."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class FixedError(InvalidError):
    """The value was chosen at creation and cannot change afterwards."""


class LimitError(NumberSyncError):
    """A bound on how many things one user may store was reached."""


class BusyError(NumberSyncError):
    """Too much of this is going on at the moment; it may be asked again in a few seconds."""


class ProviderTroubleError(NumberSyncError):
    """The provider was asked and could not, or would not, answer.

    `code` is one of the documented list, `remedy` what the operator can do. `passing`: it may pass by itself, after
    `retry_after_s` seconds where the provider said so.
    """

    def __init__(
        self, code: str, sentence: str, remedy: str, *, passing: bool, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{sentence} {remedy}".strip())
        self.code = code
        self.sentence = sentence
        self.remedy = remedy
        self.passing = passing
        self.retry_after_s = retry_after_s
