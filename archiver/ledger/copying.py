"""A ledger copied from one database to another, row for row under the same numbers, and compared before it counts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Table

from archiver.errors import ArchiveInUse, LedgerError, SettingsError
from archiver.ledger import schema
from archiver.ledger.columns import original
from archiver.ledger.copying_rows import (
    COPIED,
    Digesting,
    Rows,
    TableDigest,
    digest_of,
    keeps_number,
    last_numbers,
    read_rows,
    write_rows,
)
from archiver.ledger.copying_targets import Target, check_whole, explained, target_of
from archiver.ledger.ledger import backend_of
from archiver.ledger.places import words_for

_BUSY_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table that was copied, with what both databases gave when they were asked for its rows."""

    name: str
    digest: TableDigest


def copy_ledger(
    source_url: str, target_url: str, *, at: datetime, stopped: Callable[[], bool] = lambda: False
) -> Sequence[CopiedTable] | None:
    """Copy the ledger at `source_url` to `target_url`, where there must be none, or one without a row. Blocks.

    Meanwhile nobody can write to either: who tries waits, and a run that works on one of its accounts keeps it from
    being copied. What lies at the target at last was read back from there, and is row for row what the source gave. The
    source is left as it was. After an error or a kill the target is as it was; None when `stopped` ended it, likewise.

    Raises:
        SettingsError: there is nothing to copy, or something where it should go.
        ArchiveInUse: a run works on the source's accounts.
        LedgerTooNew: a newer program wrote one of them.
        LedgerError: one of them can't be used, the source is of an older program, or the copy is not what it should be.
    """
    target = target_of(target_url)
    with ExitStack() as stack:
        source = _Source(source_url)
        stack.callback(source.close)
        with explained(source.backend):
            source.open()
        stack.callback(target.close)
        with explained(target.backend):
            into = target.open()
        with explained(source.backend):
            source.keep_still()
        try:
            copied = _fill(source, target, into, stopped)
            with explained(source.backend):
                numbers = last_numbers(source.reader)
            with explained(target.backend):
                filled = target.complete(numbers)
                _compare(copied, numbers, filled, words_for(target_url), stopped)
                check_whole(target.backend, filled, words_for(target_url))
            if stopped():
                return None
        except _Stopped:
            return None
        with explained(source.backend):
            source.expect_still()
        with explained(target.backend):
            target.put_in_place(at=at)
        return copied


class _Stopped(Exception):
    """It was asked to end."""


class _Source:
    """The ledger that is copied; held from `keep_still` to `close`."""

    def __init__(self, url: str) -> None:
        self.backend = backend_of(url, busy_timeout_s=_BUSY_TIMEOUT_S, patience_s=0)
        self._place = words_for(url)
        self._holder: Connection | None = None
        self._reader: Connection | None = None

    @property
    def reader(self) -> Connection:
        """Sees one moment of it."""
        if self._reader is None:
            raise LedgerError("The ledger's connection is closed.")
        return self._reader

    def open(self) -> None:
        """Look whether it can be copied.

        Raises:
            SettingsError, LedgerError.
        """
        if not self.backend.is_there():
            raise SettingsError(f"There is no ledger at {self._place}, so there is nothing to copy.")
        holder = self._holder = self.backend.connect(create=False)
        if not schema.is_current(holder, self.backend):
            raise LedgerError(
                f"The ledger {self._place} is of an older program: `archiver status` with ledger.url set to it brings "
                "it up to date. Nothing was copied."
            )
        self.backend.begin(holder, write=False)
        filled = schema.first_filled(holder)
        holder.rollback()
        if not filled:
            # Above all it may be the target itself, for whose lock it would wait for ever.
            raise SettingsError(f"The ledger {self._place} has nothing in it, so there is nothing to copy.")

    def keep_still(self) -> None:
        """Keep all others from writing to it, and begin to read.

        Raises:
            ArchiveInUse, LedgerError: LedgerDamaged among them.
        """
        holder = self._holder
        if holder is None:
            raise LedgerError("The ledger's connection is closed.")
        # No run begins from here on, not even one with an account of its own.
        self.backend.begin(holder, write=True)
        names = [str(name) for name in holder.exec_driver_sql("SELECT account_id FROM accounts").scalars()]
        refused = self.backend.hold(holder, names)
        if refused is not None:
            raise ArchiveInUse(f"the account {original(refused)} is being worked on by a run (by the ledger's word)")
        self._reader = self.backend.connect_to_read()
        self.backend.begin(self._reader, write=False)
        check_whole(self.backend, self._reader, self._place)

    def expect_still(self) -> None:
        """Whoever lost the connection that holds it can't know what others wrote.

        Raises:
            LedgerError, and the driver's errors.
        """
        if self._holder is not None:
            self._holder.exec_driver_sql("SELECT 1")

    def rows(self, table: Table, stopped: Callable[[], bool]) -> Iterator[Rows]:
        """A table's rows.

        Raises:
            LedgerError, _Stopped.
        """
        with explained(self.backend):
            for batch in read_rows(self.reader, table):
                if stopped():
                    raise _Stopped
                yield batch

    def close(self) -> None:
        """Let the others go on. Raises nothing."""
        with suppress(*self.backend.errors):
            if self._reader is not None:
                self._reader.close()
        if self._holder is not None:
            with suppress(*self.backend.errors):
                self._holder.rollback()
            with suppress(*self.backend.errors):
                self.backend.close(self._holder)


def _fill(source: _Source, target: Target, into: Connection, stopped: Callable[[], bool]) -> Sequence[CopiedTable]:
    copied = []
    for table in COPIED:
        digesting = Digesting()
        with explained(target.backend):
            write_rows(into, table, digesting.passing(source.rows(table, stopped)))
        copied.append(CopiedTable(str(table.name), digesting.found()))
    return copied


def _compare(
    copied: Sequence[CopiedTable],
    numbers: dict[str, int],
    filled: Connection,
    place: str,
    stopped: Callable[[], bool],
) -> None:
    """Read the target and hold it against what the source gave.

    Raises:
        LedgerError: with the table.
        _Stopped.
    """
    for table, wanted in zip(COPIED, copied, strict=True):
        if stopped():
            raise _Stopped
        found = digest_of(read_rows(filled, table))
        if found != wanted.digest:
            rows = f"{found.rows:,} rows instead of {wanted.digest.rows:,}"
            what = rows if found.rows != wanted.digest.rows else "rows with other values"
            raise LedgerError(
                f"{place} did not keep what was copied: its table {table.name} has {what}. {_NOTHING_LEFT}"
            )
    for name, number in last_numbers(filled).items():
        if keeps_number(filled, name) and number != numbers[name]:
            raise LedgerError(f"{place} would not go on with the numbers of the table {name}. {_NOTHING_LEFT}")


_NOTHING_LEFT = "Nothing of the copy was left there; is there a trigger or a rule on its tables?"
