"""Small files written all or nothing: under the name there is what was there before, or all of the new bytes."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BESIDE = ".new"
"""What the name of a file ends in while it is written; one that a killed process left is in nobody's way."""
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def write_whole(
    name: str | Path,
    data: bytes,
    *,
    folder_fd: int | None = None,
    mode: int = 0o600,
    durable: bool = True,
    alone: bool = False,
    write: Callable[[int, memoryview], int] = os.write,
) -> None:
    """Give a file these bytes, in place of what stands there. Blocking.

    `name` is a path, below `folder_fd` if there is one. `durable` syncs the file, and the folder where it is given.
    Where nobody else writes the name meanwhile (`alone`), what a killed process left is cleared by the next.

    Raises:
        OSError: under the name is what was there before.
    """
    beside = f"{name}{BESIDE}" if alone else f"{name}.{os.getpid()}{BESIDE}"
    with suppress(FileNotFoundError):
        os.unlink(beside, dir_fd=folder_fd)  # of a process that was killed, and had our number
    fd = os.open(beside, _NEW, 0o600, dir_fd=folder_fd)
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[write(fd, rest) :]
            if mode != 0o600:  # noqa: PLR2004 - as it was made
                os.fchmod(fd, mode)
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(beside, name, src_dir_fd=folder_fd, dst_dir_fd=folder_fd)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside, dir_fd=folder_fd)
        raise
    if durable and folder_fd is not None:
        os.fsync(folder_fd)


def read_small(name: str, *, folder_fd: int, most_bytes: int) -> bytes | None:
    """A small file's bytes, at most so many; None when it is not there. Nothing is waited for, and no symlink followed.

    Raises:
        OSError: it can't be read.
    """
    try:
        fd = os.open(name, _READ, dir_fd=folder_fd)
    except FileNotFoundError:
        return None
    try:
        return os.read(fd, most_bytes)
    finally:
        os.close(fd)
