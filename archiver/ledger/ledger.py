"""The ledger's promise kept over SQLAlchemy Core: each method is one job for the writer, or one outcome handed over."""

from functools import partial
from pathlib import Path

from archiver.errors import LedgerError
from archiver.ledger import (
    schema,
)
from archiver.ledger.ledger_claims import ClaimingLedger
from archiver.ledger.ledger_proof import ProofLedger
from archiver.ledger.ledger_retention import RetentionLedger
from archiver.ledger.ledger_runs import RunLedger
from archiver.ledger.settling import Settled, write_settled
from archiver.ledger.sqlite import SqliteBackend
from archiver.ledger.writer import Writer

_SQLITE = "sqlite:///"


async def open_ledger(url: str, *, create: bool = True, busy_timeout_s: float = 30.0) -> "SqlLedger":
    """Open the ledger at `url`, `sqlite:///` and a path, and bring its schema up to date.

    With `create` a ledger that is not there yet is made, readable by this user alone; its folder must exist.
    `busy_timeout_s` is how long a call waits while another process keeps the ledger locked. `close` it in the same
    event loop.

    Raises:
        LedgerTooNew: a newer program wrote it; it was left untouched.
        LedgerError: it can't be opened, is no ledger, or lies on a network file system.
    """
    backend = backend_of(url, busy_timeout_s=busy_timeout_s)
    writer = Writer[Settled](backend, write_settled)
    await writer.open(partial(schema.prepare, backend=backend), create=create)
    return SqlLedger(backend, writer)


class SqlLedger(RunLedger, ClaimingLedger, ProofLedger, RetentionLedger):
    """Keeps the promise of `base.Ledger`; made by `open_ledger`."""


def backend_of(url: str, *, busy_timeout_s: float) -> SqliteBackend:
    """The database that the address names; nothing is opened yet.

    Raises:
        LedgerError: it names none that is known.
    """
    # What follows is a path, whatever characters it has: nothing in it is a host, an option or a password.
    path = url.removeprefix(_SQLITE)
    if path == url:
        # Not shown, since it may hold a password.
        raise LedgerError("ledger.url names no kind of ledger that is known: use sqlite:/// and the path of a file.")
    if path in {"", ":memory:"} or "\x00" in path:
        raise LedgerError("The ledger needs a file of its own: use sqlite:/// and its path.")
    return SqliteBackend(Path(path), busy_timeout_s=busy_timeout_s)
