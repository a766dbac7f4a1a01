"""Walks the archive in key order with flat memory: one folder's names at a time on each level."""

import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from archiver.errors import InvalidKey
from archiver.keys import EVIDENCE_PREFIXES, MAX_KEY_BYTES, check_object_key, is_segment
from archiver.stores.base import ObjectHead
from archiver.stores.disk import FOLDER_FLAGS, Disk, close_quietly, kind_of, spoken, spoken_but_absent, store_error
from archiver.stores.temporaries import OWN_FOLDER

_FILES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Stranger:
    """Something in the archive that is no object: where, and what it is in a few words."""

    path: str
    what: str


Batch = list[ObjectHead | Stranger]


def walk(disk: Disk, root_fd: int, root_path: str, prefix: str = "") -> Iterator[Batch]:
    """Everything under the root whose path begins with `prefix`, in the order of the keys as strings, in batches.

    What disappears during the walk is left out; symlinks are named as strangers and never followed.

    Raises:
        StoreDenied, StoreUnavailable: the walk can't be completed.
    """
    yield from _folder(disk, root_fd, root_path, "", prefix)


def _folder(disk: Disk, fd: int, path: str, above: str, prefix: str) -> Iterator[Batch]:
    with spoken(path):
        entries = disk.scan(fd)
    # A folder sorts as its keys do, that is with the slash: `a.json` comes before `a/b`, and `a0` after it.
    names = sorted(name + "/" if is_folder else name for name, is_folder in entries)
    del entries
    files: list[str] = []
    for name in names:
        if not name.endswith("/"):
            files.append(name)
            if len(files) < _FILES_AT_ONCE:
                continue
        if files:
            yield _files(disk, fd, path, above, [each for each in files if (above + each).startswith(prefix)])
            files = []
        key = above + name
        if key == f"{OWN_FOLDER}/" and not prefix.startswith(EVIDENCE_PREFIXES):
            continue
        if name.endswith("/") and (key.startswith(prefix) or prefix.startswith(key)):
            yield from _below(disk, fd, path, key, prefix)
    yield _files(disk, fd, path, above, [each for each in files if (above + each).startswith(prefix)])


def _below(disk: Disk, parent_fd: int, path: str, key: str, prefix: str) -> Iterator[Batch]:
    name = key[:-1].rpartition("/")[2]
    if not _is_valid(key[:-1]) and not any(evidence.startswith(key) for evidence in EVIDENCE_PREFIXES):
        yield [Stranger(_shown(key), "a folder whose name is no part of a key")]
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


def _files(disk: Disk, fd: int, path: str, above: str, names: Sequence[str]) -> Batch:
    """What so many names of a folder are. One loop without a call of our own for each: an archive has millions."""
    found: Batch = []
    name = ""
    try:
        for name in names:
            try:
                seen = disk.stat(name, dir_fd=fd)
            except FileNotFoundError:
                continue
            key = above + name
            if not stat.S_ISREG(seen.st_mode):
                found.append(Stranger(_shown(key), kind_of(seen.st_mode)))
            elif not is_segment(name) or len(key) > MAX_KEY_BYTES:
                found.append(Stranger(_shown(key), "a file whose name is no key"))
            else:
                found.append(ObjectHead(key, seen.st_size, seen.st_mtime))
    except OSError as error:
        raise store_error(error, f"{path}/{_shown(name)}") from error
    return found


def _is_valid(key: str) -> bool:
    try:
        check_object_key(key)
    except InvalidKey:
        return False
    return True


def _shown(path: str) -> str:
    """A name from outside, safe to print."""
    return path if path.isascii() and path.isprintable() else ascii(path)
