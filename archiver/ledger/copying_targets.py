"""Where a copy of a ledger is put: seen by nobody until it is whole and checked, and then all of it at once."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection

from archiver.errors import LedgerDamaged, LedgerError, SettingsError
from archiver.ledger import files, schema
from archiver.ledger.backend import Backend
from archiver.ledger.copying_rows import COPIED, set_last_numbers, wrong_tallies
from archiver.ledger.ledger import SQLITE_PREFIX, backend_of
from archiver.ledger.places import words_for
from archiver.ledger.postgresql_address import is_postgresql
from archiver.ledger.sqlite import SqliteBackend

_BUSY_TIMEOUT_S = 30.0


@contextmanager
def explained(backend: Backend) -> Iterator[None]:
    """A database's errors as the ledger's own.

    Raises:
        LedgerError.
    """
    try:
        yield
    except backend.errors as error:
        raise backend.explain(error) from error


class Target(Protocol):
    """A place for a copy: `open`, rows into the tables, `complete`, rows read back, `put_in_place`; `close` whatever comes.

    All methods block. Without `put_in_place`, and after a kill, there is what was there before.
    """

    @property
    def backend(self) -> Backend:
        """Whose errors the connection's are."""
        ...

    def open(self) -> Connection:
        """Make the tables, all empty, ready to be filled over this connection.

        Raises:
            SettingsError: there is a ledger with something in it, or a file; nothing was changed.
            LedgerError.
        """
        ...

    def complete(self, numbers: dict[str, int]) -> Connection:
        """Make the indexes and set the last numbers; the connection is for looking at what the database now has."""
        ...

    def put_in_place(self, *, at: datetime) -> None:
        """Let the copy be the ledger here.

        Raises:
            LedgerError.
        """
        ...

    def close(self) -> None:
        """Give everything back, and leave nothing of a copy that was not put in place. Raises nothing."""
        ...


def target_of(url: str) -> Target:
    """The place that an address names.

    Raises:
        LedgerError: it can't be read.
    """
    backend = backend_of(url, patience_s=0)
    return (
        SchemaTarget(backend, words_for(url))
        if is_postgresql(url)
        else FileTarget(Path(url.removeprefix(SQLITE_PREFIX)))
    )


class SchemaTarget:
    """A schema of a PostgreSQL database: one transaction, while which nobody else writes to a ledger there."""

    def __init__(self, backend: Backend, place: str) -> None:
        self.backend = backend
        self._place = place
        self._connection: Connection | None = None

    def open(self) -> Connection:
        """See the promise."""
        connection = self._connection = self.backend.connect(create=True)
        self.backend.make_durable(connection)
        self.backend.begin(connection, write=True)
        filled = schema.first_filled(connection)
        if filled:
            raise SettingsError(
                f"There is a ledger already at {self._place}, with something in its table {filled}: a ledger is "
                "copied only to where there is none. Nothing was changed."
            )
        schema.make_bare(connection)
        return connection

    def complete(self, numbers: dict[str, int]) -> Connection:
        """See the promise; the server counts what the tables hold, so that it knows at once how to look for it."""
        connection = _open(self._connection)
        schema.make_indexes(connection)
        set_last_numbers(connection, numbers)
        for table in COPIED:
            connection.exec_driver_sql(f"ANALYZE {table.name}")
        return connection

    def put_in_place(self, *, at: datetime) -> None:  # noqa: ARG002 - see the promise
        """See the promise."""
        try:
            self.backend.commit(_open(self._connection))
        except self.backend.errors as error:
            raise LedgerError(
                f"{self.backend.explain(error)} Whether the copy is there can't be told from here: the same command "
                "tells, which refuses to copy to where a ledger is."
            ) from error

    def close(self) -> None:
        """See the promise; a transaction that was not committed is rolled back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*self.backend.errors):
                connection.rollback()
            with suppress(*self.backend.errors):
                self.backend.close(connection)


class FileTarget:
    """A file that is not there yet; built under another name beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._new = files.new_beside(path)
        self.backend: Backend = SqliteBackend(self._new, busy_timeout_s=_BUSY_TIMEOUT_S)
        self._connection: Connection | None = None
        self._begun = False

    def open(self) -> Connection:
        """See the promise; nothing is synced before the end, since a kill before it leaves nothing worth keeping."""
        if self._path.exists() or self._path.is_symlink():
            raise SettingsError(
                f"There is a file already at {self._path}: a ledger is copied only to where there is none."
            )
        self._begun = True
        files.clear_new(self._path)
        connection = self._connection = self.backend.connect(create=True)
        for pragma in ("journal_mode=OFF", "synchronous=OFF"):
            connection.exec_driver_sql(f"PRAGMA {pragma}")
        self.backend.begin(connection, write=True)
        schema.make_bare(connection)
        return connection

    def complete(self, numbers: dict[str, int]) -> Connection:
        """See the promise; what is read back is read over a new connection."""
        connection = _open(self._connection)
        schema.make_indexes(connection)
        set_last_numbers(connection, numbers)
        connection.commit()
        connection.close()
        connection = self._connection = self.backend.connect(create=False)
        self.backend.make_durable(connection)
        self.backend.begin(connection, write=False)
        return connection

    def put_in_place(self, *, at: datetime) -> None:
        """See the promise."""
        connection, self._connection = _open(self._connection), None
        connection.rollback()
        self.backend.close(connection)
        files.put_in_place(self._new, self._path, at=at)

    def close(self) -> None:
        """See the promise."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(*self.backend.errors):
                connection.close()
        if self._begun:
            # Else it may be what a rebuild builds.
            with suppress(LedgerError):
                files.clear_new(self._path)


def check_whole(backend: Backend, connection: Connection, place: str) -> None:
    """The database's own check, and whether the tallies are true.

    Raises:
        LedgerDamaged.
    """
    backend.check(connection)
    if wrong_tallies(connection):
        raise LedgerDamaged(f"The ledger {place} is damaged: its tallies are not what its entries come to.")


def _open(connection: Connection | None) -> Connection:
    if connection is None:
        raise LedgerError("The ledger's connection is closed.")
    return connection
