"""Open folders of the archive: walked without following symlinks, kept in a bounded cache, synced in groups."""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from archiver.errors import StoreDenied
from archiver.stores.disk import FOLDER_FLAGS, Disk, close_quietly, spoken, spoken_but_absent, store_error

_HARMLESS = frozenset({errno.EINTR, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class Folder:
    """One open folder.

    `lock` is held around changes of its names: the kernel's own lock makes waiting threads spin, ours lets them sleep.
    """

    def __init__(self, disk: Disk, path: str, fd: int, parent: "Folder | None") -> None:
        self.path = path
        self.fd = fd
        self.parent = parent
        self.lock = threading.Lock()
        self.users = 0
        self.retired = False
        self._disk = disk
        self._settled = parent is None
        self._turn = threading.Condition()
        self._begun = 0
        self._ended = 0
        self._running = False
        self._errors: dict[int, OSError] = {}
        self._broken: OSError | None = None

    def settle(self) -> None:
        """Make the names in this folder, and those that lead to it, survive a power loss.

        The way to it is synced once per folder and run, also when the folder was found and not made: a dead run may
        have made it and never synced it.

        Raises:
            StoreDenied, StoreUnavailable, StoreFull: nothing is promised about names made since the last success.
        """
        self._sync()
        if not self._settled and self.parent is not None:
            self.parent.settle()
            self._settled = True

    def _sync(self) -> None:
        """Wait for an fsync of the folder that began after this call; one fsync serves all that wait for it."""
        with self._turn:
            mine = self._begun + 1
            while self._ended < mine and self._running:
                self._turn.wait()
            if self._ended >= mine:
                self._check(mine)
                return
            if self._broken is not None:
                raise store_error(self._broken, self.path)
            self._begun += 1
            mine = self._begun
            self._running = True
        failed: OSError | None = None
        try:
            self._disk.fsync(self.fd)
        except OSError as error:
            failed = error
        with self._turn:
            self._running = False
            self._ended = mine
            if failed is not None:
                self._errors[mine] = failed
                # The kernel reports lost names once; a second fsync that succeeds would prove nothing.
                if failed.errno not in _HARMLESS:
                    self._broken = failed
            self._turn.notify_all()
            self._check(mine)

    def _check(self, mine: int) -> None:
        error = self._errors.get(mine) or self._broken
        if error is not None:
            raise store_error(error, self.path) from error


@dataclass(frozen=True, slots=True)
class OpenRoot:
    """The archive's root: its path without symlinks, its descriptor, and what identifies it on this machine."""

    path: str
    fd: int
    device: int
    inode: int


def moved(path: str) -> StoreDenied:
    """The error for a destination that changed under us."""
    return StoreDenied(
        f"{path}: the destination is no longer the one that the run began with; was it unmounted or moved?"
    )


class Folders:
    """The folders under one root, by their path segments; safe for threads.

    At most `most_open` are kept open besides those in use.
    """

    def __init__(self, disk: Disk, root: OpenRoot, *, most_open: int = 64) -> None:
        root_path, root_fd, self.device = root.path, root.fd, root.device
        self._inode = root.inode
        self._disk = disk
        self._root = Folder(disk, root_path, root_fd, None)
        self._most_open = most_open
        self._open: OrderedDict[tuple[str, ...], Folder] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def root(self) -> Folder:
        """The archive's root."""
        return self._root

    @contextmanager
    def use(self, segments: Sequence[str], *, create: bool) -> Iterator[Folder]:
        """The folder at `segments`, open for as long as the context lasts; new ones get mode 0700.

        Raises:
            FileNotFoundError: it is not there and `create` is off, or a folder was removed while it was open here.
            StoreDenied: something that is no folder stands in the path, or permission is missing.
            StoreFull, StoreUnavailable.
        """
        with self._lock:
            folder = self._walk(tuple(segments), create=create)
            folder.users += 1
        try:
            yield folder
        finally:
            with self._lock:
                self._release(folder)
                self._trim()

    def check_root(self) -> None:
        """An empty mount point must not look like an empty archive: what is unknown is not absent.

        Raises:
            StoreDenied: the root's path no longer leads to the folder that was opened.
        """
        with spoken(self._root.path):
            try:
                found = self._disk.stat(self._root.path)
            except FileNotFoundError:
                found = None
        if found is None or (found.st_dev, found.st_ino) != (self.device, self._inode):
            raise moved(self._root.path)

    def forget(self) -> None:
        """Walk anew next time: what stands at the paths may be other folders by now. Those in use stay open so long."""
        with self._lock:
            folders = list(self._open.values())
            self._open.clear()
            for folder in folders:
                self._retire(folder)

    def close(self) -> None:
        """Close every folder, the root too; none may be in use."""
        self.forget()
        close_quietly(self._disk, self._root.fd)

    def _walk(self, segments: tuple[str, ...], *, create: bool) -> Folder:
        known = self._open.get(segments)
        if known is not None:
            self._open.move_to_end(segments)
            return known
        if not segments:
            return self._root
        parent = self._walk(segments[:-1], create=create)
        folder = self._enter(parent, segments[-1], create=create)
        parent.users += 1
        self._open[segments] = folder
        return folder

    def _enter(self, parent: Folder, name: str, *, create: bool) -> Folder:
        path = f"{parent.path}/{name}"
        try:
            with spoken_but_absent(path):
                return Folder(self._disk, path, self._disk.open(name, FOLDER_FLAGS, dir_fd=parent.fd), parent)
        except FileNotFoundError:
            if not create:
                raise
        with spoken_but_absent(path):
            try:
                with parent.lock:
                    self._disk.mkdir(name, 0o700, dir_fd=parent.fd)
            except FileExistsError:
                pass  # another process made it in between; whether it is a folder shows when it is opened
            return Folder(self._disk, path, self._disk.open(name, FOLDER_FLAGS, dir_fd=parent.fd), parent)

    def _trim(self) -> None:
        if len(self._open) <= self._most_open:
            return
        idle = [segments for segments, folder in self._open.items() if folder.users == 0]
        for segments in idle[: len(self._open) - self._most_open]:
            self._retire(self._open.pop(segments))

    def _retire(self, folder: Folder) -> None:
        folder.retired = True
        if folder.users == 0:
            self._shut(folder)

    def _release(self, folder: Folder) -> None:
        folder.users -= 1
        if folder.users == 0 and folder.retired:
            self._shut(folder)

    def _shut(self, folder: Folder) -> None:
        close_quietly(self._disk, folder.fd)
        if folder.parent is not None:
            self._release(folder.parent)


def open_root(disk: Disk, root: Path, *, make: bool) -> OpenRoot:
    """Open the archive's root; makes it (mode 0700) when only its last folder is missing.

    Raises:
        StoreDenied: the root is no folder, belongs to somebody else or anybody may write to it; says what to run.
        StoreFull, StoreUnavailable.
    """
    with spoken(str(root)):
        # These look at the disk as well: a parent may be closed to us, or a name too long.
        if root.is_symlink() and not root.exists():
            raise StoreDenied(f"{root} is a symlink to nowhere: mount its target or remove it")
        path = str(root.resolve())
    with spoken(path):
        try:
            fd = disk.open(path, FOLDER_FLAGS)
        except FileNotFoundError:
            if not make:
                raise StoreDenied(f"{path} does not exist: check store.local.root") from None
            fd = _new_root(disk, path)
        try:
            found = disk.fstat(fd)
            _check_owner(path, found)
        except BaseException:
            close_quietly(disk, fd)
            raise
    return OpenRoot(path, fd, found.st_dev, found.st_ino)


def _check_owner(path: str, found: os.stat_result) -> None:
    mine = os.geteuid()
    if found.st_uid not in {mine, 0}:
        raise StoreDenied(f"{path} belongs to user {found.st_uid}, not to {mine}: run `chown {mine} {path}`")
    if found.st_mode & 0o002:
        raise StoreDenied(f"{path} may be written by anybody: run `chmod o-w {path}`")


def _new_root(disk: Disk, path: str) -> int:
    parent = str(Path(path).parent)
    try:
        disk.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        raise StoreDenied(f"{path} can't be made, since {parent} does not exist: make it or mount it") from None
    fd = disk.open(parent, FOLDER_FLAGS)
    try:
        disk.fsync(fd)
    finally:
        close_quietly(disk, fd)
    return disk.open(path, FOLDER_FLAGS)
