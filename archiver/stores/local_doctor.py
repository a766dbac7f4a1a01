"""Examines the archive's local folder for `doctor`, by doing once what a run does for each recording; raises nothing.

It makes what a run would make (the root when only its last folder is missing, `.archiver` in it, the lock file) and
leaves nothing else: what it writes are temporaries, which it removes.
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from archiver.check import Check, failed, guarded
from archiver.errors import StoreError, StoreMismatch, StoreUnavailable
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import FOLDER_FLAGS, close_quietly, spoken
from archiver.stores.folders import Folder
from archiver.stores.lock import held_by
from archiver.stores.temporaries import OWN_FOLDER, TEMPORARY, TemporaryFile

_OTHERS = 0o077
_WORDS = b"The recording archiver wrote this to see what the disk can do.\n" * 1024
_LITTLE_BYTES = 5 << 30
_FEW_INODES = 50_000
_SLOW_S = 1.0


def examine(root: Path, *, objects: bool) -> tuple[Check, ...]:
    """Look at the folder; with `objects` recordings lie there too, without only `.archiver`.

    Safe beside a run: it holds the archive's lock for an instant only, and touches no file but its own.
    """
    try:
        with spoken(str(root)):
            known = root.exists()
            folder = ArchiveFolder(root, durable=True)
    except StoreError as error:
        return (failed("root", error),)
    try:
        found = Check("root", "ok", f"{folder.path} is there" if known else f"{folder.path} was made")
        looks: dict[str, Callable[[], Check]] = {
            "permissions": partial(_permissions, folder),
            "in_use": partial(_in_use, folder),
            "room": partial(_room, folder),
            "one_file_system": partial(_one_file_system, folder, objects=objects),
        }
        return (found, *(guarded(name, look) for name, look in looks.items()), *_tried_out(folder))
    finally:
        folder.close()


def _permissions(folder: ArchiveFolder) -> Check:
    for segments in ((), (OWN_FOLDER,), TEMPORARY):
        with folder.folders.use(segments, create=False) as one, spoken(one.path):
            mode = stat.S_IMODE(folder.disk.fstat(one.fd).st_mode)
        if mode & _OTHERS:
            said = f"{one.path} has mode {mode:04o}: others can look into it"
            return Check("permissions", "weak", said, f"chmod 700 {one.path}")
    return Check("permissions", "ok", "only this user can look into it")


def _in_use(folder: ArchiveFolder) -> Check:
    holder = held_by(folder)
    if holder is None:
        return Check("in_use", "ok", "no run works here now, and the file system has locks")
    return Check("in_use", "weak", f"in use by {holder}", "until that has ended, another run ends with exit code 6")


def _room(folder: ArchiveFolder) -> Check:
    room = folder.check_room()
    said = "the file system does not tell what is free"
    if room.free_bytes is not None:
        inodes = "" if room.free_inodes is None else f", {room.free_inodes:,} inodes"
        said = f"{room.free_bytes / 1e9:,.1f} GB are free{inodes}"
    little = room.free_bytes is not None and room.free_bytes < _LITTLE_BYTES
    few = room.free_inodes is not None and room.free_inodes < _FEW_INODES
    if little or few:
        return Check("room", "weak", said, "`archiver plan --since 31d` tells how much a month needs")
    return Check("room", "ok", said)


def _one_file_system(folder: ArchiveFolder, *, objects: bool) -> Check:
    """A temporary file gets its final name by a link, which no file system makes to another."""
    for path in _folders(folder, objects=objects):
        with spoken(path):
            fd = folder.disk.open(path, FOLDER_FLAGS)
            try:
                device = folder.disk.fstat(fd).st_dev
            finally:
                close_quietly(folder.disk, fd)
        if device != folder.folders.device:
            advice = f"unmount it, or make it the archive's root, so that all lies on one with {'/'.join(TEMPORARY)}"
            return Check("one_file_system", "failed", f"{path} is another file system than the root", advice)
    return Check("one_file_system", "ok", f"all folders lie on one with {'/'.join(TEMPORARY)}")


def _folders(folder: ArchiveFolder, *, objects: bool) -> Iterator[str]:
    """The archive's own folders, and those of the accounts; others may begin with a dot (snapshots) or be no folders."""
    yield f"{folder.path}/{OWN_FOLDER}"
    yield "/".join((folder.path, *TEMPORARY))
    if objects:
        with spoken(folder.path):
            found = folder.disk.scan(folder.folders.root.fd)
        yield from (f"{folder.path}/{one.name}" for one in found if one.is_folder and not one.name.startswith("."))


def _tried_out(folder: ArchiveFolder) -> Iterator[Check]:
    """Write, sync, read back, name, and name again; the first that fails ends it."""
    name = "write"
    try:
        with folder.folders.use(TEMPORARY, create=False) as place:
            file = folder.temporaries.new()
            try:
                steps: tuple[Callable[[ArchiveFolder, Folder, TemporaryFile], Check], ...]
                steps = (_write, _fsync, _read_back, _no_overwrite)
                for step in steps:
                    name = step.__name__.removeprefix("_")
                    yield step(folder, place, file)
            finally:
                file.discard()
    except StoreError as error:
        yield failed(name, error)
    except FileNotFoundError:
        yield failed(name, StoreUnavailable("a run that began just now cleared what was tried out: do it again"))


def _write(folder: ArchiveFolder, _: Folder, file: TemporaryFile) -> Check:
    file.write(_WORDS)
    mode = stat.S_IMODE(file.found().st_mode)
    if mode & _OTHERS:
        said = f"wrote {len(_WORDS)} bytes, but the file has mode {mode:04o}: does this file system keep modes?"
        return Check("write", "weak", said, f"keep others out of {folder.path} by other means")
    return Check("write", "ok", f"wrote {len(_WORDS)} bytes, readable by this user alone")


def _fsync(_: ArchiveFolder, place: Folder, file: TemporaryFile) -> Check:
    begun_s = time.monotonic()
    file.sync()
    place.settle()
    took_s = time.monotonic() - begun_s
    if took_s > _SLOW_S:
        return Check("fsync", "weak", f"works, but takes {took_s:.1f} s", "expect a slow archive; is the disk busy?")
    return Check("fsync", "ok", f"file and folder in {took_s * 1000:.0f} ms")


def _read_back(folder: ArchiveFolder, _: Folder, file: TemporaryFile) -> Check:
    if file.read(len(_WORDS) + 1, 0) != _WORDS:
        raise StoreMismatch(f"{folder.path}: what was read back is not what was written: check `dmesg` and the disk")
    return Check("read_back", "ok", f"{len(_WORDS)} bytes came back as they were written")


def _no_overwrite(folder: ArchiveFolder, place: Folder, file: TemporaryFile) -> Check:
    # Ends like any temporary, so that a run clears it if we are killed here.
    name = f"{os.getpid()}-doctor.part"
    file.publish(place, name)
    try:
        file.publish(place, name)
    except FileExistsError:
        return Check("no_overwrite", "ok", "a name that is taken was refused")
    finally:
        with suppress(OSError):
            folder.disk.unlink(name, dir_fd=place.fd)
    advice = "use a file system such as ext4 or xfs"
    return Check("no_overwrite", "failed", "a name that was taken was given again: files could be overwritten", advice)
