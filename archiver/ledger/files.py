"""A ledger's files when one takes another's place: the database, its write-ahead log and their shared memory together.

A log must never lie beside a database that it does not belong to: SQLite would play it back into it.
"""

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from archiver.errors import LedgerError

_LOG, _SHARED = "-wal", "-shm"


def new_beside(path: Path) -> Path:
    """Where a new ledger is built before it takes the place of the one at `path`."""
    return path.with_name(f"{path.name}.rebuilding")


def clear_new(path: Path) -> None:
    """Remove what a rebuild that was stopped or killed left beside the ledger at `path`.

    Raises:
        LedgerError: it can't be removed.
    """
    new = new_beside(path)
    for suffix in ("", _LOG, _SHARED, "-journal"):
        try:
            Path(f"{new}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            raise _said(new, error) from error


def put_in_place(new: Path | None, path: Path, *, at: datetime) -> str:
    """Set the ledger at `path` aside under a name with this date, and put the closed ledger `new` in its place.

    Returns the name of the old one, empty when there was none. Without `new` only a log without its database is set
    aside. Killed at any moment, there is the old ledger or the new one at `path`, and the old one's files are kept.

    Raises:
        LedgerError: the old one is still in its place, or aside.
    """
    aside = _unused(path, at)
    try:
        kept = path.exists() and new is not None
        if kept:
            _keep(path, aside)
        if kept or not path.exists():
            log = Path(f"{path}{_LOG}")
            if log.exists():
                log.rename(f"{aside}{_LOG}")
            Path(f"{path}{_SHARED}").unlink(missing_ok=True)
        if new is not None:
            _sync(new)
            new.replace(path)
            _sync(path.parent)
    except OSError as error:
        raise _said(path, error) from error
    return str(aside) if kept else ""


def _keep(path: Path, aside: Path) -> None:
    """A second name, so that the first is never empty; where the file system has none, the file moves."""
    try:
        os.link(path, aside)
    except OSError:
        path.rename(aside)


def _unused(path: Path, at: datetime) -> Path:
    """A name with a date that nothing bears yet."""
    named = path.with_name(f"{path.name}.until-{at:%Y%m%dT%H%M%SZ}")
    found, number = named, 1
    while found.exists() or Path(f"{found}{_LOG}").exists():
        number += 1
        found = Path(f"{named}-{number}")
    return found


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        with suppress(OSError):
            os.close(fd)


def _said(path: Path, error: OSError) -> LedgerError:
    return LedgerError(f"The ledger {path} can't be put in its place: {error.strerror or error}.")
