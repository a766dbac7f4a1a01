"""PostgreSQL's complaints in words for people; what it says of values is left out, since they hold phone numbers."""

from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from archiver.errors import LedgerDamaged, LedgerError

_DAMAGE = frozenset({"XX001", "XX002"})
_ABOUT_VALUES = frozenset({"22", "23", "42"})
# Among them: it is a standby that was not promoted yet, or a server that was.
_LOST = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03", "25006"})
_LOST_CLASS = "08"
_MOST_LETTERS = 300

SENTENCES: dict[str, str] = {
    "02": "it gave no data where some were due",
    "03": "a statement was not complete",
    "08": "the connection was lost",
    "09": "a trigger failed; somebody changed the ledger's tables",
    "0A": "it can't do what was asked; is it older than PostgreSQL 13, or was its schema changed meanwhile?",
    "0B": "a transaction could not begin",
    "0F": "a large object failed, which the ledger doesn't use",
    "0L": "a right could not be given",
    "0P": "a role is not valid",
    "0Z": "its diagnostics failed",
    "10": "an XQuery failed, which the ledger doesn't use",
    "20": "a case was not found",
    "21": "a statement gave more rows than it may",
    "22": "a value does not fit its column",
    "23": "a value broke a rule of its tables",
    "24": "a cursor was in the wrong state",
    "25": "a transaction was in the wrong state",
    "26": "a prepared statement is gone; is there a pooler between that shares sessions?",
    "27": "a trigger changed the data; somebody changed the ledger's tables",
    "28": "it refuses this user; see its pg_hba.conf and the password in ledger.url",
    "2B": "something else depends on what was to be changed",
    "2D": "a transaction could not end",
    "2F": "a function failed; somebody changed the ledger's tables",
    "34": "a cursor is not there",
    "38": "an outside function failed",
    "39": "an outside function failed",
    "3B": "a savepoint failed",
    "3D": "the database is not there; `createdb` makes it",
    "3F": "the schema is not there; CREATE SCHEMA makes it",
    "40": "a transaction was rolled back because of another one",
    "42": "it refused a statement; the tables may not be those of a ledger of this program",
    "44": "a view refused a row",
    "53": "it lacks a resource",
    "54": "a limit of it was reached",
    "55": "something was in use or in the wrong state",
    "57": "somebody stopped it or its work",
    "58": "its disk or its system failed; look at its log before anything else",
    "72": "a snapshot was too old",
    "F0": "its configuration file is wrong",
    "HV": "a foreign table failed, which the ledger doesn't use",
    "P0": "a function failed; somebody changed the ledger's tables",
    "XX": "PostgreSQL failed inside; look at its log before anything else",
}
"""What each class of SQLSTATE means for an operator; a test fails when one is missing."""

EXACT: dict[str, str] = {
    "25006": "it is read-only; is it a standby, or is default_transaction_read_only set?",
    "40P01": "two transactions waited for one another",
    "42501": "this user lacks a right on the database, the schema or a table",
    "53100": "the server's disk is full",
    "53200": "the server has not enough memory",
    "53300": "it takes no more connections (max_connections)",
    "55P03": "a lock could not be had",
    "57014": "a statement was cancelled, by somebody or by a timeout",
    "57P01": "the server was shut down",
    "57P02": "the server crashed",
    "57P03": "the server is starting or shutting down",
    "57P04": "the database was dropped",
    "XX001": "its data are damaged; restore a backup, or let `archiver rebuild` make a new ledger from the archive",
    "XX002": "an index is damaged; REINDEX makes it anew",
}


def explain(place: str, error: Exception, *, password: str = "") -> LedgerError:
    """The ledger's own error for `error`; an error that is already the ledger's own comes back as it is."""
    if isinstance(error, LedgerError):
        return error
    found: BaseException = driver_error(error)
    code = sqlstate(error)
    if code:
        sentence = EXACT.get(code) or SENTENCES.get(code[:2], "it failed")
        said = f"{code} {_server_said(found)}".rstrip() if code[:2] not in _ABOUT_VALUES else code
        kind = LedgerDamaged if code in _DAMAGE else LedgerError
        return kind(f"The ledger {place} can't be used: {sentence} ({_without(said, password)}).")
    if isinstance(found, OSError):
        return LedgerError(f"The ledger {place} can't be used: {found.strerror or type(found).__name__}.")
    if type(found).__name__ in {"OperationalError", "ConnectionTimeout"}:
        said = _without(" ".join(str(found).split()), password)[:_MOST_LETTERS].rstrip(".")
        return LedgerError(f"The ledger {place} can't be used: there is no connection to it ({said}).")
    return LedgerError(f"The ledger {place} can't be used: {type(found).__name__}.")


def driver_error(error: Exception) -> Exception:
    """The driver's own error in one of SQLAlchemy's, which would show the statement's values."""
    found = getattr(error, "orig", None) if isinstance(error, SQLAlchemyError) else None
    return found if isinstance(found, Exception) else error


def sqlstate(error: Exception) -> str:
    """The code of an error that the server reported; else empty."""
    return getattr(driver_error(error), "sqlstate", None) or ""


def says_lost(error: Exception) -> bool:
    """Whether the server's own word is that the connection ends, or can't be had now."""
    code = sqlstate(error)
    return code in _LOST or code.startswith(_LOST_CLASS)


def _server_said(found: Any) -> str:
    said = getattr(getattr(found, "diag", None), "message_primary", None) or ""
    return " ".join(said.split())[:_MOST_LETTERS]


def _without(said: str, password: str) -> str:
    return said.replace(password, "…") if password else said
