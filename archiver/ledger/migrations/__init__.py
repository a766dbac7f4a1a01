"""Steps from each schema of the ledger to the next; Alembic runs them on the writer's connection."""
