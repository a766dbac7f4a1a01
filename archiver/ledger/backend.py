"""What the ledger needs of a database beyond SQLAlchemy Core: the only place where dialects differ."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Table
from sqlalchemy.dialects import sqlite

from archiver.errors import LedgerError

_T = TypeVar("_T")
# Databases bound how many values one statement takes; 999 is the lowest bound among the SQLites in use.
_MOST_VALUES = 500
# Few lengths, since the driver keeps each statement it has compiled, and large ones are megabytes.
_ROWS_OF_AN_INSERT = (256, 64, 16, 4, 1)


class Backend(Protocol):
    """One database. Its methods block, so only the ledger's own threads call them.

    All but `explain` may raise the driver's own errors, which the caller hands to `explain`.
    """

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The kinds of errors that `explain` takes: the driver's, SQLAlchemy's, the operating system's."""
        ...

    def connect(self, *, create: bool) -> Connection:
        """The connection for the writer; with `create` a database that is not there yet is made, readable by us alone.

        Raises:
            LedgerError: nothing is there, or it lies where a ledger can't.
        """
        ...

    def connect_to_read(self) -> Connection:
        """A connection that can't write."""
        ...

    def make_durable(self, connection: Connection) -> None:
        """See to it that a commit survives a power cut, and that nobody else may read what lies on disk.

        Raises:
            LedgerError: the database doesn't promise it.
        """
        ...

    def begin(self, connection: Connection, *, write: bool) -> None:
        """Begin a transaction; one that writes takes its lock now, so that it never fails halfway for want of it."""
        ...

    def check(self, connection: Connection) -> None:
        """Read everything and see whether it is sound.

        Raises:
            LedgerDamaged: it is not.
        """
        ...

    def explain(self, error: Exception) -> LedgerError:
        """The ledger's own error for one of the driver, SQLAlchemy or the operating system."""
        ...

    def close(self, connection: Connection) -> None:
        """Close the writer's connection and leave the database in its plainest form."""
        ...


def insert_or(connection: Connection, table: Table) -> sqlite.Insert:
    """An insert that can say what happens on conflict, in the connection's dialect."""
    if connection.dialect.name != "sqlite":
        raise LedgerError(f"The ledger can't use a {connection.dialect.name} database.")
    return sqlite.insert(table)


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Insert plain rows, many to a statement.

    The driver gives up the interpreter for each statement, and under load each time costs a wait for the event loop;
    a statement per row, or SQLAlchemy's care for each value, would cost more than the rows themselves.
    """
    quote = connection.dialect.identifier_preparer
    names = ", ".join(quote.quote(name) for name in columns)
    mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
    one = f"({', '.join([mark] * len(columns))})"
    start = 0
    for count in _ROWS_OF_AN_INSERT:
        statement = f"INSERT INTO {quote.format_table(table)} ({names}) VALUES {', '.join([one] * count)}"  # noqa: S608 - our own names and marks
        while len(rows) - start >= count:
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(rows[start : start + count])))
            start += count


def portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The values in portions that one statement takes."""
    for start in range(0, len(values), _MOST_VALUES):
        yield values[start : start + _MOST_VALUES]
