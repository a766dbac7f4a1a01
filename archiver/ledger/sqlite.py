"""A ledger in one SQLite file: how it is opened, locked, made durable and closed.

WAL with `synchronous=FULL`: other processes may read while we write, and a commit is on the disk when it returns. The
driver never begins a transaction of its own accord; `begin` does, and takes the write lock first.
"""

import os
import re
import sqlite3
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from archiver.errors import LedgerDamaged, LedgerError
from archiver.ledger.backend import Recovered
from archiver.ledger.complaints import explain

_FULL = 2
# The inner pages of the indexes; the leaves stay in the page cache of the system, which all may use.
_CACHE_KIB = 8 * 1024
# 16 MiB of log instead of 4: a page of a thousand new rows with their metadata fills two.
_LOG_PAGES = 4096
_TIDYING_MS = 1000
_PRIVATE = 0o600
_OTHERS = 0o077
_MOUNTS = Path("/proc/self/mounts")
# SQLite's write-ahead log needs memory that all readers share: a file system of several machines has none.
_NETWORK_KINDS = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "fuse", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4"}
    | {"ocfs2", "smb3", "smbfs"}
)
_LOCAL_FUSE = frozenset({"fuse.fuse-overlayfs"})


class SqliteBackend:
    """The file at `path`; `busy_timeout_s` is how long to wait while another process holds its lock."""

    def __init__(self, path: Path, *, busy_timeout_s: float) -> None:
        self._path = path
        self._busy_timeout_s = busy_timeout_s
        self._identity: tuple[int, int] | None = None

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """See the promise."""
        return (SQLAlchemyError, sqlite3.Error, OSError)

    @property
    def beat_s(self) -> float:
        """See the promise."""
        return 0.0

    def is_away(self, error: Exception) -> bool:  # noqa: ARG002 - the promise's
        """See the promise; a file is there or not."""
        return False

    def watch_revision(self, connection: Connection) -> None:
        """See the promise."""

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def check_place(self) -> None:
        """A ledger can lie here: the folder exists and is not on a network file system.

        Raises:
            LedgerError: with what to do.
        """
        folder = self._path.resolve().parent
        if not folder.is_dir():
            raise LedgerError(f"The ledger {self._path} can't be opened: its folder {folder} does not exist.")
        if _MOUNTS.is_file():
            kind = network_file_system(folder, _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape"))
            if kind:
                raise LedgerError(
                    f"The ledger {self._path} lies on a network file system ({kind}), where SQLite may lose it: "
                    "put ledger.url on a local disk."
                )

    def connect(self, *, create: bool) -> Connection:
        """See the promise; the place must be good for a ledger."""
        self.check_place()
        self._find(create=create)
        connection = self._open("rw")
        _driver(connection).execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        _driver(connection).execute(f"PRAGMA wal_autocheckpoint={_LOG_PAGES}")
        self._identity = self._on_disk()
        return connection

    def connect_to_read(self) -> Connection:
        """See the promise; the writer's connection must be open, since it keeps the write-ahead log in place."""
        return self._open("ro")

    def make_durable(self, connection: Connection) -> None:
        """Set WAL and `synchronous=FULL`, read both back, and take the group's and others' rights from the files."""
        driver = _driver(connection)
        mode = driver.execute("PRAGMA journal_mode").fetchone()
        if mode != ("wal",):
            mode = driver.execute("PRAGMA journal_mode=WAL").fetchone()
        driver.execute("PRAGMA synchronous=FULL")
        level = driver.execute("PRAGMA synchronous").fetchone()
        if mode != ("wal",) or level != (_FULL,):
            raise LedgerError(
                f"The ledger {self._path} can't be made durable: SQLite answered journal_mode {mode} and "
                f"synchronous {level} instead of wal and 2."
            )
        for suffix in ("", "-wal", "-shm"):
            file = Path(f"{self._path}{suffix}")
            if file.exists() and file.stat().st_mode & _OTHERS:
                file.chmod(_PRIVATE)

    def begin(self, connection: Connection, *, write: bool, shared: bool = False) -> None:  # noqa: ARG002 - the file has one lock
        """`BEGIN IMMEDIATE` to write: a reader that turns writer would fail at once, whatever the timeout.

        Raises:
            LedgerError: the file was removed or replaced since it was opened; what we wrote would be lost with it.
        """
        if write and self._on_disk() != self._identity:
            raise LedgerError(f"The ledger {self._path} was removed or replaced while it was in use.")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    def commit(self, connection: Connection) -> None:
        """See the promise."""
        connection.commit()

    def recover(self, connection: Connection, error: Exception) -> Recovered | None:  # noqa: ARG002 - see the promise
        """Nothing: a file has no connection that could be lost."""
        return None

    def hold(self, connection: Connection, names: Sequence[str]) -> str | None:  # noqa: ARG002 - see the promise
        """Nothing: a ledger in a file is that of one archive, whose lock does this."""
        return None

    def is_there(self) -> bool:
        """See the promise."""
        return self._path.exists()

    def check(self, connection: Connection) -> None:
        """See the promise; SQLite compares its indexes with their tables, too."""
        found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalars().all()
        if found != ["ok"]:
            raise LedgerDamaged(f"The ledger {self._path} is damaged: {found[0] if found else 'it does not say how'}.")

    def explain(self, error: Exception) -> LedgerError:
        """See the promise."""
        return explain(str(self._path), error)

    def close(self, connection: Connection) -> None:
        """Move the write-ahead log into the file, so that the file alone is the ledger, and close."""
        try:
            # A reader elsewhere keeps only the tidying from being done, which is not worth a long wait.
            _driver(connection).execute(f"PRAGMA busy_timeout={_TIDYING_MS}")
            _driver(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()

    def _on_disk(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _find(self, *, create: bool) -> None:
        """Make sure that a file is there; SQLite gives `-wal` and `-shm` the rights that the file has."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            if not create:
                raise LedgerError(f"There is no ledger at {self._path}.") from None
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                os.close(os.open(self._path, flags, _PRIVATE))
            except FileExistsError:
                if not self._path.is_file():
                    raise
            return
        if not stat.S_ISREG(found.st_mode):
            raise LedgerError(f"The ledger {self._path} can't be opened: it is no file.")

    def _open(self, mode: str) -> Connection:
        place = f"file:{quote(os.fsencode(self._path.absolute()))}?mode={mode}"

        def connect() -> sqlite3.Connection:
            return sqlite3.connect(
                place, uri=True, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
            )

        engine = create_engine("sqlite://", creator=connect, poolclass=NullPool, hide_parameters=True)
        return engine.connect()


def network_file_system(folder: Path, mounts: str) -> str:
    """The kind of the network file system that `folder` (absolute) lies on, by Linux's list of mounts; else empty."""
    longest, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:  # noqa: PLR2004 - device, place, kind
            continue
        place = Path(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[1]))
        if folder.is_relative_to(place) and len(place.parts) >= longest:
            longest, kind = len(place.parts), fields[2]
    network = kind in _NETWORK_KINDS or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE)
    return kind if network else ""


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise LedgerError("The ledger's connection is closed.")
    return driver
