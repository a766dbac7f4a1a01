"""The archive's own word for its latest run, beside the ledger: a ledger that doesn't know it is older than the archive."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass

from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import close_quietly, spoken, write_all
from archiver.stores.temporaries import OWN_FOLDER

_NAME = "last-run.json"
_BESIDE = "last-run.json.new"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class LastRun:
    """The latest run: its id, and whether it had ended when this was written."""

    run_id: str
    ended: bool


def note_last_run(folder: ArchiveFolder, last: LastRun) -> None:
    """Write it down, durably; after a kill it is the former note or this one. The archive's lock must be held.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable: the former note stays.
    """
    data = json.dumps({"run_id": last.run_id, "ended": last.ended}).encode() + b"\n"
    with spoken(f"{folder.path}/{OWN_FOLDER}/{_NAME}"), folder.folders.use((OWN_FOLDER,), create=True) as own:
        fd = os.open(_BESIDE, _FLAGS, 0o600, dir_fd=own.fd)
        try:
            write_all(folder.disk, fd, data)
            if folder.durable:
                os.fsync(fd)
        finally:
            close_quietly(folder.disk, fd)
        os.replace(_BESIDE, _NAME, src_dir_fd=own.fd, dst_dir_fd=own.fd)
        if folder.durable:
            os.fsync(own.fd)


def noted_last_run(folder: ArchiveFolder) -> LastRun | None:
    """What was written down; None when nothing was, or nothing that can be understood.

    Raises:
        StoreDenied, StoreUnavailable: it can't be read.
    """
    with spoken(f"{folder.path}/{OWN_FOLDER}/{_NAME}"), folder.folders.use((OWN_FOLDER,), create=True) as own:
        try:
            fd = os.open(_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=own.fd)
        except FileNotFoundError:
            return None
        try:
            data = os.pread(fd, _MOST_BYTES, 0)
        finally:
            close_quietly(folder.disk, fd)
    with suppress(ValueError, KeyError, TypeError):
        said = json.loads(data)
        return LastRun(str(said["run_id"]), bool(said["ended"]))
    return None
