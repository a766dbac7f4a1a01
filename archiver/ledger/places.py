"""Where a ledger lies, for a rebuild that puts a new one in its place: a file, or a schema of a database."""

from datetime import datetime
from pathlib import Path
from typing import Protocol

from archiver.ledger import files
from archiver.ledger.ledger import SQLITE_PREFIX
from archiver.ledger.postgresql_address import address_of, is_postgresql


class LedgerPlace(Protocol):
    """A ledger's place. All methods block."""

    def is_there(self) -> bool:
        """Whether there is one.

        Raises:
            OSError, LedgerError: it can't be told.
        """
        ...

    def clear_new(self) -> None:
        """Remove what a rebuild that was stopped or killed left beside it.

        Raises:
            LedgerError: it can't be removed.
        """
        ...

    def make_new(self) -> str:
        """The address at which a new one is built beside it, after `clear_new`.

        Raises:
            LedgerError: it can't be made ready.
        """
        ...

    def put_in_place(self, *, new: bool, at: datetime) -> str:
        """Set the ledger aside under a name with this date, and put the closed new one in its place.

        Returns where the old one is kept, empty when there was none. Without `new` only what a file's ledger that is
        gone left beside it is set aside. Killed at any moment, there is the old one or the new one.

        Raises:
            LedgerError: the old one is still in its place, or aside.
        """
        ...


class FilePlace:
    """A file and its write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_there(self) -> bool:
        """See the promise."""
        return self._path.exists()

    def clear_new(self) -> None:
        """See the promise."""
        files.clear_new(self._path)

    def make_new(self) -> str:
        """See the promise."""
        return f"{SQLITE_PREFIX}{files.new_beside(self._path)}"

    def put_in_place(self, *, new: bool, at: datetime) -> str:
        """See the promise."""
        return files.put_in_place(files.new_beside(self._path) if new else None, self._path, at=at)


def place_of(url: str) -> LedgerPlace:
    """The place that an address names.

    Raises:
        LedgerError: it can't be read.
    """
    if is_postgresql(url):
        from archiver.ledger.postgresql_places import SchemaPlace

        return SchemaPlace(url)
    return FilePlace(Path(url.removeprefix(SQLITE_PREFIX)))


def words_for(url: str) -> str:
    """The place in words, without a password.

    Raises:
        LedgerError: the address can't be read.
    """
    return address_of(url).place if is_postgresql(url) else url.removeprefix(SQLITE_PREFIX)
