"""What reconciling asks of every ledger: how recordings stand, and the archived CDRs."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from ledgers import ACCOUNT, DAY, NOON, SHA, LedgerKind, archived, failed, list_page, recording

from archiver.errors import LedgerError
from archiver.ledger.ledger import SqlLedger
from archiver.ledger.values import Run
from archiver.ledger.values_reconciling import CdrFile, Standing
from archiver.recording import Fixity, Recording, Status
from archiver.window import Window

OTHER = "f" * 32


def bare(recording_id: str) -> Recording:
    """One that only a CDR named."""
    return replace(
        recording(recording_id, metadata=b"", length_bytes=None, duration_ms=None), saved_at=None, extension="mp3"
    )


async def test_a_standing_says_where_a_recording_stands(ledger: SqlLedger, run: Run) -> None:
    tasks = await list_page(ledger, run, recording("a"), recording("b"), bare("c"), recording("d"))
    by_id = {task.recording.recording_id: task for task in tasks}
    await ledger.settle(run, archived(by_id["a"], size_bytes=777))
    await ledger.settle(run, failed(by_id["b"], Status.MISSING))
    await ledger.settle(run, failed(by_id["c"], Status.PENDING, next_attempt_at=NOON + timedelta(hours=1)))
    found = {each.recording_id: each for each in await ledger.standings(ACCOUNT, ["a", "b", "c", "d", "unknown"])}
    assert found == {
        "a": Standing("a", Status.ARCHIVED, "a.v1.mp3", 777, NOON, was_listed=True, next_attempt_at=None, reason=""),
        "b": Standing("b", Status.MISSING, "", 1000, NOON, was_listed=True, next_attempt_at=None, reason="not_there"),
        "c": Standing(
            "c",
            Status.PENDING,
            "",
            0,
            NOON,
            was_listed=False,
            next_attempt_at=NOON + timedelta(hours=1),
            reason="not_there",
        ),
        "d": Standing("d", Status.PENDING, "", 1000, NOON, was_listed=True, next_attempt_at=NOON, reason=""),
    }


async def test_standings_of_an_unknown_account_are_none(ledger: SqlLedger, run: Run) -> None:
    await list_page(ledger, run, recording("a"))
    assert list(await ledger.standings(OTHER, ["a"])) == []
    assert list(await ledger.standings_of(OTHER, DAY)) == []
    assert list(await ledger.standings(ACCOUNT, [])) == []


async def test_a_thousand_standings_are_asked_for_at_once(ledger: SqlLedger, run: Run) -> None:
    ids = [f"r-{n:04d}" for n in range(1200)]
    await list_page(ledger, run, *(recording(an_id) for an_id in ids))
    assert sorted(each.recording_id for each in await ledger.standings(ACCOUNT, ids)) == ids


async def test_recordings_belong_to_the_window_of_their_call_else_of_their_saving(ledger: SqlLedger, run: Run) -> None:
    rows = [
        recording("start", start_at=DAY.start_at),
        recording("before", start_at=DAY.start_at - timedelta(seconds=1)),
        recording("end", start_at=DAY.end_at),
        recording("last", start_at=DAY.end_at - timedelta(seconds=1)),
        recording("saved", start_at=None),
        replace(recording("undated", start_at=None), saved_at=None),
    ]
    await list_page(ledger, run, *rows)
    found = await ledger.standings_of(ACCOUNT, DAY)
    assert sorted(each.recording_id for each in found) == ["last", "saved", "start"]
    later = Window(DAY.end_at, DAY.end_at + timedelta(days=1))
    assert [each.recording_id for each in await ledger.standings_of(ACCOUNT, later)] == ["end"]


def cdr_file(account_id: str = ACCOUNT, day: date = date(2026, 5, 6), part: int = 1) -> CdrFile:
    key = f"{account_id}/{day:%Y/%m/%d}/cdrs.{part}.jsonl.gz"
    return CdrFile(account_id, day, part, key, Fixity(10 * part, SHA), rows=3, archived_at=NOON)


async def test_cdr_files_come_back_as_they_were_noted_in_the_order_of_their_keys(ledger: SqlLedger) -> None:
    files = [
        cdr_file(OTHER),
        cdr_file(part=2),
        cdr_file(),
        cdr_file(day=date(2026, 5, 7)),
        cdr_file("odd \\ account"),
    ]
    for file in files:
        await ledger.record_cdr_file(file)
    assert list(await ledger.cdr_files()) == sorted(files, key=lambda file: file.key)
    assert list(await ledger.cdr_files(ACCOUNT, date(2026, 5, 6))) == [cdr_file(), cdr_file(part=2)]
    assert list(await ledger.cdr_files("nobody")) == []


async def test_a_part_that_somebody_else_has_noted_just_so_stays_as_it_is(ledger: SqlLedger) -> None:
    await ledger.record_cdr_file(cdr_file())
    await ledger.record_cdr_file(replace(cdr_file(), archived_at=NOON + timedelta(hours=1)))
    assert list(await ledger.cdr_files()) == [cdr_file()]


async def test_a_known_part_is_never_replaced(kind: LedgerKind, tmp_path: Path) -> None:
    ledger = await kind.open(tmp_path)
    await ledger.record_cdr_file(cdr_file())
    with pytest.raises(LedgerError):
        await ledger.record_cdr_file(replace(cdr_file(), rows=99))
    with pytest.raises(LedgerError):
        await ledger.close()
    again = await kind.open(tmp_path)
    assert list(await again.cdr_files()) == [cdr_file()]
    await again.close()
