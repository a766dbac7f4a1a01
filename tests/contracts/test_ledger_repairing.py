"""What a repair may do to a ledger, held against every ledger in `ledgers.KINDS`."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ledgers import NOON, SHA, LedgerKind, archived, list_page, recording

from archiver.errors import LedgerError
from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import ArchivedEntry, Attempt, Run, Settlement
from archiver.recording import Fixity, Status

LATER = NOON + timedelta(hours=1)
OTHER = bytes(reversed(SHA))


@pytest.fixture
async def entry(ledger: SqlLedger) -> ArchivedEntry:
    """One archived recording."""
    run = await ledger.begin_run("first", started_at=NOON)
    (task,) = await list_page(ledger, run, recording())
    await ledger.settle(run, replace(archived(task), sidecar_sha256=OTHER))
    (found,) = [each async for each in ledger.objects()]
    return found


async def repair_run(ledger: SqlLedger) -> Run:
    return await ledger.begin_run("repair", started_at=LATER)


def instead(entry: ArchivedEntry, *, size_bytes: int = 1000) -> Settlement:
    return Settlement(
        entry.entry_id,
        Status.ARCHIVED,
        attempts=3,
        failures=[Attempt(2, LATER, "server_error", "HTTP 500")],
        key="202605-a.v2.mp3",
        fixity=Fixity(size_bytes, OTHER),
        sidecar_sha256=SHA,
        archived_at=LATER,
    )


async def test_a_damaged_object_is_remembered_and_no_longer_expected(ledger: SqlLedger, entry: ArchivedEntry) -> None:
    run = await repair_run(ledger)
    await ledger.replace_damaged(run, entry, instead(entry), recording=recording(), at=LATER)
    (now,) = [each async for each in ledger.objects()]
    assert (now.version, now.key, now.fixity, now.is_current) == (2, "202605-a.v2.mp3", Fixity(1000, OTHER), True)
    assert (now.sidecar_sha256, now.archived_at) == (SHA, LATER)
    assert await ledger.damaged_keys() == {entry.key}
    (history,) = await ledger.histories(entry.recording_id)
    assert [(each.version, each.damaged_at, each.run_id) for each in history.versions] == [
        (1, LATER, "first"),
        (2, None, "repair"),
    ]
    assert [(tried.attempt.number, tried.run_id) for tried in history.tries] == [(2, "repair")]
    assert (history.tries_count, history.status) == (3, Status.ARCHIVED)


async def test_the_tallies_follow_a_replaced_object(
    kind: LedgerKind, ledger: SqlLedger, entry: ArchivedEntry, tmp_path: Path
) -> None:
    run = await repair_run(ledger)
    await ledger.replace_damaged(run, entry, instead(entry, size_bytes=77), recording=recording(), at=LATER)
    assert kind.tallied(tmp_path) == kind.counted(tmp_path)


async def test_what_the_repair_listed_is_what_the_next_listing_is_compared_with(
    ledger: SqlLedger, entry: ArchivedEntry
) -> None:
    run = await repair_run(ledger)
    row = recording(length_bytes=77, digest_md5=b"2" * 16)
    await ledger.replace_damaged(run, entry, instead(entry, size_bytes=77), recording=row, at=LATER)
    again = await ledger.begin_run("again", started_at=LATER)
    assert await list_page(ledger, again, row) == []
    (task,) = await list_page(ledger, await ledger.begin_run("then", started_at=LATER), recording(length_bytes=78))
    assert task.version == 3


@pytest.mark.parametrize("what", ["version", "entry"])
async def test_an_entry_that_changed_meanwhile_ends_the_repair_and_is_not_touched(
    kind: LedgerKind, tmp_path: Path, what: str
) -> None:
    opened = await kind.open(tmp_path)
    run = await opened.begin_run("first", started_at=NOON)
    (task,) = await list_page(opened, run, recording())
    await opened.settle(run, archived(task))
    (before,) = [each async for each in opened.objects()]
    stranger = replace(before, version=2) if what == "version" else replace(before, entry_id=99)
    settlement = replace(instead(before), entry_id=stranger.entry_id)
    with pytest.raises(LedgerError, match="changed while it was repaired"):
        await opened.replace_damaged(run, stranger, settlement, recording=recording(), at=LATER)
    with pytest.raises(LedgerError, match="changed while it was repaired"):
        await opened.close()
    opened = await kind.open(tmp_path)
    assert [each async for each in opened.objects()] == [before]
    assert await opened.damaged_keys() == frozenset()
    with pytest.raises(LedgerError, match="changed while it was repaired"):
        await opened.correct_entry(run, stranger, fixity=Fixity(1, SHA))
    with pytest.raises(LedgerError, match="changed while it was repaired"):
        await opened.close()
    assert kind.tallied(tmp_path) == kind.counted(tmp_path)


async def test_a_row_is_put_right_where_it_is(ledger: SqlLedger, entry: ArchivedEntry) -> None:
    run = await repair_run(ledger)
    await ledger.correct_entry(run, entry, fixity=Fixity(5, OTHER), sidecar_sha256=SHA)
    await ledger.correct_entry(run, entry)
    (now,) = [each async for each in ledger.objects()]
    assert now == replace(entry, fixity=Fixity(5, OTHER), sidecar_sha256=SHA)
    (history,) = await ledger.histories(entry.recording_id)
    assert (history.flags, history.last_run_id) == (["repaired"], "repair")


async def test_a_former_versions_row_is_put_right_and_the_current_one_stays(
    ledger: SqlLedger, entry: ArchivedEntry
) -> None:
    run = await repair_run(ledger)
    (task,) = await list_page(ledger, run, recording(length_bytes=2000))
    await ledger.settle(run, archived(task, size_bytes=2000))
    former, current = [each async for each in ledger.objects()]
    assert (former.is_current, current.is_current) == (False, True)
    await ledger.correct_entry(run, former, fixity=Fixity(5, OTHER))
    assert [each async for each in ledger.objects()] == [replace(former, fixity=Fixity(5, OTHER)), current]


async def test_a_repair_is_told_what_was_listed_and_who_archived_it(ledger: SqlLedger, entry: ArchivedEntry) -> None:
    found = await ledger.repairable(entry)
    assert found is not None
    assert (found.recording, found.attempts, found.run_id) == (recording(metadata=b""), 1, "first")
    assert await ledger.repairable(replace(entry, entry_id=99)) is None


async def test_tries_that_failed_are_kept_and_the_recording_stays_archived(
    ledger: SqlLedger, entry: ArchivedEntry
) -> None:
    run = await repair_run(ledger)
    await ledger.note_tries(run, entry, [Attempt(2, LATER, "not_there", "HTTP 404")])
    await ledger.note_tries(run, entry, [])
    (history,) = await ledger.histories(entry.recording_id)
    assert [(tried.attempt.reason, tried.run_id) for tried in history.tries] == [("not_there", "repair")]
    assert (history.status, history.tries_count, history.reason) == (Status.ARCHIVED, 2, "")
