"""The ledger's promise kept over SQLAlchemy Core: each method is one job for the writer, or one outcome handed over."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from archiver.errors import LedgerError
from archiver.ledger import (
    schema,
)
from archiver.ledger.backend import Backend
from archiver.ledger.ledger_claims import ClaimingLedger
from archiver.ledger.ledger_proof import ProofLedger
from archiver.ledger.ledger_retention import RetentionLedger
from archiver.ledger.ledger_runs import RunLedger
from archiver.ledger.postgresql_address import address_of, is_postgresql
from archiver.ledger.settling import Settled, write_settled
from archiver.ledger.sqlite import SqliteBackend
from archiver.ledger.writer import Writer

if TYPE_CHECKING:
    from archiver.ledger.postgresql import PostgresBackend

SQLITE_PREFIX = "sqlite:///"
"""What stands before the path of a ledger in a file."""


async def open_ledger(
    url: str,
    *,
    create: bool = True,
    busy_timeout_s: float = 30.0,
    patience_s: float = 120.0,
    standstill_s: float = 10.0,
    beat_s: float = 5.0,
    wait: bool = False,
) -> "SqlLedger":
    """Open the ledger at `url`, `sqlite:///` and a path or `postgresql://`, and bring its schema up to date.

    With `create` a ledger that is not there yet is made, a file readable by this user alone; its folder, or the
    database and its schema, must exist. `busy_timeout_s` is how long a call waits while another process keeps a file
    locked, `patience_s` how long while a server that was there can't be reached. A process that is stopped in the
    middle of a transaction loses it after `standstill_s`, lest all others wait. Who holds accounts looks every `beat_s`
    whether the server still has the connection, and makes it anew. Who knows that it is there may `wait` for
    a server that is away already at the beginning. `close` it in the same event loop.

    Raises:
        LedgerTooNew: a newer program wrote it; it was left untouched.
        LedgerError: it can't be opened, is no ledger, or lies on a network file system.
    """
    backend = backend_of(
        url, busy_timeout_s=busy_timeout_s, patience_s=patience_s, standstill_s=standstill_s, beat_s=beat_s
    )
    writer = Writer[Settled](backend, write_settled)
    prepare = partial(schema.prepare, backend=backend)
    await writer.open(prepare, create=create, patience_s=patience_s if wait else 0.0)
    return SqlLedger(backend, writer)


class SqlLedger(RunLedger, ClaimingLedger, ProofLedger, RetentionLedger):
    """Keeps the promise of `base.Ledger`; made by `open_ledger`."""


def backend_of(
    url: str,
    *,
    busy_timeout_s: float = 30.0,
    patience_s: float = 120.0,
    standstill_s: float = 0.0,
    beat_s: float = 0.0,
) -> Backend:
    """The database that the address names; nothing is opened yet.

    Raises:
        LedgerError: it names none that is known, or its driver is not installed.
    """
    if is_postgresql(url):
        return postgres_backend(url, patience_s=patience_s, standstill_s=standstill_s, beat_s=beat_s)
    return sqlite_backend(url, busy_timeout_s=busy_timeout_s)


def postgres_backend(
    url: str, *, patience_s: float, standstill_s: float = 0.0, beat_s: float = 0.0
) -> "PostgresBackend":
    """The schema of a PostgreSQL database that the address leads to.

    Raises:
        LedgerError: the address can't be read, or the driver is not installed.
    """
    address = address_of(url)
    from archiver.ledger.postgresql import PostgresBackend

    return PostgresBackend(
        address, patience_s=patience_s, standstill_s=standstill_s, revision=schema.NEWEST, beat_s=beat_s
    )


def sqlite_backend(url: str, *, busy_timeout_s: float) -> SqliteBackend:
    """The file that the address names.

    Raises:
        LedgerError: it names no file.
    """
    # What follows is a path, whatever characters it has: nothing in it is a host, an option or a password.
    path = url.removeprefix(SQLITE_PREFIX)
    if path == url:
        # Not shown, since it may hold a password.
        raise LedgerError(
            "ledger.url names no kind of ledger that is known: use sqlite:/// and the path of a file, or postgresql://…"
        )
    if path in {"", ":memory:"} or "\x00" in path:
        raise LedgerError("The ledger needs a file of its own: use sqlite:/// and its path.")
    return SqliteBackend(Path(path), busy_timeout_s=busy_timeout_s)
