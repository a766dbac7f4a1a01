"""The archive's local folder: its root, and `.archiver` in it with temporaries, quarantine and lock.

It is there with every store: with S3 only media, sidecars and evidence live elsewhere.
"""

import os
from pathlib import Path

from archiver.errors import StoreDenied, StoreFull
from archiver.stores.base import Room
from archiver.stores.disk import Disk, RealDisk, spoken
from archiver.stores.folders import Folders, open_root
from archiver.stores.publishing import Publisher
from archiver.stores.temporaries import OWN_FOLDER, Temporaries

_LEAST_FREE_INODES = 64


class ArchiveFolder:
    """Opens the root (made when only its last folder is missing) and holds what works inside it; safe for threads.

    `durable` asks for fsync before anything counts; `reserve_bytes` must be free for a run to begin.

    Raises:
        StoreDenied: the root can't be used; the message says what to run.
        StoreFull, StoreUnavailable.
    """

    def __init__(
        self, root: Path, *, durable: bool, disk: Disk | None = None, reserve_bytes: int = 64 << 20, make: bool = True
    ) -> None:
        self.disk: Disk = RealDisk() if disk is None else disk
        self.durable = durable
        self._reserve_bytes = reserve_bytes
        self.folders = Folders(self.disk, open_root(self.disk, root, make=make))
        self.path = self.folders.root.path
        try:
            self._check_own_folder()
            self.temporaries = Temporaries(self.disk, self.folders)
            self.publisher = Publisher(self.disk, self.folders, self.temporaries, durable=durable)
        except BaseException:
            self.folders.close()
            raise

    def prepare(self) -> None:
        """Clear what dead runs left and make sure that the run can write; the archive's lock must be held.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: with what to do.
        """
        self.temporaries.prepare()
        self.check_room()

    def join(self) -> None:
        """Find out how this run's own process writes here, which has prepared the folder and holds the archive's lock.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable.
        """
        self.temporaries.join()

    def check_room(self) -> Room:
        """What is free, when that is enough for a run to begin.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: with what to do.
        """
        room = self.room()
        if room.free_bytes is not None and room.free_bytes < self._reserve_bytes:
            free, reserve = room.free_bytes >> 20, self._reserve_bytes >> 20
            raise StoreFull(f"{self.path}: {free} MiB are free, less than the reserve of {reserve} MiB: free some room")
        if room.free_inodes is not None and room.free_inodes < _LEAST_FREE_INODES:
            raise StoreFull(f"{self.path}: the file system has only {room.free_inodes} inodes left: remove small files")
        return room

    def room(self) -> Room:
        """What is free for this user.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        with spoken(self.path):
            found = self.disk.statvfs(self.folders.root.fd)
        # Some file systems make inodes as they need them, and say zero of zero.
        return Room(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)

    def close(self) -> None:
        """Give every descriptor back."""
        self.temporaries.close()
        self.folders.close()

    def _check_own_folder(self) -> None:
        path = f"{self.path}/{OWN_FOLDER}"
        with spoken(path), self.folders.use((OWN_FOLDER,), create=True) as folder:
            found = self.disk.fstat(folder.fd)
        if found.st_uid not in {os.geteuid(), 0} or found.st_mode & 0o022:
            raise StoreDenied(f"{path} can be written by others: run `chown {os.geteuid()} {path}; chmod 700 {path}`")
