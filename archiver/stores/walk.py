"""Walks the archive in key order with flat memory: one folder's names at a time on each level."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass

from archiver.errors import InvalidKey
from archiver.keys import EVIDENCE_PREFIXES, check_object_key
from archiver.stores.disk import FOLDER_FLAGS, Disk, close_quietly, kind_of, spoken, spoken_but_absent
from archiver.stores.temporaries import OWN_FOLDER


@dataclass(frozen=True, slots=True)
class Stranger:
    """Something in the archive that is no object: where, and what it is in a few words."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class File:
    """An object as the folder shows it: key, size, and time of change in seconds since 1970."""

    key: str
    size_bytes: int
    modified_s: float


def walk(disk: Disk, root_fd: int, root_path: str, prefix: str = "") -> Iterator[File | Stranger]:
    """Everything under the root whose path begins with `prefix`, in the order of the keys as strings.

    What disappears during the walk is left out; symlinks are named as strangers and never followed.

    Raises:
        StoreDenied, StoreUnavailable: the walk can't be completed.
    """
    yield from _folder(disk, root_fd, root_path, "", prefix)


def _folder(disk: Disk, fd: int, path: str, above: str, prefix: str) -> Iterator[File | Stranger]:
    with spoken(path):
        entries = disk.scan(fd)
    # A folder sorts as its keys do, that is with the slash: `a.json` comes before `a/b`, and `a0` after it.
    names = sorted(name + "/" if is_folder else name for name, is_folder in entries)
    del entries
    for name in names:
        key = above + name
        if key == f"{OWN_FOLDER}/" and not prefix.startswith(EVIDENCE_PREFIXES):
            continue
        if name.endswith("/"):
            if key.startswith(prefix) or prefix.startswith(key):
                yield from _below(disk, fd, path, key, prefix)
        elif key.startswith(prefix):
            yield from _name(disk, fd, path, key)


def _below(disk: Disk, parent_fd: int, path: str, key: str, prefix: str) -> Iterator[File | Stranger]:
    name = key[:-1].rpartition("/")[2]
    if not _is_valid(key[:-1]) and not any(evidence.startswith(key) for evidence in EVIDENCE_PREFIXES):
        yield Stranger(_shown(key), "a folder whose name is no part of a key")
        return
    try:
        with spoken_but_absent(f"{path}/{name}"):
            fd = disk.open(name, FOLDER_FLAGS, dir_fd=parent_fd)
    except FileNotFoundError:
        return
    try:
        yield from _folder(disk, fd, f"{path}/{name}", key, prefix)
    finally:
        close_quietly(disk, fd)


def _name(disk: Disk, fd: int, path: str, key: str) -> Iterator[File | Stranger]:
    name = key.rpartition("/")[2]
    try:
        with spoken_but_absent(f"{path}/{_shown(name)}"):
            found = disk.stat(name, dir_fd=fd)
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        yield Stranger(_shown(key), kind_of(found.st_mode))
    elif not _is_valid(key):
        yield Stranger(_shown(key), "a file whose name is no key")
    else:
        yield File(key, found.st_size, found.st_mtime)


def _is_valid(key: str) -> bool:
    try:
        check_object_key(key)
    except InvalidKey:
        return False
    return True


def _shown(path: str) -> str:
    """A name from outside, safe to print."""
    return path if path.isascii() and path.isprintable() else ascii(path)
