"""What the ledger needs of a database beyond SQLAlchemy Core: the only place where dialects differ."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Table, text
from sqlalchemy.dialects import postgresql, sqlite

from archiver.errors import LedgerError

_T = TypeVar("_T")
# Databases bound how many values one statement takes; 999 is the lowest bound among the SQLites in use.
_MOST_VALUES = 500
# Few lengths, since the driver keeps each statement it has compiled, and large ones are megabytes.
_ROWS_OF_AN_INSERT = (256, 64, 16, 4, 1)


@dataclass(frozen=True, slots=True)
class Recovered:
    """A connection made again, and whether the transaction that its loss interrupted had been committed."""

    connection: Connection
    committed: bool


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

    def begin(self, connection: Connection, *, write: bool, shared: bool = False) -> None:
        """Begin a transaction; one that writes takes its lock now, so that it never fails halfway for want of it.

        A `shared` one writes beside others of its kind where the database can do that: see `lock_accounts`.
        """
        ...

    def commit(self, connection: Connection) -> None:
        """End a transaction; what it wrote is durable."""
        ...

    def recover(self, connection: Connection, error: Exception) -> Recovered | None:
        """Connect anew when `error` came of a lost connection, waiting as long as patience goes; None for any other.

        Raises:
            ArchiverError: there is no going on.
        """
        ...

    def hold(self, connection: Connection, names: Sequence[str]) -> str | None:
        """Keep these accounts from all others until the connection is closed; the first that another has, and then none.

        Where only one run at a time can work on the ledger anyway, nothing is done.
        """
        ...

    @property
    def beat_s(self) -> float:
        """How often a connection that holds accounts must be used, lest its loss go unnoticed; 0: it can't be lost."""
        ...

    def is_away(self, error: Exception) -> bool:
        """Whether the error is that of a database that can't be reached just now, and may be later."""
        ...

    def is_there(self) -> bool:
        """Whether there is a ledger to open.

        Raises:
            OSError, LedgerError: it can't be told.
        """
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

    def watch_revision(self, connection: Connection) -> None:
        """From now on a transaction that writes fails when the schema was upgraded meanwhile by a newer program.

        A file needs no such watch: the archive's lock keeps others away.
        """
        ...

    def close(self, connection: Connection) -> None:
        """Close the writer's connection and leave the database in its plainest form."""
        ...


def insert_or(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert that can say what happens on conflict, in the connection's dialect."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    if connection.dialect.name == "postgresql":
        return postgresql.insert(table)
    raise LedgerError(f"The ledger can't use a {connection.dialect.name} database.")


def is_shared(connection: Connection) -> bool:
    """Whether other machines may write to the ledger at the same time."""
    return connection.dialect.name == "postgresql"


def lock_key(what: str) -> str:
    """The SQL for the number of an advisory lock of the connection's schema; `what` is SQL for a text."""
    schema = "(SELECT oid FROM pg_namespace WHERE nspname = current_schema())::text"
    return f"hashtextextended('recording archiver ' || {schema} || ' ' || {what}, 0)"


_ACCOUNT = lock_key("'account ' || CAST(:account_no AS text)")
_LOCK_ACCOUNT = text(f"SELECT pg_advisory_xact_lock({_ACCOUNT})")


def lock_accounts(connection: Connection, account_nos: Collection[int]) -> None:
    """Keep all other writers off these accounts until the transaction ends; a job that was begun `shared` must, first.

    Where a transaction that writes has the whole ledger, nothing is done.
    """
    if is_shared(connection):
        for account_no in sorted(set(account_nos)):
            connection.execute(_LOCK_ACCOUNT, {"account_no": account_no})


def insert_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Insert plain rows, many to a statement.

    The driver gives up the interpreter for each statement, and under load each time costs a wait for the event loop;
    a statement per row, or SQLAlchemy's care for each value, would cost more than the rows themselves.
    """
    quote = connection.dialect.identifier_preparer
    names = ", ".join(quote.quote(name) for name in columns)
    if is_shared(connection):
        _copy(connection, f"COPY {quote.format_table(table)} ({names}) FROM STDIN", rows)
        return
    one = f"({', '.join('?' * len(columns))})"
    start = 0
    for count in _ROWS_OF_AN_INSERT:
        statement = f"INSERT INTO {quote.format_table(table)} ({names}) VALUES {', '.join([one] * count)}"  # noqa: S608 - our own names and marks
        while len(rows) - start >= count:
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(rows[start : start + count])))
            start += count


def _copy(connection: Connection, statement: str, rows: Sequence[Sequence[object]]) -> None:
    """PostgreSQL's own way to take many rows."""
    driver: Any = connection.connection.driver_connection
    if rows:
        with driver.cursor() as cursor, cursor.copy(statement) as copy:
            for row in rows:
                copy.write_row(row)


def portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The values in portions that one statement takes."""
    for start in range(0, len(values), _MOST_VALUES):
        yield values[start : start + _MOST_VALUES]
