"""A ledger in a schema of a PostgreSQL database, which many machines read and write at once.

Who writes takes the schema's advisory lock first: jobs that take a lock for their account, too, share it, all others
hold it alone. So what holds under SQLite's one lock holds for each account. Writers see what others committed before
each statement (READ COMMITTED); readers see one moment (REPEATABLE READ). A lost connection is made again, and the
transaction it interrupted is done again, unless the writer's mark says that it was committed.
"""

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from archiver.errors import ArchiveInUse, LedgerDamaged, LedgerError, LedgerTooNew
from archiver.ledger import postgresql_words as words
from archiver.ledger.backend import Recovered
from archiver.ledger.columns import original
from archiver.ledger.complaints_postgresql import driver_error, explain, says_lost
from archiver.ledger.postgresql_address import Address
from archiver.ledger.postgresql_connections import Connections, discard, driver_of, one
from archiver.ledger.tables import ledger_metadata

_PAGES = "SELECT relpages, pg_relation_size(oid) / current_setting('block_size')::int FROM pg_class WHERE oid = %s"
_TEND_EVERY = 4
_FEW_PAGES = 8
_GRACE_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


class _ReadOnly(LedgerError):
    """It takes no writes: for good, or as a standby that is about to take over."""


class PostgresBackend:
    """The schema that the address leads to. A lost connection is tried again for `patience_s`.

    Who stands still in a transaction that writes loses it after `standstill_s` (0: never), and does it again. `revision` is
    the schema's revision that this program writes: a ledger that was replaced by another or by an older copy, or upgraded,
    is not written to.
    """

    def __init__(
        self, address: Address, *, patience_s: float, standstill_s: float, revision: str, beat_s: float
    ) -> None:
        self._address = address
        self._patience_s = patience_s
        self._revision = revision
        self._connections = Connections(address)
        self._driver: psycopg.Connection[Any] | None = None
        self._session: tuple[int, str] | None = None
        self._writer = secrets.token_hex(16)
        self._number = 0
        self._acknowledged = 0
        self._beat_s = beat_s
        self._standstill_ms = int(1000 * standstill_s)
        self._writing = False
        self._has_mark = False
        self._held: set[str] = set()
        self._entries: Any = None
        self._watched = words.NO_REVISION

    @property
    def beat_s(self) -> float:
        """See the promise."""
        return self._beat_s

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """See the promise."""
        return (SQLAlchemyError, psycopg.Error, OSError)

    @property
    def _passing(self) -> tuple[type[Exception], ...]:
        """What may be otherwise at the next try to connect."""
        return (*self.errors, _ReadOnly)

    @property
    def place(self) -> str:
        """The server and the database in words, without the password."""
        return self._address.place

    @property
    def address(self) -> Address:
        """How it is reached."""
        return self._address

    def is_there(self) -> bool:
        """See the promise."""
        with self._opened() as connection:
            return _holds_any(connection)

    def connect(self, *, create: bool) -> Connection:
        """See the promise; a schema that holds other programs' tables is taken, if none has the name of one of ours.

        The schema itself, and its database, must be there.
        """
        connection = self._connections.open()
        try:
            if not create:
                self._expect_any(connection)
            self._take_over(connection)
        except BaseException:
            discard(connection)
            raise
        return connection

    def connect_to_read(self) -> Connection:
        """See the promise."""
        return self._connections.open()

    def make_durable(self, connection: Connection) -> None:
        """See that a commit waits for the server's disk (`synchronous_commit`), and that it takes writes at all.

        What the server does with its disk (`fsync`) is its administrator's; `doctor` tells.
        """
        driver = driver_of(connection)
        if one(driver, "SHOW synchronous_commit") not in words.DURABLE:
            driver.execute("SET synchronous_commit = on")
            found = one(driver, "SHOW synchronous_commit")
            if found not in words.DURABLE:
                raise LedgerError(f"The ledger {self.place} can't be made durable: synchronous_commit is {found}.")
        if one(driver, "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool"):
            raise _ReadOnly(
                f"The ledger {self.place} can't be used: it is read-only; is it a standby, or is "
                "default_transaction_read_only set?"
            )

    def begin(self, connection: Connection, *, write: bool, shared: bool = False) -> None:
        """See the promise; the lock is taken before the first look, so that what is seen is what the last one left."""
        connection.begin()
        driver = driver_of(connection)
        if driver is self._driver:
            self._writing = write
        if not write:
            driver.execute(words.READ)
            return
        self._number += 1
        begin = words.WRITE.format(
            standstill_ms=self._standstill_ms, lock=words.SHARED if shared else words.ALONE, revision=self._watched
        )
        while True:
            with suppress(psycopg.errors.LockNotAvailable):
                self._expect_own(driver.execute(begin, prepare=False))
                return
            driver.rollback()
            driver.execute(words.END_STANDSTILL, [self._standstill_ms])

    def watch_revision(self, connection: Connection) -> None:  # noqa: ARG002 - the promise's
        """See the promise."""
        self._watched = words.REVISION

    def _expect_own(self, cursor: "psycopg.Cursor[Any]") -> None:
        """The table must be the one that was there at first: numbers of another one's entries mean others."""
        while cursor.nextset():
            pass
        entries, revision = cursor.fetchone() or (None, None)
        if self._entries is None:
            self._entries = entries
        elif entries != self._entries:
            raise LedgerError(f"The ledger {self.place} was removed or replaced while it was in use.")
        if self._watched == words.REVISION and revision != self._revision:
            raise LedgerTooNew(f"The ledger {self.place} was upgraded by another program while it was in use.")

    def commit(self, connection: Connection) -> None:
        """See the promise; a transaction that writes leaves the writer's mark."""
        if self._writing:
            mark = words.COMMIT.format(writer=self._writer, number=self._number)
            driver_of(connection).execute(mark, prepare=False)
            self._has_mark = True
        connection.commit()
        if self._writing:
            self._acknowledged = self._number
        if self._writing and self._number % _TEND_EVERY == 0:
            self._tend(driver_of(connection))

    def _tend(self, driver: "psycopg.Connection[Any]") -> None:
        """Let the server count the entries anew whenever they have doubled.

        A backfill outgrows what the planner knows long before autovacuum looks, and with no idea of their number it
        reads all of an account's entries for each page.
        """
        if self._entries is None:
            return
        known, pages = driver.execute(_PAGES, [self._entries]).fetchone() or (0, 0)
        if pages > max(_FEW_PAGES, 2 * known):
            # Somebody else who counts or cleans does as well.
            with suppress(psycopg.errors.LockNotAvailable):
                try:
                    driver.execute("BEGIN; SET LOCAL lock_timeout = '100ms'; ANALYZE entries; COMMIT", prepare=False)
                finally:
                    driver.rollback()

    def recover(self, connection: Connection, error: Exception) -> Recovered | None:
        """See the promise; the former session is ended first, so that nothing of it comes later.

        Raises:
            ArchiveInUse: another took an account meanwhile that was held.
            LedgerError: there was no connection for as long as patience goes, or the ledger is another one.
        """
        if not (self.is_away(error) or self._driver is None or self._driver.closed):
            return None
        with suppress(*self.errors):
            connection.invalidate()
        discard(connection)
        until_s = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return self._resumed(until_s)
            except self._passing as failure:
                if time.monotonic() + pause_s >= until_s:
                    raise LedgerError(
                        f"{self.explain(failure)} It was tried again for {self._patience_s:g} s."
                    ) from failure
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def hold(self, connection: Connection, names: Sequence[str]) -> str | None:
        """See the promise; kept by the connection, and taken again after a reconnect."""
        driver, taken = driver_of(connection), list[str]()
        for name in names:
            if name in self._held or name in taken:
                continue
            if not one(driver, f"SELECT pg_try_advisory_lock({words.HOLD})", name):
                for each in taken:
                    driver.execute(f"SELECT pg_advisory_unlock({words.HOLD})", [each])
                return name
            taken.append(name)
        self._held.update(taken)
        return None

    def check(self, connection: Connection) -> None:
        """Read every row of every table, and count whether the tallies are true.

        PostgreSQL finds pages that the disk changed when it was set up with checksums; indexes are not compared with
        their tables, which is what `pg_amcheck` does for an administrator.
        """
        driver = driver_of(connection)
        for name in ledger_metadata.tables:
            # The whole row is asked for, so that none of its pages is passed over.
            driver.execute(f"SELECT count(*), sum(length(t::text)) FROM {name} AS t")  # noqa: S608 - our own names
        wrong = driver.execute(
            "SELECT count(*) FROM (SELECT account_no, status, count(*) AS recordings FROM entries GROUP BY 1, 2) AS e "
            "FULL JOIN (SELECT account_no, status, recordings FROM tallies WHERE recordings <> 0) AS t "
            "USING (account_no, status) WHERE e.recordings IS DISTINCT FROM t.recordings"
        ).fetchone()
        if wrong != (0,):
            raise LedgerDamaged(f"The ledger {self.place} is damaged: its tallies are not what its entries come to.")

    def is_away(self, error: Exception) -> bool:
        """See the promise; a connection that can't be made has no code."""
        lacks = driver_error(error)
        return says_lost(error) or (isinstance(lacks, psycopg.OperationalError) and not lacks.sqlstate)

    def explain(self, error: Exception) -> LedgerError:
        """See the promise."""
        return explain(self.place, error, password=self._address.password)

    def close(self, connection: Connection) -> None:
        """See the promise; what is held is free then. A connection that is lost by now is no failure: all is committed."""
        with suppress(*self.errors):
            if self._has_mark:
                driver_of(connection).execute(words.FORGET, [self._writer])
        discard(connection)
        self._driver = None

    def _resumed(self, until_s: float) -> Recovered:
        connection = self._connections.open()
        try:
            driver = driver_of(connection)
            self._end_former(driver, until_s)
            self._take_over(connection)
            self.make_durable(connection)
            self._expect_same(driver)
            self._hold_again(connection)
            mark = one(driver, "SELECT committed FROM writers WHERE writer = %s", self._writer) or 0
            if self._writing and mark == self._number:
                self._acknowledged = mark
                return Recovered(connection, committed=True)
            self._expect_acknowledged(mark)
            return Recovered(connection, committed=False)
        except BaseException:
            discard(connection)
            raise

    def _expect_acknowledged(self, mark: int) -> None:
        """What was told to be durable must be there: a backup that was restored, or a standby that was behind, lacks it."""
        if mark != self._acknowledged:
            raise LedgerError(
                f"The ledger {self.place} lacks what it had taken before the connection was lost: was it restored from "
                "a backup, or is it a standby now that was behind? Nothing more was written; the next run goes by what is "
                "in the archive."
            )

    def _expect_same(self, driver: "psycopg.Connection[Any]") -> None:
        if driver.execute("SELECT version_num FROM alembic_version").fetchall() != [(self._revision,)]:
            raise LedgerError(f"The ledger {self.place} was replaced or upgraded while there was no connection.")

    def _hold_again(self, connection: Connection) -> None:
        names, self._held = sorted(self._held), set()
        try:
            refused = self.hold(connection, names)
        finally:
            self._held.update(names)
        if refused is not None:
            raise ArchiveInUse(
                f"the account {original(refused)} was taken by another run while the ledger had no connection"
            )

    def _expect_any(self, connection: Connection) -> None:
        if not _holds_any(connection):
            raise LedgerError(f"There is no ledger at {self.place}.")

    def _take_over(self, connection: Connection) -> None:
        self._driver = driver_of(connection)
        pid, since = self._driver.execute(words.SELF).fetchone() or (0, "")
        self._session = (pid, since)

    def _end_former(self, driver: "psycopg.Connection[Any]", until_s: float) -> None:
        """Wait for the former session's end; one that doesn't notice that nobody is there any more is ended."""
        begun_s = time.monotonic()
        while self._session and one(driver, f"SELECT count(*) {words.FORMER}", *self._session):
            if time.monotonic() >= until_s:
                raise LedgerError(f"The ledger {self.place} can't be used: a session that was lost does not end.")
            if time.monotonic() >= begun_s + _GRACE_S:
                driver.execute(f"SELECT pg_terminate_backend(pid) {words.FORMER}", self._session)
            time.sleep(_FIRST_PAUSE_S)

    @contextmanager
    def used(self) -> Iterator[Connection]:
        """A transaction that has the ledger for itself, for what is done beside the jobs; all errors are explained.

        Raises:
            LedgerError.
        """
        with self._opened() as connection:
            try:
                self.begin(connection, write=True)
                yield connection
                connection.commit()
            except self.errors as error:
                raise self.explain(error) from error

    @contextmanager
    def _opened(self) -> Iterator[Connection]:
        try:
            connection = self._connections.open()
        except self.errors as error:
            raise self.explain(error) from error
        try:
            yield connection
        finally:
            connection.close()


def _holds_any(connection: Connection) -> bool:
    """Whether the schema has a table of a ledger."""
    found = one(
        driver_of(connection),
        "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'entries'",
    )
    return bool(found)
