"""The archive's own word for its latest run, beside the ledger: a ledger that doesn't know it is older than the archive."""

import json
from contextlib import suppress
from dataclasses import dataclass

from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import spoken
from archiver.stores.temporaries import OWN_FOLDER
from archiver.whole_files import read_small, write_whole

_NAME = "last-run.json"
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
        write_whole(_NAME, data, folder_fd=own.fd, durable=folder.durable, alone=True, write=folder.disk.write)


def noted_last_run(folder: ArchiveFolder) -> LastRun | None:
    """What was written down; None when nothing was, or nothing that can be understood.

    Raises:
        StoreDenied, StoreUnavailable: it can't be read.
    """
    with spoken(f"{folder.path}/{OWN_FOLDER}/{_NAME}"), folder.folders.use((OWN_FOLDER,), create=True) as own:
        data = read_small(_NAME, folder_fd=own.fd, most_bytes=_MOST_BYTES)
    if data is None:
        return None
    with suppress(ValueError, KeyError, TypeError):
        said = json.loads(data)
        return LastRun(str(said["run_id"]), bool(said["ended"]))
    return None
