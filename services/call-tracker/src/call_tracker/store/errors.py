"""What the store can object to.

StoreError
├── StoreUnavailable    the database does not answer, or has no room now; again later
├── StoreRefusal        the database will never take these values
└── LostRace            somebody else advanced the same call at the same time; again at once
"""

from offhook.errors import OffhookError


class StoreError(OffhookError):
    """Base of what the store raises."""


class StoreUnavailable(StoreError):  # noqa: N818 - a state of the store, as `BusUnavailable`
    """The database does not answer, or is too busy. Nothing was changed; try again later."""


class StoreRefusal(StoreError):  # noqa: N818 - as above
    """The database will never take these values. Nothing was changed."""


class LostRace(StoreError):  # noqa: N818 - what happened, not whose fault
    """Another transaction advanced the same call in between. Nothing was changed; try again at once."""
