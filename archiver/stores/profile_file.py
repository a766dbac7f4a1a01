"""The file in which `doctor` keeps what it learnt of the PBX; only its bytes are known here."""

import os
from contextlib import suppress

from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import close_quietly, spoken, write_all
from archiver.stores.temporaries import OWN_FOLDER

PROFILE_NAME = "pbx-profile.json"
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BYTES = 1 << 20


def keep_profile(folder: ArchiveFolder, data: bytes) -> None:
    """Write it, readable by this user alone; after a kill it is the former one or this one.

    Beside another `doctor` the one that ends last is kept, whole.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable: the former one stays.
    """
    beside = f"{PROFILE_NAME}.{os.getpid()}.new"
    with spoken(f"{folder.path}/{OWN_FOLDER}/{PROFILE_NAME}"), folder.folders.use((OWN_FOLDER,), create=True) as own:
        with suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=own.fd)  # of a process that was killed and had this number
        fd = os.open(beside, _FLAGS, 0o600, dir_fd=own.fd)
        try:
            try:
                write_all(folder.disk, fd, data)
                os.fsync(fd)
            finally:
                close_quietly(folder.disk, fd)
            os.replace(beside, PROFILE_NAME, src_dir_fd=own.fd, dst_dir_fd=own.fd)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside, dir_fd=own.fd)
            raise
        os.fsync(own.fd)


def kept_profile(folder: ArchiveFolder) -> bytes | None:
    """What was kept; None when nothing was. Longer than any profile it is cut, and no profile any more.

    Raises:
        StoreDenied, StoreUnavailable: it can't be read.
    """
    with spoken(f"{folder.path}/{OWN_FOLDER}/{PROFILE_NAME}"), folder.folders.use((OWN_FOLDER,), create=True) as own:
        try:
            fd = os.open(PROFILE_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=own.fd)
        except FileNotFoundError:
            return None
        try:
            return os.read(fd, _MOST_BYTES)
        finally:
            close_quietly(folder.disk, fd)
