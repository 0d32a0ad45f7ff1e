"""Runs migrations on the connection that ``Database.migrate`` gives."""

from alembic import context

from services.database.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite changes a table by making it anew.
    render_as_batch=True,
    compare_type=True,
)
# The transaction is the caller's.
context.run_migrations()
