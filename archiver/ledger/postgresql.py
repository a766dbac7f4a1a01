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
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from archiver.errors import ArchiveInUse, LedgerDamaged, LedgerError
from archiver.ledger import postgresql_words as words
from archiver.ledger.backend import Recovered
from archiver.ledger.columns import original
from archiver.ledger.complaints_postgresql import explain, says_lost
from archiver.ledger.postgresql_address import Address
from archiver.ledger.tables import ledger_metadata

_OLDEST = 130000
_PAGES = "SELECT relpages, pg_relation_size(oid) / current_setting('block_size')::int FROM pg_class WHERE oid = %s"
_TEND_EVERY = 4
_FEW_PAGES = 8
_GRACE_S = 1.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0


class PostgresBackend:
    """The schema that the address leads to. A lost connection is tried again for `patience_s`.

    Who stands still in a transaction that writes loses it after `standstill_s` (0: never), and does it again. `revision` is
    the schema's revision that this program writes: a ledger that was replaced by another, or upgraded, while there was
    no connection is not written to.
    """

    def __init__(self, address: Address, *, patience_s: float, standstill_s: float, revision: str) -> None:
        self._address = address
        self._patience_s = patience_s
        self._revision = revision
        self._engine_or_none: Engine | None = None
        self._driver: psycopg.Connection[Any] | None = None
        self._session: tuple[int, str] | None = None
        self._writer = secrets.token_hex(16)
        self._number = 0
        self._standstill_ms = int(1000 * standstill_s)
        self._writing = False
        self._has_mark = False
        self._held: set[str] = set()
        self._entries: Any = None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """See the promise."""
        return (SQLAlchemyError, psycopg.Error, OSError)

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
        connection = self._open()
        try:
            if not create:
                self._expect_any(connection)
            self._take_over(connection)
        except BaseException:
            _discard(connection)
            raise
        return connection

    def connect_to_read(self) -> Connection:
        """See the promise."""
        return self._open()

    def make_durable(self, connection: Connection) -> None:
        """See that a commit waits for the server's disk (`synchronous_commit`), and that it takes writes at all.

        What the server does with its disk (`fsync`) is its administrator's; `doctor` tells.
        """
        driver = _driver(connection)
        if _one(driver, "SHOW synchronous_commit") not in words.DURABLE:
            driver.execute("SET synchronous_commit = on")
            found = _one(driver, "SHOW synchronous_commit")
            if found not in words.DURABLE:
                raise LedgerError(f"The ledger {self.place} can't be made durable: synchronous_commit is {found}.")
        if _one(driver, "SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool"):
            raise LedgerError(
                f"The ledger {self.place} can't be used: it is read-only; is it a standby, or is "
                "default_transaction_read_only set?"
            )

    def begin(self, connection: Connection, *, write: bool, shared: bool = False) -> None:
        """See the promise; the lock is taken before the first look, so that what is seen is what the last one left."""
        connection.begin()
        driver = _driver(connection)
        if driver is self._driver:
            self._writing = write
        if not write:
            driver.execute(words.READ)
            return
        self._number += 1
        self._expect_own(
            driver.execute(
                words.WRITE.format(self._standstill_ms, words.SHARED if shared else words.ALONE), prepare=False
            )
        )

    def _expect_own(self, cursor: "psycopg.Cursor[Any]") -> None:
        """The table must be the one that was there at first: numbers of another one's entries mean others."""
        while cursor.nextset():
            pass
        found = cursor.fetchone()
        if self._entries is None:
            self._entries = found
        elif found != self._entries:
            raise LedgerError(f"The ledger {self.place} was removed or replaced while it was in use.")

    def commit(self, connection: Connection) -> None:
        """See the promise; a transaction that writes leaves the writer's mark."""
        if self._writing:
            mark = words.COMMIT.format(writer=self._writer, number=self._number)
            _driver(connection).execute(mark, prepare=False)
            self._has_mark = True
        connection.commit()
        if self._writing and self._number % _TEND_EVERY == 0:
            self._tend(_driver(connection))

    def _tend(self, driver: "psycopg.Connection[Any]") -> None:
        """Let the server count the entries anew whenever they have doubled.

        A backfill outgrows what the planner knows long before autovacuum looks, and with no idea of their number it
        reads all of an account's entries for each page.
        """
        if self._entries is None:
            return
        known, pages = driver.execute(_PAGES, self._entries).fetchone() or (0, 0)
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
        if not (says_lost(error) or self._driver is None or self._driver.closed):
            return None
        with suppress(*self.errors):
            connection.invalidate()
        _discard(connection)
        until_s = time.monotonic() + self._patience_s
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return self._resumed(until_s)
            except self.errors as failure:
                if time.monotonic() + pause_s >= until_s:
                    raise LedgerError(
                        f"{self.explain(failure)} It was tried again for {self._patience_s:g} s."
                    ) from failure
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def hold(self, connection: Connection, names: Sequence[str]) -> str | None:
        """See the promise; kept by the connection, and taken again after a reconnect."""
        driver, taken = _driver(connection), list[str]()
        for name in names:
            if name in self._held or name in taken:
                continue
            if not _one(driver, f"SELECT pg_try_advisory_lock({words.HOLD})", name):
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
        driver = _driver(connection)
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

    def explain(self, error: Exception) -> LedgerError:
        """See the promise."""
        return explain(self.place, error, password=self._address.password)

    def close(self, connection: Connection) -> None:
        """See the promise; what is held is free then. A connection that is lost by now is no failure: all is committed."""
        with suppress(*self.errors):
            if self._has_mark:
                _driver(connection).execute(words.FORGET, [self._writer])
        _discard(connection)
        self._driver = None

    def _resumed(self, until_s: float) -> Recovered:
        connection = self._open()
        try:
            driver = _driver(connection)
            self._end_former(driver, until_s)
            self._take_over(connection)
            self.make_durable(connection)
            self._expect_same(driver)
            self._hold_again(connection)
            mark = _one(driver, "SELECT committed FROM writers WHERE writer = %s", self._writer)
            return Recovered(connection, committed=self._writing and mark == self._number)
        except BaseException:
            _discard(connection)
            raise

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
        self._driver = _driver(connection)
        pid, since = self._driver.execute(words.SELF).fetchone() or (0, "")
        self._session = (pid, since)

    def _end_former(self, driver: "psycopg.Connection[Any]", until_s: float) -> None:
        """Wait for the former session's end; one that doesn't notice that nobody is there any more is ended."""
        begun_s = time.monotonic()
        while self._session and _one(driver, f"SELECT count(*) {words.FORMER}", *self._session):
            if time.monotonic() >= until_s:
                raise LedgerError(f"The ledger {self.place} can't be used: a session that was lost does not end.")
            if time.monotonic() >= begun_s + _GRACE_S:
                driver.execute(f"SELECT pg_terminate_backend(pid) {words.FORMER}", self._session)
            time.sleep(_FIRST_PAUSE_S)

    @property
    def _engine(self) -> Engine:
        if self._engine_or_none is None:
            self._engine_or_none = create_engine(
                "postgresql+psycopg://",
                creator=self._call,
                poolclass=NullPool,
                hide_parameters=True,
                use_native_hstore=False,
            )
        return self._engine_or_none

    def _call(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(**dict(self._address.parameters), autocommit=True)  # type: ignore[arg-type]

    def _open(self) -> Connection:
        connection = self._engine.connect()
        try:
            self._set_up(_driver(connection))
        except BaseException:
            _discard(connection)
            raise
        return connection

    def _set_up(self, driver: "psycopg.Connection[Any]") -> None:
        driver.execute(words.SET)
        if driver.info.server_version < _OLDEST:
            raise LedgerError(f"The ledger {self.place} needs PostgreSQL {_OLDEST // 10000} or newer.")
        if driver.info.parameter_status("server_encoding") != "UTF8":
            raise LedgerError(f"The ledger {self.place} needs a database whose encoding is UTF8.")
        if _one(driver, "SELECT current_schema()") is None:
            raise LedgerError(f"The ledger {self.place} can't be used: {words.NO_SCHEMA}.")

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
            connection = self._open()
        except self.errors as error:
            raise self.explain(error) from error
        try:
            yield connection
        finally:
            connection.close()


def _holds_any(connection: Connection) -> bool:
    """Whether the schema has a table of a ledger."""
    found = _one(
        _driver(connection),
        "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'entries'",
    )
    return bool(found)


def _driver(connection: Connection) -> "psycopg.Connection[Any]":
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise LedgerError("The ledger's connection is closed.")
    return driver


def _one(driver: "psycopg.Connection[Any]", query: str, *values: object) -> Any:
    """The first value of the first row; None when there is none."""
    found = driver.execute(query, values or None).fetchone()
    return None if found is None else found[0]


def _discard(connection: Connection) -> None:
    with suppress(SQLAlchemyError, psycopg.Error, OSError):
        connection.close()
