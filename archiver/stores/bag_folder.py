"""A bag under construction: `<to>/.<name>.part`, which gets its name at the very end, in one step, or not at all.

Nothing here knows what a bag is. Files are 0600 and folders 0700, none is ever opened twice or through a symlink.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from archiver.errors import SettingsError, StoreDenied
from archiver.recording import Fixity
from archiver.stores.base import Room
from archiver.stores.disk import FOLDER_FLAGS, NEW_FILE_FLAGS, RealDisk, close_quietly, spoken, write_all

_MOST_ALIKE = 100
_PART = ".part"


class BagFile:
    """A file being written; `fixity` is that of what was written so far."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._digest = hashlib.sha256()
        self._size_bytes = 0

    @property
    def fixity(self) -> Fixity:
        """Size and SHA-256."""
        return Fixity(self._size_bytes, self._digest.digest())

    def write(self, data: bytes) -> None:
        """Append; OSError when there is no room."""
        write_all(RealDisk(), self.fd, data)
        self._digest.update(data)
        self._size_bytes += len(data)


class BagFolder:
    """Makes the folder (and `to`, when only its last part is missing); methods block, and may be called from threads.

    `root` is the archive's, in which no bag may lie. `name` is the bag's, with a number behind it when it is taken.

    Raises:
        SettingsError: `to` can't be used, with the reason.
        StoreDenied, StoreFull, StoreUnavailable.
    """

    def __init__(self, to: Path, name: str, *, root: Path, durable: bool) -> None:
        self._to = _checked(to, root)
        self._durable = durable
        with spoken(str(self._to)):
            self.leftovers = sorted(
                each.name for each in self._to.iterdir() if each.name.startswith(".") and each.name.endswith(_PART)
            )
            self.name = self._reserve(name)
            self._path = self._part(self.name)
            # Opened before anything is written, so that a sync tells of every loss.
            self._fd = os.open(self._path, FOLDER_FLAGS)

    @property
    def path(self) -> Path:
        """Where it is being built."""
        return self._path

    def room(self) -> Room:
        """What is free there."""
        with spoken(str(self._path)):
            found = os.fstatvfs(self._fd)
        return Room(found.f_bavail * found.f_frsize, found.f_favail if found.f_files else None)

    @contextmanager
    def writing(self, path: str) -> Iterator[BagFile]:
        """A new file at a relative path, its folders made; whatever is raised meanwhile, it is gone then.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable.
        """
        place = self._path / path
        with spoken(str(place)):
            self._make_folders(place.parent)
            fd = os.open(place, NEW_FILE_FLAGS, 0o600)
            try:
                yield BagFile(fd)
            except BaseException:
                place.unlink()
                raise
            finally:
                os.close(fd)

    def settle(self) -> None:
        """Wait until all of it would survive a power loss.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: it might not.
        """
        if not self._durable:
            return
        with spoken(str(self._path)):
            disk = RealDisk()
            if disk.tells_all(self._fd):
                disk.sync_all(self._fd)
                return
            for folder, _, files in os.walk(self._path):
                for each in (*(Path(folder) / name for name in files), Path(folder)):
                    fd = os.open(each, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                    try:
                        os.fsync(fd)
                    finally:
                        os.close(fd)

    def publish(self) -> Path:
        """Give it its name; where it is then. Nothing is ever replaced.

        Raises:
            StoreDenied, StoreFull, StoreUnavailable: it has no name yet.
        """
        final = self._to / self.name
        with spoken(str(final)):
            if os.path.lexists(final):
                raise StoreDenied(
                    f"{final}: something else took the bag's name meanwhile: move it away, then export again"
                )
            self._path.rename(final)
            self._path = final
            if self._durable:
                fd = os.open(self._to, FOLDER_FLAGS)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        return final

    def discard(self) -> None:
        """Remove what was not published, as far as that can be done; again is no error."""
        if self._fd >= 0:
            close_quietly(RealDisk(), self._fd)
            self._fd = -1
        if self._path.name.endswith(_PART):
            shutil.rmtree(self._path, ignore_errors=True)

    def _part(self, name: str) -> Path:
        return self._to / f".{name}{_PART}"

    def _reserve(self, name: str) -> str:
        for number in range(1, _MOST_ALIKE):
            taken = name if number == 1 else f"{name}-{number}"
            if os.path.lexists(self._to / taken):
                continue
            with suppress(FileExistsError):
                self._part(taken).mkdir(0o700)
                return taken
        raise StoreDenied(f"{self._to / name} and {_MOST_ALIKE} names after it are taken")

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.is_dir():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            # Another thread may have been faster.
            each.mkdir(0o700, exist_ok=True)


def _checked(to: Path, root: Path) -> Path:
    """The folder for bags, without symlinks."""
    asked, archive = to.resolve(), root.resolve()
    if asked == archive or archive in asked.parents:
        raise SettingsError(f"--to {str(to)!a} lies in the archive ({archive}): name a folder outside of it")
    if not asked.exists():
        if not asked.parent.is_dir():
            raise SettingsError(f"--to {str(to)!a}: {asked.parent} is not there; make it first")
        with spoken(str(asked)):
            asked.mkdir(0o700, exist_ok=True)
    elif not asked.is_dir():
        raise SettingsError(f"--to {str(to)!a} is no folder")
    return asked
