"""Small files of ours under `.archiver`, written all or nothing and readable by their owner alone.

`.archiver` itself is never made here: where it is not, no archive is, and an empty mount point must not look like one.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BESIDE = ".new"
_MOST_BYTES = 1 << 16
_LEFT_BEHIND_S = 3600.0


@contextmanager
def own_folder(root: Path, name: str, *, make: bool = True) -> Iterator[int]:
    """A descriptor of `.archiver/<name>` under the root; no symlink is followed below the root.

    The folder is made when it is missing, unless not `make`.

    Raises:
        OSError: there is no archive, or its folder can't be used.
    """
    above = [os.open(root, _FOLDER)]
    try:
        above.append(os.open(".archiver", _FOLDER | os.O_NOFOLLOW, dir_fd=above[-1]))
        if make:
            with suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=above[-1])
        above.append(os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=above[-1]))
        yield above[-1]
    finally:
        for fd in reversed(above):
            os.close(fd)


def write_whole(folder_fd: int, name: str, data: bytes, *, durable: bool) -> None:
    """Give a file these bytes; killed meanwhile, the name has its former bytes or these. `durable` syncs both.

    Raises:
        OSError: the name has what it had.
    """
    beside = f"{name}.{os.getpid()}{_BESIDE}"
    with suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder_fd)  # of a process that had our number, and was killed
    fd = os.open(beside, _NEW, 0o600, dir_fd=folder_fd)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(fd, rest) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(beside, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except OSError:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder_fd)
        raise
    if durable:
        os.fsync(folder_fd)


def read_small(folder_fd: int, name: str) -> bytes | None:
    """A small file's bytes; None when it is not there.

    Raises:
        OSError: it can't be read.
    """
    try:
        fd = os.open(name, _READ, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, _MOST_BYTES)
    finally:
        os.close(fd)


def clear_left_behind(folder_fd: int) -> None:
    """Remove what a process that was killed left half written, an hour ago or more.

    Raises:
        OSError.
    """
    for name in os.listdir(folder_fd):
        if name.endswith(_BESIDE):
            with suppress(FileNotFoundError):
                if time.time() - os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mtime > _LEFT_BEHIND_S:
                    os.unlink(name, dir_fd=folder_fd)
