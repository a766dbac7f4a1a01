"""A table's rows on their way from one database to another: read by their key, many at a time, digested and written.

A digest is over the rows as a database gave them, in the order of the key, which is the same in every database: numbers,
and text by code point. So two tables have one digest only when each row has the same values in each column.
"""

import marshal
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import BigInteger, Connection, LargeBinary, String, Table
from sqlalchemy.dialects import postgresql

from archiver.errors import LedgerError
from archiver.ledger.backend import is_shared
from archiver.ledger.tables import ledger_metadata

Rows = Sequence[tuple[Any, ...]]

COPIED: tuple[Table, ...] = tuple(table for name, table in ledger_metadata.tables.items() if name != "writers")
"""The tables that hold facts; `writers` are marks of connections to one server."""

# A row may bring a report of some ten thousand bytes.
_TOGETHER = 1000
# Rows of strings, numbers and bytes without a word on how Python keeps them: equal rows give equal bytes.
_PLAIN_MARSHAL = 0


@dataclass(frozen=True, slots=True)
class TableDigest:
    """How many rows a table has, and the SHA-256 over all of them."""

    rows: int
    sha256: bytes


class Digesting:
    """Counts and digests the rows that pass."""

    def __init__(self) -> None:
        self._count = 0
        self._digest = sha256()

    def passing(self, batches: Iterable[Rows]) -> Iterator[Rows]:
        """The same rows."""
        for batch in batches:
            for row in batch:
                self._digest.update(marshal.dumps(row, _PLAIN_MARSHAL))
            self._count += len(batch)
            yield batch

    def found(self) -> TableDigest:
        """Of all that has passed."""
        return TableDigest(self._count, self._digest.digest())


def digest_of(batches: Iterable[Rows]) -> TableDigest:
    """The digest of rows that are wanted for nothing else."""
    digesting = Digesting()
    for _ in digesting.passing(batches):
        pass
    return digesting.found()


def read_rows(connection: Connection, table: Table) -> Iterator[Rows]:
    """All rows by their key, within the caller's transaction and with little memory."""
    chosen = f"SELECT {_columns(connection, table)} FROM {table.name} ORDER BY {_key(connection, table)}"  # noqa: S608 - our own names
    driver = _driver(connection)
    # On the server's side its cursor stays, so that a fetch brings no more than it is asked for.
    with driver.cursor("copying", binary=True) if is_shared(connection) else closing(driver.cursor()) as cursor:
        cursor.execute(chosen)
        while batch := cursor.fetchmany(_TOGETHER):
            yield batch


def write_rows(connection: Connection, table: Table, batches: Iterable[Rows]) -> None:
    """Add rows to an empty table, within the caller's transaction."""
    columns = _columns(connection, table)
    if not is_shared(connection):
        statement = f"INSERT INTO {table.name} ({columns}) VALUES ({', '.join('?' * len(table.columns))})"  # noqa: S608 - our own names
        for batch in batches:
            _driver(connection).executemany(statement, batch)
        return
    statement = f"COPY {table.name} ({columns}) FROM STDIN (FORMAT BINARY)"
    with _driver(connection).cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(_types(table))
        for batch in batches:
            for row in batch:
                copy.write_row(row)


def last_numbers(connection: Connection) -> dict[str, int]:
    """The largest number that each table gave to a row, as far as its database remembers those of rows that are gone."""
    return {str(table.name): _last_number(connection, table) for table in COPIED if _numbered(table)}


def set_last_numbers(connection: Connection, numbers: dict[str, int]) -> None:
    """Let each table go on behind its largest number, as far as its database remembers one."""
    for table in COPIED:
        if table.name not in numbers or not keeps_number(connection, table.name):
            continue
        number = numbers[table.name]
        if is_shared(connection):
            sequence = _sequence(connection, table)
            connection.exec_driver_sql("SELECT setval(%s::regclass, %s, %s)", (sequence, max(number, 1), number > 0))
        elif number:
            connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
            connection.exec_driver_sql("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, number))


def keeps_number(connection: Connection, name: str) -> bool:
    """Whether the database remembers the largest number of a table, whatever became of its row."""
    return is_shared(connection) or bool(ledger_metadata.tables[name].dialect_options["sqlite"]["autoincrement"])


def wrong_tallies(connection: Connection) -> bool:
    """Whether the counts that are kept beside the entries are not those of the entries."""
    counted = "SELECT account_no, status, count(*) FROM entries GROUP BY account_no, status"
    kept = "SELECT account_no, status, recordings FROM tallies WHERE recordings <> 0"
    found = [{tuple(row) for row in connection.exec_driver_sql(query)} for query in (counted, kept)]
    return found[0] != found[1]


def _last_number(connection: Connection, table: Table) -> int:
    column = _numbered(table)
    number = connection.exec_driver_sql(f"SELECT max({column}) FROM {table.name}").scalar() or 0  # noqa: S608 - our own names
    told = None
    if is_shared(connection):
        sequence = _sequence(connection, table)
        told = connection.exec_driver_sql(
            f"SELECT CASE WHEN is_called THEN last_value END FROM {sequence}"  # noqa: S608 - the server's own quoting
        ).scalar()
    elif keeps_number(connection, table.name):
        told = connection.exec_driver_sql("SELECT max(seq) FROM sqlite_sequence WHERE name = ?", (table.name,)).scalar()
    return max(int(number), int(told or 0))


def _sequence(connection: Connection, table: Table) -> str:
    asked = "SELECT pg_get_serial_sequence(%s, %s)"
    found = connection.exec_driver_sql(asked, (table.name, _numbered(table))).scalar()
    if found is None:
        raise LedgerError(f"The table {table.name} has no sequence for its numbers: its tables were changed.")
    return str(found)


def _numbered(table: Table) -> str:
    """The column whose numbers the database gives; empty when there is none."""
    column = table.autoincrement_column
    return "" if column is None else column.name


def _columns(connection: Connection, table: Table) -> str:
    return ", ".join(connection.dialect.identifier_preparer.quote(column.name) for column in table.columns)


def _key(connection: Connection, table: Table) -> str:
    return ", ".join(connection.dialect.identifier_preparer.quote(column.name) for column in table.primary_key)


def _types(table: Table) -> list[str]:
    return [_type(column.type.dialect_impl(postgresql.dialect())) for column in table.columns]  # type: ignore[no-untyped-call]


def _type(kind: Any) -> str:
    if isinstance(kind, LargeBinary):
        return "bytea"
    if isinstance(kind, String):
        return "text"
    return "int8" if isinstance(kind, BigInteger) else "int4"


def _driver(connection: Connection) -> Any:
    driver = connection.connection.driver_connection
    if driver is None or isinstance(driver, sqlite3.Connection) is is_shared(connection):
        raise LedgerError("The ledger's connection is closed.")
    return driver
