"""What retention asks of a ledger, held against every ledger in `ledgers.KINDS`."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ledgers import ACCOUNT, NOON, SHA, LedgerKind, archived, failed, list_page, recording

from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import Run
from archiver.ledger.values_rebuilding import Entering, StoredRecording
from archiver.ledger.values_retention import (
    Expiring,
    Expiry,
    Hold,
    RetentionRow,
    StoredTombstone,
    TombstoneKind,
)
from archiver.ledger.values_sealing import Sealable, Sealed
from archiver.recording import Fixity, Status

LATER = NOON + timedelta(hours=1)
HOLD = Hold(
    name="Case-7",
    reason="a lawsuit",
    reference="AZ 7/26",
    placed_by="ann",
    placed_at=NOON,
    account_id=ACCOUNT,
    since_at=NOON,
    until_at=LATER,
    recording_ids=("a", "b"),
    users=("+49*", "\udc80odd"),
)


async def rows_of(ledger: SqlLedger, *account_ids: str) -> list[RetentionRow]:
    return [row async for batch in ledger.retention_rows(account_ids) for row in batch]


def expiry(row: RetentionRow, kind: TombstoneKind = TombstoneKind.EXPIRED) -> Expiry:
    keys = ", ".join(f'"{each.key}"' for each in row.objects)
    return Expiry(
        row.entry_id,
        f"{row.recording_id}.tombstone.json",
        f'{{"keys": [{keys}]}}'.encode(),
        Fixity(9, SHA),
        kind,
        "calls",
        "why",
        LATER,
        len(row.objects),
    )


async def archive(ledger: SqlLedger, run: Run, *ids: str) -> None:
    for task in await list_page(ledger, run, *(recording(each) for each in ids)):
        await ledger.settle(run, replace(archived(task), sidecar_sha256=SHA))
    await ledger.flush()


async def test_a_hold_comes_back_as_it_was_placed_and_its_name_is_used_once(ledger: SqlLedger) -> None:
    assert await ledger.add_hold(HOLD)
    assert not await ledger.add_hold(replace(HOLD, name="case-7", reason="another"))
    assert await ledger.add_hold(replace(HOLD, name="other"))
    assert [(known.number, known.hold.name) for known in await ledger.known_holds()] == [(1, "Case-7"), (2, "other")]
    assert (await ledger.known_holds())[0].hold == HOLD


async def test_a_released_hold_stays_known_and_is_released_once(ledger: SqlLedger) -> None:
    await ledger.add_hold(HOLD)
    released = await ledger.release_hold("CASE-7", by="bob", at=LATER, reason="settled")
    assert released == replace(HOLD, released_by="bob", released_at=LATER, release_reason="settled")
    assert [known.hold for known in await ledger.known_holds()] == [released]
    assert await ledger.release_hold("Case-7", by="eve", at=LATER, reason="") is None
    assert await ledger.release_hold("nobody's", by="eve", at=LATER, reason="") is None
    assert not await ledger.add_hold(HOLD)


async def test_rows_come_in_the_order_of_the_keys_and_pending_ones_do_not(ledger: SqlLedger, run: Run) -> None:
    await archive(ledger, run, "c", "a", "b")
    tasks = await list_page(ledger, run, *(recording(each) for each in ("pending", "gone", "odd")))
    await ledger.settle(run, failed(tasks[1], Status.MISSING))
    await ledger.settle(run, failed(tasks[2], Status.QUARANTINED))
    rows = await rows_of(ledger)
    assert [row.recording_id for row in rows] == ["gone", "odd", "a", "b", "c"]
    assert [row.status for row in rows[:3]] == [Status.MISSING, Status.QUARANTINED, Status.ARCHIVED]
    assert [(row.metadata, len(row.objects)) for row in rows[1:3]] == [(b'{"k": 1}', 0), (b"", 1)]
    assert (rows[2].called_at, rows[2].archived_at, rows[2].size_bytes) == (NOON, NOON, 1000)
    assert await rows_of(ledger, "another") == []
    assert await ledger.retention_row(ACCOUNT, "a") == rows[2]
    assert await ledger.retention_row(ACCOUNT, "unheard of") is None
    pending = await ledger.retention_row(ACCOUNT, "pending")
    assert pending is not None
    assert await ledger.expire(run, [expiry(pending)], holds_through=0) == [Expiring.CHANGED]
    assert await ledger.expire(run, [expiry(pending, TombstoneKind.ERASED)], holds_through=0) == [Expiring.EXPIRED]
    assert await ledger.retention_row(ACCOUNT, "pending") is None


async def test_former_versions_and_damaged_ones_are_among_the_objects(ledger: SqlLedger, run: Run) -> None:
    await archive(ledger, run, "a")
    again = await ledger.begin_run("again", started_at=LATER)
    (task,) = await list_page(ledger, again, recording("a", length_bytes=7))
    await ledger.settle(again, archived(task, size_bytes=7))
    (row,) = await rows_of(ledger)
    assert [each.key for each in row.objects] == ["a.v1.mp3", "a.v2.mp3"]
    assert [each.has_sidecar for each in row.objects] == [True, False]
    assert row.size_bytes == 1007


async def test_what_expires_is_expected_no_more_and_nothing_of_it_is_archived_again(
    ledger: SqlLedger, run: Run, kind: LedgerKind, tmp_path: Path
) -> None:
    await archive(ledger, run, "a", "b")
    row, other = await rows_of(ledger)
    assert await ledger.expire(run, [expiry(row)], holds_through=0) == [Expiring.EXPIRED]
    assert [entry.recording_id async for entry in ledger.objects()] == ["b"]
    assert await rows_of(ledger) == [other]
    assert await ledger.statuses(ACCOUNT, ["a"]) == {"a": Status.EXPIRED}
    assert kind.tallied(tmp_path) == kind.counted(tmp_path)
    following = await ledger.begin_run("next", started_at=LATER)
    assert await list_page(ledger, following, recording("a", length_bytes=5), retry_missing=True) == []
    assert await ledger.claim_due(following, ACCOUNT, at=LATER + timedelta(days=99), limit=9) == []
    (known,) = await ledger.histories("a")
    assert known.tombstone is not None
    assert (known.tombstone.rule, known.tombstone.run_id, known.tombstone.removed_at) == ("calls", "first", None)
    assert [each.key for each in known.versions] == ["a.v1.mp3"]


async def test_an_expiry_is_unfinished_until_its_objects_are_removed(ledger: SqlLedger, run: Run) -> None:
    await archive(ledger, run, "a", "b")
    rows = await rows_of(ledger)
    await ledger.expire(run, [expiry(row) for row in rows], holds_through=0)
    (first, second) = await ledger.unfinished_expiries(9)
    assert (first.recording_id, first.key, first.called_at) == ("a", "a.tombstone.json", NOON)
    assert await ledger.unfinished_expiries(9, after=first.entry_id) == [second]
    assert await ledger.unfinished_keys() >= {"a.v1.mp3", "a.v1.json", "a.tombstone.json", "b.v1.mp3"}
    await ledger.removed([first.entry_id], at=LATER)
    assert await ledger.unfinished_expiries(9) == [second]
    (found,) = [found async for batch in ledger.tombstone_rows() for found in batch]
    assert (found.key, found.size_bytes, found.sha256, found.recording_id) == ("a.tombstone.json", 9, SHA, "a")


async def test_a_hold_that_came_in_between_keeps_everything(ledger: SqlLedger, run: Run) -> None:
    await archive(ledger, run, "a")
    (row,) = await rows_of(ledger)
    await ledger.add_hold(HOLD)
    assert await ledger.expire(run, [expiry(row)], holds_through=0) == [Expiring.HELD]
    assert await rows_of(ledger) == [row]
    assert await ledger.unfinished_expiries(9) == []
    await ledger.release_hold(HOLD.name, by="bob", at=LATER, reason="")
    assert await ledger.expire(run, [expiry(row)], holds_through=0) == [Expiring.EXPIRED]


@pytest.mark.parametrize("what", ["gone", "versions", "twice"])
async def test_an_entry_that_changed_meanwhile_stays(ledger: SqlLedger, run: Run, what: str) -> None:
    await archive(ledger, run, "a")
    (row,) = await rows_of(ledger)
    wanted = expiry(row)
    if what == "gone":
        wanted = replace(wanted, entry_id=99)
    elif what == "versions":
        wanted = replace(wanted, versions=2)
    else:
        assert await ledger.expire(run, [wanted], holds_through=0) == [Expiring.EXPIRED]
    assert await ledger.expire(run, [wanted], holds_through=0) == [Expiring.CHANGED]


async def test_nothing_about_the_call_remains_of_what_is_erased(
    ledger: SqlLedger, run: Run, kind: LedgerKind, tmp_path: Path
) -> None:
    await archive(ledger, run, "a")
    again = await ledger.begin_run("again", started_at=LATER)
    (task,) = await list_page(ledger, again, recording("a", length_bytes=7))
    await ledger.settle(again, failed(task, Status.MISSING))
    await ledger.flush()
    (row,) = await rows_of(ledger)
    await ledger.expire(again, [expiry(row, TombstoneKind.ERASED)], holds_through=0)
    (known,) = await ledger.histories("a")
    assert (known.start_at, known.saved_at, known.duration_ms, known.length_bytes) == (None,) * 4
    assert (known.metadata, list(known.versions), list(known.tries)) == (b"", [], [])
    assert kind.tallied(tmp_path) == kind.counted(tmp_path)


async def test_tombstones_are_sealed_like_recordings(ledger: SqlLedger, run: Run) -> None:
    await archive(ledger, run, "a")
    (row,) = await rows_of(ledger)
    await ledger.expire(run, [expiry(row)], holds_through=0)
    assert await ledger.unsealed(9) == []
    await ledger.removed([row.entry_id], at=LATER)
    (found,) = await ledger.unsealed(9)
    assert (found.where, found.key, found.sha256, found.called_at) == (
        Sealable.TOMBSTONE,
        "a.tombstone.json",
        SHA,
        NOON,
    )
    await ledger.seal([Sealed(found, 2)])
    assert await ledger.unsealed(9) == []


def stored(recording_id: str, *, is_alone: bool = True) -> StoredTombstone:
    return StoredTombstone(
        account_id=ACCOUNT,
        recording_id=recording_id,
        key=f"{recording_id}.tombstone.json",
        body=b'{"keys": ["a.v1.mp3"]}',
        fixity=Fixity(9, SHA),
        kind=TombstoneKind.EXPIRED,
        rule="calls",
        reference="",
        expired_at=LATER,
        called_at=NOON,
        size_bytes=1000,
        run_id="apply",
        is_alone=is_alone,
    )


async def test_a_tombstone_that_was_found_keeps_its_recording_expired(
    ledger: SqlLedger, run: Run, kind: LedgerKind, tmp_path: Path
) -> None:
    await archive(ledger, run, "known")
    assert await ledger.enter_tombstones([stored("known"), stored("unknown")]) == 2
    assert await ledger.enter_tombstones([stored("known"), stored("unknown")]) == 0
    assert await ledger.statuses(ACCOUNT, ["known", "unknown"]) == dict.fromkeys(("known", "unknown"), Status.EXPIRED)
    following = await ledger.begin_run("next", started_at=LATER)
    assert await list_page(ledger, following, recording("known"), recording("unknown")) == []
    again = StoredRecording(recording("unknown"), 1, "unknown.mp3", Fixity(5, SHA), SHA, NOON, "first")
    assert await ledger.enter([again]) == [Entering.EXPIRED]
    assert await ledger.unfinished_expiries(9) == []
    assert kind.tallied(tmp_path) == kind.counted(tmp_path)
    (known,) = await ledger.histories("unknown")
    assert known.tombstone is not None
    assert (known.tombstone.run_id, known.tombstone.expired_at) == ("apply", LATER)


async def test_a_tombstone_beside_what_should_be_gone_is_an_unfinished_expiry(ledger: SqlLedger) -> None:
    await ledger.enter_tombstones([stored("a", is_alone=False)])
    (found,) = await ledger.unfinished_expiries(9)
    assert (found.recording_id, found.body) == ("a", b'{"keys": ["a.v1.mp3"]}')


async def test_rows_and_writes_go_on_beside_one_another(ledger: SqlLedger, run: Run) -> None:
    await archive(ledger, run, *(f"{number:05d}" for number in range(2100)))
    seen = 0
    async for batch in ledger.retention_rows():
        seen += len(batch)
        await asyncio.wait_for(ledger.expire(run, [expiry(batch[0])], holds_through=0), 30)
    assert seen == 2100
