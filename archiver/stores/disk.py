"""The seam to the operating system: the system calls the local store makes, and what their errors mean.

Nothing else in this room calls `os` for files, so that a test can fail, cut short or record any single call.
"""

import ctypes
import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

from archiver.errors import StoreDenied, StoreError, StoreFull, StoreUnavailable

READ_BYTES = 1 << 20
"""How much is read or yielded at a time."""

FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NAMELESS_FLAGS = os.O_RDWR | getattr(os, "O_TMPFILE", 0) | os.O_CLOEXEC
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NEW_FILE_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Found(NamedTuple):
    """One name in a folder."""

    name: str
    is_folder: bool


class Disk(Protocol):
    """System calls by their own names; each raises OSError as the kernel does. None follows a symlink at the end."""

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        """A new file descriptor."""
        ...

    def close(self, fd: int) -> None:
        """Give a file descriptor back; network file systems report lost writes here."""
        ...

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write at the file's position; may take fewer bytes than given, and returns how many."""
        ...

    def pread(self, fd: int, size_bytes: int, offset_bytes: int) -> bytes:
        """Up to `size_bytes` from an offset; empty at the end."""
        ...

    def fsync(self, fd: int) -> None:
        """Wait until a file's bytes, or a folder's names, would survive a power loss."""
        ...

    def tells_all(self, fd: int) -> bool:
        """Whether `sync_all` is there for this file system and reports every loss since `fd` was opened."""
        ...

    def sync_all(self, fd: int) -> None:
        """Wait until all that was written to the file system of `fd`, bytes and names, would survive a power loss."""
        ...

    def link(self, source: str, name: str, *, src_dir_fd: int | None, dst_dir_fd: int) -> None:
        """A second name for `source`; without `src_dir_fd` it is `/proc/self/fd/N`, a file that has no name yet."""
        ...

    def unlink(self, name: str, *, dir_fd: int) -> None:
        """Remove a name."""
        ...

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        """A new folder."""
        ...

    def fstat(self, fd: int) -> os.stat_result:
        """What an open file is."""
        ...

    def stat(self, path: str, *, dir_fd: int | None = None) -> os.stat_result:
        """What a name is; a symlink at the end is itself."""
        ...

    def scan(self, fd: int) -> list[Found]:
        """The names in an open folder, in no order."""
        ...

    def statvfs(self, fd: int) -> os.statvfs_result:
        """Room of the file system."""
        ...


class RealDisk:
    """The kernel itself."""

    def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        """See `Disk`."""
        return os.open(path, flags, mode, dir_fd=dir_fd)

    def close(self, fd: int) -> None:
        """See `Disk`."""
        os.close(fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """See `Disk`."""
        return os.write(fd, data)

    def pread(self, fd: int, size_bytes: int, offset_bytes: int) -> bytes:
        """See `Disk`."""
        return os.pread(fd, size_bytes, offset_bytes)

    def fsync(self, fd: int) -> None:
        """See `Disk`."""
        os.fsync(fd)

    def tells_all(self, fd: int) -> bool:
        """See `Disk`; a loss is told since Linux 5.8 (syncfs(2)), and on file systems of which that is known."""
        if not hasattr(_libc(), "syncfs") or _kernel() < _TELLS_SINCE:
            return False
        device = os.fstat(fd).st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="replace") as mounts:
            kinds = {line.partition(" - ")[2].split(" ")[0] for line in mounts if line.split(" ")[2] == number}
        return bool(kinds) and kinds <= _TELL_LOSSES

    def sync_all(self, fd: int) -> None:
        """See `Disk`."""
        if _libc().syncfs(fd) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def link(self, source: str, name: str, *, src_dir_fd: int | None, dst_dir_fd: int) -> None:
        """See `Disk`."""
        # Only the magic link in /proc is followed: that is how linkat names a file that has no name.
        os.link(source, name, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=src_dir_fd is None)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        """See `Disk`."""
        os.unlink(name, dir_fd=dir_fd)

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        """See `Disk`."""
        os.mkdir(name, mode, dir_fd=dir_fd)

    def fstat(self, fd: int) -> os.stat_result:
        """See `Disk`."""
        return os.fstat(fd)

    def stat(self, path: str, *, dir_fd: int | None = None) -> os.stat_result:
        """See `Disk`."""
        return os.stat(path, dir_fd=dir_fd, follow_symlinks=False)

    def scan(self, fd: int) -> list[Found]:
        """See `Disk`."""
        with os.scandir(fd) as entries:
            return [Found(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]

    def statvfs(self, fd: int) -> os.statvfs_result:
        """See `Disk`."""
        return os.fstatvfs(fd)


_TELLS_SINCE = (5, 8)
_TELL_LOSSES = frozenset({"ext4", "xfs", "f2fs", "tmpfs"})


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _kernel() -> tuple[int, ...]:
    if not sys.platform.startswith("linux"):
        return ()
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return tuple(map(int, found.groups())) if found else ()


_FULL = {
    errno.ENOSPC: "the disk has no room left (bytes or inodes): free some, then run again",
    errno.EDQUOT: "the disk quota is used up: raise it or free room, then run again",
    errno.EFBIG: "the file is larger than this file system or `ulimit -f` allows: raise the limit, then run again",
}
_DENIED = {
    errno.EROFS: "the file system is read-only: check `dmesg` and remount it",
    errno.EACCES: "permission denied: check the owner and the mode of the folder",
    errno.EPERM: "the system does not permit it: check the owner, `lsattr`, and that the file system has hard links",
    errno.EOPNOTSUPP: "the file system can't do this: the archive needs one with hard links, such as ext4 or xfs",
    errno.ENOSYS: "the file system can't do this: the archive needs one with hard links, such as ext4 or xfs",
    errno.EMLINK: "the file system allows no more hard links: the archive needs one such as ext4 or xfs",
    errno.EIO: "the disk reported an input/output error: check `dmesg` and the disk before the next run",
    errno.ESTALE: "the network file system lost this folder: mount it again, then run again",
    errno.ENOTCONN: "the file system went away: mount it again, then run again",
    errno.ENODEV: "the device went away: mount it again, then run again",
    errno.ENXIO: "the device went away: mount it again, then run again",
    errno.ENOTDIR: "something that is no folder, perhaps a symlink, stands in the path: move it away",
    errno.ELOOP: "a symlink stands in the path: move it away",
    errno.EXDEV: "another file system is mounted inside the archive: unmount it, or make it the archive's root",
}
_BUSY = {
    errno.EMFILE: "too many open files in this process: raise `ulimit -n` or lower the number of workers",
    errno.ENFILE: "too many open files on this machine",
    errno.EAGAIN: "the system was busy",
    errno.EINTR: "the call was interrupted",
}


def store_error(error: OSError, path: str) -> StoreError:
    """What an OSError means for the run, with the path and what to do about it.

    An errno that no table names is retryable: retries are few and end with the recording still pending, whereas a guess
    that it is fatal would end a whole night's run for one odd file.
    """
    number = error.errno or 0
    if number in _FULL:
        return StoreFull(f"{path}: {_FULL[number]}")
    if number in _DENIED:
        return StoreDenied(f"{path}: {_DENIED[number]}")
    said = _BUSY.get(number) or (error.strerror or "unknown error").lower()
    return StoreUnavailable(f"{path}: {said} ({errno.errorcode.get(number, number)})")


class spoken:  # noqa: N801 - reads as a verb, like contextlib's; a class, since it is entered many times per recording
    """Turn every OSError inside into one of our tree; the one place where that happens.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if isinstance(error, OSError):
            raise store_error(error, self._path) from error


@contextmanager
def spoken_but_absent(path: str) -> Iterator[None]:
    """Like `spoken`, but lets FileNotFoundError through, for callers to whom absence is an answer."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise store_error(error, path) from error


def close_quietly(disk: Disk, fd: int) -> None:
    """Close a descriptor whose close can lose nothing: a folder, a file that was read, or one that is given up."""
    with suppress(OSError):
        disk.close(fd)


def write_all(disk: Disk, fd: int, data: bytes) -> None:
    """Write all of `data`, however little the system takes at a time; OSError when it takes nothing."""
    done = disk.write(fd, data)
    while done < len(data):
        taken = disk.write(fd, memoryview(data)[done:])
        if taken <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done += taken


def read_all(disk: Disk, fd: int) -> Iterator[bytes]:
    """A file's bytes from the start, up to 1 MiB at a time; OSError as the system reports it."""
    offset = 0
    while data := disk.pread(fd, READ_BYTES, offset):
        offset += len(data)
        yield data


def kind_of(mode: int) -> str:
    """What a thing that is no regular file is called."""
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISLNK(mode):
        return "a symlink"
    return "no regular file"
