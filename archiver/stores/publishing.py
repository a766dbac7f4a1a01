"""From media to a final name: staged, counted, synced, linked, and read back; never over something that exists."""

import hashlib
import stat
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from archiver.errors import ArchiverError, ObjectDiffers, StoreMismatch
from archiver.stores.base import Media
from archiver.stores.disk import (
    FOLDER_FLAGS,
    READ_FLAGS,
    Disk,
    close_quietly,
    kind_of,
    read_all,
    spoken,
    spoken_but_absent,
)
from archiver.stores.folders import Folder, Folders, moved
from archiver.stores.spool import SpooledMedia
from archiver.stores.temporaries import Temporaries, TemporaryFile, sync_error

_SYNC_ALL_FROM = 8
"""Files; for fewer, one sync of the whole file system would wait for more of others' bytes than it saves."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Media and where they shall rest: folder names from the root, and a name in the last of them.

    With `first_wins` a file that stands there already stays, whatever it holds.
    """

    segments: tuple[str, ...]
    name: str
    media: Media
    first_wins: bool = False

    @property
    def path(self) -> str:
        """The place relative to the root."""
        return "/".join((*self.segments, self.name))


@dataclass(frozen=True, slots=True)
class _Staged:
    """A placement with a file that holds its bytes; `ours` when the file is the stage's own and not the media's."""

    placement: Placement
    file: TemporaryFile
    ours: bool


class _Group:
    """Placements that succeed or fail together: what became of them so far."""

    __slots__ = ("adopted", "error", "placements", "staged")

    def __init__(self, placements: Sequence[Placement]) -> None:
        self.placements = placements
        self.staged: list[_Staged] = []
        self.adopted: list[bool] = []
        self.error: ArchiverError | None = None

    @contextmanager
    def failing_alone(self) -> Iterator[None]:
        """What the block raises of our tree is this group's failure and nobody else's."""
        try:
            yield
        except ArchiverError as error:
            self.error = error

    def discard(self) -> None:
        for stage in self.staged:
            if stage.ours:
                stage.file.discard()


class Publisher:
    """Gives media their final names; safe for threads."""

    def __init__(self, disk: Disk, folders: Folders, temporaries: Temporaries, *, durable: bool) -> None:
        self._disk = disk
        self._folders = folders
        self._temporaries = temporaries
        self._durable = durable
        # Work that waits for no disk goes one put at a time: on the GIL and the kernel's locks more threads only get in
        # each other's way (on two cores one thread put 6 000 recordings a second, and sixteen put 2 600 at three
        # times the CPU). The fsyncs, which do wait, run side by side.
        self._gate = threading.Lock()
        self._tells_all: bool | None = None

    def publish(self, placements: Sequence[Placement]) -> list[bool]:
        """Put media in their places, in order; for each, whether the same bytes already lay there.

        All bytes are staged, counted and synced before the first name appears.

        Raises:
            ObjectDiffers, StoreMismatch, StoreUnavailable, StoreDenied, StoreFull: each place holds all of its bytes or
                what it held before.
        """
        (outcome,) = self.publish_many([placements])
        if isinstance(outcome, ArchiverError):
            raise outcome
        return outcome

    def publish_many(self, groups: Sequence[Sequence[Placement]]) -> list[list[bool] | ArchiverError]:
        """Publish each group as `publish` does, with its error as a value; the waiting for the disk is shared."""
        batch = [_Group(placements) for placements in groups]
        sync_all = self._sync_all_for(batch)
        try:
            with self._gate:
                for group in _going(batch):
                    with group.failing_alone():
                        for placement in group.placements:
                            group.staged.append(self._stage(placement, group.staged))
            self._sync(batch, sync_all)
            with self._gate:
                for group in _going(batch):
                    with group.failing_alone():
                        group.adopted = [self._reveal(stage) for stage in group.staged]
            if self._durable:
                self._settle(batch)
        finally:
            if sync_all is not None:
                close_quietly(self._disk, sync_all)
            for group in batch:
                group.discard()
        return [group.error or group.adopted for group in batch]

    def _sync_all_for(self, batch: "Sequence[_Group]") -> int | None:
        """A descriptor to sync the whole file system by; None when every file is synced on its own.

        It is opened before anything is written: the kernel tells a loss once to each descriptor that was open then.
        """
        if not self._durable or sum(len(group.placements) for group in batch) < _SYNC_ALL_FROM:
            return None
        root = self._folders.root
        with suppress(OSError):
            if self._tells_all is None:
                self._tells_all = self._disk.tells_all(root.fd)
            if self._tells_all:
                return self._disk.open(root.path, FOLDER_FLAGS)
        return None

    def _sync(self, batch: "Sequence[_Group]", sync_all: int | None) -> None:
        for group in _going(batch):
            with group.failing_alone():
                for stage in group.staged:
                    # File systems that know no nameless files are network ones, which lose writes and tell only at
                    # fsync. A file that is not the stage's own may have lost bytes before `sync_all` was opened.
                    shared = sync_all is not None and stage.ours
                    if stage.file.is_named or (self._durable and not shared):
                        stage.file.sync()
        waiting = list(_going(batch))
        if sync_all is None or not waiting:
            return
        try:
            self._disk.sync_all(sync_all)
        except OSError as error:
            # Whose bytes were lost can't be told: all come anew from their source.
            for group in waiting:
                group.error = sync_error(error, self._folders.root.path)

    def _settle(self, batch: "Sequence[_Group]") -> None:
        """Make the new names durable: each folder once, however many groups have put something there."""
        told: dict[tuple[str, ...], ArchiverError | None] = {}
        for group in _going(batch):
            with group.failing_alone():
                for segments in {placement.segments for placement in group.placements}:
                    if segments not in told:
                        told[segments] = self._settled(segments)
                    if (error := told[segments]) is not None:
                        raise error

    def _settled(self, segments: tuple[str, ...]) -> ArchiverError | None:
        try:
            with spoken(self._path(segments)), self._folders.use(segments, create=False) as folder:
                folder.settle()
        except ArchiverError as error:
            return error
        return None

    def _path(self, segments: Sequence[str]) -> str:
        return "/".join((self._folders.root.path, *segments))

    def _stage(self, placement: Placement, staged: Sequence[_Staged]) -> _Staged:
        media = placement.media
        own = media if isinstance(media, SpooledMedia) else None
        # A file that has or gets another name would make two objects share their bytes; a spoiled one can't be trusted.
        spoken_for = own is None or own.file is None or own.file.published or any(s.file is own.file for s in staged)
        if own is not None and own.file is not None and not spoken_for and not own.file.spoiled:
            found = own.file.found()
            if found.st_dev == self._folders.device:
                _check_size(placement, found.st_size)
                return _Staged(placement, own.file, ours=False)
        file = self._temporaries.new()
        try:
            # What rests in our own memory was digested on its way in; anything else is digested again here.
            _copy(placement, file, known=own is not None and own.file is None)
        except BaseException:
            file.discard()
            raise
        return _Staged(placement, file, ours=True)

    def _reveal(self, stage: _Staged) -> bool:
        placement = stage.placement
        try:
            return self._link(stage)
        except FileNotFoundError:
            # The folder we hold open was removed under us; walk there anew, once.
            self._folders.forget()
            with spoken(f"{self._folders.root.path}/{placement.path}"):
                return self._link(stage)

    def _link(self, stage: _Staged) -> bool:
        placement = stage.placement
        with self._folders.use(placement.segments, create=True) as folder:
            try:
                stage.file.publish(folder, placement.name)
            except FileExistsError:
                self._adopt(folder, placement)
                return True
            try:
                self._confirm(placement)
            except BaseException:
                with folder.lock, spoken(folder.path):
                    self._disk.unlink(placement.name, dir_fd=folder.fd)
                raise
        return False

    def _adopt(self, folder: Folder, placement: Placement) -> None:
        """Make sure that what lies there is what we wanted to put."""
        path = f"{folder.path}/{placement.name}"
        fixity = placement.media.fixity
        with spoken_but_absent(path):
            found = self._disk.stat(placement.name, dir_fd=folder.fd)
            if not stat.S_ISREG(found.st_mode):
                raise ObjectDiffers(f"{path}: {kind_of(found.st_mode)} stands where an object belongs: move it away")
            if placement.first_wins:
                return
            if found.st_size != fixity.size_bytes:
                raise ObjectDiffers(f"{path}: holds {found.st_size} bytes, not {fixity.size_bytes}; it was left alone")
            fd = self._disk.open(placement.name, READ_FLAGS, dir_fd=folder.fd)
            try:
                digest = hashlib.sha256()
                for data in read_all(self._disk, fd):
                    digest.update(data)
                if digest.digest() != fixity.sha256:
                    raise ObjectDiffers(f"{path}: holds other bytes of the same length; it was left alone")
                if self._durable:
                    # Whoever put it may have died before its own fsync; what we read may be in memory only.
                    self._disk.fsync(fd)
                self._confirm(placement)
            finally:
                close_quietly(self._disk, fd)

    def _confirm(self, placement: Placement) -> None:
        """Read the size back, through the path that anybody else would take.

        That also notices a destination that was unmounted or moved while we held its folders open. A name that we have
        just made can't stand in another tree on this device, so there is no need to ask for our own inode.
        """
        path = f"{self._folders.root.path}/{placement.path}"
        with spoken(path):
            try:
                seen = self._disk.stat(path)
            except FileNotFoundError:
                seen = None
        if seen is None or seen.st_dev != self._folders.device or not stat.S_ISREG(seen.st_mode):
            self._folders.forget()
            raise moved(path)
        _check_size(placement, seen.st_size)


def _going(batch: Iterable[_Group]) -> Iterator[_Group]:
    return (group for group in batch if group.error is None)


def _check_size(placement: Placement, size_bytes: int) -> None:
    expected = placement.media.fixity.size_bytes
    if size_bytes != expected:
        raise StoreMismatch(f"{placement.path}: {size_bytes} bytes arrived, expected {expected}")


def _copy(placement: Placement, file: TemporaryFile, *, known: bool) -> None:
    """Write the media's bytes, count them, and hold them against the fixity; stops at the first byte too many."""
    fixity = placement.media.fixity
    digest = hashlib.sha256()
    size = 0
    for chunk in placement.media.chunks():
        size += len(chunk)
        if size > fixity.size_bytes:
            raise StoreMismatch(f"{placement.path}: more than the expected {fixity.size_bytes} bytes arrived")
        if chunk:
            file.write(chunk)
            if not known:
                digest.update(chunk)
    _check_size(placement, size)
    if not known and digest.digest() != fixity.sha256:
        raise StoreMismatch(f"{placement.path}: the bytes that arrived do not have the expected SHA-256")
