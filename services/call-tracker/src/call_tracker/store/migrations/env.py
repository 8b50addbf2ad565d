"""Alembic's entry: migrations run on the connection that `store.database` hands over, inside its transaction."""

from alembic import context

from call_tracker.store import log_tables  # noqa: F401 - its tables are in METADATA
from call_tracker.store.tables import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
