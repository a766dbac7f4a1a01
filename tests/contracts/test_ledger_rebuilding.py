"""The ledger's promise about entering archived objects from outside, held against every ledger in `ledgers.KINDS`."""

import random
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from ledgers import ACCOUNT, NOON, SHA, LedgerKind, archived, failed, list_page, recording

from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import ArchivedEntry
from archiver.ledger.values_rebuilding import Entering, StoredRecording
from archiver.recording import Fixity, Status

ENTERED, KNOWN, DIFFERS, EXPIRED = Entering


def stored(
    recording_id: str = "202605-a", *, version: int = 1, size_bytes: int = 1000, **more: object
) -> StoredRecording:
    listed = recording(recording_id, length_bytes=size_bytes, **more)  # type: ignore[arg-type]
    name = f"{recording_id}.v{version}.mp3"
    at = NOON + timedelta(minutes=version)
    return StoredRecording(listed, version, name, Fixity(size_bytes, SHA), SHA[::-1], at, f"run-{version}")


async def objects(ledger: SqlLedger) -> list[ArchivedEntry]:
    return [entry async for entry in ledger.objects()]


async def test_what_is_entered_needs_no_work_any_more(ledger: SqlLedger, kind: LedgerKind, tmp_path: Path) -> None:
    assert await ledger.enter([stored("a"), stored("b"), stored("c", account_id="other")]) == [ENTERED] * 3
    run = await ledger.begin_run("next", started_at=NOON)
    assert await list_page(ledger, run, recording("a"), recording("b")) == []
    (entry, *_) = await objects(ledger)
    assert (entry.key, entry.fixity, entry.sidecar_sha256) == ("a.v1.mp3", Fixity(1000, SHA), SHA[::-1])
    (known,) = await ledger.histories("a")
    assert (known.status, known.start_at, known.duration_ms, known.flags) == (
        Status.ARCHIVED,
        NOON,
        61_000,
        ["rebuilt"],
    )
    assert (known.versions[0].run_id, run.run_no) == ("run-1", 2)
    assert (
        kind.tallied(tmp_path)
        == kind.counted(tmp_path)
        == {(ACCOUNT, "archived"): (2, 2000), ("other", "archived"): (1, 1000)}
    )


async def test_what_is_entered_again_is_known(ledger: SqlLedger, kind: LedgerKind, tmp_path: Path) -> None:
    await ledger.enter([stored("a"), stored("a", version=2)])
    assert await ledger.enter([stored("a", version=2), stored("a"), stored("b")]) == [KNOWN, KNOWN, ENTERED]
    assert len(await objects(ledger)) == 3
    assert kind.tallied(tmp_path) == kind.counted(tmp_path)


async def test_versions_come_back_in_order_however_they_come(
    ledger: SqlLedger, kind: LedgerKind, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    sys.stderr.write(f"seed {seed}\n")
    chance = random.Random(seed)
    everything = [stored(f"{name}", version=version, size_bytes=version) for name in "abcdef" for version in (1, 2, 3)]
    chance.shuffle(everything)
    while everything:
        count = chance.randint(1, 6)
        await ledger.enter(everything[:count])
        everything = everything[count:]
    for name in "abcdef":
        (known,) = await ledger.histories(name)
        assert [(one.version, one.fixity.size_bytes, one.run_id) for one in known.versions] == [
            (version, version, f"run-{version}") for version in (1, 2, 3)
        ]
        assert known.length_bytes == 3
    assert kind.tallied(tmp_path) == kind.counted(tmp_path) == {(ACCOUNT, "archived"): (6, 18)}


@pytest.mark.parametrize("status", [Status.PENDING, Status.MISSING, Status.QUARANTINED])
async def test_a_recording_that_was_waiting_is_archived_then(
    ledger: SqlLedger, kind: LedgerKind, tmp_path: Path, status: Status
) -> None:
    run = await ledger.begin_run("first", started_at=NOON)
    (task,) = await list_page(ledger, run, recording("a"))
    await ledger.settle(run, failed(task, status, next_attempt_at=NOON))
    assert await ledger.enter([stored("a")]) == [ENTERED]
    (known,) = await ledger.histories("a")
    assert (known.status, known.reason, known.next_attempt_at, known.metadata) == (Status.ARCHIVED, "", None, b"")
    later = await ledger.begin_run("later", started_at=NOON)
    assert await ledger.claim_due(later, ACCOUNT, at=NOON + timedelta(days=9), limit=9) == []
    assert kind.tallied(tmp_path) == kind.counted(tmp_path) == {(ACCOUNT, "archived"): (1, 1000)}


async def test_a_newer_version_than_the_ledgers_takes_its_place(ledger: SqlLedger) -> None:
    run = await ledger.begin_run("first", started_at=NOON)
    (task,) = await list_page(ledger, run, recording("a"))
    await ledger.settle(run, archived(task))
    assert await ledger.enter([stored("a"), stored("a", version=2, size_bytes=7)]) == [KNOWN, ENTERED]
    (known,) = await ledger.histories("a")
    assert [(one.version, one.run_id) for one in known.versions] == [(1, "first"), (2, "run-2")]
    assert known.length_bytes == 7


async def test_an_older_version_than_the_waiting_one_stays_a_former_one(ledger: SqlLedger) -> None:
    run = await ledger.begin_run("first", started_at=NOON)
    (task,) = await list_page(ledger, run, recording("a"))
    await ledger.settle(run, archived(task))
    again = await ledger.begin_run("again", started_at=NOON)
    (task,) = await list_page(ledger, again, recording("a", length_bytes=5))
    assert await ledger.enter([stored("a")]) == [KNOWN]
    (known,) = await ledger.histories("a")
    assert (known.status, [one.version for one in known.versions]) == (Status.PENDING, [1])


async def test_what_the_ledger_says_is_not_changed_by_another_objects_word(ledger: SqlLedger) -> None:
    await ledger.enter([stored("a")])
    other = replace(stored("a"), fixity=Fixity(1000, bytes(32)))
    elsewhere = replace(stored("a"), key="elsewhere/a.v1.mp3")
    assert await ledger.enter([other, elsewhere]) == [DIFFERS, DIFFERS]
    assert [entry.fixity for entry in await objects(ledger)] == [Fixity(1000, SHA)]
    assert await ledger.enter([stored("b"), replace(stored("b"), key="elsewhere/b.v1.mp3")]) == [ENTERED, DIFFERS]


async def test_what_retention_removed_stays_removed(ledger: SqlLedger) -> None:
    run = await ledger.begin_run("first", started_at=NOON)
    (task,) = await list_page(ledger, run, recording("a"))
    await ledger.settle(run, replace(archived(task), status=Status.EXPIRED))
    assert await ledger.enter([stored("a")]) == [EXPIRED]
    assert await ledger.statuses(ACCOUNT, ["a"]) == {"a": Status.EXPIRED}


@pytest.mark.parametrize("awkward", ["\x00", "\ud800", "it's", "\\u0041", "a\nb"])
async def test_ids_of_any_text_are_entered_once(ledger: SqlLedger, awkward: str) -> None:
    assert await ledger.enter([stored(awkward)]) == [ENTERED]
    assert await ledger.enter([stored(awkward)]) == [KNOWN]
    (entry,) = await objects(ledger)
    assert entry.recording_id == awkward


async def test_thousands_are_entered_at_once(ledger: SqlLedger) -> None:
    many = [stored(f"{number:05d}") for number in range(3000)]
    assert set(await ledger.enter(many)) == {ENTERED}
    assert set(await ledger.enter(many)) == {KNOWN}
    assert await ledger.enter([]) == []


async def test_a_run_is_found_by_its_id(ledger: SqlLedger) -> None:
    run = await ledger.begin_run("first", started_at=NOON)
    assert await ledger.find_run("first") == run
    assert await ledger.find_run("second") is None


async def test_a_sound_ledger_passes_its_check(ledger: SqlLedger) -> None:
    await ledger.enter([stored("a")])
    await ledger.check()
