"""The archive's lock: one run at a time, given back by the kernel however the run ends."""

import fcntl
import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime

from archiver.errors import ArchiveInUse, StoreDenied
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import spoken
from archiver.stores.temporaries import OWN_FOLDER

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTE_BYTES = 4096


class ArchiveLock:
    """Holds `<root>/.archiver/lock` from construction to `close`.

    The file stays: a name that comes and goes would let two runs lock two files.

    Raises:
        ArchiveInUse: another run holds it; the message names that run.
        StoreDenied, StoreFull, StoreUnavailable: the lock file can't be used.
    """

    def __init__(self, folder: ArchiveFolder, *, run_id: str, started_at: datetime) -> None:
        path = f"{folder.path}/{OWN_FOLDER}/lock"
        note = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "run_id": run_id,
            "started_at": started_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        with spoken(path), folder.folders.use((OWN_FOLDER,), create=True) as own:
            self._fd = os.open("lock", _FLAGS, 0o600, dir_fd=own.fd)
            try:
                self._take(path)
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, json.dumps(note).encode() + b"\n", 0)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Give the lock back; again is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self, path: str) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveInUse(f"the archive is in use by {_holder(self._fd)} (lock {path})") from None
        except OSError as error:
            raise _no_locks(path, error) from error


def held_by(folder: ArchiveFolder) -> str | None:
    """Who holds the archive's lock now, in words; None when nobody does. Takes it for an instant only.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable: the lock file can't be used.
    """
    path = f"{folder.path}/{OWN_FOLDER}/lock"
    with spoken(path), folder.folders.use((OWN_FOLDER,), create=True) as own:
        fd = os.open("lock", _FLAGS, 0o600, dir_fd=own.fd)
        try:
            # Shared, so that two who look don't take each other for a run.
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _holder(fd)
        except OSError as error:
            raise _no_locks(path, error) from error
        finally:
            os.close(fd)
    return None


def _no_locks(path: str, error: OSError) -> StoreDenied:
    return StoreDenied(f"{path}: this file system has no locks ({error.strerror}); mount it with locks")


def _holder(fd: int) -> str:
    """The run that holds the lock, from its note; whatever the note holds is shown as a single printable line."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        note = json.loads(os.pread(fd, _NOTE_BYTES, 0))
        run_id, pid, host, since = (str(note[k]) for k in ("run_id", "pid", "host", "started_at"))
        return f"run {run_id!a}, process {pid!a} on {host!a} since {since!a}".replace("'", "")
    return "another run"
