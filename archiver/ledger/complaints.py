"""SQLite's complaints in words for people; the border where no foreign error passes."""

import sqlite3

from sqlalchemy.exc import SQLAlchemyError

from archiver.errors import LedgerDamaged, LedgerError

_PRIMARY_CODE = 0xFF
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT})

SENTENCES: dict[int, str] = {
    sqlite3.SQLITE_ERROR: "it refused a statement; the file may not be a ledger of this program",
    sqlite3.SQLITE_INTERNAL: "SQLite failed inside",
    sqlite3.SQLITE_PERM: "the file's permissions forbid it",
    sqlite3.SQLITE_ABORT: "a statement was aborted",
    sqlite3.SQLITE_BUSY: "another process kept it locked for too long; is another archiver or a backup working on it?",
    sqlite3.SQLITE_LOCKED: "a table is locked within this process",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_READONLY: "the file or its file system is read-only",
    sqlite3.SQLITE_INTERRUPT: "a statement was interrupted",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write; look at the system's log before anything else",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; `archiver rebuild` makes a new one from the archive",
    sqlite3.SQLITE_NOTFOUND: "SQLite misses a function of the operating system",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "the file can't be opened; does its folder exist, and may this user write there?",
    sqlite3.SQLITE_PROTOCOL: "the locks of its write-ahead log are in disorder; is it on a network file system?",
    sqlite3.SQLITE_EMPTY: "the file is unexpectedly empty",
    sqlite3.SQLITE_SCHEMA: "its schema changed meanwhile; was it upgraded by another process?",
    sqlite3.SQLITE_TOOBIG: "a value is too large for it",
    sqlite3.SQLITE_CONSTRAINT: "a value broke a rule of its tables",
    sqlite3.SQLITE_MISMATCH: "a value is of a kind that its column can't hold",
    sqlite3.SQLITE_MISUSE: "SQLite was used in a wrong way",
    sqlite3.SQLITE_NOLFS: "the file system can't hold files of this size",
    sqlite3.SQLITE_AUTH: "SQLite was told to forbid it",
    sqlite3.SQLITE_FORMAT: "the file has an unknown format",
    sqlite3.SQLITE_RANGE: "a statement named a value that is not there",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database; it was left untouched, and `archiver rebuild` makes a new one",
    sqlite3.SQLITE_NOTICE: "SQLite gave a notice where an answer was due",
    sqlite3.SQLITE_WARNING: "SQLite gave a warning where an answer was due",
}
"""What each of SQLite's primary result codes means for an operator; a test fails when one is missing."""


def explain(place: str, error: Exception) -> LedgerError:
    """The ledger's own error for `error`; an error that is already the ledger's own comes back as it is."""
    if isinstance(error, LedgerError):
        return error
    found: BaseException | None = error
    if isinstance(error, SQLAlchemyError):
        # The statement's values, which SQLAlchemy would show, hold phone numbers.
        found = getattr(error, "orig", None) or error
    code = getattr(found, "sqlite_errorcode", None)
    sentence = SENTENCES.get(code & _PRIMARY_CODE) if isinstance(code, int) else None
    if isinstance(found, OSError):
        said = found.strerror or type(found).__name__
    elif isinstance(found, sqlite3.Error):
        said = f"{getattr(found, 'sqlite_errorname', type(found).__name__)}: {found}"
    else:
        said = type(found).__name__
    if isinstance(code, int) and code & _PRIMARY_CODE in _DAMAGE:
        return LedgerDamaged(f"The ledger {place} can't be used: {sentence} ({said}).")
    if sentence is None:
        return LedgerError(f"The ledger {place} can't be used: {said}.")
    return LedgerError(f"The ledger {place} can't be used: {sentence} ({said}).")
