"""Alembic's entry: runs the migrations on the connection, and in the transaction, that the ledger hands over."""

from alembic import context

from node.ledger_schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
