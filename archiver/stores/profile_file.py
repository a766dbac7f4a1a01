"""The file in which `doctor` keeps what it learnt of the PBX; only its bytes are known here."""

from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import spoken
from archiver.stores.temporaries import OWN_FOLDER
from archiver.whole_files import read_small, write_whole

PROFILE_NAME = "pbx-profile.json"
_MOST_BYTES = 1 << 20


def keep_profile(folder: ArchiveFolder, data: bytes) -> None:
    """Write it, readable by this user alone; after a kill it is the former one or this one.

    Beside another `doctor` the one that ends last is kept, whole.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable: the former one stays.
    """
    with spoken(f"{folder.path}/{OWN_FOLDER}/{PROFILE_NAME}"), folder.folders.use((OWN_FOLDER,), create=True) as own:
        write_whole(PROFILE_NAME, data, folder_fd=own.fd, write=folder.disk.write)


def kept_profile(folder: ArchiveFolder) -> bytes | None:
    """What was kept; None when nothing was. Longer than any profile it is cut, and no profile any more.

    Raises:
        StoreDenied, StoreUnavailable: it can't be read.
    """
    with spoken(f"{folder.path}/{OWN_FOLDER}/{PROFILE_NAME}"), folder.folders.use((OWN_FOLDER,), create=True) as own:
        return read_small(PROFILE_NAME, folder_fd=own.fd, most_bytes=_MOST_BYTES)
