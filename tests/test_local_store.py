"""What only the local store promises: modes, links, strangers, group commits, quarantine, the archive's lock."""

import errno
import os
import stat
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_local_store_disks import WatchedDisk

from archiver.errors import ArchiveInUse, StoreDenied, StoreUnavailable
from archiver.keys import KeyTemplate, check_key
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.base import NewObject, Store
from archiver.stores.disk import Disk
from archiver.stores.local import LocalStore
from archiver.stores.lock import ArchiveLock
from archiver.stores.quarantine import Quarantine
from archiver.stores.spool import Spool, SpooledMedia
from archiver.stores.walk import Stranger

NOON = datetime(2022, 5, 6, 12, tzinfo=UTC)


def new(key: str, data: bytes) -> NewObject:
    return NewObject(key, SpooledMedia.of(data), "audio/mpeg")


@contextmanager
def opened(root: Path, *, durable: bool = False, disk: Disk | None = None) -> Iterator[LocalStore]:
    store = LocalStore(root, durable=durable, disk=disk, reserve_bytes=0)
    store.prepare()
    try:
        yield store
    finally:
        store.close()


def test_a_local_store_is_a_store(tmp_path: Path) -> None:
    with opened(tmp_path / "archive") as store:
        promise: Store = store
        assert list(promise.list()) == []


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
@pytest.mark.parametrize(("umask", "taken"), [(0o000, 0), (0o022, 0), (0o077, 0), (0o277, 0o200)])
def test_files_are_0600_and_folders_0700_unless_the_umask_is_stricter(
    tmp_path: Path, umask: int, taken: int, *, nameless: bool
) -> None:
    if taken and os.geteuid() != 0:
        pytest.skip("only root can work in folders it may not write")
    old = os.umask(umask)
    try:
        with opened(tmp_path / "archive", disk=WatchedDisk(nameless=nameless)) as store:
            store.put([new("a/b/x.mp3", b"x")])
            Quarantine(store.folder).keep(
                account_id="a", recording_id="q", media=SpooledMedia.of(b"q"), extension="mp3", reason=b"{}"
            )
            ArchiveLock(store.folder, run_id="r", started_at=NOON).close()
    finally:
        os.umask(old)
    seen = [tmp_path / "archive", *(tmp_path / "archive").rglob("*")]
    assert len(seen) == 11
    for path in seen:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600) & ~taken, path


def test_a_spooled_file_is_linked_and_not_copied(tmp_path: Path) -> None:
    with opened(tmp_path / "archive") as store:
        spool = Spool(store.folder.temporaries, memory_bytes=0)
        spool.write([b"body"])
        media = spool.finish()
        assert media.file is not None
        inode = media.file.found().st_ino
        store.put([NewObject("a/x", media, "a")])
        assert (tmp_path / "archive/a/x").stat().st_ino == inode
        media.discard()
        assert (tmp_path / "archive/a/x").stat().st_nlink == 1


def test_one_body_under_two_keys_is_two_files_so_that_damage_hits_one(tmp_path: Path) -> None:
    with opened(tmp_path / "archive") as store:
        spool = Spool(store.folder.temporaries, memory_bytes=0)
        spool.write([b"body"])
        media = spool.finish()
        store.put([NewObject("a/x", media, "a"), NewObject("a/y", media, "a")])
        store.put([NewObject("a/z", media, "a")])
        media.discard()
    inodes = {(tmp_path / "archive/a" / name).stat().st_ino for name in "xyz"}
    assert len(inodes) == 3


def test_a_spool_on_another_file_system_is_copied(tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    elsewhere = shared / f"archiver-test-{os.getpid()}"
    folder = ArchiveFolder(elsewhere, durable=False, reserve_bytes=0)
    try:
        with opened(tmp_path / "archive") as store:
            spool = Spool(folder.temporaries, memory_bytes=0)
            spool.write([b"body"])
            media = spool.finish()
            store.put([NewObject("a/x", media, "a")])
            assert b"".join(store.open("a/x")) == b"body"
            media.discard()
    finally:
        folder.close()
        subprocess.run(["rm", "-r", str(elsewhere)], check=True)


def test_strangers_are_named_and_never_listed(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    with opened(root) as store:
        store.put([new("a/x.mp3", b"x")])
        (root / "a/link").symlink_to("/etc")
        (root / "a/.hidden").write_bytes(b"")
        (root / "a/with space").write_bytes(b"")
        (root / "a/line\nfeed\udcff").write_bytes(b"")
        (root / "lost+found").mkdir()
        os.mkfifo(root / "pipe")
        assert [head.key for head in store.list()] == ["a/x.mp3"]
        found = list(store.strangers())
    assert {each.what for each in found} == {
        "a symlink", "no regular file", "a file whose name is no key", "a folder whose name is no part of a key",
    }  # fmt: skip
    assert Stranger("a/link", "a symlink") in found
    assert all(each.path.isprintable() for each in found)
    assert len(found) == 6


def test_few_folders_stay_open_however_many_are_used(tmp_path: Path) -> None:
    with opened(tmp_path / "archive") as store:
        before = len(list(Path("/proc/self/fd").iterdir()))
        for n in range(200):
            store.put([new(f"acc{n}/2022/05/x.mp3", b"x")])
        assert len(list(Path("/proc/self/fd").iterdir())) - before <= 64
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: store.put([new(f"acc{n % 200}/2022/05/y{n}.mp3", b"y")]), range(800)))
        assert len(list(Path("/proc/self/fd").iterdir())) - before <= 64
        assert sum(1 for _ in store.list()) == 1000


class SlowSyncDisk(WatchedDisk):
    """Counts fsyncs of folders and makes them slow, so that puts pile up behind one."""

    def __init__(self) -> None:
        super().__init__()
        self.folder_syncs = 0
        self.failing = False
        self.interrupted = 0

    def fsync(self, fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            self.folder_syncs += 1
            threading.Event().wait(0.02)
            if self.failing:
                raise OSError(errno.EIO, "lost")
            if self.folder_syncs == self.interrupted:
                raise OSError(errno.EINTR, "interrupted")


def test_one_fsync_of_a_folder_serves_all_puts_that_wait_for_it(tmp_path: Path) -> None:
    disk = SlowSyncDisk()
    with opened(tmp_path / "archive", durable=True, disk=disk) as store:
        store.put([new("a/first", b"x")])
        disk.folder_syncs = 0
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(lambda n: store.put([new(f"a/{n}", b"x")]), range(64)))
        assert 4 <= disk.folder_syncs < 32


def test_when_a_shared_fsync_fails_every_put_that_waited_for_it_fails(tmp_path: Path) -> None:
    disk = SlowSyncDisk()
    with opened(tmp_path / "archive", durable=True, disk=disk) as store:
        store.put([new("a/first", b"x")])
        disk.failing = True

        def put(n: int) -> bool:
            try:
                store.put([new(f"a/{n}", b"x")])
            except StoreDenied:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            assert not any(pool.map(put, range(32)))


def test_an_interrupted_fsync_fails_those_that_waited_for_it_and_no_later_put(tmp_path: Path) -> None:
    disk = SlowSyncDisk()
    with opened(tmp_path / "archive", durable=True, disk=disk) as store:
        store.put([new("a/first", b"x")])
        disk.interrupted = disk.folder_syncs + 2
        gate = threading.Barrier(16)

        def put(n: int) -> bool:
            gate.wait()
            try:
                store.put([new(f"a/{n}", b"x")])
            except StoreUnavailable:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            done = list(pool.map(put, range(16)))
        assert done.count(False) > 1
        assert all(store.put([new(f"a/{n}", b"x")])[0].adopted for n in range(16))


@pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])
@pytest.mark.parametrize("durable", [True, False])
def test_without_durable_nothing_is_synced_but_a_named_file(tmp_path: Path, *, durable: bool, nameless: bool) -> None:
    calls: list[str] = []

    class CountingDisk(WatchedDisk):
        def before(self, call: str) -> None:
            calls.append(call)

    (tmp_path / "archive").mkdir()
    with opened(tmp_path / "archive", durable=durable, disk=CountingDisk(nameless=nameless)) as store:
        store.put([new("a/x", b"x"), new("a/y", b"y")])
        calls.clear()
        store.put([new("a/z", b"z"), new("a/zz", b"zz")])
    files, folders = 2 * (durable or not nameless), 1 * durable
    assert calls.count("fsync") == files + folders
    assert calls.count("link") == 2


def test_a_root_that_is_missing_is_made_but_not_its_parents(tmp_path: Path) -> None:
    with opened(tmp_path / "new") as store:
        store.put([new("a", b"x")])
    with pytest.raises(StoreDenied, match="make it or mount it"):
        LocalStore(tmp_path / "no/such", durable=True)
    with pytest.raises(StoreDenied, match=r"check store\.local\.root"):
        LocalStore(tmp_path / "other", durable=True, make=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_a_root_that_is_a_symlink_is_followed_once_and_one_to_nowhere_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with opened(tmp_path / "link") as store:
        store.put([new("a/x", b"x")])
    assert (tmp_path / "real/a/x").exists()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(StoreDenied, match="symlink to nowhere"):
        LocalStore(tmp_path / "dangling", durable=True)
    assert not (tmp_path / "nowhere").exists()


def test_a_root_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StoreDenied, match="no folder"):
        LocalStore(tmp_path / "file", durable=True)


def test_a_root_that_anybody_may_write_is_refused_with_the_command_that_mends_it(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    for mode in (0o777, 0o1777):
        root.chmod(mode)
        with pytest.raises(StoreDenied, match=f"chmod o-w {root}"):
            LocalStore(root, durable=True)
    root.chmod(0o770)
    LocalStore(root, durable=True).close()


def test_a_root_of_somebody_else_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "archive"
    root.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(root, 12345, -1)
    with pytest.raises(StoreDenied, match="chown 0 "):
        LocalStore(root, durable=True)


def test_an_own_folder_that_is_a_symlink_or_open_to_others_is_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "archive", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / ".archiver").symlink_to(outside)
    with pytest.raises(StoreDenied, match="symlink"):
        LocalStore(root, durable=True)
    (root / ".archiver").unlink()
    (root / ".archiver").mkdir()
    (root / ".archiver").chmod(0o777)
    with pytest.raises(StoreDenied, match="chmod 700"):
        LocalStore(root, durable=True)
    assert list(outside.iterdir()) == []


def test_a_file_system_without_hard_links_is_refused_before_the_run(tmp_path: Path) -> None:
    class NoLinks(WatchedDisk):
        def before(self, call: str) -> None:
            if call == "link":
                raise OSError(errno.EPERM, "no hard links")

    store = LocalStore(tmp_path / "archive", durable=True, disk=NoLinks())
    with pytest.raises(StoreDenied, match="no hard links"):
        store.prepare()
    store.close()
    assert list((tmp_path / "archive/.archiver/tmp").iterdir()) == []


IDS = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        ["CON", "con", "../../etc/x", "/abs", "a\0b", "A", "a", "é", "e\u0301", "h_" + "0" * 32, "x.v2", "\ud800"]
    ),
    st.from_regex(r"[0-9]{6}-[0-9a-fA-F]{1,20}", fullmatch=True),
)


@given(st.lists(IDS, min_size=2, max_size=2, unique=True))
def test_different_ids_stay_different_on_file_systems_that_fold_case_or_normalise(ids: list[str]) -> None:
    template = KeyTemplate("{account_id}/{start:%Y/%m/%d}/{recording_id}.{extension}", UTC)
    made = [template.key(account_id="acc", recording_id=each, dated_at=NOON, extension="mp3") for each in ids]
    folded = {unicodedata.normalize("NFD", check_key(key)).casefold() for key in made}
    assert len(folded) == 2


def test_quarantine_keeps_bytes_and_reason_once_outside_the_listing(tmp_path: Path) -> None:
    with opened(tmp_path / "archive") as store:
        keep = Quarantine(store.folder).keep
        media = SpooledMedia.of(b"odd")
        kept = [
            keep(account_id="acc", recording_id="../x", media=media, extension="mp3", reason=reason)
            for reason in (b'{"kind": "too long"}', b'{"kind": "again"}')
        ]
        assert kept[0] == kept[1]
        path = tmp_path / "archive" / kept[0]
        assert path.read_bytes() == b"odd"
        assert path.with_suffix(".json").read_bytes() == b'{"kind": "too long"}'
        assert path.is_relative_to(tmp_path / "archive/.archiver/quarantine/acc")
        assert len(list(path.parent.iterdir())) == 2
        assert list(store.list()) == []


def test_quarantine_keeps_other_bytes_of_the_same_recording_beside_the_first(tmp_path: Path) -> None:
    with opened(tmp_path / "archive") as store:
        kept = {
            Quarantine(store.folder).keep(
                account_id="acc", recording_id="r", media=SpooledMedia.of(body), extension=ending, reason=b"{}"
            )
            for body, ending in ((b"1", "mp3"), (b"2", "mp3"), (b"3", "json"), (b"4", "../../x"))
        }
        assert len(kept) == 4
        assert len(list((tmp_path / "archive/.archiver/quarantine/acc").iterdir())) == 8
        assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_second_run_is_refused_and_told_who_holds_the_archive(tmp_path: Path) -> None:
    first = ArchiveFolder(tmp_path / "archive", durable=False)
    second = ArchiveFolder(tmp_path / "archive", durable=False)
    lock = ArchiveLock(first, run_id="20220506T120000-ab", started_at=NOON)
    with pytest.raises(
        ArchiveInUse, match=rf"run 20220506T120000-ab, process {os.getpid()} on .* since 2022-05-06T12:00"
    ):
        ArchiveLock(second, run_id="other", started_at=NOON)
    lock.close()
    lock.close()
    ArchiveLock(second, run_id="other", started_at=NOON).close()
    first.close()
    second.close()


@pytest.mark.parametrize(
    "note", [b"", b"{", b"[]", b'{"pid": "\\n\\u001b[31mFAKE", "host": 1, "run_id": 2, "started_at": 3}']
)
def test_a_damaged_note_does_not_hide_that_the_archive_is_in_use(tmp_path: Path, note: bytes) -> None:
    folder = ArchiveFolder(tmp_path / "archive", durable=False)
    lock = ArchiveLock(folder, run_id="r", started_at=NOON)
    (tmp_path / "archive/.archiver/lock").write_bytes(note)
    with pytest.raises(ArchiveInUse) as caught:
        ArchiveLock(folder, run_id="other", started_at=NOON)
    assert str(caught.value).isprintable()
    lock.close()
    folder.close()


def test_a_lock_that_is_a_symlink_is_not_followed(tmp_path: Path) -> None:
    folder = ArchiveFolder(tmp_path / "archive", durable=False)
    (tmp_path / "target").write_bytes(b"mine")
    (tmp_path / "archive/.archiver/lock").symlink_to(tmp_path / "target")
    with pytest.raises(StoreDenied, match="symlink"):
        ArchiveLock(folder, run_id="r", started_at=NOON)
    assert (tmp_path / "target").read_bytes() == b"mine"
    folder.close()


def test_the_lock_of_a_killed_run_is_free_at_once(tmp_path: Path) -> None:
    script = (
        "import sys, time; from datetime import datetime, UTC; from pathlib import Path\n"
        "from archiver.stores.archive_folder import ArchiveFolder; from archiver.stores.lock import ArchiveLock\n"
        "folder = ArchiveFolder(Path(sys.argv[1]), durable=False)\n"
        "lock = ArchiveLock(folder, run_id='r', started_at=datetime.now(UTC))\n"
        "print('held', flush=True); time.sleep(60)\n"
    )
    folder = ArchiveFolder(tmp_path / "archive", durable=False)
    with subprocess.Popen([sys.executable, "-c", script, folder.path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ArchiveInUse, match=f"process {process.pid}"):
            ArchiveLock(folder, run_id="other", started_at=NOON)
        process.kill()
    ArchiveLock(folder, run_id="other", started_at=NOON).close()
    folder.close()
