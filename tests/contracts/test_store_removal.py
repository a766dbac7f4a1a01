"""The store's promise about removals and locks, held against every store in `stores.KINDS`."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from s3_kinds import LOCKING, kept_of, lift_hold, lock_by_hand
from stores import KINDS, new, old

from archiver.errors import InvalidKey, ObjectLocked, ObjectNotFound, Severity, StoreDenied
from archiver.keys import sidecar_key, tombstone_key
from archiver.stores.base import ObjectLock, Store
from archiver.stores.s3 import S3Store

BODY = bytes(range(256)) * 40
KEY = "acc/2022/05/06/202205-04f5.mp3"
SECOND = timedelta(seconds=1)


@pytest.fixture(params=sorted(KINDS))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with KINDS[request.param](tmp_path) as opened:
        opened.prepare()
        yield opened


@pytest.fixture(params=sorted(KINDS.keys() - LOCKING))
def lockless(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with KINDS[request.param](tmp_path) as opened:
        opened.prepare()
        yield opened


@pytest.fixture(params=sorted(LOCKING))
def locking(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[S3Store]:
    with KINDS[request.param](tmp_path) as opened:
        assert isinstance(opened, S3Store)
        opened.prepare()
        yield opened


def content(store: Store, key: str) -> bytes:
    return b"".join(store.open(key))


def remains(store: Store, root: Path, key: str) -> bool:
    """Whether anything is left of an object, seen from outside."""
    if isinstance(store, S3Store):
        return bool(kept_of(store.connection.access, key))
    return any(path.name == Path(key).name for path in (root / "archive").rglob("*"))


def test_what_was_removed_is_gone_for_good_also_the_second_time(store: Store, tmp_path: Path) -> None:
    for body in (BODY, b"other"):
        store.put([old(KEY, body), old(sidecar_key(KEY), b"{}")])
        assert remains(store, tmp_path, KEY)
        store.delete(KEY)
        assert not remains(store, tmp_path, KEY)
        assert content(store, sidecar_key(KEY)) == b"{}"
    store.delete(KEY)
    assert not remains(store, tmp_path, KEY)


def test_a_tombstone_stays_where_media_and_sidecar_were(store: Store) -> None:
    store.put([old(KEY, BODY), old(sidecar_key(KEY), b"{}")])
    store.put([old(tombstone_key(KEY), b"{}")])
    for key in (KEY, sidecar_key(KEY)):
        store.delete(key)
    assert [head.key for head in store.list()] == [tombstone_key(KEY)]


@pytest.mark.parametrize("key", ["../x", "a//b", ".archiver/lock", ""])
def test_the_lock_of_a_key_that_could_leave_the_archive_is_not_asked_for(store: Store, key: str) -> None:
    with pytest.raises(InvalidKey):
        store.locked_until(key)
    with pytest.raises(InvalidKey):
        store.extend_lock(key, datetime.now(UTC) + timedelta(days=9))


def test_what_is_absent_has_no_lock_to_read_or_to_extend(store: Store) -> None:
    with pytest.raises(ObjectNotFound):
        store.locked_until(KEY)
    with pytest.raises(ObjectNotFound):
        store.extend_lock(KEY, datetime.now(UTC) + timedelta(days=9))


def test_a_store_without_locks_says_so_and_keeps_nothing_back(lockless: Store, tmp_path: Path) -> None:
    lockless.put([new(KEY, BODY)])
    assert lockless.locked_until(KEY) == ObjectLock()
    with pytest.raises(StoreDenied, match=r"can't be locked.*docs/s3\.md"):
        lockless.extend_lock(KEY, datetime.now(UTC) + timedelta(days=9))
    assert content(lockless, KEY) == BODY
    lockless.delete(KEY)
    assert not remains(lockless, tmp_path, KEY)


def test_a_locked_object_survives_its_removal_which_says_until_when(locking: S3Store) -> None:
    before = datetime.now(UTC)
    locking.put([new(KEY, BODY)])
    lock = locking.locked_until(KEY)
    assert lock.until_at is not None
    assert abs(lock.until_at - before - timedelta(days=1)) < timedelta(minutes=2)
    assert lock == ObjectLock(lock.until_at, "GOVERNANCE")
    with pytest.raises(ObjectLocked, match=f"until {lock.until_at:%Y-%m-%dT%H:%M:%SZ}") as caught:
        locking.delete(KEY)
    assert (caught.value.until_at, caught.value.legal_hold) == (lock.until_at, False)
    assert caught.value.severity is Severity.PERMANENT
    assert content(locking, KEY) == BODY
    assert len(kept_of(locking.connection.access, KEY)) == 1


def test_a_lock_is_extended_and_never_shortened(locking: S3Store) -> None:
    locking.put([new(KEY, BODY)])
    first = locking.locked_until(KEY).until_at
    assert first is not None
    longer = locking.extend_lock(KEY, first + timedelta(days=30, microseconds=7))
    assert longer == locking.locked_until(KEY) == ObjectLock(first + timedelta(days=30) + SECOND, "GOVERNANCE")
    assert locking.extend_lock(KEY, first + timedelta(days=30) + SECOND) == longer
    for shorter in (first + timedelta(days=29), first, datetime.now(UTC) - timedelta(days=9)):
        with pytest.raises(ObjectLocked, match="never shortened") as caught:
            locking.extend_lock(KEY, shorter)
        assert caught.value.until_at == longer.until_at
    assert locking.locked_until(KEY) == longer


def test_a_legal_hold_keeps_an_object_until_it_is_lifted(locking: S3Store) -> None:
    locking.put([old(KEY, BODY)])
    until_at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    lock_by_hand(locking, KEY, until_at=until_at, legal_hold=True)
    assert locking.locked_until(KEY) == ObjectLock(until_at, "GOVERNANCE", legal_hold=True)
    with pytest.raises(ObjectLocked, match="a legal hold keeps it") as caught:
        locking.delete(KEY)
    assert caught.value.legal_hold
    assert content(locking, KEY) == BODY
    assert locking.extend_lock(KEY, until_at + timedelta(hours=1)).legal_hold
    lift_hold(locking, KEY)
    assert locking.locked_until(KEY) == ObjectLock(until_at + timedelta(hours=1), "GOVERNANCE")


def test_an_object_is_removed_for_good_once_its_lock_is_over(locking: S3Store) -> None:
    """The one test that waits: the clock of a real server can't be moved."""
    locking.put([old(KEY, BODY)])
    until_at = datetime.now(UTC).replace(microsecond=0) + 3 * SECOND
    lock_by_hand(locking, KEY, until_at=until_at)
    said = []
    while locking.head(KEY) is not None:
        try:
            locking.delete(KEY)
        except ObjectLocked as error:
            said.append(error.until_at)
            time.sleep(0.1)
    assert set(said) == {until_at}
    assert not kept_of(locking.connection.access, KEY)
