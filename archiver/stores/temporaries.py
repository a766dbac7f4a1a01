"""Temporary files under `.archiver/tmp`, without a name where possible: then a kill leaves nothing behind."""

import errno
import itertools
import os
import secrets
from contextlib import suppress

from archiver.errors import StoreDenied, StoreError, StoreMismatch, StoreUnavailable
from archiver.stores.disk import (
    NAMELESS_FLAGS,
    NEW_FILE_FLAGS,
    Disk,
    close_quietly,
    spoken,
    spoken_but_absent,
    store_error,
    write_all,
)
from archiver.stores.folders import Folder, Folders

OWN_FOLDER = ".archiver"
TEMPORARY = (OWN_FOLDER, "tmp")
_CANNOT = frozenset(
    {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOSYS, errno.ENOENT, errno.EPERM, errno.ELOOP}
)


def sync_error(error: OSError, path: str) -> StoreError:
    """What a failed sync means: bytes that were lost can come anew, to another file."""
    if error.errno == errno.EIO:
        return StoreMismatch(f"{path}: the disk lost what was written: check `dmesg`")
    return store_error(error, path)


class TemporaryFile:
    """A file that is not part of the archive yet; for one thread at a time.

    `spoiled` is True after a failed fsync: the kernel may have dropped bytes it still shows, so the file is never
    synced or published again. `published` is True once it has a name in the archive.
    """

    def __init__(self, disk: Disk, folder: Folder, fd: int, name: str | None) -> None:
        self.fd = fd
        self.spoiled = False
        self.published = False
        self._disk = disk
        self._folder = folder
        self._name = name

    @property
    def is_named(self) -> bool:
        """Whether the file stands under a temporary name until it is discarded."""
        return self._name is not None

    def write(self, data: bytes) -> None:
        """Append all of `data`.

        Raises:
            StoreFull, StoreDenied, StoreUnavailable: the file is worth nothing then.
        """
        with spoken(self._folder.path):
            write_all(self._disk, self.fd, data)

    def read(self, size_bytes: int, offset_bytes: int) -> bytes:
        """Up to `size_bytes` from an offset.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        with spoken(self._folder.path):
            return self._disk.pread(self.fd, size_bytes, offset_bytes)

    def found(self) -> os.stat_result:
        """What the system says of the file.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        with spoken(self._folder.path):
            return self._disk.fstat(self.fd)

    def sync(self) -> None:
        """Make the bytes survive a power loss.

        Raises:
            StoreMismatch: the disk lost bytes; the file is spoiled, and the media must come anew from their source.
            StoreFull, StoreDenied, StoreUnavailable: likewise spoiled.
        """
        try:
            self._disk.fsync(self.fd)
        except OSError as error:
            self.spoiled = True
            raise sync_error(error, self._folder.path) from error

    def publish(self, folder: Folder, name: str) -> None:
        """Give the file its final name.

        Raises:
            FileExistsError, FileNotFoundError: as the system says; nothing changed.
            StoreFull, StoreDenied, StoreUnavailable: nothing changed as far as the system says.
        """
        source = f"/proc/self/fd/{self.fd}" if self._name is None else self._name
        source_fd = None if self._name is None else self._folder.fd
        try:
            with folder.lock:
                self._disk.link(source, name, src_dir_fd=source_fd, dst_dir_fd=folder.fd)
        except (FileExistsError, FileNotFoundError):
            raise
        except OSError as error:
            raise store_error(error, f"{folder.path}/{name}") from error
        self.published = True

    def discard(self) -> None:
        """Give up the temporary name and the descriptor; a published name stays.

        What can't be removed now is cleared by the next run.
        """
        if self._name is not None:
            with suppress(OSError), self._folder.lock:
                self._disk.unlink(self._name, dir_fd=self._folder.fd)
            self._name = None
        if self.fd >= 0:
            close_quietly(self._disk, self.fd)
            self.fd = -1


class Temporaries:
    """Makes temporary files on the archive's own file system; safe for threads.

    Raises:
        StoreFull, StoreDenied, StoreUnavailable: from the constructor, when the folder can't be made.
    """

    def __init__(self, disk: Disk, folders: Folders) -> None:
        self._disk = disk
        self._numbers = itertools.count()
        # Other processes of the run write here, too, perhaps on other machines that have the same process ids.
        self._ours = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._nameless = False
        self._use = folders.use(TEMPORARY, create=True)
        with spoken("/".join((folders.root.path, *TEMPORARY))):
            self._folder = self._use.__enter__()

    def prepare(self) -> None:
        """Clear what dead runs left and find out what the file system can; the archive's lock must be held.

        Raises:
            StoreDenied: nothing can be written or linked here, with what to do.
            StoreFull, StoreUnavailable.
        """
        path = self._folder.path
        with spoken(path):
            for found in self._disk.scan(self._folder.fd):
                if not found.is_folder:
                    with suppress(FileNotFoundError):
                        self._disk.unlink(found.name, dir_fd=self._folder.fd)
        self.join()

    def join(self) -> None:
        """Find out what the file system can, without touching what another process of this run has here.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: as for `prepare`.
        """
        self._nameless = self._probe_nameless()
        if not self._nameless:
            self._probe_named()

    def leftovers(self) -> list[str]:
        """What lies here; while no run is active, dead ones left it.

        Raises:
            StoreDenied, StoreUnavailable.
        """
        with spoken(self._folder.path):
            found = [found.name for found in self._disk.scan(self._folder.fd) if not found.is_folder]
        return ["/".join((*TEMPORARY, name)) for name in sorted(found)]

    def new(self) -> TemporaryFile:
        """An empty file, mode 0600.

        Raises:
            StoreFull, StoreDenied, StoreUnavailable.
        """
        if self._nameless:
            with spoken(self._folder.path):
                return TemporaryFile(self._disk, self._folder, self._open_nameless(), None)
        name = f"{self._ours}-{next(self._numbers)}.part"
        with spoken(self._folder.path), self._folder.lock:
            fd = self._disk.open(name, NEW_FILE_FLAGS, dir_fd=self._folder.fd)
        return TemporaryFile(self._disk, self._folder, fd, name)

    def close(self) -> None:
        """Let go of the folder; files that are still open stay usable until they are discarded."""
        self._use.__exit__(None, None, None)

    def _open_nameless(self) -> int:
        return self._disk.open(".", NAMELESS_FLAGS, dir_fd=self._folder.fd)

    def _probe_nameless(self) -> bool:
        """Whether a file can live without a name and get one later; not so on NFS, some FUSE, or without /proc."""
        try:
            file = TemporaryFile(self._disk, self._folder, self._open_nameless(), None)
        except OSError as error:
            if error.errno in _CANNOT:
                return False
            raise store_error(error, self._folder.path) from error
        return self._probe(file)

    def _probe_named(self) -> None:
        if not self._probe(self.new()):
            raise StoreDenied(f"{self._folder.path}: the file system has no hard links; use one such as ext4 or xfs")

    def _probe(self, file: TemporaryFile) -> bool:
        name = f"probe-{self._ours}"
        try:
            file.write(b"\0")
            file.publish(self._folder, name)
            with spoken_but_absent(self._folder.path):
                self._disk.unlink(name, dir_fd=self._folder.fd)
        except FileNotFoundError:
            return False
        except FileExistsError:
            raise StoreUnavailable(f"{self._folder.path}: another run works here") from None
        except StoreDenied as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in _CANNOT:
                return False
            raise
        finally:
            file.discard()
        return True
