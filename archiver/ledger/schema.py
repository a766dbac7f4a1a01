"""The ledger's schema version: create, bring up to date, check; what a newer program wrote is left alone.

A fresh ledger is created in its newest shape, so that Alembic, slow to import, is needed only to upgrade an older one.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from archiver.errors import LedgerDamaged, LedgerError, LedgerTooNew
from archiver.ledger.backend import Backend, is_shared
from archiver.ledger.tables import ledger_metadata

REVISIONS = ("0001", "0002", "0003", "0004", "0005")
"""Every revision there has been, oldest first; the files under `migrations/versions` must be the same."""

NEWEST = REVISIONS[-1]
"""What this program writes."""

_FOREIGN = "The file is a database, but no ledger of this program; it was left untouched."
_TAKEN = (
    "The database's schema holds tables with the names of a ledger's ({}), but no ledger of this program; it was left "
    "untouched."
)


def prepare(connection: Connection, backend: Backend) -> None:
    """Make the ledger durable and its schema current, in one transaction: after a kill it is the old or the new one.

    Raises:
        LedgerTooNew: an unknown revision; nothing was changed.
        LedgerError: the database holds something else, or a table or column is missing.
    """
    backend.begin(connection, write=False)
    current = _is_current(connection)
    connection.rollback()
    backend.make_durable(connection)
    if not current:
        backend.begin(connection, write=True)
        # Another process may have been faster.
        if not _is_current(connection):
            _bring_up_to_date(connection)
        connection.commit()
    backend.begin(connection, write=False)
    _check_shape(connection)
    connection.rollback()
    backend.watch_revision(connection)


def is_current(connection: Connection, backend: Backend) -> bool:
    """Whether the schema is whole and the newest; False for one that `prepare` will bring up to date. Changes nothing.

    Raises:
        LedgerTooNew, LedgerError: as `prepare`.
    """
    backend.begin(connection, write=False)
    try:
        if not _is_current(connection):
            return False
        _check_shape(connection)
        return True
    finally:
        connection.rollback()


def first_filled(connection: Connection) -> str:
    """The name of a table that has a row in it; empty for a ledger that knows nothing, or none at all.

    Raises:
        LedgerTooNew, LedgerError: as `prepare`.
    """
    _is_current(connection)
    # Marks of connections are no knowledge.
    names = _names(connection) & set(ledger_metadata.tables) - {"writers"}
    asked = ((name, connection.execute(text(f"SELECT 1 FROM {name} LIMIT 1")).first()) for name in sorted(names))  # noqa: S608 - our own names
    return next((name for name, row in asked if row is not None), "")


def make_bare(connection: Connection) -> None:
    """Make or bring up to date, within the caller's transaction, a ledger without a row, and without `make_indexes`.

    Raises:
        LedgerTooNew, LedgerError: as `prepare`.
    """
    if not _is_current(connection):
        _bring_up_to_date(connection)
    for table in ledger_metadata.tables.values():
        for index in table.indexes:
            index.drop(connection)


def make_indexes(connection: Connection) -> None:
    """Make, within the caller's transaction, what `make_bare` left out: cheaper after the rows than along with them."""
    for table in ledger_metadata.tables.values():
        for index in table.indexes:
            index.create(connection)


def migrate(connection: Connection) -> None:
    """Run the missing migrations on `connection`, within the transaction that the caller began and will end."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_current(connection: Connection) -> bool:
    """Whether the schema is the newest; False when it is older or when there is none yet."""
    names = _names(connection)
    if not names:
        return False
    if "alembic_version" not in names:
        raise LedgerError(_TAKEN.format(", ".join(sorted(names)[:3])) if is_shared(connection) else _FOREIGN)
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    if not found and names == {"alembic_version"}:
        return False
    if is_shared(connection) and names == {"alembic_version"}:
        raise LedgerError(_TAKEN.format("alembic_version"))
    if len(found) != 1 or found[0] not in REVISIONS:
        raise LedgerTooNew(
            f"The ledger has schema {', '.join(map(str, found)) or 'none'}; this program knows up to {NEWEST}. "
            "A newer program wrote it: use that one. Nothing was changed."
        )
    return bool(found[0] == NEWEST)


def _names(connection: Connection) -> set[str]:
    """The tables there are; of a database on a server only those that bear our names, since others may use it, too."""
    names = set(inspect(connection).get_table_names())
    return names & {"alembic_version", *ledger_metadata.tables} if is_shared(connection) else names


def _bring_up_to_date(connection: Connection) -> None:
    if _names(connection):
        migrate(connection)
        return
    ledger_metadata.create_all(connection, checkfirst=False)
    # As Alembic makes and fills it.
    connection.execute(
        text(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(text("INSERT INTO alembic_version (version_num) VALUES (:revision)"), {"revision": NEWEST})


def _check_shape(connection: Connection) -> None:
    """Compare tables, columns and indexes with what this program reads and writes."""
    found = inspect(connection)
    columns_of, indexes_of = found.get_multi_columns(), found.get_multi_indexes()
    names = {name for _, name in columns_of}
    missing = [f"the table {name}" for name in ledger_metadata.tables if name not in names]
    for name, table in ledger_metadata.tables.items():
        if name in names:
            columns = {column["name"] for column in columns_of[None, name]}
            missing += [f"the column {name}.{column.name}" for column in table.columns if column.name not in columns]
            indexes = {index["name"] for index in indexes_of[None, name]}
            missing += [f"the index {index.name}" for index in table.indexes if index.name not in indexes]
    if missing:
        raise LedgerDamaged(
            f"The ledger's schema lacks {', '.join(missing[:5])}: the file is damaged or was changed by other means."
        )
