"""The audit trail's file, `<root>/.archiver/audit.jsonl`: grown at its end under a lock of its own, and synced.

It is local with every store. Nothing here knows what the lines say.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from archiver.errors import StoreUnavailable
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import Disk, close_quietly, read_all, spoken, spoken_but_absent, write_all
from archiver.stores.temporaries import OWN_FOLDER

NAME = "audit.jsonl"
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK_BYTES = 1 << 16
_PAUSE_S = 0.01


class TrailFile:
    """Opens the file for as long as its lock is held: many may read together, one alone writes.

    A command holds the lock for milliseconds; whoever waits longer than `patience_s` gives up.
    """

    def __init__(self, folder: ArchiveFolder, *, patience_s: float = 60.0) -> None:
        self.path = f"{folder.path}/{OWN_FOLDER}/{NAME}"
        self._folder = folder
        self._patience_s = patience_s

    @contextmanager
    def reading(self) -> Iterator["OpenTrailFile | None"]:
        """The file as it is between two additions; None when there is none.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        try:
            with self._folder.folders.use((OWN_FOLDER,), create=False) as own, spoken_but_absent(self.path):
                fd = self._folder.disk.open(NAME, _READ, dir_fd=own.fd)
        except FileNotFoundError:
            self._folder.folders.check_root()
            yield None
            return
        try:
            self._lock(fd, fcntl.LOCK_SH)
            yield OpenTrailFile(self._folder.disk, fd, self.path)
        finally:
            close_quietly(self._folder.disk, fd)

    @contextmanager
    def writing(self) -> Iterator["OpenTrailFile"]:
        """The file to add to, made (mode 0600) when there is none.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable.
        """
        with self._folder.folders.use((OWN_FOLDER,), create=True) as own:
            with spoken(self.path):
                fd = self._folder.disk.open(NAME, _WRITE, dir_fd=own.fd)
            try:
                self._lock(fd, fcntl.LOCK_EX)
                opened = OpenTrailFile(self._folder.disk, fd, self.path)
                if opened.size_bytes == 0:
                    # Its name must survive a power loss as its lines do.
                    own.settle()
                yield opened
            finally:
                close_quietly(self._folder.disk, fd)

    def _lock(self, fd: int, how: int) -> None:
        end_s = time.monotonic() + self._patience_s
        while True:
            with spoken(self.path), suppress(BlockingIOError):
                fcntl.flock(fd, how | fcntl.LOCK_NB)
                return
            if time.monotonic() > end_s:
                raise StoreUnavailable(f"{self.path}: another process has held the audit trail for too long")
            time.sleep(_PAUSE_S)


class OpenTrailFile:
    """The file while its lock is held."""

    def __init__(self, disk: Disk, fd: int, path: str) -> None:
        self._disk = disk
        self._fd = fd
        self._path = path

    @property
    def size_bytes(self) -> int:
        """All of it, a torn end included."""
        with spoken(self._path):
            return self._disk.fstat(self._fd).st_size

    def lines(self) -> Iterator[bytes]:
        """Its lines, each with its newline; only the last may lack one.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        rest: list[bytes] = []
        with spoken(self._path):
            for data in read_all(self._disk, self._fd):
                *whole, last = data.split(b"\n")
                for line in whole:
                    yield b"".join((*rest, line, b"\n"))
                    rest = []
                if last:
                    rest.append(last)
        if rest:
            yield b"".join(rest)

    def end(self) -> tuple[bytes, bytes]:
        """The last line with its newline (empty when there is none), and the torn bytes behind it.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        start = self.size_bytes
        data = b""
        with spoken(self._path):
            while start > 0 and data.count(b"\n") < 2:  # noqa: PLR2004 - the newlines before and after the last line
                step = min(_BLOCK_BYTES, start)
                start -= step
                data = self._disk.pread(self._fd, step, start) + data
        whole, newline, torn = data.rpartition(b"\n")
        return (whole.rpartition(b"\n")[2] + b"\n" if newline else b""), torn

    def cut(self, size_bytes: int) -> None:
        """Drop bytes from the end.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable.
        """
        with spoken(self._path):
            os.ftruncate(self._fd, self.size_bytes - size_bytes)

    def add(self, data: bytes) -> None:
        """Add to the end; on return it would survive a power loss. After a failure nothing of it, or a torn end, remains.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable.
        """
        before = self.size_bytes
        with spoken(self._path):
            try:
                write_all(self._disk, self._fd, data)
                self._disk.fsync(self._fd)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(self._fd, before)
                raise
