"""What the store and the ledger can object to. Each has a sentence for people; none holds a secret."""


class NumberSyncError(Exception):
    """Base: something asked of number-sync cannot be done."""


class NotFoundError(NumberSyncError):
    """There is no such thing, or it belongs to somebody else: the two must look the same from outside."""


class ConflictError(NumberSyncError):
    """It contradicts something that is stored; says what."""


class InvalidError(NumberSyncError):
    """A value cannot be accepted. `field` is its name in the request, dotted; the message never holds a secret."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class FixedError(InvalidError):
    """The value was chosen at creation and cannot change afterwards."""


class LimitError(NumberSyncError):
    """A bound on how many things one user may store was reached."""
