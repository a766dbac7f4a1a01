"""The files that another tool saved: found in a folder, with the recording ids in their names; nothing is changed."""

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_IDS = re.compile(r"(?<![0-9A-Za-z])(?:[0-9]{6}-[0-9A-Fa-f]{32}|[0-9A-Fa-f]{32}|[0-9A-Fa-f]{24})(?![0-9A-Za-z])")
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file: where, its name under the folder as it can be shown, its size, and the ids that its name holds.

    `named` says that they look like ids; else there is one, the name itself without its ending.
    """

    path: str
    shown: str
    size_bytes: int
    ids: tuple[str, ...]
    named: bool


@dataclass(frozen=True, slots=True)
class Passed:
    """Something that is no file to take over, and why."""

    shown: str
    why: str


def find_files(folder: Path, *, leave_out: tuple[int, int] | None) -> Iterator[FoundFile | Passed]:
    """Everything under a folder, in the order of the names; `leave_out` is the device and inode of a folder to pass over.

    Symlinks are never followed.
    """
    yield from _below(os.fspath(folder), "", leave_out)


def read_file(path: str) -> Iterator[bytes]:
    """A file's bytes, up to 1 MiB at a time.

    Raises:
        OSError: it can't be read, or is no file any more.
    """
    fd = os.open(path, _READ_FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError("it is no regular file any more")
        while data := os.read(fd, _CHUNK_BYTES):
            yield data
    finally:
        os.close(fd)


def ids_in(name: str) -> tuple[tuple[str, ...], bool]:
    """The ids that a file's name may stand for, and whether they look like ids."""
    found = dict.fromkeys(_IDS.findall(name))
    if found:
        return tuple(found), True
    stem = name.rpartition(".")[0] or name
    return (stem,), False


def _below(path: str, above: str, leave_out: tuple[int, int] | None) -> Iterator[FoundFile | Passed]:
    try:
        with os.scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield Passed(_shown(above) or ".", f"the folder can't be read: {error.strerror}")
        return
    for entry in found:
        name = f"{above}{entry.name}"
        try:
            about = entry.stat(follow_symlinks=False)
        except OSError as error:
            yield Passed(_shown(name), f"it can't be looked at: {error.strerror}")
            continue
        if stat.S_ISDIR(about.st_mode):
            if (about.st_dev, about.st_ino) != leave_out:
                yield from _below(entry.path, f"{name}/", leave_out)
        elif stat.S_ISREG(about.st_mode):
            ids, named = ids_in(entry.name)
            yield FoundFile(entry.path, _shown(name), about.st_size, ids, named)
        else:
            yield Passed(_shown(name), "a symlink, which is not followed" if entry.is_symlink() else "no regular file")


def _shown(name: str) -> str:
    """A name from outside that JSON can hold, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")
