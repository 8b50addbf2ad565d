"""The store: the event log, the records of the calls, the outbox; SQLite or PostgreSQL."""

from call_tracker.store.calls import SOURCE, Advance, objection
from call_tracker.store.database import Database
from call_tracker.store.errors import LostRace, StoreError, StoreRefusal, StoreUnavailable
from call_tracker.store.outbox import Outbox
from call_tracker.store.searching import CallFilter, Position
from call_tracker.store.store import (
    Answer,
    Idempotency,
    Request,
    Store,
    StoredEvent,
    Story,
    Telling,
)

__all__ = [
    "SOURCE",
    "Advance",
    "Answer",
    "CallFilter",
    "Database",
    "Idempotency",
    "LostRace",
    "Outbox",
    "Position",
    "Request",
    "Store",
    "StoreError",
    "StoreRefusal",
    "StoreUnavailable",
    "StoredEvent",
    "Story",
    "Telling",
    "objection",
]
