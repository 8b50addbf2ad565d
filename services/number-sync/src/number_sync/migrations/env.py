"""Alembic's entry: runs on the connection that `database.Database.migrate` hands over, inside its transaction."""

from alembic import context

from number_sync.schema import metadata

connection = context.config.attributes["connection"]
if connection is None:
    raise RuntimeError("migrations run through number_sync.database.Database.migrate")
# SQLite cannot alter most things in place: Alembic copies the table ("batch").
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
