"""What the ledger tells for the page, held against every ledger: volumes by day, reasons, recordings worth naming."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from ledgers import ACCOUNT, NOON, PROGRESS, LedgerKind, archived, failed, list_page, recording

from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import Run
from archiver.ledger.values_reporting import FlagCount, ReasonCount
from archiver.recording import Status
from archiver.window import Window

BERLIN, KATHMANDU = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kathmandu")
DAY = date(2026, 5, 6)


async def test_volumes_are_counted_by_account_day_and_status(ledger: SqlLedger, run: Run) -> None:
    tasks = await list_page(ledger, run, *(recording(name, length_bytes=70) for name in "abcd"))
    await ledger.settle(run, archived(tasks[0], size_bytes=5))
    await ledger.settle(run, archived(tasks[1], size_bytes=6))
    await ledger.settle(run, failed(tasks[2], Status.MISSING))
    found = await ledger.volumes(UTC, now=NOON)
    assert [(each.account_id, each.day, each.status, each.recordings, each.bytes) for each in found] == [
        (ACCOUNT, DAY, Status.ARCHIVED, 2, 11),
        (ACCOUNT, DAY, Status.MISSING, 1, 70),
        (ACCOUNT, DAY, Status.PENDING, 1, 70),
    ]


async def test_volumes_add_up_to_the_tallies(ledger: SqlLedger, run: Run, kind: LedgerKind, tmp_path: Path) -> None:
    rows = [recording(f"r{n}", start_at=NOON - timedelta(hours=7 * n), length_bytes=n) for n in range(40)]
    for ordinal, task in enumerate(await list_page(ledger, run, *rows)):
        if ordinal % 3:
            await ledger.settle(run, archived(task) if ordinal % 3 == 1 else failed(task, Status.QUARANTINED))
    await ledger.flush()
    sums: dict[tuple[str, str], tuple[int, int]] = {}
    for each in await ledger.volumes(BERLIN, now=NOON):
        count, size = sums.get((each.account_id, each.status.value), (0, 0))
        sums[each.account_id, each.status.value] = (count + each.recordings, size + each.bytes)
    assert sums == kind.tallied(tmp_path)


async def test_a_day_is_one_of_the_zone_also_when_its_offset_changes(ledger: SqlLedger, run: Run) -> None:
    edges = [
        datetime(2026, 3, 29, tzinfo=BERLIN),
        datetime(2026, 10, 25, tzinfo=BERLIN),
        datetime(2019, 7, 1, tzinfo=BERLIN),
    ]
    edges += [
        datetime(2026, 3, 30, tzinfo=BERLIN),
        datetime(2026, 10, 26, tzinfo=BERLIN),
        datetime(2019, 7, 1, tzinfo=KATHMANDU),
    ]
    instants = [edge.astimezone(UTC) + timedelta(seconds=step) for edge in edges for step in (-1, 0, 1)]
    await list_page(ledger, run, *(recording(f"r{n}", start_at=at) for n, at in enumerate(instants)))
    for zone in (BERLIN, KATHMANDU, UTC):
        expected = [at.astimezone(zone).date() for at in instants]
        found = {each.day: each.recordings for each in await ledger.volumes(zone, now=NOON)}
        assert found == {day: expected.count(day) for day in expected}


async def test_a_call_without_a_start_is_dated_by_what_else_is_known(ledger: SqlLedger, run: Run) -> None:
    saved = replace(recording("saved", start_at=None), saved_at=NOON + timedelta(days=1))
    nothing = replace(recording("nothing", start_at=None), saved_at=None)
    stored = replace(recording("stored", start_at=None), saved_at=None)
    window = Window(NOON, NOON + timedelta(days=1))
    listed_at = NOON + timedelta(days=2)
    page = await ledger.record_page(run, ACCOUNT, window, [saved, nothing, stored], PROGRESS, at=listed_at)
    await ledger.settle(run, archived(page.tasks[2]))
    found = {(each.day, each.status) for each in await ledger.volumes(UTC, now=NOON)}
    assert found == {
        (date(2026, 5, 7), Status.PENDING),
        (date(2026, 5, 8), Status.PENDING),
        (DAY, Status.ARCHIVED),
    }


async def test_a_time_that_no_calendar_has_is_no_day(ledger: SqlLedger, run: Run) -> None:
    last = datetime(9999, 12, 31, 23, tzinfo=UTC)
    first = datetime(1, 1, 1, tzinfo=UTC)
    await list_page(ledger, run, recording("last", start_at=last), recording("first", start_at=first))
    assert [(each.day, each.recordings) for each in await ledger.volumes(KATHMANDU, now=NOON)] == [(None, 2)]
    assert {each.dated_at for each in await ledger.noteworthy(5)} == {None}


async def test_reasons_are_counted_and_flags_one_by_one(ledger: SqlLedger, run: Run) -> None:
    tasks = await list_page(ledger, run, *(recording(name) for name in "abcde"))
    await ledger.settle(run, failed(tasks[0], Status.MISSING))
    await ledger.settle(run, failed(tasks[1], Status.PENDING, next_attempt_at=NOON))
    await ledger.settle(run, replace(archived(tasks[2]), flags=["x", "y"]))
    await ledger.settle(run, replace(archived(tasks[3]), flags=["y"], adopted=True))
    await ledger.settle(run, archived(tasks[4]))
    found = await ledger.reasons()
    assert list(found.reasons) == [
        ReasonCount(ACCOUNT, Status.MISSING, "not_there", 1),
        ReasonCount(ACCOUNT, Status.PENDING, "not_there", 1),
    ]
    assert list(found.flags) == [
        FlagCount(ACCOUNT, flag, count) for flag, count in (("adopted", 1), ("x", 1), ("y", 2))
    ]


async def test_what_is_noteworthy_is_named_with_its_reason_the_latest_calls_first(ledger: SqlLedger, run: Run) -> None:
    rows = [recording(f"r{n}", start_at=NOON + timedelta(minutes=n), metadata=b'{"n": 1}') for n in range(6)]
    tasks = await list_page(ledger, run, *rows)
    for task in tasks[:3]:
        await ledger.settle(run, failed(task, Status.QUARANTINED))
    await ledger.settle(run, replace(archived(tasks[3]), flags=["shorter_than_said"]))
    await ledger.settle(run, archived(tasks[4]))
    found = await ledger.noteworthy(2)
    assert [(each.recording_id, each.status) for each in found] == [
        ("r5", Status.PENDING),
        ("r2", Status.QUARANTINED),
        ("r1", Status.QUARANTINED),
        ("r3", Status.ARCHIVED),
    ]
    quarantined, flagged = found[1], found[3]
    assert (quarantined.reason, quarantined.detail, quarantined.attempts) == ("not_there", "the PBX has no media", 1)
    assert (quarantined.metadata, quarantined.key) == (b'{"n": 1}', "")
    assert (flagged.flags, flagged.key, flagged.metadata) == (["shorter_than_said"], "r3.v1.mp3", b"")
    assert quarantined.dated_at == NOON + timedelta(minutes=2)
