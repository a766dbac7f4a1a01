"""Every system call of the local store fails in every way, once and for good (`faults.md` rows 33 to 38)."""

import errno
import itertools
import os
import random
import resource
import subprocess
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from archive_rig import small_file_system
from test_local_store_disks import CALLS, FaultyDisk, ShortDisk, WatchedDisk

from archiver.errors import (
    ArchiverError,
    ObjectDiffers,
    Severity,
    StoreDenied,
    StoreError,
    StoreFull,
    StoreMismatch,
    StoreUnavailable,
)
from archiver.stores.base import NewObject, StoredObject
from archiver.stores.disk import Disk, store_error
from archiver.stores.local import LocalStore
from archiver.stores.quarantine import Quarantine
from archiver.stores.spool import Spool, SpooledMedia

LARGE = random.Random(1).randbytes(9000)
BODIES = {
    "acc/05/large.mp3": LARGE,
    "acc/05/large.json": b'{"a": 1}',
    "acc/06/small.mp3": b"small body",
    "acc/06/small.json": b'{"b": 2}',
}
QUARANTINED = b"contradicting"
NUMBERS = [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE, errno.ESTALE, errno.EINTR]


def open_store(root: Path, disk: Disk | None = None, *, durable: bool = True) -> LocalStore:
    return LocalStore(root, durable=durable, disk=disk, reserve_bytes=0)


def put_one(store: LocalStore, name: str) -> None:
    """Spool a body and put it with its sidecar, as the pipeline does."""
    spool = Spool(store.folder.temporaries, memory_bytes=4096)
    try:
        body = BODIES[f"{name}.mp3"]
        for start in range(0, len(body), 3000):
            spool.write([body[start : start + 3000]])
        media = spool.finish()
    except BaseException:
        spool.discard()
        raise
    try:
        sidecar = SpooledMedia.of(BODIES[f"{name}.json"])
        store.put([NewObject(f"{name}.mp3", media, "a"), NewObject(f"{name}.json", sidecar, "b")])
    finally:
        media.discard()


def a_night(store: LocalStore) -> None:
    """Every operation once; the first error ends it."""
    store.prepare()
    put_one(store, "acc/05/large")
    put_one(store, "acc/06/small")
    put_one(store, "acc/06/small")
    assert {head.key for head in store.list()} == set(BODIES)
    assert b"".join(store.open("acc/05/large.mp3")) == LARGE
    assert store.head("acc/05/nope") is None
    Quarantine(store.folder).keep(
        account_id="acc", recording_id="q", media=SpooledMedia.of(QUARANTINED), extension="mp3", reason=b"{}"
    )
    store.room()
    store.delete("acc/06/small.json")


def check_whole(root: Path) -> None:
    """Each final name is complete, and nothing is beside the root."""
    assert {path.name for path in root.parent.iterdir()} <= {root.name}
    for path in root.rglob("*"):
        relative = path.relative_to(root).as_posix()
        if path.is_file() and not relative.startswith(".archiver/tmp/"):
            known = {**BODIES, **{f".archiver/{p}": b for p, b in QUARANTINE_FILES.items()}}
            assert path.read_bytes() == known[relative], relative


QUARANTINE_FILES = {
    f"quarantine/acc/q.{SpooledMedia.of(QUARANTINED).fixity.sha256.hex()[:16]}.{ending}": body
    for ending, body in (("mp3", QUARANTINED), ("json", b"{}"))
}


def check_recovers(root: Path) -> None:
    """The next run clears what was left, and the same work ends well."""
    store = open_store(root, FaultyDisk("none", 0))
    try:
        store.prepare()
        assert list((root / ".archiver/tmp").iterdir()) == []
        a_night(store)
    finally:
        store.close()
    check_whole(root)


def attempt(root: Path, disk: Disk, *, durable: bool = True) -> ArchiverError | None:
    """One night on a disk that fails; the error that ended it, with no descriptor left open."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    try:
        store = open_store(root, disk, durable=durable)
        try:
            a_night(store)
        finally:
            store.close()
    except ArchiverError as error:
        return error
    finally:
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    return None


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
@pytest.mark.parametrize("number", NUMBERS, ids=errno.errorcode.get)
@pytest.mark.parametrize("call", CALLS)
def test_a_failing_call_leaves_only_whole_objects_and_the_next_run_mends_the_rest(
    tmp_path: Path, call: str, number: int, *, nameless: bool
) -> None:
    for sticky in (False, True):
        nth = 0
        while True:
            nth += 1
            root = tmp_path / f"{sticky}-{nth}" / "archive"
            root.parent.mkdir()
            disk = FaultyDisk(call, number, nth, sticky=sticky, nameless=nameless)
            error = attempt(root, disk)
            if not disk.hits:
                assert error is None
                break
            if error is not None:
                expected = StoreMismatch if (call, number) == ("fsync", errno.EIO) else StoreError
                mapped = type(store_error(OSError(number, ""), ""))
                assert isinstance(error, (mapped, expected)), error
                if expected is StoreError:
                    assert type(error) is mapped
            if root.exists():
                check_whole(root)
            # What recovery makes of it depends on the call and where it failed, hardly on the errno.
            if number in {errno.EIO, errno.EINTR}:
                check_recovers(root)
        assert nth > 1, f"the scenario never calls {call}"


def test_short_writes_are_continued(tmp_path: Path) -> None:
    assert attempt(tmp_path / "archive", ShortDisk()) is None
    check_whole(tmp_path / "archive")


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
def test_after_a_failed_fsync_the_file_is_never_synced_again_nor_published(tmp_path: Path, *, nameless: bool) -> None:
    disk = FaultyDisk("fsync", errno.EIO, 2, nameless=nameless)  # the first belongs to the new root
    store = open_store(tmp_path / "archive", disk)
    store.prepare()
    spool = Spool(store.folder.temporaries, memory_bytes=0)
    spool.write([LARGE])
    media = spool.finish()
    inode = media.file.found().st_ino if media.file else 0
    new = NewObject("acc/05/large.mp3", media, "a")
    with pytest.raises(StoreMismatch) as caught:
        store.put([new])
    assert caught.value.severity is Severity.RETRYABLE
    assert list(store.list()) == []
    store.put([new])
    published = (tmp_path / "archive/acc/05/large.mp3").stat()
    assert published.st_ino != inode
    media.discard()
    store.close()


def batch(store: LocalStore, count: int = 6) -> list[Sequence[StoredObject] | ArchiverError]:
    """Many small recordings with their sidecars, put at once."""
    bodies = {f"a/{n}.mp3": b"%d" % n for n in range(count)}
    sidecars = {key: key.replace(".mp3", ".json") for key in bodies}
    return list(
        store.put_many(
            [
                [NewObject(key, SpooledMedia.of(data), "a"), NewObject(sidecars[key], SpooledMedia.of(b"{}"), "b")]
                for key, data in bodies.items()
            ]
        )
    )


def test_what_a_shared_sync_may_have_lost_fails_each_of_its_recordings_and_none_of_them_shows(tmp_path: Path) -> None:
    disk = FaultyDisk("sync_all", errno.EIO)
    store = open_store(tmp_path / "archive", disk)
    store.prepare()
    outcomes = batch(store)
    assert disk.hits == 1
    assert {type(each) for each in outcomes} == {StoreMismatch}
    assert list(store.list()) == []
    assert not any(isinstance(each, ArchiverError) for each in batch(store)), "to new files, it goes well"
    assert len(list(store.list())) == 12
    store.close()


def test_what_opens_the_shared_sync_is_there_before_the_first_byte_is_written(tmp_path: Path) -> None:
    """The kernel tells a lost write once, to those who had the file system open by then."""

    class OrderOfCalls(WatchedDisk):
        def __init__(self) -> None:
            super().__init__()
            self.calls: list[str] = []

        def open(self, path: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
            fd = super().open(path, flags, mode, dir_fd=dir_fd)
            self.calls.append(f"open {fd}" if dir_fd is None else "open")
            return fd

        def write(self, fd: int, data: bytes | memoryview) -> int:
            self.calls.append("write")
            return super().write(fd, data)

        def sync_all(self, fd: int) -> None:
            self.calls.append(f"sync_all {fd}")
            super().sync_all(fd)

    disk = OrderOfCalls()
    store = open_store(tmp_path / "archive", disk)
    store.prepare()
    disk.calls.clear()
    batch(store)
    store.close()
    (sync,) = [call for call in disk.calls if call.startswith("sync_all")]
    opened = disk.calls.index(sync.replace("sync_all", "open"))
    assert opened < disk.calls.index("write")


def test_a_file_system_that_can_tell_no_loss_has_each_file_synced_on_its_own(tmp_path: Path) -> None:
    class Silent(WatchedDisk):
        syncs = 0

        def tells_all(self, fd: int) -> bool:
            return False

        def fsync(self, fd: int) -> None:
            self.syncs += 1
            super().fsync(fd)

        def sync_all(self, fd: int) -> None:
            raise AssertionError("never asked for")

    disk = Silent()
    store = open_store(tmp_path / "archive", disk)
    store.prepare()
    disk.syncs = 0
    assert not any(isinstance(each, ArchiverError) for each in batch(store))
    assert disk.syncs == 12 + 2, "each file, the folder and the root"
    store.close()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("call", ["open", "write", "sync_all", "link", "stat", "fsync", "close"])
def test_a_call_that_fails_in_a_batch_leaves_only_whole_objects_and_what_was_put_is_there(
    tmp_path: Path, call: str, number: int
) -> None:
    for nth in itertools.count(1):
        root = tmp_path / str(nth) / "archive"
        root.parent.mkdir()
        store = open_store(root)
        store.prepare()
        store.close()
        before = len(list(Path("/proc/self/fd").iterdir()))
        disk = FaultyDisk(call, number, nth)
        try:
            store = open_store(root, disk)
        except ArchiverError:
            continue
        outcomes = batch(store)
        store.close()
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        store = open_store(root)
        found = {head.key: head.size_bytes for head in store.list()}
        store.close()
        for n, outcome in enumerate(outcomes):
            if not isinstance(outcome, ArchiverError):
                assert (found[f"a/{n}.mp3"], found[f"a/{n}.json"]) == (1, 2)
        for path in root.rglob("*.mp3"):
            assert path.read_bytes() == path.stem.encode()
        if not disk.hits:
            assert not any(isinstance(outcome, ArchiverError) for outcome in outcomes)
            return


def test_a_folder_whose_fsync_failed_stops_the_run_for_good(tmp_path: Path) -> None:
    disk = FaultyDisk("fsync", errno.EIO, 3)  # root's parent, the file, then the folder
    store = open_store(tmp_path / "archive", disk)
    store.prepare()
    new = NewObject("a/x", SpooledMedia.of(b"x"), "a")
    for _ in range(2):
        with pytest.raises(StoreDenied, match="dmesg"):
            store.put([new])
    store.close()


def test_a_really_full_disk_stops_the_run_and_the_next_one_resumes(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "mount", "128k") as mount:
        mount.chmod(0o700)
        store = open_store(mount)
        store.prepare()
        bodies = {f"a/{n}": random.Random(n).randbytes(30_000) for n in range(6)}
        with pytest.raises(StoreFull) as caught:
            deque((store.put([NewObject(k, SpooledMedia.of(b), "a")]) for k, b in bodies.items()), maxlen=0)
        assert caught.value.severity is Severity.FATAL
        done = [head.key for head in store.list()]
        assert done
        assert all(b"".join(store.open(key)) == bodies[key] for key in done)
        store.close()
        assert list((mount / ".archiver/tmp").iterdir()) == []
        subprocess.run(["mount", "-o", "remount,size=1m", str(mount)], check=True)
        again = open_store(mount)
        again.prepare()
        adopted = [again.put([NewObject(k, SpooledMedia.of(b), "a")])[0].adopted for k, b in bodies.items()]
        assert adopted.count(True) == len(done)
        assert len(list(again.list())) == 6
        again.close()


def test_a_disk_below_the_reserve_is_refused_before_the_run(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "mount", "1m") as mount:
        mount.chmod(0o700)
        store = LocalStore(mount, durable=True, reserve_bytes=2 << 20)
        with pytest.raises(StoreFull, match="less than the reserve"):
            store.prepare()
        store.close()


def test_a_file_size_limit_leaves_nothing_half(tmp_path: Path) -> None:
    store = open_store(tmp_path / "archive")
    store.prepare()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(StoreFull, match="ulimit"):
            store.put([NewObject("a/x", SpooledMedia.of(bytes(60_000)), "a")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(store.list()) == []
    store.close()


def test_a_destination_that_was_unmounted_is_noticed_and_nothing_lands_below(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "mount", "1m") as mount:
        mount.chmod(0o700)
        store = open_store(mount)
        store.prepare()
        store.put([NewObject("a/x", SpooledMedia.of(b"x"), "a")])
        subprocess.run(["umount", "-l", str(mount)], check=True)
        for key in ("a/y", "b/y"):
            with pytest.raises(StoreDenied, match="unmounted or moved"):
                store.put([NewObject(key, SpooledMedia.of(b"y"), "a")])
        with pytest.raises(StoreDenied):
            list(store.list())
        with pytest.raises(StoreDenied):
            store.head("a/nope")
        store.close()
        assert list(mount.iterdir()) == []


def test_a_file_system_mounted_over_a_folder_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "archive")
    store.prepare()
    with small_file_system(tmp_path / "archive" / "b", "1m"):
        with pytest.raises(StoreDenied, match="mounted inside"):
            store.put([NewObject("b/y", SpooledMedia.of(b"y"), "a")])
        store.close()


@pytest.mark.parametrize("stranger", ["folder", "symlink to a file", "symlink to nowhere", "fifo"])
def test_a_stranger_at_the_final_name_is_neither_followed_nor_replaced(tmp_path: Path, stranger: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    store = open_store(tmp_path / "archive")
    store.prepare()
    place = tmp_path / "archive/a/x"
    place.parent.mkdir()
    if stranger == "folder":
        place.mkdir()
    elif stranger == "fifo":
        os.mkfifo(place)
    else:
        place.symlink_to(outside if stranger == "symlink to a file" else tmp_path / "nowhere")
    before = place.lstat()
    with pytest.raises(ObjectDiffers, match="move it away"):
        store.put([NewObject("a/x", SpooledMedia.of(b"mine"), "a")])
    assert place.lstat().st_ino == before.st_ino
    assert outside.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()
    if stranger == "folder":
        assert store.head("a/x") is None
        store.delete("a/x")
        assert place.is_dir()
    else:
        for use in (store.head, store.open, store.delete):
            with pytest.raises(StoreDenied, match="move it away"):
                use("a/x")
    store.close()


@pytest.mark.parametrize("stranger", ["symlink", "fifo"])
def test_an_object_replaced_between_open_and_the_first_read_is_not_followed(tmp_path: Path, stranger: str) -> None:
    (tmp_path / "outside").write_bytes(b"secret")
    store = open_store(tmp_path / "archive")
    store.prepare()
    store.put([NewObject("a/x", SpooledMedia.of(b"x"), "a")])
    reading = store.open("a/x")
    place = tmp_path / "archive/a/x"
    place.unlink()
    if stranger == "symlink":
        place.symlink_to(tmp_path / "outside")
    else:
        os.mkfifo(place)
    with pytest.raises(StoreError):
        list(reading)
    store.close()


@pytest.mark.parametrize("known", [False, True], ids=["before its first use", "while it is held open"])
@pytest.mark.parametrize("level", ["a", "a/b"])
def test_a_folder_replaced_by_a_symlink_stops_the_run_and_nothing_lands_outside(
    tmp_path: Path, level: str, *, known: bool
) -> None:
    root, outside = tmp_path / "archive", tmp_path / "outside"
    (outside / "b").mkdir(parents=True)
    store = open_store(root)
    store.prepare()
    if known:
        store.put([NewObject("a/b/first", SpooledMedia.of(b"1"), "a")])
        (root / level).rename(tmp_path / "moved")
    (root / level).parent.mkdir(exist_ok=True)
    (root / level).symlink_to(outside)
    for _ in range(2):
        with pytest.raises(StoreDenied):
            store.put([NewObject("a/b/x", SpooledMedia.of(b"x"), "a")])
    store.close()
    assert [path.name for path in outside.rglob("*")] == ["b"]
    assert not list(tmp_path.rglob("x"))


def test_an_object_that_lies_in_a_folder_that_was_moved_away_is_not_adopted(tmp_path: Path) -> None:
    store = open_store(tmp_path / "archive")
    store.prepare()
    new = NewObject("a/x", SpooledMedia.of(b"x"), "a")
    store.put([new])
    (tmp_path / "archive/a").rename(tmp_path / "moved")
    with pytest.raises(StoreDenied, match="unmounted or moved"):
        store.put([new])
    assert not store.put([new])[0].adopted
    assert (tmp_path / "archive/a/x").read_bytes() == b"x"
    store.close()


def test_a_folder_removed_while_it_is_held_open_is_made_again(tmp_path: Path) -> None:
    store = open_store(tmp_path / "archive")
    store.prepare()
    for n in range(3):
        store.put([NewObject("a/b/x", SpooledMedia.of(b"x"), "a"), NewObject("a/c", SpooledMedia.of(b"c"), "a")])
        assert (tmp_path / "archive/a/b/x").read_bytes() == b"x"
        for path in ("b/x", "c"):
            (tmp_path / "archive/a" / path).unlink()
        (tmp_path / "archive/a/b").rmdir()
        if n:
            (tmp_path / "archive/a").rmdir()
    store.close()


def test_a_file_that_stands_where_a_folder_belongs_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path / "archive")
    store.prepare()
    store.put([NewObject("a/b", SpooledMedia.of(b"x"), "a")])
    with pytest.raises(StoreDenied, match="no folder"):
        store.put([NewObject("a/b/c", SpooledMedia.of(b"x"), "a")])
    assert (tmp_path / "archive/a/b").read_bytes() == b"x"
    store.close()


def test_when_every_descriptor_is_in_use_the_put_can_be_retried(tmp_path: Path) -> None:
    store = open_store(tmp_path / "archive")
    store.prepare()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    new = NewObject("a/x", SpooledMedia.of(b"x"), "a")
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        with pytest.raises(StoreUnavailable, match="ulimit"):
            store.put([new])
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not store.put([new])[0].adopted
    store.close()
