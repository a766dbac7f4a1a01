"""Small files of our own under `.archiver`, replaced as a whole: after a kill there is the former one or the new one."""

import os
from contextlib import suppress

from archiver.keys import check_key
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import READ_FLAGS, close_quietly, read_all, spoken, write_all
from archiver.stores.temporaries import OWN_FOLDER

_ENDING = ".json"
_NEW = ".new"
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


class Notes:
    """The JSON files in one folder under `.archiver`, each by its name without the ending."""

    def __init__(self, folder: ArchiveFolder, name: str) -> None:
        self._folder = folder
        self._segments = (OWN_FOLDER, check_key(name))
        self._path = "/".join((folder.path, *self._segments))

    def write(self, name: str, data: bytes) -> None:
        """Write one, durably, in place of what stands there.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: what stood there still does.
        """
        self._write(name, data, anew=False)

    def write_new(self, name: str, data: bytes) -> bool:
        """Write one, durably, unless one of this name stands there; whether it was written.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable.
        """
        return self._write(name, data, anew=True)

    def _write(self, name: str, data: bytes, *, anew: bool) -> bool:
        final, beside = f"{check_key(name)}{_ENDING}", f"{name}.{os.getpid()}{_NEW}"
        disk = self._folder.disk
        with spoken(f"{self._path}/{final}"), self._folder.folders.use(self._segments, create=True) as own:
            fd = disk.open(beside, _FLAGS, dir_fd=own.fd)
            try:
                write_all(disk, fd, data)
                if self._folder.durable:
                    disk.fsync(fd)
            finally:
                close_quietly(disk, fd)
            written = True
            if anew:
                try:
                    disk.link(beside, final, src_dir_fd=own.fd, dst_dir_fd=own.fd)
                except FileExistsError:
                    written = False
                disk.unlink(beside, dir_fd=own.fd)
            else:
                os.replace(beside, final, src_dir_fd=own.fd, dst_dir_fd=own.fd)
            if self._folder.durable:
                own.settle()
        return written

    def remove(self, name: str) -> None:
        """Remove one; again is no error.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        final = f"{check_key(name)}{_ENDING}"
        with (
            spoken(f"{self._path}/{final}"),
            self._folder.folders.use(self._segments, create=True) as own,
            suppress(FileNotFoundError),
        ):
            self._folder.disk.unlink(final, dir_fd=own.fd)

    def read(self) -> dict[str, bytes]:
        """All of them, by name.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        disk = self._folder.disk
        found: dict[str, bytes] = {}
        with spoken(self._path), self._folder.folders.use(self._segments, create=True) as own:
            for each in sorted(disk.scan(own.fd)):
                if each.is_folder or not each.name.endswith(_ENDING):
                    continue
                fd = disk.open(each.name, READ_FLAGS, dir_fd=own.fd)
                try:
                    found[each.name.removesuffix(_ENDING)] = b"".join(read_all(disk, fd))
                finally:
                    close_quietly(disk, fd)
        return found
