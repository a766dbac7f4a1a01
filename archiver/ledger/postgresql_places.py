"""A ledger's tables in PostgreSQL when others take their place: built in a schema beside, swapped in one transaction."""

import re
from datetime import datetime

from sqlalchemy import Connection

from archiver.errors import LedgerError
from archiver.ledger.ledger import postgres_backend
from archiver.ledger.postgresql import PostgresBackend
from archiver.ledger.postgresql_address import address_of
from archiver.ledger.tables import ledger_metadata

_TABLES = ("alembic_version", *ledger_metadata.tables)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_LONGEST = 63
_IN_SCHEMA = "SELECT tablename FROM pg_tables WHERE schemaname = %s AND tablename = ANY(%s)"


class SchemaPlace:
    """The schema that the address leads to; only tables with the ledger's names are ever moved or dropped."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = address_of(url)
        self._new = ""

    def is_there(self) -> bool:
        """See the promise."""
        return self._backend().is_there()

    def make_new(self) -> str:
        """See the promise."""
        with self._backend().used() as connection:
            self._new = _beside(_schema(connection), "_rebuild")
            connection.exec_driver_sql(f"CREATE SCHEMA {self._new}")
        return self._place.with_schema(self._new)

    def clear_new(self) -> None:
        """See the promise."""
        with self._backend().used() as connection:
            new = _beside(_schema(connection), "_rebuild")
            if connection.exec_driver_sql("SELECT 1 FROM pg_namespace WHERE nspname = %s", (new,)).first() is None:
                return
            for table in _TABLES:
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {new}.{table}")
            # Refused while anything else lies there.
            connection.exec_driver_sql(f"DROP SCHEMA {new}")

    def put_in_place(self, *, new: bool, at: datetime) -> str:
        """See the promise; the old tables are kept in a schema with the date."""
        if not new:
            return ""
        with self._backend().used() as connection:
            schema = _schema(connection)
            old = connection.exec_driver_sql(_IN_SCHEMA, (schema, list(_TABLES))).scalars().all()
            aside = _beside(schema, f"_before_{at:%Y%m%dt%H%M%Sz}")
            if old:
                connection.exec_driver_sql(f"CREATE SCHEMA {aside}")
            for table in old:
                connection.exec_driver_sql(f"ALTER TABLE {schema}.{table} SET SCHEMA {aside}")
            for table in _TABLES:
                connection.exec_driver_sql(f"ALTER TABLE {self._new}.{table} SET SCHEMA {schema}")
            connection.exec_driver_sql(f"DROP SCHEMA {self._new}")
        return f"{self._place.place}, schema {aside}" if old else ""

    def _backend(self) -> PostgresBackend:
        # A new one for each use: one alone would notice that the ledger was replaced, and refuse.
        return postgres_backend(self._url, patience_s=0)


def _schema(connection: Connection) -> str:
    name = str(connection.exec_driver_sql("SELECT current_schema()").scalar())
    if not _PLAIN.fullmatch(name):
        raise LedgerError(f"A ledger in the schema {name!a} can't be rebuilt: its name needs quotes. Rename it first.")
    return name


def _beside(schema: str, ending: str) -> str:
    return f"{schema[: _LONGEST - len(ending)]}{ending}"
