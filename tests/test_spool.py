"""The spool receives a body, counts and digests it, and leaves nothing behind."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_local_store_disks import FaultyDisk, ShortDisk, WatchedDisk

from archiver.errors import StoreError, StoreFull, StoreUnavailable
from archiver.recording import Fixity
from archiver.stores.archive_folder import ArchiveFolder
from archiver.stores.disk import Disk
from archiver.stores.spool import HEAD_BYTES, Spool, SpooledMedia

ENOSPC = 28


def folder_on(root: Path, disk: Disk | None = None) -> ArchiveFolder:
    folder = ArchiveFolder(root / "archive", durable=False, disk=disk, reserve_bytes=0)
    folder.prepare()
    return folder


@pytest.fixture(params=["nameless", "named"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ArchiveFolder]:
    made = folder_on(tmp_path, WatchedDisk(nameless=request.param == "nameless"))
    yield made
    made.close()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def left(folder: ArchiveFolder) -> list[str]:
    return [path.name for path in (Path(folder.path) / ".archiver/tmp").iterdir()]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(st.binary(max_size=40), max_size=4), max_size=8), st.integers(0, 100))
def test_any_batches_are_counted_digested_and_given_back(
    folder: ArchiveFolder, batches: list[list[bytes]], memory: int
) -> None:
    spool = Spool(folder.temporaries, memory_bytes=memory, want_md5=True)
    whole = b"".join(b"".join(batch) for batch in batches)
    assert all(spool.write(batch) for batch in batches)
    assert spool.size_bytes == len(whole)
    media = spool.finish()
    assert media.fixity == Fixity(len(whole), hashlib.sha256(whole).digest())
    assert media.md5 == hashlib.md5(whole).digest()
    assert media.head == whole[:HEAD_BYTES]
    assert b"".join(media.chunks()) == b"".join(media.chunks()) == whole
    assert (media.file is not None) == (len(whole) > memory)
    media.discard()
    assert left(folder) == []


def test_md5_is_made_only_when_asked_for(folder: ArchiveFolder) -> None:
    assert Spool(folder.temporaries).finish().md5 is None


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_the_head_is_the_first_64_kib(folder: ArchiveFolder, memory: int) -> None:
    body = os.urandom(HEAD_BYTES + 1000)
    spool = Spool(folder.temporaries, memory_bytes=memory)
    for start in range(0, len(body), 5000):
        spool.write([body[start : start + 5000]])
    media = spool.finish()
    assert media.head == body[:HEAD_BYTES]
    media.discard()


@pytest.mark.parametrize("memory", [0, 1 << 20])
def test_a_body_never_grows_past_its_limit(folder: ArchiveFolder, memory: int) -> None:
    spool = Spool(folder.temporaries, memory_bytes=memory, limit_bytes=11)
    assert spool.write([b"12345", b"67890"])
    assert not spool.write([b"abc", b"def"])
    assert not spool.write([b"more"])
    media = spool.finish()
    assert b"".join(media.chunks()) == b"1234567890a"
    assert media.fixity.size_bytes == 11
    media.discard()


def test_a_body_of_exactly_the_expected_length_may_go_on(folder: ArchiveFolder) -> None:
    spool = Spool(folder.temporaries, limit_bytes=10 + 1)
    assert spool.write([b"1234567890"])
    spool.discard()


def test_a_small_body_touches_no_disk(tmp_path: Path) -> None:
    class SilentDisk(WatchedDisk):
        quiet = False

        def before(self, call: str) -> None:
            assert not self.quiet, call

    disk = SilentDisk()
    folder = folder_on(tmp_path, disk)
    disk.quiet = True
    spool = Spool(folder.temporaries)
    spool.write([b"x" * (1 << 20)])
    media = spool.finish()
    assert len(b"".join(media.chunks())) == 1 << 20
    media.discard()
    disk.quiet = False
    folder.close()


def test_a_spool_file_is_private_and_has_no_name_where_the_file_system_can(folder: ArchiveFolder) -> None:
    spool = Spool(folder.temporaries, memory_bytes=0)
    spool.write([b"secret"])
    media = spool.finish()
    assert media.file is not None
    assert media.file.found().st_mode & 0o777 == 0o600
    assert len(left(folder)) == media.file.is_named
    media.discard()


def test_discard_can_be_repeated_and_gives_everything_back(folder: ArchiveFolder) -> None:
    before = open_files()
    spool = Spool(folder.temporaries, memory_bytes=0)
    spool.write([b"x"])
    assert open_files() == before + 1
    spool.discard()
    spool.discard()
    other = Spool(folder.temporaries, memory_bytes=0)
    other.write([b"y"])
    media = other.finish()
    other.discard()
    assert b"".join(media.chunks()) == b"y"
    media.discard()
    media.discard()
    assert open_files() == before
    assert left(folder) == []


def test_a_finished_spool_takes_nothing_more(folder: ArchiveFolder) -> None:
    spool = Spool(folder.temporaries)
    spool.finish()
    with pytest.raises(StoreUnavailable):
        spool.write([b"x"])
    with pytest.raises(StoreUnavailable):
        spool.finish()


def test_short_writes_lose_nothing(tmp_path: Path) -> None:
    folder = folder_on(tmp_path, ShortDisk())
    spool = Spool(folder.temporaries, memory_bytes=0)
    spool.write([b"0123456789" * 100])
    spool.write([b"abc"])
    media = spool.finish()
    assert b"".join(media.chunks()) == b"0123456789" * 100 + b"abc"
    media.discard()
    folder.close()


@pytest.mark.parametrize("call", ["open", "write"])
@pytest.mark.parametrize("nameless", [True, False])
def test_a_full_disk_ends_the_spool_and_leaves_nothing(tmp_path: Path, call: str, *, nameless: bool) -> None:
    disk = FaultyDisk("none", ENOSPC, nameless=nameless, sticky=True)
    folder = folder_on(tmp_path, disk)
    before = open_files()
    disk.call = call
    spool = Spool(folder.temporaries, memory_bytes=4)
    spool.write([b"1234"])
    with pytest.raises(StoreFull):
        spool.write([b"5"])
    spool.discard()
    assert disk.hits
    assert open_files() == before
    assert left(folder) == []
    folder.close()


def test_media_of_given_bytes_need_no_disk() -> None:
    media = SpooledMedia.of(b"{}")
    assert media.fixity == Fixity(2, hashlib.sha256(b"{}").digest())
    assert list(media.chunks()) == [b"{}"]
    assert media.head == b"{}"


def test_prepare_clears_what_a_dead_run_left_in_the_spool_folder(tmp_path: Path) -> None:
    folder = folder_on(tmp_path)
    tmp = Path(folder.path) / ".archiver/tmp"
    (tmp / "1-2.part").write_bytes(b"half")
    (tmp / "link").symlink_to("/etc/passwd")
    folder.prepare()
    assert left(folder) == []
    assert Path("/etc/passwd").exists()
    folder.close()


def test_a_spool_file_that_can_not_be_read_back_is_a_store_error(tmp_path: Path) -> None:
    disk = FaultyDisk("pread", 5, sticky=True)
    folder = folder_on(tmp_path, disk)
    spool = Spool(folder.temporaries, memory_bytes=0)
    spool.write([b"x"])
    media = spool.finish()
    with pytest.raises(StoreError):
        list(media.chunks())
    media.discard()
    folder.close()
