"""Doubles for the one seam to the operating system, and what its errors mean to a person."""

import errno
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from archiver.errors import Severity, StoreDenied, StoreError, StoreFull, StoreUnavailable
from archiver.stores.disk import Disk, Found, RealDisk, spoken, store_error, write_all

CALLS = (
    "open", "close", "write", "pread", "fsync", "link", "unlink", "mkdir", "fstat", "stat", "scan", "statvfs",
)  # fmt: skip


class WatchedDisk(RealDisk):
    """The real disk with a look before each call; `nameless=False` plays a file system without O_TMPFILE."""

    def __init__(self, *, nameless: bool = True, sync: bool = True) -> None:
        self._nameless = nameless
        self._sync = sync

    def before(self, call: str) -> None:
        """Look at a call that is about to be made; may raise OSError in its place."""

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        self.before("open")
        if not self._nameless and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no O_TMPFILE here")
        return super().open(path, flags, mode, dir_fd=dir_fd)

    def close(self, fd: int) -> None:
        # As the kernel does it: the descriptor is gone also when close reports an error.
        super().close(fd)
        self.before("close")

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.before("write")
        return super().write(fd, data)

    def pread(self, fd: int, size_bytes: int, offset_bytes: int) -> bytes:
        self.before("pread")
        return super().pread(fd, size_bytes, offset_bytes)

    def fsync(self, fd: int) -> None:
        self.before("fsync")
        if self._sync:
            super().fsync(fd)

    def sync_all(self, fd: int) -> None:
        self.before("sync_all")
        if self._sync:
            super().sync_all(fd)

    def link(self, source: str, name: str, *, src_dir_fd: int | None, dst_dir_fd: int) -> None:
        self.before("link")
        super().link(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        self.before("unlink")
        super().unlink(name, dir_fd=dir_fd)

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        self.before("mkdir")
        super().mkdir(name, mode, dir_fd=dir_fd)

    def fstat(self, fd: int) -> os.stat_result:
        self.before("fstat")
        return super().fstat(fd)

    def stat(self, path: str, *, dir_fd: int | None = None) -> os.stat_result:
        self.before("stat")
        return super().stat(path, dir_fd=dir_fd)

    def scan(self, fd: int) -> list[Found]:
        self.before("scan")
        return super().scan(fd)

    def statvfs(self, fd: int) -> os.statvfs_result:
        self.before("statvfs")
        return super().statvfs(fd)


class FaultyDisk(WatchedDisk):
    """Fails the nth call of one kind, counted from 1; with `sticky` all later ones of that kind too."""

    def __init__(
        self, call: str, number: int, nth: int = 1, *, sticky: bool = False, nameless: bool = True, sync: bool = False
    ) -> None:
        super().__init__(nameless=nameless, sync=sync)
        self.call, self.number, self.nth, self.sticky = call, number, nth, sticky
        self.made = Counter[str]()
        self.hits = 0
        self._lock = threading.Lock()

    def before(self, call: str) -> None:
        with self._lock:
            self.made[call] += 1
            made = self.made[call]
            hit = call == self.call and (made >= self.nth if self.sticky else made == self.nth)
            self.hits += hit
        if hit:
            raise OSError(self.number, os.strerror(self.number))


class ShortDisk(WatchedDisk):
    """Takes one byte at the first write and about half of what is given at each later one."""

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.before("write")
        return os.write(fd, data[: max(1, len(data) // 2)])


class KillingDisk(WatchedDisk):
    """Kills this process with SIGKILL in place of its nth call of any kind."""

    def __init__(self, nth: int, *, nameless: bool = True) -> None:
        super().__init__(nameless=nameless, sync=False)
        self.left = nth

    def before(self, call: str) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_errno_becomes_a_store_error_that_names_the_path(number: int) -> None:
    with pytest.raises(StoreError, match="/some/where") as caught, spoken("/some/where"):
        raise OSError(number, os.strerror(number))
    assert type(caught.value) in {StoreFull, StoreDenied, StoreUnavailable}
    assert "Errno" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("ENOSPC EDQUOT EFBIG", StoreFull),
        ("EROFS EACCES EPERM EIO ESTALE ENOTDIR ELOOP EXDEV ENOTCONN", StoreDenied),
        ("EMFILE ENFILE EAGAIN EINTR ENOMEM EBUSY ETIMEDOUT EINVAL ENAMETOOLONG", StoreUnavailable),
    ],
)
def test_errors_are_fatal_or_retryable_by_what_they_mean(names: str, expected: type[StoreError]) -> None:
    assert {type(store_error(OSError(getattr(errno, name), ""), "p")) for name in names.split()} == {expected}


def test_an_error_without_a_number_is_retryable() -> None:
    assert store_error(OSError("odd"), "p").severity is Severity.RETRYABLE


def test_a_disk_that_takes_nothing_is_full_and_not_an_endless_loop(tmp_path: Path) -> None:
    class NothingDisk(RealDisk):
        def write(self, fd: int, data: bytes | memoryview) -> int:
            return 0

    with pytest.raises(StoreFull), spoken("p"):
        write_all(NothingDisk(), 0, b"x")


def test_the_doubles_are_disks() -> None:
    disks: list[Disk] = [RealDisk(), WatchedDisk(), FaultyDisk("open", errno.EIO), ShortDisk(), KillingDisk(1)]
    assert all(callable(getattr(disk, call)) for disk in disks for call in CALLS)
