"""The store on a local or mounted file system."""

import hashlib
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from archiver.errors import ArchiverError, ObjectNotFound, StoreDenied
from archiver.keys import check_key, check_object_key
from archiver.recording import Fixity
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.base import NO_LOCK, NewObject, ObjectHead, ObjectLock, Room, StoredObject
from archiver.stores.disk import READ_FLAGS, Disk, close_quietly, kind_of, read_all, spoken, spoken_but_absent
from archiver.stores.publishing import Placement
from archiver.stores.walk import Batch, Stranger, walk


class LocalStore:
    """Keeps objects as files: the key is the path under the root. Keeps the promise of `base.Store`.

    Files get mode 0600 and folders 0700, less what the umask takes away. With `durable` a put returns only when its
    bytes, its name and the folders on the way would survive a power loss. `folder` is the archive's local folder, whose
    temporaries are there for spools.

    Raises:
        StoreDenied, StoreFull, StoreUnavailable: from the constructor, when the root can't be used.
    """

    def __init__(
        self, root: Path, *, durable: bool, disk: Disk | None = None, reserve_bytes: int = 64 << 20, make: bool = True
    ) -> None:
        self.folder = ArchiveFolder(root, durable=durable, disk=disk, reserve_bytes=reserve_bytes, make=make)
        self._disk = self.folder.disk
        self._folders = self.folder.folders
        self._durable = durable

    def prepare(self) -> None:
        """See `Store.prepare`."""
        self.folder.prepare()

    def put(self, objects: Sequence[NewObject]) -> Sequence[StoredObject]:
        """See `Store.put`; all bytes are staged and synced before the first key appears."""
        return _stored(objects, self.folder.publisher.publish(_placements(objects)))

    def put_many(self, groups: Sequence[Sequence[NewObject]]) -> Sequence[Sequence[StoredObject] | ArchiverError]:
        """See `Store.put_many`; one sync of the file system serves all groups where it tells of every loss."""
        outcomes: list[Sequence[StoredObject] | ArchiverError] = []
        places: list[list[Placement]] = []
        for objects in groups:
            try:
                places.append(_placements(objects))
                outcomes.append(())
            except ArchiverError as error:
                outcomes.append(error)
        published = iter(self.folder.publisher.publish_many(places))
        for number, objects in enumerate(groups):
            if not isinstance(outcomes[number], ArchiverError):
                found = next(published)
                outcomes[number] = found if isinstance(found, ArchiverError) else _stored(objects, found)
        return outcomes

    def head(self, key: str) -> ObjectHead | None:
        """See `Store.head`; a folder is no object, whereas a symlink or a device there can't be told."""
        *segments, name = check_object_key(key).split("/")
        path = f"{self.folder.path}/{key}"
        try:
            with self._folders.use(segments, create=False) as folder, spoken_but_absent(path):
                found = self._disk.stat(name, dir_fd=folder.fd)
        except FileNotFoundError:
            self._folders.check_root()
            return None
        if stat.S_ISDIR(found.st_mode):
            return None
        if not stat.S_ISREG(found.st_mode):
            raise StoreDenied(f"{path}: {kind_of(found.st_mode)} stands where an object belongs: move it away")
        return ObjectHead(key, found.st_size, found.st_mtime)

    def open(self, key: str) -> Iterator[bytes]:
        """See `Store.open`; the key is looked up at once, the bytes are read as they are asked for."""
        if self.head(key) is None:
            raise ObjectNotFound(f"no object {key}")
        return self._read(key)

    def fixity(self, key: str) -> Fixity:
        """See `Store.fixity`."""
        if self.head(key) is None:
            raise ObjectNotFound(f"no object {key}")
        digest, size_bytes = hashlib.sha256(), 0
        with self._opened(key) as fd:
            for data in read_all(self._disk, fd):
                digest.update(data)
                size_bytes += len(data)
        return Fixity(size_bytes, digest.digest())

    def list(self, prefix: str = "") -> Iterator[ObjectHead]:
        """See `Store.list`."""
        for batch in self._walk(prefix):
            yield from [found for found in batch if isinstance(found, ObjectHead)]

    def strangers(self) -> Iterator[Stranger]:
        """What lies in the archive and is no object: symlinks, devices, names that are no keys.

        Raises:
            StoreUnavailable, StoreDenied: when the walk can't be completed.
        """
        for batch in self._walk(""):
            yield from [found for found in batch if isinstance(found, Stranger)]

    def delete(self, key: str) -> None:
        """See `Store.delete`; the folder stays."""
        *segments, name = check_key(key).split("/")
        if self.head(key) is None:
            return
        try:
            with self._folders.use(segments, create=False) as folder:
                with spoken_but_absent(f"{self.folder.path}/{key}"), folder.lock:
                    self._disk.unlink(name, dir_fd=folder.fd)
                if self._durable:
                    folder.settle()
        except FileNotFoundError:
            return

    def locked_until(self, key: str) -> ObjectLock:
        """See `Store.locked_until`; files have no locks."""
        check_key(key)
        return NO_LOCK

    def extend_lock(self, key: str, until_at: datetime) -> None:
        """See `Store.extend_lock`; refused, as files have no locks."""
        raise StoreDenied(f"{key} can't be locked until {until_at:%Y-%m-%d}: a local store has no locks")

    def room(self) -> Room:
        """See `Store.room`."""
        return self.folder.room()

    def close(self) -> None:
        """See `Store.close`."""
        self.folder.close()

    def _walk(self, prefix: str) -> Iterator[Batch]:
        self._folders.check_root()
        return walk(self._disk, self._folders.root.fd, self.folder.path, prefix)

    def _read(self, key: str) -> Iterator[bytes]:
        with self._opened(key) as fd:
            yield from read_all(self._disk, fd)

    @contextmanager
    def _opened(self, key: str) -> Iterator[int]:
        *segments, name = key.split("/")
        path = f"{self.folder.path}/{key}"
        try:
            with self._folders.use(segments, create=False) as folder, spoken_but_absent(path):
                fd = self._disk.open(name, READ_FLAGS, dir_fd=folder.fd)
        except FileNotFoundError:
            raise ObjectNotFound(f"no object {key}") from None
        try:
            with spoken(path):
                yield fd
        finally:
            close_quietly(self._disk, fd)


def _placements(objects: Sequence[NewObject]) -> list[Placement]:
    placements = []
    for new in objects:
        *segments, name = check_object_key(new.key).split("/")
        placements.append(Placement(tuple(segments), name, new.media))
    return placements


def _stored(objects: Sequence[NewObject], adopted: Sequence[bool]) -> Sequence[StoredObject]:
    return [
        StoredObject(new.key, new.media.fixity.size_bytes, adopted=was_there)
        for new, was_there in zip(objects, adopted, strict=True)
    ]
