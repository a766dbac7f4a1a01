"""A store whose own locks forbid a removal: nothing locked is begun, and what is locked meanwhile is finished later."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from ledgers import ACCOUNT, NOON, archived, list_page, recording

from archiver.commands.erasing import extend_locks
from archiver.errors import ObjectLocked
from archiver.keys import sidecar_key
from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import Run
from archiver.ledger.values_retention import Expiring, TombstoneKind
from archiver.pipeline.threads import Threads
from archiver.proof.evidence.in_memory import InMemory
from archiver.proof.evidence.recorder import Recorder
from archiver.proof.retention.applying import Hands
from archiver.proof.retention.decide import Policy, Reason, Verdict
from archiver.proof.retention.rules import Keep, Rule
from archiver.proof.retention.surveying import Survey
from archiver.proof.retention.tombstones import Ending, expiry_of, said_by, stored_tombstone
from archiver.stores.base import NewObject, ObjectLock
from archiver.stores.local import LocalStore
from archiver.stores.quarantine import Quarantine
from archiver.stores.trail_file import TrailFile

NOW = NOON + timedelta(days=400)
LOCKED_UNTIL = NOW + timedelta(days=9)
POLICY = Policy((Rule("year", Keep(months=12)),), (), UTC)
ENDING = Ending(TombstoneKind.EXPIRED, "year", None, "", NOW, "apply", UTC)
KEYS = {name: f"{ACCOUNT}/2026/05/06/{name}.mp3" for name in ("202605-a", "202605-b")}


class LockingStore(LocalStore):
    """A store on disk that knows locks, as a bucket does: of these keys, until then."""

    locks: dict[str, ObjectLock]
    extended: list[tuple[str, datetime]]

    def locked_until(self, key: str) -> ObjectLock:
        return self.locks.get(key, ObjectLock())

    def extend_lock(self, key: str, until_at: datetime) -> ObjectLock:
        self.extended.append((key, until_at))
        return ObjectLock(until_at, "GOVERNANCE")

    def delete(self, key: str) -> None:
        lock = self.locks.get(key)
        if lock is not None:
            raise ObjectLocked(f"{key} is locked", until_at=lock.until_at)
        super().delete(key)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LockingStore]:
    opened = LockingStore(tmp_path / "archive", durable=False)
    opened.locks, opened.extended = {}, []
    opened.prepare()
    yield opened
    opened.close()


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    async with Threads(1, "retention") as opened:
        yield opened


@pytest.fixture
async def hands(ledger: SqlLedger, run: Run, store: LockingStore, threads: Threads) -> Hands:
    """Two archived recordings, and what lets them go."""
    for task in await list_page(ledger, run, *(recording(name) for name in KEYS)):
        key = KEYS[task.recording.recording_id]
        media, beside = InMemory(b"media"), InMemory(b'{"recording": null}')
        store.put([NewObject(key, media, "audio/mpeg"), NewObject(sidecar_key(key), beside, "application/json")])
        settled = archived(task, size_bytes=5, sha256=media.fixity.sha256)
        await ledger.settle(run, replace(settled, key=key, sidecar_sha256=beside.fixity.sha256))
    await ledger.flush()
    recorder = Recorder(TrailFile(store.folder), ledger, threads, who="me", now=lambda: NOW)
    return Hands(ledger, store, Quarantine(store.folder), threads, recorder, run, lambda: NOW)


@pytest.mark.parametrize("what", ["media", "sidecar", "legal hold"])
async def test_what_the_store_locks_is_kept_with_its_date(
    ledger: SqlLedger, store: LockingStore, threads: Threads, hands: Hands, what: str
) -> None:
    key = KEYS["202605-a"]
    store.locks = {
        "media": {key: ObjectLock(LOCKED_UNTIL, "COMPLIANCE")},
        "sidecar": {sidecar_key(key): ObjectLock(LOCKED_UNTIL, "GOVERNANCE"), key: ObjectLock(NOW, "GOVERNANCE")},
        "legal hold": {key: ObjectLock(legal_hold=True)},
    }[what]
    survey = Survey(store, threads, has_locks=True)
    found = [each async for batch in survey.rows(ledger, POLICY, NOW) for each in batch]
    assert [each.decision.verdict for each in found] == [Verdict.KEEP, Verdict.EXPIRE]
    locked = found[0].decision
    assert (locked.reason, locked.rule) == (Reason.LOCKED, "year")
    assert locked.lock_until_at == (None if what == "legal hold" else LOCKED_UNTIL)


async def test_only_locks_that_end_too_early_are_made_longer(
    ledger: SqlLedger, store: LockingStore, hands: Hands
) -> None:
    row, _ = [row async for batch in ledger.retention_rows() for row in batch]
    key = KEYS["202605-a"]
    until_at = LOCKED_UNTIL + timedelta(days=1)
    store.locks = {key: ObjectLock(until_at, "GOVERNANCE"), sidecar_key(key): ObjectLock(LOCKED_UNTIL, "GOVERNANCE")}
    assert extend_locks(store, row, until_at) == (2, 1)
    assert store.extended == [(sidecar_key(key), until_at)]
    store.locks = {}
    assert extend_locks(store, row, until_at) == (2, 2)


async def test_what_is_locked_at_the_last_moment_has_its_tombstone_and_goes_later(
    ledger: SqlLedger, store: LockingStore, hands: Hands
) -> None:
    rows = [row async for batch in ledger.retention_rows() for row in batch]
    expiries = [expiry_of(row, f"{ACCOUNT}/2026/05/06/{row.recording_id}.tombstone.json", ENDING) for row in rows]
    assert await hands.expire(expiries, holds_through=0) == [Expiring.EXPIRED] * 2
    store.locks = {KEYS["202605-a"]: ObjectLock(LOCKED_UNTIL, "COMPLIANCE")}
    finished, left = await hands.finish()
    assert (finished, [(one.expiry.recording_id, one.until_at) for one in left]) == (1, [("202605-a", LOCKED_UNTIL)])
    lying = [head.key for head in store.list()]
    assert lying == [KEYS["202605-a"], expiries[0].key, expiries[1].key]
    assert await ledger.unfinished_keys() >= {KEYS["202605-a"], expiries[0].key}
    store.locks = {}
    assert await hands.finish() == (1, [])
    assert [head.key for head in store.list()] == [expiries[0].key, expiries[1].key]
    assert await hands.finish() == (0, [])


async def test_other_bytes_under_the_tombstones_name_stay_and_so_does_the_recording(
    ledger: SqlLedger, store: LockingStore, hands: Hands
) -> None:
    rows = [row async for batch in ledger.retention_rows() for row in batch]
    expiries = [expiry_of(row, f"{ACCOUNT}/2026/05/06/{row.recording_id}.tombstone.json", ENDING) for row in rows]
    store.put([NewObject(expiries[0].key, InMemory(b"something else"), "text/plain")])
    await hands.expire(expiries, holds_through=0)
    finished, left = await hands.finish()
    assert (finished, ["move it away" in one.why for one in left]) == (1, [True])
    assert store.head(KEYS["202605-a"]) is not None
    store.delete(expiries[0].key)
    assert await hands.finish() == (1, [])
    assert store.head(KEYS["202605-a"]) is None


async def test_a_tombstone_that_names_what_is_not_its_own_is_none(ledger: SqlLedger, hands: Hands) -> None:
    (row, other) = [row async for batch in ledger.retention_rows() for row in batch]
    key = f"{ACCOUNT}/2026/05/06/{row.recording_id}.tombstone.json"
    whole = expiry_of(row, key, ENDING)
    found = stored_tombstone(key, whole.body, is_alone=True)
    assert not isinstance(found, str)
    assert (found.rule, found.size_bytes, found.expired_at, found.fixity) == ("year", 5, NOW, whole.fixity)
    said = said_by(whole.body)
    assert said is not None
    assert (said.sizes, said.dated_on) == ((5,), "2026-05-06")
    forged = whole.body.replace(KEYS[row.recording_id].encode(), KEYS[other.recording_id].encode())
    elsewhere = stored_tombstone(f"{ACCOUNT}/2026/05/06/{other.recording_id}.tombstone.json", whole.body, is_alone=True)
    newer = stored_tombstone(key, whole.body.replace(b'"schema": 1', b'"schema": 2'), is_alone=True)
    for wrong in (stored_tombstone(key, forged, is_alone=True), elsewhere, newer):
        assert isinstance(wrong, str)
    for nothing in (b"", b"{}", b"[" * 100_000, b"\xff"):
        assert stored_tombstone(key, nothing, is_alone=True) == "it can't be understood as a tombstone"
    assert isinstance(stored_tombstone("../x.tombstone.json", whole.body, is_alone=True), str)
